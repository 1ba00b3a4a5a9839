"""The registry's way to the daemon's keys, where the daemon is not as it should be."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from netd.model.kv import KeyChange, Operation, SessionSpec
from netd.registry.api import Refused, Unreachable
from netd.registry.consul import key_changes, keys_api
from netd.registry.consul.key_changes import KeyChanges, Lines
from netd.registry.consul.key_watch import Target
from netd.registry.consul.key_watches import KeyWatches, TooMany
from netd.registry.consul.keys_api import KeysApi

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
READING = {"index": 5, "entry": None}


class Daemon:
    """Answers all calls by `handler`, and notes them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "netd.sock"
        self.handler: Handler = _json(200, READING)
        self.calls: list[str] = []
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)

    async def start(self) -> None:
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.path)).start()

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(f"{request.method} {request.raw_path}")
        return await self.handler(request)


def _json(status: int, value: object) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(value, status=status)

    return answer


def _stream(*parts: bytes, stays: bool = False) -> Handler:
    """An answer in these chunks. `stays`: it does not end."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        if stays:
            await asyncio.Event().wait()
        return response

    return answer


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    folder = Path(tempfile.mkdtemp(prefix="netd-keys-"))
    made = Daemon(folder)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
        shutil.rmtree(folder)


@pytest.fixture
async def api(daemon: Daemon) -> AsyncIterator[KeysApi]:
    made = KeysApi(str(daemon.path), timeout_s=5.0)
    yield made
    await made.close()


async def test_what_is_asked(daemon: Daemon, api: KeysApi) -> None:
    await api.read("a/é ?#%..")
    await api.read("..")
    daemon.handler = _json(200, {"index": 1})
    await api.entries("")
    await api.names("p&q=", "/")
    await api.sessions("n 1")
    await api.transact(Operation(verb="get", key="a"))
    daemon.handler = _json(201, {"id": "s", "node": "n"})
    await api.create_session(SessionSpec())
    await api.renew_session("a/b")
    await api.destroy_session("s")
    assert daemon.calls == [
        "GET /v1/kv/a%2F%C3%A9%20%3F%23%25%2E%2E",
        "GET /v1/kv/%2E%2E",
        "GET /v1/kv?prefix=",
        "GET /v1/kv?prefix=p%26q%3D&names=1&separator=%2F",
        "GET /v1/sessions?node=n%201",
        "POST /v1/transactions",
        "POST /v1/sessions",
        "POST /v1/sessions/a%2Fb/renew",
        "DELETE /v1/sessions/s",
    ]


async def test_what_has_no_utf_8(api: KeysApi) -> None:
    with pytest.raises(Refused) as caught:
        await api.read("\ud800")
    assert caught.value.status == 400


@pytest.mark.parametrize("status", [400, 403, 500, 503, 507])
async def test_refusals(daemon: Daemon, api: KeysApi, status: int) -> None:
    daemon.handler = _json(status, {"detail": "because", "code": "x"})
    with pytest.raises(Refused) as caught:
        await api.read("a")
    assert (caught.value.status, caught.value.detail) == (status, "because")
    assert len(daemon.calls) == 1


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"index": "x"}', b"\xff"])
async def test_an_answer_that_is_none(daemon: Daemon, api: KeysApi, body: bytes) -> None:
    daemon.handler = _stream(body)
    with pytest.raises(Unreachable):
        await api.read("a")


async def test_a_refusal_that_says_nothing(daemon: Daemon, api: KeysApi) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=502, body=b"\xff<html>")

    daemon.handler = answer
    with pytest.raises(Refused) as caught:
        await api.read("a")
    assert caught.value.status == 502


async def test_an_answer_that_is_too_long(
    daemon: Daemon, api: KeysApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_api, "ANSWER_MAX", 100_000)
    daemon.handler = _stream(*[b"x" * 10_000] * 20)
    with pytest.raises(Refused) as caught:
        await api.read("a")
    assert caught.value.status == 500
    daemon.handler = _json(200, READING)
    assert (await api.read("a")).index == 5


async def test_an_answer_that_does_not_come(daemon: Daemon) -> None:
    daemon.handler = _stream(stays=True)
    api = KeysApi(str(daemon.path), timeout_s=0.1)
    with pytest.raises(Unreachable):
        await api.read("a")
    await api.close()


async def test_writes_are_not_made_twice(daemon: Daemon, api: KeysApi) -> None:
    async def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    await api.read("a")  # so that there is a connection that is kept
    daemon.handler = hang_up
    with pytest.raises(Unreachable):
        await api.transact(Operation(verb="set", key="a"))
    assert daemon.calls[1:] == ["POST /v1/transactions"]


async def test_nobody_is_there(tmp_path: Path) -> None:
    api = KeysApi(str(tmp_path / "none.sock"))
    with pytest.raises(Unreachable):
        await api.read("a")
    with pytest.raises(Unreachable):
        async for _ in api.changes():
            pass
    await api.close()


# Changes


class Told:
    """What `KeyChanges` tells, until it is idle."""

    def __init__(self, api: KeysApi) -> None:
        self.changes: list[KeyChange] = []
        self.is_idle = False
        self.of = KeyChanges(api, self.changes.append, lambda: self.is_idle)

    async def until(self, count: int) -> list[KeyChange]:
        self.of.want()
        async with asyncio.timeout(10):
            while len(self.changes) < count:
                await asyncio.sleep(0.005)
        return self.changes[:count]


LOST = KeyChange(index=1, lost=True)
SILENT = KeyChange(index=0, lost=True)


@pytest.fixture
async def told(api: KeysApi) -> AsyncIterator[Told]:
    made = Told(api)
    yield made
    await made.of.close()


def line(index: int, *keys: str, **more: bool) -> bytes:
    return json.dumps({"index": index, "keys": keys, **more}).encode() + b"\n"


async def test_lines_come_in_any_pieces(daemon: Daemon, told: Told) -> None:
    whole = b"\n" + line(2, "a") + b"\n" + line(3, "b", "c") + line(4, sessions=True)
    daemon.handler = _stream(*(whole[at : at + 7] for at in range(0, len(whole), 7)), stays=True)
    assert await told.until(4) == [
        LOST,
        KeyChange(index=2, keys=("a",)),
        KeyChange(index=3, keys=("b", "c")),
        KeyChange(index=4, sessions=True),
    ]
    assert (told.of.live, told.of.begun) == (True, 1)


async def test_a_stream_that_ends_begins_again(daemon: Daemon, told: Told) -> None:
    daemon.handler = _stream(line(2, "a"))
    assert await told.until(6) == [LOST, KeyChange(index=2, keys=("a",)), SILENT] * 2
    assert told.of.begun == 2


@pytest.mark.parametrize("part", [b"no\n", b"[]\n", b'{"keys": []}\n', b"\xff\n"])
async def test_what_is_no_change_ends_a_stream(daemon: Daemon, told: Told, part: bytes) -> None:
    daemon.handler = _stream(part, stays=True)
    assert await told.until(3) == [LOST, SILENT, LOST]


def test_a_change_that_is_too_long_counts_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_changes, "LINE_MAX", 100)
    lines = Lines()
    long = line(2, *["k" * 50] * 5)
    assert [*lines.take(long[:150]), *lines.take(long[150:-1])] == []
    assert [*lines.take(b"\n" + line(3, "a"))] == [LOST, KeyChange(index=3, keys=("a",))]


@given(st.lists(st.binary(max_size=20) | st.just(line(2, "a")), max_size=6))
def test_bytes_of_any_kind(parts: list[bytes]) -> None:
    lines = Lines()
    try:
        found = [change for part in parts for change in lines.take(part)]
    except Unreachable:
        return
    assert all(change.index == 2 for change in found)


async def test_the_daemon_says_that_it_is_not_told(daemon: Daemon, told: Told) -> None:
    daemon.handler = _stream(line(0, lost=True), stays=True)
    await told.until(2)
    assert not told.of.live
    assert told.of.begun == 1


async def test_a_stream_that_is_refused_is_asked_for_again(daemon: Daemon, told: Told) -> None:
    daemon.handler = _json(507, {"detail": "too many"})
    await told.until(2)
    assert (told.of.live, told.of.begun) == (False, 0)
    daemon.handler = _stream(line(2, "a"), stays=True)
    async with asyncio.timeout(10):
        while not told.of.live:
            await asyncio.sleep(0.005)


async def test_nobody_follows_when_nobody_wants_it(daemon: Daemon, told: Told) -> None:
    daemon.handler = _stream(line(2, "a"))
    told.is_idle = True
    told.of.want()
    assert told.of._following is not None
    async with asyncio.timeout(10):
        await told.of._following  # ends by itself
    assert (told.changes, daemon.calls) == ([], [])


async def test_too_many_wait(api: KeysApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netd.registry.consul.key_watches.WAITING_MAX", 1)
    watches = KeyWatches(api)
    loop = asyncio.get_running_loop()
    waiting = loop.create_task(watches.wait(Target("key", "a"), 9, 60))
    async with asyncio.timeout(10):
        while not watches.waiting:
            await asyncio.sleep(0)
    with pytest.raises(TooMany):
        await watches.wait(Target("key", "b"), 9, 60)
    waiting.cancel()
    await asyncio.wait((waiting,))
    assert watches.waiting == 0
    await watches.close()


async def test_an_index_that_goes_back_is_told(daemon: Daemon, api: KeysApi) -> None:
    """As when the keys were lost and another host has begun anew."""
    watches = KeyWatches(api)
    feed: asyncio.Queue[bytes] = asyncio.Queue()
    reading = {"index": 50, "entry": None}

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path != "/v1/kv-changes":
            return web.json_response(reading)
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(await feed.get())

    daemon.handler = answer
    waiting = asyncio.get_running_loop().create_task(watches.wait(Target("key", "a"), 50, 60))
    async with asyncio.timeout(10):
        while not watches.live:
            await asyncio.sleep(0.005)
        # Who waits for the same has it after those who waited before.
        assert (await watches.wait(Target("key", "a"), 0, 60)).index == 50
    reading["index"] = 1
    feed.put_nowait(line(1, lost=True))
    async with asyncio.timeout(10):
        assert (await waiting).index == 1
    await watches.close()
