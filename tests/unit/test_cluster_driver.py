"""The driver: what comes in reaches the core in order, and all that the core wants is done."""

import asyncio
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from netd.cluster import driver as driver_module
from netd.cluster.driver import Driver
from netd.cluster.thread import LoopThread
from netd.cluster.udp import UdpSocket
from netd.gossip.values import (
    Address,
    Call,
    Datagram,
    Event,
    JoinEnded,
    NodeId,
    Output,
)
from netd.model.errors import Unavailable
from tests.unit.cluster_lab import client_of, new_key, new_secret, serving

FAR_S = 3600.0


class ToyCore:
    """Echoes packets, notes everything, and wants what a test puts into it."""

    def __init__(self) -> None:
        self.id: NodeId = bytes(16)
        self.counters: dict[str, int] = {}
        self.log: list[tuple[object, ...]] = []
        self.output = Output([], [], [])
        self.timer_s = time.monotonic() + FAR_S
        self.on_packet: Callable[[bytes], None] = lambda _data: None
        self.changed = asyncio.Event()

    def receive(self, data: bytes, source: Address, now_s: float) -> None:
        self.log.append(("packet", data))
        self.on_packet(data)
        self.output.datagrams.append(Datagram(source, b"re:" + data))
        self.changed.set()

    def complete(self, number: int, reply: bytes | None, now_s: float) -> None:
        self.log.append(("reply", number, reply))
        self.changed.set()

    def serve(self, request: bytes, peer: NodeId, now_s: float) -> bytes:
        self.output.events.append(JoinEnded(("192.0.2.1", 1), "served"))
        return b"re:" + request

    def advance(self, now_s: float) -> None:
        self.log.append(("timer",))
        self.timer_s = now_s + FAR_S
        self.changed.set()

    def set_wall(self, wall_s: float, now_s: float) -> None:
        self.log.append(("wall", wall_s))
        self.changed.set()

    def take(self) -> Output:
        output, self.output = self.output, Output([], [], [])
        return output

    def next_timer_s(self) -> float:
        return self.timer_s

    async def notes(self, what: str, count: int = 1) -> list[tuple[object, ...]]:
        """Wait until so many things of a kind are noted."""
        async with asyncio.timeout(10):
            while len(found := [note for note in self.log if note[0] == what]) < count:
                self.changed.clear()
                await self.changed.wait()
        return found


class Lab:
    def __init__(self) -> None:
        self.core = ToyCore()
        self.events: list[Event] = []
        self.udp = UdpSocket(("127.0.0.1", 0), Counter())
        self.secret = new_secret()
        self.driver = Driver(
            self.core,  # type: ignore[arg-type]
            self.udp,
            client_of(self.secret, new_key()),
            self._notice,
        )
        self.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.peer.bind(("127.0.0.1", 0))
        self.peer.settimeout(5)

    def _notice(self, events: Sequence[Event]) -> None:
        self.events.extend(events)


@asynccontextmanager
async def driving(*, start: bool = True) -> AsyncIterator[Lab]:
    lab = Lab()
    if start:
        lab.driver.start()
    try:
        yield lab
    finally:
        await lab.driver.close()
        lab.peer.close()


async def test_packets_reach_the_core_and_its_answers_the_sender() -> None:
    async with driving() as lab:
        lab.peer.sendto(b"hello", lab.udp.address)
        await lab.core.notes("packet")
        assert lab.peer.recvfrom(100) == (b"re:hello", lab.udp.address)


async def test_a_packet_that_breaks_the_core_does_not_stop_the_next_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(data: bytes) -> None:
        if data != b"good":
            raise ValueError(data)

    async with driving() as lab:
        lab.core.on_packet = broken
        for data in (b"bad", b"bad", b"good"):
            lab.peer.sendto(data, lab.udp.address)
        await lab.core.notes("packet", 3)
        assert lab.peer.recv(100) == b"re:good"
        assert lab.udp.counters["core_errors"] == 2
    assert len(caplog.records) == 1  # not one for each packet


async def test_timers_run_when_they_are_due() -> None:
    async with driving() as lab:
        due_s = lab.core.timer_s = time.monotonic() + 0.05
        lab.driver.carry_out()
        await lab.core.notes("timer")
        assert 0 <= time.monotonic() - due_s < 2


async def test_a_timer_that_becomes_earlier_or_later_is_followed() -> None:
    async with driving() as lab:
        lab.core.timer_s = time.monotonic() + 0.02
        lab.driver.carry_out()
        lab.core.timer_s = time.monotonic() + FAR_S
        lab.driver.carry_out()
        lab.core.timer_s = time.monotonic() + 0.01
        lab.driver.carry_out()
        await lab.core.notes("timer")


async def test_packets_that_waited_are_handled_before_a_timer_that_is_due() -> None:
    async with driving(start=False) as lab:
        lab.core.timer_s = time.monotonic() - 30  # as after a SIGSTOP
        for number in range(1000):
            lab.peer.sendto(b"%d" % number, lab.udp.address)
        lab.driver.start()
        await lab.core.notes("timer")
        kinds = [note[0] for note in lab.core.log if note[0] != "wall"]
        assert kinds.index("timer") == 1000


