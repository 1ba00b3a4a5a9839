"""The page as it is asked for: who gets it, what it asks the daemon, how it tells of changes."""

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from msgspec.structs import replace

from netd.model.views import Finding, PlannedOperation
from netd.naming.values import Scope
from netd.registry.feed import Feed
from netd.registry.http.caller import Callers
from netd.registry.page import looking, rendering, routes
from netd.registry.page.assets import ASSETS
from netd.registry.page.document import SECTIONS
from netd.registry.page.guard import HEADERS
from netd.registry.page.page import Page
from tests.unit.page_lab import (
    DEADLINE_S,
    GUEST,
    STATUS,
    WRONG,
    Lab,
    Shown,
    drifted,
    endpoint,
    member,
    network,
    page_lab,
    service,
    zone,
)


async def until(condition: Callable[[], object]) -> None:
    """For what no event tells of."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


class Watcher:
    """Somebody who is told of changes."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                line = await self.answer.content.readline()
                assert line, "the stream has ended"
                if line.startswith(b"data: "):
                    found: dict[str, Any] = json.loads(line[6:])
                    return found

    async def changed(self, before: dict[str, Any], section: str) -> dict[str, Any]:
        """The first news after which a section is another than before."""
        while True:
            news = await self.next()
            if news["versions"][section] > before["versions"][section]:
                return news


async def watch(lab: Lab) -> Watcher:
    answer = await lab.http.get(lab.url + "/watch")
    lab.watching.append(answer)
    return Watcher(answer)


async def section(lab: Lab, name: str) -> str:
    status, text = await lab.get(f"/section/{name}")
    assert status == 200
    return Shown(text).text


async def test_a_page_is_whole_at_once(tmp_path: Path) -> None:
    async with page_lab(tmp_path) as lab:
        await lab.daemon.put("endpoint", "e1", endpoint("web"))
        await lab.daemon.put("service", "web-1", service("web-1"))
        await until(lambda: "web-1" in lab.page.holdings.services)
        status, text = await lab.get()
        shown = Shown(text)
        assert status == 200
        assert "netd on host-1" in shown.words
        assert all(f'<section id="{name}"' in text for name in SECTIONS)
        assert "Not known yet." not in text
        assert "web-1" in shown.words


