"""The stream of the directory: in the reader's socket before whoever makes the news goes on."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from netd.api import pushing
from netd.api.limits import Limits
from netd.model.directory import Entry, NetworkEntry
from tests.unit.memory_engine import Served, served
from tests.unit.test_api_streams import until

_READERS: "list[Reader]" = []
GET = b"GET /v1/directory?watch=1 HTTP/1.1\r\nHost: n\r\n\r\n"


@pytest.fixture(autouse=True)
def _no_socket_stays_open() -> Iterator[None]:
    yield
    while _READERS:
        _READERS.pop().socket.close()


class Reader:
    """Reads without waiting, what is there."""

    def __init__(self, world: Served, request: bytes = GET) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(world.path))
        self.socket.setblocking(False)
        self.socket.send(request)
        self.data = b""
        _READERS.append(self)

    def read(self) -> bytes:
        try:
            while data := self.socket.recv(1 << 20):
                self.data += data
        except BlockingIOError:
            pass
        return self.data

    def lines(self) -> list[dict[str, Any]]:
        """Those that have come whole."""
        _, _, body = self.read().partition(b"\r\n\r\n")
        return [json.loads(line) for line in unchunked(body).splitlines() if line]

    async def synced(self) -> None:
        await until(lambda: any(line["kind"] == "sync" for line in self.lines()))


def unchunked(body: bytes) -> bytes:
    """Of the chunks that are there whole."""
    found, rest = b"", body
    while True:
        size, end, rest = rest.partition(b"\r\n")
        length = int(size, 16) if end else 0
        if not end or len(rest) < length + 2:
            return found
        assert rest[length : length + 2] == b"\r\n"
        found += rest[:length]
        rest = rest[length + 2 :]


def put(world: Served, name: str, **more: Any) -> None:
    entry = NetworkEntry(**more)
    world.engine.feed.put(Entry(revision=0, kind="network", id=name, network=entry))


async def test_a_change_is_there_before_it_returns() -> None:
    async with served() as world:
        reader = Reader(world)
        await reader.synced()
        for number in range(300):
            put(world, f"n{number}")
            assert reader.lines()[-1].get("id") == f"n{number}"  # the loop has not run meanwhile


async def test_each_reader_gets_all() -> None:
    async with served() as world:
        put(world, "before", subnets=("10.20.0.0/24",))
        readers = [Reader(world) for _ in range(3)]
        for reader in readers:
            await reader.synced()
        put(world, "after")
        first = [line.get("id", "") for line in readers[0].lines()]
        assert first == ["", "before", "after"] or first == ["", "before", "", "after"]
        assert all(reader.lines() == readers[0].lines() for reader in readers)
        assert "node" not in readers[0].lines()[1]  # what there is not is left out


async def test_more_than_a_socket_holds_arrives_whole_and_in_order() -> None:
    async with served() as world:
        for number in range(5000):
            put(world, f"n{number:04}", subnets=("10.20.0.0/24",) * 20)
        reader = Reader(world)
        await asyncio.sleep(0.05)  # the reader does not read, so the rest waits
        for number in range(5000, 5100):
            put(world, f"n{number:04}", subnets=("10.20.0.0/24",) * 20)
        await reader.synced()
        await until(lambda: reader.lines()[-1].get("id") == "n5099")
        names = [line.get("id", "") for line in reader.lines() if line["kind"] == "network"]
        assert names == [f"n{number:04}" for number in range(5100)]
        revisions = [line["revision"] for line in reader.lines()]
        sync = next(line for line in reader.lines() if line["kind"] == "sync")
        assert revisions[-100:] == list(range(sync["revision"] + 1, sync["revision"] + 101))


async def test_a_reader_that_stalls_is_cut_off() -> None:
    async with served(limits=Limits(stalled_s=0.05)) as world:
        reader = Reader(world)
        await until(lambda: world.engine.feed.watched)
        for number in range(3000):
            put(world, f"n{number}", subnets=("10.20.0.0/24",) * 20)
        await until(lambda: not world.engine.feed.watched)
        reader.socket.close()


async def test_little_waits_for_a_slow_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into its socket stays in the table, not in a buffer for each reader."""
    async with served() as world:
        reader = Reader(world)
        await until(lambda: world.engine.feed.watched)
        (streaming,) = world.server._dispatcher.streams._pushing
        transport = streaming._request.transport
        assert transport is not None
        for number in range(3000):
            put(world, f"n{number}", subnets=("10.20.0.0/24",) * 20)
        most = pushing._WAITING_BYTES + pushing._AT_ONCE * 1000
        assert pushing._WAITING_BYTES < transport.get_write_buffer_size() < most
        reader.socket.close()