async def test_a_flood_does_not_stop_the_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "DRAIN_MAX_S", 0.05)
    async with driving() as lab:

        def forever(data: bytes) -> None:
            lab.udp.send(data, lab.udp.address)  # a packet for each packet

        lab.core.on_packet = forever
        for _ in range(500):
            lab.peer.sendto(b"x", lab.udp.address)
        await lab.core.notes("packet", 500)
        lab.core.timer_s = time.monotonic()
        lab.driver.carry_out()
        await lab.core.notes("timer")


async def test_a_timer_that_fails_is_tried_again_but_not_at_once() -> None:
    async with driving() as lab:
        tries: list[float] = []

        def broken(now_s: float) -> None:
            tries.append(now_s)
            lab.core.changed.set()
            raise ValueError

        lab.core.advance = broken  # type: ignore[method-assign]
        lab.core.timer_s = time.monotonic()
        lab.driver.carry_out()
        async with asyncio.timeout(10):
            while len(tries) < 3:
                lab.core.changed.clear()
                await lab.core.changed.wait()
        assert tries[2] - tries[0] >= 0.19


async def test_calls_are_made_and_their_replies_told() -> None:
    async with driving() as lab, serving(lab.secret) as server:
        lab.core.output.calls.append(Call(7, server.address, server.key.id, b"ask", 5.0))
        lab.driver.carry_out()
        assert await lab.core.notes("reply") == [("reply", 7, b"re:ask")]
        assert lab.driver.failures == {}
        assert lab.driver.calls == 0


async def test_calls_that_fail_are_told_and_why_is_known() -> None:
    async with driving() as lab, serving(lab.secret) as server:
        other = new_key().id
        lab.core.output.calls.append(Call(1, server.address, other, b"ask", 5.0))
        lab.driver.carry_out()
        assert await lab.core.notes("reply") == [("reply", 1, None)]
        assert "answers there, not" in lab.driver.failures[server.address]
    with socket.create_server(("127.0.0.1", 0)) as mute:
        async with driving() as lab:
            lab.core.output.calls.append(Call(2, mute.getsockname(), None, b"ask", 0.1))
            lab.driver.carry_out()
            assert await lab.core.notes("reply") == [("reply", 2, None)]


async def test_so_many_calls_are_made_at_once_and_the_rest_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(driver_module, "CALLS_MAX", 5)
    monkeypatch.setattr(driver_module, "CALLS_AT_ONCE", 2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        async with driving() as lab:
            for number in range(12):
                lab.core.output.calls.append(Call(number, mute.getsockname(), None, b"", 0.3))
            lab.driver.carry_out()
            assert lab.driver.calls == 5
            replies = await lab.core.notes("reply", 12)
            assert sorted(str(note[1]) for note in replies) == sorted(map(str, range(12)))
            assert all(note[2] is None for note in replies)
            assert lab.udp.counters["calls_overflow"] == 7
            assert lab.udp.counters["calls"] == 0
            assert lab.driver.calls == 0


async def test_events_are_passed_on_in_order_also_from_requests() -> None:
    async with driving() as lab:
        first = JoinEnded(("192.0.2.1", 1), "first")
        lab.core.output.events.append(first)
        lab.driver.carry_out()
        assert lab.driver.serve(b"x", bytes(16)) == b"re:x"
        assert lab.events == [first, JoinEnded(("192.0.2.1", 1), "served")]


async def test_the_wall_clock_is_told_at_once_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "WALL_S", 0.01)
    async with driving() as lab:
        notes = await lab.core.notes("wall", 3)
        assert abs(float(str(notes[0][1])) - time.time()) < 10


async def test_closed_it_says_and_hears_nothing() -> None:
    async with driving() as lab:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            lab.core.output.calls.append(Call(1, mute.getsockname(), None, b"", 5.0))
            lab.driver.carry_out()
            await lab.driver.close()
        lab.core.output.datagrams.append(Datagram(("127.0.0.1", 1), b""))
        lab.driver.carry_out()
        assert lab.udp.counters["udp_sent"] == 0
        assert [note for note in lab.core.log if note[0] == "reply"] == []


# The thread


async def test_work_on_the_thread_gives_its_result_or_exception() -> None:
    thread = LoopThread("test")

    async def name() -> str:
        return threading.current_thread().name

    async def fail() -> None:
        raise KeyError("x")

    assert await thread.run(name()) == "test"
    with pytest.raises(KeyError):
        await thread.run(fail())
    noted: list[int] = []
    for number in range(10):
        thread.post(noted.append, number)
    await thread.run(name())
    assert noted == list(range(10))
    await thread.close()


async def test_work_that_the_end_of_the_thread_cuts_off_is_told() -> None:
    thread = LoopThread("test")
    begun = threading.Event()

    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    waiting = asyncio.ensure_future(thread.run(wait()))
    await asyncio.get_running_loop().run_in_executor(None, begun.wait)
    await thread.close()
    with pytest.raises(Unavailable, match="stopped taking part"):
        await waiting
    with pytest.raises(Unavailable, match="stopped taking part"):
        await thread.run(wait())
    thread.post(os.abort)  # is not called


async def test_cancelled_work_is_cancelled_there() -> None:
    thread = LoopThread("test")
    begun, ended = threading.Event(), threading.Event()

    async def wait() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    loop = asyncio.get_running_loop()
    waiting = asyncio.ensure_future(thread.run(wait()))
    await loop.run_in_executor(None, begun.wait)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await loop.run_in_executor(None, ended.wait, 5)
    await thread.close()
