"""One run of a core: packets, streams, timers and events between it and the simulated host."""

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from netd.gossip.values import Address, EpochWanted, Event, NodeId, RingChanged
from tests.sim.clock import HostClock
from tests.sim.core import Core
from tests.sim.invariants import Violation
from tests.sim.network import Arrival, Host, Respond
from tests.sim.world import Action, Disk, World

WALL_EVERY_S: Final = 5.0  # so often a core is told the time
ALONE_AGAIN_S: Final = 1.0  # as netd.cluster.rejoin: at first; each time twice as long,
AGAIN_S: Final = 60.0  # up to this, which is what holds where somebody is there
SOCKET_BYTES: Final = 1 << 20  # that wait for a process that does not run
SPIN_MAX: Final = 1_000  # advances without time going on, after which a core is said to hang
NEVER: Final = float("inf")


class Driver:
    """Lives from boot to death. `stopped`: the process has got SIGSTOP; `slow_s`: each packet is
    handled up to so much late, timers too if `slow_timers`.
    """

    def __init__(
        self,
        host: Host,
        core: Core,
        clock: HostClock,
        disk: Disk,
        world: World,
        label: str,
        addresses: Sequence[Address],
    ) -> None:
        self.host = host
        self.core = core
        self.id = core.id
        self.over = False
        self.stopped = False
        self.slow_s = 0.0
        self.slow_timers = False
        self.dropped_packets = 0
        self._label = label
        self._host_clock = clock
        self._clock = world.clock
        self._disk = disk
        self._world = world
        self._random = random.Random(f"{label} {disk.secret.hex()} {disk.epoch}")
        self._idle = True  # nothing keeps it from handling a packet at once
        self._wake_s = -1.0  # the virtual time of the timer that counts
        self._woken_s = -1.0
        self._spins = 0  # wakes at one and the same time
        self._waiting: deque[Callable[[], None]] = deque()
        self._waiting_bytes = 0
        self._addresses = addresses
        self._again_s = ALONE_AGAIN_S
        world.listener.begins(label, core)
        self._clock.at(self._clock.now_s + WALL_EVERY_S, self._tell_wall)
        self._clock.at(self._clock.now_s, self._join)

    # What disturbs it

    def stop(self) -> None:
        """SIGSTOP: nothing is handled; what arrives waits, as far as the socket has room."""
        self.stopped = True
        self._idle = False

    def go_on(self) -> None:
        """SIGCONT: what waits is handled, and timers are late."""
        if not self.stopped:
            return
        self.stopped = False
        self._idle = not self.slow_s
        if self._random.random() < 0.5:
            self._advance()
        while self._waiting:
            self._waiting.popleft()()
        self._waiting_bytes = 0
        self._wake_s = -1.0
        self._flush()

    def slow_down(self, up_to_s: float, *, timers: bool) -> None:
        self.slow_s = up_to_s
        self.slow_timers = timers
        self._idle = not self.stopped and not up_to_s

    # Input

    def tell(self, action: Action) -> None:
        """Something that a program on this host asks of the core."""
        action(self.core, self._host_clock.now_s())
        self._flush()

    def arrive(self, arrival: Arrival) -> None:
        if self._idle:
            self._receive(arrival)
        else:
            self._later(len(arrival[0]), lambda: self._receive(arrival))

    def accept(self, request: bytes, peer: NodeId, source: int, respond: Respond) -> None:
        self._later(0, lambda: self._serve(request, peer, source, respond))

    def end_call(self, number: int, reply: bytes | None) -> None:
        if not self.over:
            self._later(0, lambda: self._complete(number, reply))

    def _later(self, size: int, action: Callable[[], None]) -> None:
        """Handle it when the node is fit to."""
        if self._idle:
            action()
        elif not self.stopped:
            late_s = self._random.random() * self.slow_s
            self._clock.at(self._clock.now_s + late_s, self._handle, (size, action))
        elif self._waiting_bytes + size > SOCKET_BYTES:
            self.dropped_packets += 1
        else:
            self._waiting_bytes += size
            self._waiting.append(action)

    def _handle(self, what: tuple[int, Callable[[], None]]) -> None:
        size, action = what
        if self.stopped:
            self._later(size, action)
        elif not self.over:
            action()

    def _receive(self, arrival: Arrival) -> None:
        data, source, number = arrival
        now_s = self._clock.now_s
        self._world.trace.bytes_arrive(b"d", now_s, number, self.host.number, data)
        try:
            self.core.receive(data, source, self._host_clock.now_s())
        except Exception as error:
            raise Violation(19, f"{self._label}: a packet raised {error!r}") from error
        self._flush()

    def _serve(self, request: bytes, peer: NodeId, source: int, respond: Respond) -> None:
        now_s = self._clock.now_s
        self._world.trace.bytes_arrive(b"q", now_s, source, self.host.number, request)
        try:
            reply = self.core.serve(request, peer, self._host_clock.now_s())
        except Exception as error:
            raise Violation(19, f"{self._label}: a request raised {error!r}") from error
        self._world.listener.serves(self._label, self.core, peer, reply)
        respond(reply)
        self._flush()

    def _complete(self, number: int, reply: bytes | None) -> None:
        now_s = self._clock.now_s
        self._world.trace.bytes_arrive(
            b"r", now_s, number & 0xFFFF, self.host.number, reply or b"none"
        )
        try:
            self.core.complete(number, reply, self._host_clock.now_s())
        except Exception as error:
            raise Violation(19, f"{self._label}: a reply raised {error!r}") from error
        self._flush()

    # Time

    def _tell_wall(self, _: None) -> None:
        if self.over:
            return
        if not self.stopped:
            self.tell(lambda core, now_s: core.set_wall(self._host_clock.wall_s(), now_s))
        self._clock.at(self._clock.now_s + WALL_EVERY_S, self._tell_wall)

    def _wake(self, when_s: float) -> None:
        """A timer is due, unless another one has taken its place."""
        if self.over or self.stopped or when_s != self._wake_s:
            return
        self._wake_s = -1.0
        if when_s > self._woken_s:
            self._spins = 0
        self._woken_s = when_s
        self._spins += 1
        assert self._spins < SPIN_MAX, f"{self._label}: a timer of the core stays due"
        self._advance()
        self._flush()

    def _advance(self) -> None:
        now_s = self._host_clock.now_s()
        due_s = self.core.next_timer_s()
        if due_s <= now_s + 1e-6:  # to the microsecond, against rounding
            self.core.advance(max(due_s, now_s))

    def _schedule(self) -> None:
        """Wake at the core's next timer."""
        due_s = self.core.next_timer_s()
        if due_s == NEVER or self.stopped or self.over:
            return
        now_s = self._clock.now_s
        when_s = max(now_s, self._host_clock.virtual_s(due_s))
        if self.slow_timers:
            if self._wake_s >= 0.0:
                return
            when_s += self._random.random() * self.slow_s
        if self._wake_s < 0.0 or when_s < self._wake_s:
            self._wake_s = when_s
            self._clock.at(when_s, self._wake, when_s)

    # Output

    def _flush(self) -> None:
        datagrams, calls, events = self.core.take()
        if datagrams:
            send, host = self._world.network.send, self.host
            for to, data in datagrams:
                send(host, to, data)
        for call in calls:
            self._world.streams.start(self, call)
        for event in events:
            self._tell(event)
        self._schedule()

    def _tell(self, event: Event) -> None:
        core = self.core
        if isinstance(event, RingChanged):
            self._disk.ring = core.ring
        elif isinstance(event, EpochWanted):
            epoch = self._disk.next_epoch(self._host_clock.wall_s(), event.above)
            self.tell(lambda core, now_s: core.renew(epoch, now_s))
        self._world.listener.tells(self._label, core, event)

    def _join(self, _: None) -> None:
        """Ask where this node does not know a member that is there, now and again and again."""
        if self.over:
            return
        others = {m.address for m in self.core.members() if m.id != self.id and m.live}
        if not self.stopped:
            wanted = [address for address in self._addresses if address not in others]
            self.tell(lambda core, now_s: core.join(wanted, now_s))
        pause_s = AGAIN_S if others else self._again_s
        self._again_s = ALONE_AGAIN_S if others else min(2 * self._again_s, AGAIN_S)
        self._clock.at(self._clock.now_s + pause_s, self._join)
