"""Streams and connections: readers that leave, stall or stay, and the end of the daemon."""

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from netd.api.limits import Limits
from netd.client import Client, Lines, Unreachable
from tests.unit.memory_engine import Served, served

GET_EVENTS = b"GET /v1/events HTTP/1.1\r\nHost: n\r\n\r\n"
GET_HEALTH = b"GET /healthz HTTP/1.1\r\nHost: n\r\n\r\n"
RECONCILE = b"POST /v1/reconcile HTTP/1.1\r\nHost: n\r\nContent-Length: 0\r\n\r\n"


async def until(true: Callable[[], bool]) -> None:
    """Let the loop run until something is so; the test's own timeout bounds it."""
    while not true():
        await asyncio.sleep(0.001)


async def following(world: Served) -> Lines:
    lines = await asyncio.to_thread(world.client.events)
    await until(lambda: world.engine.followers > 0)
    return lines


async def test_events_arrive_one_by_one_as_they_happen() -> None:
    async with served() as world:
        lines = await following(world)
        for name in ("one", "two"):
            world.engine.emit("network.created", name)
            assert (await asyncio.to_thread(next, lines))["name"] == name
        lines.close()
        await until(lambda: world.engine.followers == 0)


async def test_events_since_a_revision() -> None:
    async with served() as world:
        for number in range(5):
            world.engine.emit("x", str(number))
        lines = await asyncio.to_thread(world.client.events, 3)
        with lines:
            first = await asyncio.to_thread(next, lines)
        assert first["revision"] == 4


async def test_names_without_watch_end_after_sync() -> None:
    async with served() as world:
        await asyncio.to_thread(world.client.create_network, name="blue", driver="none")
        await asyncio.to_thread(world.client.attach, "blue", container_id="web", pid=3)
        lines = await asyncio.to_thread(lambda: list(world.client.names()))
        assert [line["op"] for line in lines] == ["add", "sync"]


async def test_names_with_watch_go_on() -> None:
    async with served() as world:
        with await asyncio.to_thread(world.client.names, True) as lines:
            assert (await asyncio.to_thread(next, lines))["op"] == "sync"
            await until(lambda: world.engine.followers > 0)
            world.engine.emit("endpoint.attached", "web")
            assert (await asyncio.to_thread(next, lines))["record"]["name"] == "web"


async def test_many_lines_arrive_whole_and_in_order() -> None:
    async with served() as world:
        for number in range(20_000):
            world.engine.emit("x", str(number), detail="d" * 50)

        def read() -> list[int]:
            with world.client.events(0) as lines:
                return [next(lines)["revision"] for _ in range(20_000)]

        assert await asyncio.to_thread(read) == list(range(1, 20_001))


async def test_a_silent_stream_shows_that_it_lives() -> None:
    async with served(limits=Limits(heartbeat_s=0.02)) as world:
        reader, writer = await asyncio.open_unix_connection(str(world.path))
        writer.write(GET_EVENTS)
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(12) == b"1\r\n\n\r\n1\r\n\n\r\n"
        writer.close()
        lines = await following(world)
        await asyncio.sleep(0.1)  # several empty lines; the client must not show them
        world.engine.emit("x", "after silence")
        assert (await asyncio.to_thread(next, lines))["name"] == "after silence"
        lines.close()


async def test_a_reader_that_leaves_ends_its_stream() -> None:
    async with served() as world:
        for _ in range(3):
            reader, writer = await asyncio.open_unix_connection(str(world.path))
            writer.write(GET_EVENTS)
            await reader.readuntil(b"\r\n\r\n")
            assert world.engine.followers == 1
            writer.transport.abort()
            await until(lambda: world.engine.followers == 0)


async def test_a_reader_that_stalls_is_cut_off() -> None:
    async with served(limits=Limits(stalled_s=0.1)) as world:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(world.path))
        sock.sendall(GET_EVENTS)
        await until(lambda: world.engine.followers == 1)
        for number in range(3000):
            world.engine.emit("x", str(number), detail="d" * 500)
        await until(lambda: world.engine.followers == 0)
        sock.close()
        await asyncio.to_thread(world.client.status)


async def test_a_stream_that_fails_is_seen_as_cut_off_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served() as world:
        lines = await following(world)
        world.engine.stream_failure = ZeroDivisionError("broken")
        world.engine.emit("x", "last")
        assert (await asyncio.to_thread(next, lines))["name"] == "last"
        with pytest.raises(Unreachable, match="ended too early"):
            await asyncio.to_thread(next, lines)
        assert "ZeroDivisionError" in caplog.text


