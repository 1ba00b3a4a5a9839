"""Drives the protocol core: packets, time and calls go in, what it wants done is done.

Everything is on one event loop, which belongs to the cluster alone: while it waits, this node
looks dead to the others.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from netd.cluster.client import CallFailed, StreamClient
from netd.cluster.core import Core
from netd.cluster.udp import UdpSocket
from netd.gossip.values import Address, Call, Event, NodeId
from netd.tasks import Tasks

# A wake-up handles so much, then timers and streams have their turn, and other threads the
# interpreter.
BATCH_DATAGRAMS: Final = 128
BATCH_S: Final = 0.001
# Timers wait for packets that came before: after a SIGSTOP the acknowledgements are still in the
# socket, and whoever sent them is not dead. But a flood does not stop time; this is less than
# what the core takes for a stall of this node.
DRAIN_MAX_S: Final = 0.1
CALLS_AT_ONCE: Final = 32
CALLS_MAX: Final = 512  # with those that wait
WALL_S: Final = 5.0
_ERROR_PAUSE_S: Final = 0.1
_ERROR_LOG_S: Final = 10.0

log = logging.getLogger(__name__)


class Driver:
    """`notice` gets the core's events, in order, in batches."""

    def __init__(
        self,
        core: Core,
        udp: UdpSocket,
        client: StreamClient,
        notice: Callable[[Sequence[Event]], None],
    ) -> None:
        self.core = core
        self.failures: dict[Address, str] = {}  # why the last call there failed, as text
        self._udp = udp
        self._counters = udp.counters
        self._client = client
        self._notice = notice
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        self._slots = asyncio.Semaphore(CALLS_AT_ONCE)
        self._calls = 0
        self._timer: asyncio.Handle | None = None
        self._timer_s = 0.0
        self._drain_end_s: float | None = None
        self._wall: asyncio.TimerHandle | None = None
        self._error_logged_s = float("-inf")
        self._closed = False

    def start(self) -> None:
        self._loop.add_reader(self._udp.socket, self._readable)
        self._tell_wall()
        self.carry_out()

    async def close(self) -> None:
        """Stop: nothing is sent or received any more. Doing it again does nothing."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._udp.socket)
        for handle in (self._timer, self._wall):
            if handle is not None:
                handle.cancel()
        await self._tasks.stop()
        self._udp.close()

    @property
    def calls(self) -> int:
        """Calls that are made or wait."""
        return self._calls

    def serve(self, request: bytes, peer: NodeId) -> bytes:
        """Answer a request of a member."""
        reply = self.core.serve(request, peer, self._loop.time())
        self.carry_out()
        return reply

    def carry_out(self) -> None:
        """Do what the core wants done. To be called after each call of it."""
        if self._closed:
            return
        datagrams, calls, events = self.core.take()
        send = self._udp.send
        for to, data in datagrams:
            send(data, to)
        for call in calls:
            self._begin(call)
        if events:
            self._notice(events)
        self._arm(self.core.next_timer_s())

    def _readable(self) -> None:
        self._udp.receive(self._handle, BATCH_DATAGRAMS, BATCH_S)
        self.carry_out()

    def _handle(self, data: bytes, source: Address) -> None:
        try:
            self.core.receive(data, source, time.monotonic())
        except Exception as error:  # noqa: BLE001 - whatever a packet does, the next one is handled
            self._failed("a packet", error)

    def _due(self) -> None:
        """The core's timer is due: first the packets that wait, then it."""
        self._timer = None
        now_s = self._loop.time()
        if self._drain_end_s is None:
            self._drain_end_s = now_s + DRAIN_MAX_S
        more = self._udp.receive(self._handle, BATCH_DATAGRAMS, BATCH_S)
        if more and now_s < self._drain_end_s:
            self._timer = self._loop.call_soon(self._due)
            self._timer_s = float("-inf")
            self.carry_out()
            return
        self._drain_end_s = None
        try:
            self.core.advance(self._loop.time())
        except Exception as error:  # noqa: BLE001 - a node with a flaw is better than a dead one
            self._failed("a timer", error)
            self._arm(self._loop.time() + _ERROR_PAUSE_S)
            return
        self.carry_out()

    def _arm(self, when_s: float) -> None:
        """See to it that `_due` runs then. An earlier timer is left: it looks again."""
        if self._timer is not None:
            if self._timer_s <= when_s:
                return
            self._timer.cancel()
        self._timer_s = when_s
        self._timer = self._loop.call_at(when_s, self._due)

    def _begin(self, call: Call) -> None:
        if self._calls >= CALLS_MAX:
            self._counters["calls_overflow"] += 1
            self._loop.call_soon(self._complete, call.number, None)
            return
        self._calls += 1
        self._tasks.start("call", self._make(call))

    async def _make(self, call: Call) -> None:
        reply = None
        try:
            async with asyncio.timeout(call.timeout_s), self._slots:
                reply = await self._client.call(call.to, call.node, call.request, call.timeout_s)
            self.failures.pop(call.to, None)
        except TimeoutError:
            self._note_failure(call.to, f"no answer within {call.timeout_s:g} s")
        except CallFailed as error:
            self._note_failure(call.to, str(error))
        finally:
            self._calls -= 1
            if not self._closed:
                self._complete(call.number, reply)

    def _note_failure(self, to: Address, detail: str) -> None:
        log.debug("call to %s port %d: %s", *to, detail)
        if len(self.failures) >= CALLS_MAX:
            self.failures.clear()
        self.failures[to] = detail

    def _complete(self, number: int, reply: bytes | None) -> None:
        if self._closed:
            return
        try:
            self.core.complete(number, reply, self._loop.time())
        except Exception as error:  # noqa: BLE001 - as for a packet
            self._failed("a reply", error)
        self.carry_out()

    def _tell_wall(self) -> None:
        self.core.set_wall(time.time(), self._loop.time())
        self._wall = self._loop.call_later(WALL_S, self._tell_wall)

    def _failed(self, what: str, error: Exception) -> None:
        """An error of the core that must not happen. It is logged, but not for each packet."""
        self._counters["core_errors"] += 1
        now_s = self._loop.time()
        if now_s - self._error_logged_s >= _ERROR_LOG_S:
            self._error_logged_s = now_s
            log.error("the cluster's protocol failed on %s", what, exc_info=error)