async def test_a_silent_stream_shows_that_it_lives() -> None:
    async with served(limits=Limits(heartbeat_s=0.02)) as world:
        reader = Reader(world)
        await reader.synced()
        before = len(reader.data)
        await until(lambda: reader.read()[before:].startswith(b"1\r\n\n\r\n1\r\n\n\r\n"))
        put(world, "blue")
        assert reader.lines()[-1].get("id") == "blue"


async def test_a_reader_that_leaves_ends_its_stream() -> None:
    async with served() as world:
        for _ in range(3):
            reader = Reader(world)
            await reader.synced()
            assert world.engine.feed.watched
            reader.socket.close()
            put(world, "blue", internal=not world.engine.feed.revision % 2)
            await until(lambda: not world.engine.feed.watched)


async def test_without_watch_the_answer_ends_and_the_connection_goes_on() -> None:
    async with served() as world:
        put(world, "blue")
        once = GET.replace(b"?watch=1", b"")
        reader = Reader(world, once + once)
        await until(lambda: reader.read().count(b"\r\n0\r\n\r\n") == 2)
        assert reader.data.count(b'"kind":"sync"') == 2
        lines = await asyncio.to_thread(lambda: list(world.client.directory()))
        assert [line["kind"] for line in lines] == ["zone", "network", "sync"]


async def test_http_1_0_gets_lines_without_chunks() -> None:
    async with served() as world:
        reader = Reader(world, GET.replace(b"?watch=1", b"").replace(b"/1.1", b"/1.0"))
        await until(lambda: b'"kind":"sync"' in reader.read())
        _, _, body = reader.data.partition(b"\r\n\r\n")
        assert [json.loads(line)["kind"] for line in body.splitlines()] == ["zone", "sync"]


async def test_the_end_of_the_daemon_ends_the_stream() -> None:
    async with served() as world:
        reader = Reader(world)
        await reader.synced()
        put(world, "last")
        world.engine.feed.close()
        await until(lambda: reader.read().endswith(b"\r\n0\r\n\r\n"))
        assert b'"last"' in reader.data
        other = Reader(world)
        await until(lambda: other.read().endswith(b"\r\n0\r\n\r\n"))


async def test_a_server_that_stops_ends_the_stream() -> None:
    async with served() as world:
        reader = Reader(world)
        await reader.synced()
        await world.server.stop()
        await until(lambda: reader.read().endswith(b"\r\n0\r\n\r\n"))


class Endless:
    """A source that always has something."""

    def __init__(self) -> None:
        self.on_news: Callable[[], None] = lambda: None
        self.ended = False
        self.taken = 0

    def take(self, most: int) -> list[int]:
        self.taken += most
        return [1] * most

    def close(self) -> None:
        self.ended = True


async def test_a_reader_that_is_quick_lets_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served() as world:
        source = Endless()
        monkeypatch.setattr(world.engine, "directory", lambda watch: source)
        reader = Reader(world)
        await until(lambda: source.taken > 0)
        for _ in range(100):
            before = source.taken
            await asyncio.sleep(0)
            reader.read()
            assert source.taken - before <= 2 * pushing._CHUNKS * pushing._AT_ONCE
        reader.socket.close()
        await until(lambda: source.ended)