async def test_stopping_ends_streams_cleanly_and_in_time() -> None:
    async with served() as world:
        lines = await following(world)
        world.engine.emit("x", "last words")
        assert (await asyncio.to_thread(next, lines))["name"] == "last words"
        began = asyncio.get_running_loop().time()
        rest = asyncio.create_task(asyncio.to_thread(list, lines))
        await world.server.stop()
        assert await rest == []
        assert asyncio.get_running_loop().time() - began < 1
        with pytest.raises(Unreachable, match="no netd answers"):
            await asyncio.to_thread(world.client.status)
        assert list(world.path.parent.glob("*.sock")) == []


async def test_stopping_lets_a_call_finish() -> None:
    async with served() as world:
        world.engine.gate.clear()
        answer = asyncio.create_task(asyncio.to_thread(world.client.reconcile))
        await world.engine.entered.wait()
        stopping = asyncio.create_task(world.server.stop())
        await asyncio.sleep(0.05)
        world.engine.gate.set()
        assert (await answer)["duration_ms"] == 1.5
        await stopping


async def test_a_caller_that_leaves_does_not_stop_what_it_began(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with served() as world:
        world.engine.gate.clear()
        _, writer = await asyncio.open_unix_connection(str(world.path))
        writer.write(RECONCILE)
        await world.engine.entered.wait()
        writer.transport.abort()
        await asyncio.sleep(0.05)
        world.engine.gate.set()
        await until(lambda: world.engine.reconciled == 1)
        await until(lambda: "nobody waited for it" in caplog.text)


async def test_half_closed_is_gone_and_changes_are_still_made() -> None:
    async with served() as world:
        reader, writer = await asyncio.open_unix_connection(str(world.path))
        world.engine.gate.clear()
        writer.write(RECONCILE)
        await world.engine.entered.wait()
        writer.write_eof()
        assert await reader.read() == b""
        world.engine.gate.set()
        await until(lambda: world.engine.reconciled == 1)
        writer.close()


async def test_a_request_in_pieces() -> None:
    async with served() as world:
        reader, writer = await asyncio.open_unix_connection(str(world.path))
        body = b'{"name":"blue","driver":"none"}'
        request = f"POST /v1/networks HTTP/1.1\r\nHost: n\r\nContent-Length: {len(body)}\r\n\r\n"
        for byte in request.encode() + body:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert (await reader.readline()).startswith(b"HTTP/1.1 201 ")
        writer.close()


async def test_a_connection_is_kept_over_refusals() -> None:
    async with served() as world:
        reader, writer = await asyncio.open_unix_connection(str(world.path))
        refused = b"POST /v1/networks HTTP/1.1\r\nHost: n\r\nContent-Length: 2\r\n\r\n{}"
        for request, status in ((refused, 400), (GET_HEALTH, 200)) * 3:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert int(head.split()[1]) == status
            length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
            json.loads(await reader.readexactly(length))
        writer.close()


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with served() as world:
        reader, writer = await asyncio.open_unix_connection(str(world.path))
        writer.write(GET_HEALTH * 100)
        for _ in range(100):
            assert b" 200 " in await reader.readline()
            await reader.readuntil(b'{"ok":true}')
        writer.close()


async def test_many_callers_at_once() -> None:
    async with served() as world:

        def attach(number: int) -> None:
            with Client(str(world.path), timeout_s=20) as client:
                client.create_network(name="blue", driver="none")
                client.attach("blue", container_id=f"c{number}", pid=3)
                assert len(client.endpoints(container_id=f"c{number}")) == 1

        await asyncio.gather(*(asyncio.to_thread(attach, number) for number in range(100)))
        assert len(world.engine.attached) == 100
        assert len(world.engine.by_id) == 1


async def test_a_call_that_was_given_up_before_it_was_read_is_not_made() -> None:
    body = b'{"name": "blue", "driver": "none"}'
    head = b"POST /v1/networks HTTP/1.1\r\nHost: n\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with served() as world:
        with socket.socket(socket.AF_UNIX) as caller:  # the server runs at the next await only
            caller.connect(str(world.path))
            caller.sendall(head + body)
        assert (await asyncio.to_thread(world.client.networks)) == []
        assert (await asyncio.to_thread(world.client.status))["node"] == "here"


async def test_two_hundred_idle_connections_do_not_hinder_a_call(tmp_path: Path) -> None:
    async with served() as world:
        idle = [await asyncio.open_unix_connection(str(world.path)) for _ in range(200)]
        assert (await asyncio.to_thread(world.client.status))["node"] == "here"
        for _, writer in idle:
            writer.close()