async def test_what_a_browser_may_do_is_said_with_each_answer(tmp_path: Path) -> None:
    async with page_lab(tmp_path) as lab:
        for path in ("/", "/section/members", "/nothing", "/section/none", "/assets/none"):
            async with lab.http.get(lab.url + path) as answer:
                for name, value in HEADERS.items():
                    assert answer.headers[name] == value, path
                assert answer.headers["Cache-Control"] == "no-store"
                assert "Access-Control-Allow-Origin" not in answer.headers
        policy = HEADERS["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        async with lab.http.get(lab.url + "/watch") as answer:
            assert answer.headers["Content-Security-Policy"] == policy
            assert answer.headers["Cache-Control"] == "no-store"


async def test_files_can_be_kept_for_ever(tmp_path: Path) -> None:
    async with page_lab(tmp_path) as lab:
        _, text = await lab.get()
        for asset in ASSETS:
            assert asset.href in text
            async with lab.http.get(lab.url + asset.href) as answer:
                assert answer.status == 200
                assert answer.headers["Content-Type"] == asset.kind
                assert "immutable" in answer.headers["Cache-Control"]
                assert await answer.read() == asset.content
                etag = answer.headers["ETag"]
            known = {"If-None-Match": f'"other", {etag}'}
            async with lab.http.get(lab.url + asset.href, headers=known) as answer:
                assert (answer.status, await answer.read()) == (304, b"")
        assert (await lab.get("/assets/page.css"))[0] == 404
        assert (await lab.get("/assets/../page.py"))[0] == 404


async def test_it_is_for_looking_only(tmp_path: Path) -> None:
    async with page_lab(tmp_path) as lab:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            async with lab.http.request(method, lab.url + "/") as answer:
                assert answer.status == 405
        for path in ("/", "/watch", "/section/members"):
            async with lab.http.head(lab.url + path) as answer:
                assert (answer.status, await answer.read()) == (200, b"")
        assert lab.page.looking.watchers == 0


async def test_a_name_that_may_lead_anywhere_is_refused(tmp_path: Path) -> None:
    async with page_lab(tmp_path) as lab:
        for path in ("/", "/watch", "/section/members", ASSETS.script.href):
            status, text = await lab.get(path, Host="evil.example:8501")
            assert status == 421, path
            assert "evil.example" in text
            assert "netd on" not in text
        assert (await lab.get(Host="localhost:8501"))[0] == 200


async def test_containers_do_not_get_it(tmp_path: Path) -> None:
    async with page_lab(tmp_path) as lab:
        await lab.daemon.put("endpoint", "e1", endpoint("web", GUEST))
        await until(lambda: "e1" in lab.page.holdings.endpoints)
        connector = aiohttp.TCPConnector(local_addr=(GUEST, 0))
        async with aiohttp.ClientSession(connector=connector) as container:
            for path in ("/", "/watch", "/section/members", "/assets/none"):
                async with container.get(lab.url + path) as answer:
                    assert answer.status == 403, path
                    assert "web" not in await answer.text()
        assert lab.daemon.asked["/v1/status"] == 0


async def test_one_that_is_switched_off_says_so(tmp_path: Path) -> None:
    async with page_lab(tmp_path, page_enabled=False) as lab:
        await until(lambda: lab.page.holdings.zone.node)
        for path in ("/", "/watch", "/section/members"):
            status, text = await lab.get(path)
            assert (status, "page.enabled" in text) == (404, True)
        assert lab.daemon.asked["/v1/status"] == 0


# Changes


async def test_a_change_is_told_and_its_section_alone_is_another(tmp_path: Path) -> None:
    async with page_lab(tmp_path) as lab:
        await lab.get()
        watcher = await watch(lab)
        first = await watcher.next()
        assert first["versions"].keys() == SECTIONS.keys()
        await lab.daemon.put("service", "web-1", service("web-1"))
        news = await watcher.changed(first, "services")
        for name in ("members", "checks", "drift", "virtuals"):
            assert news["versions"][name] == first["versions"][name]
        assert "web-1" in await section(lab, "services")
        _, text = await lab.get("/section/services")
        assert f'data-version="{news["versions"]["services"]}"' in text
        watcher.answer.close()
        await until(lambda: lab.page.looking.watchers == 0)


async def test_what_events_tell_of_is_asked_for(tmp_path: Path) -> None:
    async with page_lab(tmp_path) as lab:
        await lab.get()
        watcher = await watch(lab)
        news = await watcher.next()
        await until(lambda: lab.daemon.followers)
        lab.daemon.answers["/v1/networks"] = (network(conditions=(WRONG,)),)
        await lab.daemon.happen("condition.set")
        news = await watcher.changed(news, "conditions")
        assert "mtu-small" in await section(lab, "conditions")
        lab.daemon.answers["/v1/members"] = (member(), member("host-2", state="dead"))
        await lab.daemon.happen("member.dead")
        news = await watcher.changed(news, "members")
        assert "■ dead" in await section(lab, "members")
        operation = PlannedOperation(
            verb="add", object="link nd-blue", ns="", owner="blue", reason="missing"
        )
        found = drifted(operation)
        assert lab.daemon.asked["/v1/plan"] == 0  # to look costs the daemon something
        lab.daemon.answers |= {"/v1/status": found["status"], "/v1/plan": found["plan"]}
        await lab.daemon.happen("drift.repaired")
        await watcher.changed(news, "drift")
        assert "link nd-blue" in await section(lab, "drift")


async def test_many_changes_are_told_at_once(tmp_path: Path) -> None:
    async with page_lab(tmp_path) as lab:
        await lab.get()
        watcher = await watch(lab)
        await watcher.next()
        drawn = lab.count("page_sections_drawn_total")
        for number in range(500):
            await lab.daemon.put("service", f"web-{number}", service(f"web-{number}"))
        await until(lambda: len(lab.page.holdings.services) == 500)
        versions: set[int] = set()
        while not versions or "500" not in await section(lab, "services"):
            versions.add((await watcher.next())["versions"]["services"])
        assert len(versions) < 50
        # Those who ask for the same get the same.
        drawn = lab.count("page_sections_drawn_total")
        for _ in range(5):
            await section(lab, "services")
        assert lab.count("page_sections_drawn_total") == drawn


async def test_nothing_is_asked_while_nobody_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking.Looking.__init__, "__kwdefaults__", {"idle_s": 0.2, "poll_s": 0.1})
    async with page_lab(tmp_path) as lab:
        await until(lambda: lab.page.holdings.zone.node)
        await lab.daemon.put("endpoint", "e1", endpoint("web"))
        assert lab.daemon.asked.keys() == {"/v1/directory"}
        watcher = await watch(lab)
        asked = lab.daemon.asked
        await until(lambda: asked["/v1/status"] > 5)  # as long as there is a watcher
        watcher.answer.close()
        await until(lambda: not lab.daemon.followers)
        before = dict(asked)
        await lab.daemon.put("endpoint", "e2", endpoint("db"))
        await until(lambda: "e2" in lab.page.holdings.endpoints)
        assert dict(asked) == before
        status, text = await lab.get()  # and who comes now gets what is so now
        assert (status, "db" in text) == (200, True)
        assert asked["/v1/status"] > before["/v1/status"]


async def test_watchers_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "WATCHERS_MAX", 2)
    async with page_lab(tmp_path) as lab:
        watchers = [await watch(lab) for _ in range(2)]
        for watcher in watchers:
            await watcher.next()
        assert (await lab.get("/watch"))[0] == 503
        assert lab.count("page_watchers") == 2
        assert lab.count("page_watchers_refused_total") == 1
        watchers[0].answer.close()
        await until(lambda: lab.page.looking.watchers == 1)
        await (await watch(lab)).next()


async def test_one_that_waits_hears_that_the_stream_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "BEAT_S", 0.05)
    async with page_lab(tmp_path) as lab:
        await lab.get()
        watcher = await watch(lab)
        async with asyncio.timeout(DEADLINE_S):
            while await watcher.answer.content.readline() != b":\n":
                pass


