"""Results on their way to a daemon that listens, refuses, is slow or is not there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from netd.registry.api import Api, Refused, Unreachable, path_of
from netd.registry.checks import reports
from netd.registry.checks.probe import critical, passing
from netd.registry.checks.reports import DaemonReports
from tests.unit.checks_daemon import DEADLINE_S, Daemon

KEY = ("web-1", "up")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "RETRY_MIN_S", 0.01)
    monkeypatch.setattr(reports, "RETRY_MAX_S", 0.02)


@asynccontextmanager
async def telling(path: Path, *, timeout_s: float = 5) -> AsyncIterator[DaemonReports]:
    api = Api(str(path), timeout_s)
    made = DaemonReports(api)
    made.start()
    try:
        yield made
    finally:
        await made.stop()
        await api.close()


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    made = Daemon(tmp_path / "s")
    await made.start()
    yield made
    await made.stop()


def counts(made: DaemonReports) -> dict[str, float]:
    return {count.labels.get("outcome", count.name): count.value for count in made.counts()}


async def test_a_result_is_told(daemon: Daemon) -> None:
    async with telling(daemon.path) as made:
        made.put(("a/b c", "é?#"), passing("well"))
        await daemon.until(lambda: daemon.taken)
    assert daemon.taken == [("/v1/services/a%2Fb%20c/checks/%C3%A9%3F%23", passing("well"))]


@pytest.mark.usefixtures("quick")
async def test_while_nobody_listens_the_last_result_of_each_check_waits(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "s")
    async with telling(daemon.path) as made:
        for number in range(5):
            made.put(KEY, critical(f"{number}"))
            made.put(("web-2", "up"), passing(f"{number}"))
            await asyncio.sleep(0.01)  # it is tried, and fails
        assert counts(made)["failed"] > 0
        assert len(made) == 2
        await daemon.start()
        await daemon.until(lambda: len(daemon.taken) == 2)
        assert sorted(daemon.taken) == [
            ("/v1/services/web-1/checks/up", critical("4")),
            ("/v1/services/web-2/checks/up", passing("4")),
        ]
    await daemon.stop()


@pytest.mark.usefixtures("quick")
async def test_a_daemon_that_restarts_is_told_what_it_has_missed(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "s")
    await daemon.start()
    async with telling(daemon.path) as made:
        made.put(KEY, passing("1"))
        await daemon.until(lambda: daemon.taken)
        await daemon.stop()
        made.put(KEY, critical("2"))
        again = Daemon(tmp_path / "s")
        await again.start()
        await again.until(lambda: again.taken)
        assert again.taken == [("/v1/services/web-1/checks/up", critical("2"))]
        await again.stop()


async def test_a_result_that_comes_while_one_is_on_its_way_is_told_after_it(
    daemon: Daemon,
) -> None:
    async with telling(daemon.path) as made:
        daemon.open.clear()
        made.put(KEY, passing("1"))
        await daemon.arrived.wait()
        assert KEY in made
        made.put(KEY, critical("2"))
        made.put(KEY, critical("3"))
        daemon.open.set()
        await daemon.until(lambda: len(daemon.taken) == 2)
        assert [result.output for _, result in daemon.taken] == ["1", "3"]


@pytest.mark.usefixtures("quick")
async def test_an_older_result_that_has_failed_does_not_come_after_a_newer_one(
    daemon: Daemon,
) -> None:
    async with telling(daemon.path) as made:
        daemon.open.clear()
        daemon.answers = [503]
        made.put(KEY, passing("1"))
        await daemon.arrived.wait()
        made.put(KEY, critical("2"))
        daemon.open.set()
        await daemon.until(lambda: daemon.taken)
        async with asyncio.timeout(DEADLINE_S):
            while len(made):
                await asyncio.sleep(0)
        assert [result.output for _, result in daemon.taken] == ["2"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_what_passes_is_tried_again(daemon: Daemon, status: int) -> None:
    daemon.answers = [status, status]
    async with telling(daemon.path) as made:
        made.put(KEY, passing("1"))
        await daemon.until(lambda: daemon.taken)
        assert counts(made)["failed"] == 2


@pytest.mark.parametrize("status", [400, 403, 404, 409])
async def test_what_is_refused_for_good_is_dropped(
    daemon: Daemon, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    daemon.answers = [status]
    async with telling(daemon.path) as made:
        made.put(KEY, passing("1"))
        await daemon.until(lambda: not daemon.answers)
        made.put(("web-2", "up"), passing("2"))
        await daemon.until(lambda: daemon.taken)
        assert [path for path, _ in daemon.taken] == ["/v1/services/web-2/checks/up"]
        assert counts(made)["refused"] == 1
    assert f"because of {status}" in caplog.text


@pytest.mark.usefixtures("quick")
async def test_of_a_check_that_is_gone_nothing_is_told(daemon: Daemon) -> None:
    async with telling(daemon.path) as made:
        daemon.open.clear()
        daemon.answers = [503]
        made.put(KEY, passing("1"))
        await daemon.arrived.wait()
        made.drop(KEY)  # while it is on its way
        daemon.open.set()
        await daemon.until(lambda: not daemon.answers)
        made.put(("web-2", "up"), passing("2"))
        await daemon.until(lambda: daemon.taken)
        assert [path for path, _ in daemon.taken] == ["/v1/services/web-2/checks/up"]
        assert KEY not in made


async def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "WAITING_MAX", 100)
    made = DaemonReports(Api(str(tmp_path / "nobody")))
    for number in range(150):
        made.put((f"web-{number}", "up"), passing("x"))
    assert len(made) == 100
    assert ("web-149", "up") in made
    assert ("web-0", "up") not in made
    assert counts(made)["overflow"] == 50


async def test_many_are_told(daemon: Daemon) -> None:
    async with telling(daemon.path) as made:
        for number in range(500):
            made.put((f"web-{number}", "up"), passing("x"))
        await daemon.until(lambda: len(daemon.taken) == 500)
        assert {path for path, _ in daemon.taken} == {
            f"/v1/services/web-{number}/checks/up" for number in range(500)
        }


# The client


async def test_a_daemon_that_says_nothing_is_not_waited_for_longer(daemon: Daemon) -> None:
    api = Api(str(daemon.path), timeout_s=0.1)
    daemon.open.clear()
    with pytest.raises(Unreachable, match="no answer within"):
        await api.put("/v1/registry", passing("x"))
    daemon.open.set()
    await api.close()


async def test_an_answer_that_is_no_problem_is_shown_as_it_is(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\n\xff{}")
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "s")
    api = Api(str(tmp_path / "s"))
    with pytest.raises(Refused) as refused:
        await api.put("/x", passing("x"))
    assert (refused.value.status, refused.value.detail) == (404, "\N{REPLACEMENT CHARACTER}{}")
    await api.close()
    server.close()


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nConte"])
async def test_who_does_not_speak_http_is_nobody(tmp_path: Path, answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "s")
    api = Api(str(tmp_path / "s"))
    with pytest.raises(Unreachable):
        await api.put("/x", passing("x"))
    await api.close()
    server.close()


def test_a_path_has_its_segments_whatever_is_in_them() -> None:
    assert path_of("v1", "a/b", "..", "%2f") == "/v1/a%2Fb/../%252f"