async def test_who_does_not_read_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "SLOW_S", 0.1)
    monkeypatch.setattr(rendering, "GATHER_S", 0.0)
    async with page_lab(tmp_path) as lab:
        with socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", int(lab.url.rpartition(":")[2])))
            reader.sendall(b"GET /watch HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: lab.page.looking.watchers == 1)
            number = 0
            while lab.page.looking.watchers:
                number += 1
                await lab.daemon.put("service", "web-1", service("web-1", port=number % 60_000))
                await asyncio.sleep(0)
            assert number > 10
        await until(lambda: lab.count("http_connections") == 0)
        assert (await lab.get())[0] == 200


# Faults


async def test_while_the_daemon_is_away_its_last_word_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "RETRY_S", 0.05)
    async with page_lab(tmp_path) as lab:
        await lab.daemon.put("endpoint", "e1", endpoint("web"))
        await lab.get()
        watcher = await watch(lab)
        news = await watcher.next()
        await lab.daemon.stop()
        news = await watcher.changed(news, "overview")
        _, text = await lab.get()
        assert "netd does not answer" in text
        assert "web" in Shown(text).words
        lab.daemon.answers["/v1/status"] = replace(STATUS, version="1.2.4")
        lab.daemon.answers["/v1/doctor"] = (Finding(check="clock", level="error", detail="late"),)
        await lab.daemon.start()
        while "netd 1.2.4" not in await section(lab, "overview"):
            news = await watcher.changed(news, "overview")
        while "netd does not answer" in await section(lab, "overview"):
            news = await watcher.changed(news, "overview")
        while "clock" not in await section(lab, "checks"):
            news = await watcher.next()


async def test_a_daemon_that_takes_long_keeps_nobody_waiting_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "SETTLE_S", 0.05)
    async with page_lab(tmp_path) as lab:
        lab.daemon.hold.clear()
        await lab.daemon.put("endpoint", "e1", endpoint("web"))
        await until(lambda: "e1" in lab.page.holdings.endpoints)
        status, text = await lab.get()
        assert status == 200
        assert "Not known yet." in text
        assert "web" in Shown(text).words
        watcher = await watch(lab)
        news = await watcher.next()
        lab.daemon.hold.set()
        await watcher.changed(news, "members")
        assert "Not known yet." not in (await lab.get())[1]


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=503, body=b'{"detail": "the kernel is busy"}'),
        web.Response(status=500, body=b"\xff<b>"),
    ],
)
async def test_what_the_daemon_cannot_tell_is_said(tmp_path: Path, answer: web.Response) -> None:
    async with page_lab(tmp_path) as lab:
        lab.daemon.answers["/v1/doctor"] = answer
        _, text = await lab.get()
        shown = Shown(text)
        assert "netd cannot tell:" in shown.text
        assert "findings" in shown.text
        assert shown.count("b") == 0
        assert "All 1 find" not in shown.text


async def test_a_problem_lasts_no_longer_than_what_it_is_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "RETRY_S", 0.05)
    async with page_lab(tmp_path) as lab:
        await lab.get()
        watcher = await watch(lab)
        news = await watcher.next()
        right = lab.daemon.answers["/v1/members"]
        await until(lambda: lab.daemon.followers)
        await lab.page.looking.settled(DEADLINE_S)
        lab.daemon.answers["/v1/members"] = web.Response(body=b"nonsense")
        await lab.daemon.happen("key.used")
        while "does not answer" not in await section(lab, "overview"):
            news = await watcher.changed(news, "overview")
        lab.daemon.answers["/v1/members"] = right
        while "does not answer" in await section(lab, "overview"):
            news = await watcher.changed(news, "overview")  # long before the next poll


@pytest.mark.parametrize("body", [b"", b"[]]", b'{"x": 1}', b"\xff"])
async def test_an_answer_that_is_none_is_a_problem(tmp_path: Path, body: bytes) -> None:
    async with page_lab(tmp_path) as lab:
        lab.daemon.answers["/v1/members"] = web.Response(body=body)
        _, text = await lab.get()
        assert "netd does not answer" in text


async def test_entries_of_a_kind_that_is_new_do_no_harm(tmp_path: Path) -> None:
    async with page_lab(tmp_path) as lab:
        await lab.get()
        lab.page.holdings._changed("something")
        assert (await lab.get())[0] == 200


async def test_it_answers_on_a_socket_that_it_is_given(tmp_path: Path) -> None:
    path = str(tmp_path / "page.sock")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    callers = Callers(lambda _: Scope(None))
    feed = Feed(str(tmp_path / "netd.sock"))
    page = Page(feed_path(tmp_path), feed, callers, changed=lambda: None, sock=sock)
    page.holdings.zone = zone()
    connector = aiohttp.UnixConnector(path)
    async with aiohttp.ClientSession(connector=connector) as http:
        async with http.get("http://netd/section/members") as answer:
            assert answer.status == 200
        async with http.get("http://netd.example/section/members") as answer:
            assert answer.status == 421
    await page.close()


def feed_path(folder: Path) -> str:
    return str(folder / "netd.sock")
