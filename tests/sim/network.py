"""A network that loses, delays, doubles, reorders, cuts and forgets, as it is told."""

import itertools
import random
from collections.abc import Callable, Iterable
from typing import Protocol

from netd.gossip.values import Address, NodeId
from tests.sim.clock import Clock

DELAY_S = (0.0005, 0.001)  # one way
PACKET_MAX_BYTES = 1_232
UNLIMITED = 1 << 16

Arrival = tuple[bytes, Address, int]  # what, where from as seen here, number of the sender
Packet = tuple[int, Address, bytes]  # number of the sender, where to, what
Respond = Callable[[bytes], None]


class Host(Protocol):
    """What has an address. `public` is where its packets seem to come from; `refuses`: it answers
    at once that nothing runs there.
    """

    number: int
    public: Address
    refuses: bool
    sent_packets: int
    sent_bytes: int

    @property
    def running_id(self) -> NodeId | None: ...
    def arrive(self, arrival: Arrival) -> None: ...
    def accept(self, request: bytes, peer: NodeId, source: int, respond: Respond) -> None: ...


class Bursts:
    """Loss in bursts, as Gilbert and Elliott have it: a good state that loses nothing, a bad one
    that loses `bad_loss`; `enter` and `leave` are the odds of a change, for each packet.
    """

    def __init__(self, enter: float, leave: float, bad_loss: float) -> None:
        self.enter = enter
        self.leave = leave
        self.bad_loss = bad_loss
        self._bad = False

    def lose(self, source: random.Random) -> bool:
        if source.random() < (self.leave if self._bad else self.enter):
            self._bad = not self._bad
        return self._bad and source.random() < self.bad_loss


class Link:
    """One direction between two hosts; shares of packets, seconds, bytes."""

    def __init__(self) -> None:
        self.delay_s = DELAY_S
        self.loss = 0.0
        self.bursts: Bursts | None = None
        self.duplication = 0.0
        self.reorder = 0.0  # this share is held back by up to `held_s`
        self.held_s = 0.05
        self.largest_bytes = UNLIMITED


class Network:
    """Packets between hosts, and the faults that there are."""

    def __init__(self, clock: Clock, source: random.Random) -> None:
        self.clock = clock
        self.default = Link()
        self.packets = 0
        self.bytes = 0
        self.inspect: Callable[[Packet], None] | None = None  # is given all that is sent
        self.longest_bytes = 0  # of the packets since the start
        self.hosts: dict[Address, Host] = {}
        self._links: dict[tuple[int, int], Link] = {}
        self._cut_udp: set[tuple[int, int]] = set()
        self._cut_tcp: set[tuple[int, int]] = set()
        self._random = source
        self._changed_s = 0.0
        self._touched_s: dict[int, float] = {}

    def send(self, source: Host, to: Address, data: bytes) -> None:
        """What becomes of one packet is decided here and now; it arrives later, or never."""
        size = len(data)
        source.sent_packets += 1
        source.sent_bytes += size
        self.packets += 1
        self.bytes += size
        if self.inspect is not None:
            self.inspect((source.number, to, data))
        if size > self.longest_bytes:
            self.longest_bytes = size
        host = self.hosts.get(to)
        if host is None:
            return
        pair = (source.number, host.number)
        if pair in self._cut_udp:
            return
        link = self._links.get(pair, self.default) if self._links else self.default
        draw = self._random.random
        if link.loss and draw() < link.loss:
            return
        if link.bursts is not None and link.bursts.lose(self._random):
            return
        if size > link.largest_bytes:
            return
        least_s, most_s = link.delay_s
        when_s = self.clock.now_s + least_s + (most_s - least_s) * draw()
        if link.reorder and draw() < link.reorder:
            when_s += link.held_s * draw()
        arrival = (data, source.public, source.number)
        self.clock.at(when_s, host.arrive, arrival)
        if link.duplication and draw() < link.duplication:
            self.clock.at(when_s + link.held_s * draw(), host.arrive, arrival)

    # What is where

    def attach(self, host: Host, address: Address) -> None:
        """Packets to `address` go to `host` from now on; it may have several."""
        self.hosts[address] = host

    def detach(self, host: Host) -> None:
        """It has no address any more."""
        self.hosts = {at: there for at, there in self.hosts.items() if there is not host}

    # Faults

    def link(self, source: Host, to: Host) -> Link:
        """The link between the two, its own from now on, to be changed by whoever asked."""
        self._touch(source, to)
        pair = (source.number, to.number)
        if pair not in self._links:
            self._links[pair] = link = Link()
            link.__dict__.update(self.default.__dict__)
        return self._links[pair]

    def lossy(self, share: float) -> None:
        """Each packet, wherever, is lost with this probability."""
        self._changed_s = self.clock.now_s
        self.default.loss = share
        for link in self._links.values():
            link.loss = share

    def cut(
        self, sources: Iterable[Host], to: Iterable[Host], *, udp: bool = True, tcp: bool = True
    ) -> None:
        """Nothing passes from any of the first to any of the second."""
        sources, to = list(sources), list(to)
        self._touch(*sources, *to)
        pairs = {(a.number, b.number) for a, b in itertools.product(sources, to) if a is not b}
        if udp:
            self._cut_udp |= pairs
        if tcp:
            self._cut_tcp |= pairs

    def partition(self, *sides: Iterable[Host], udp: bool = True, tcp: bool = True) -> None:
        """Nothing passes between any two of the sides, in either direction."""
        for left, right in itertools.permutations([list(side) for side in sides], 2):
            self.cut(left, right, udp=udp, tcp=tcp)

    def heal(self) -> None:
        """Everything passes again, and nothing is lost."""
        self._changed_s = self.clock.now_s
        self._cut_udp.clear()
        self._cut_tcp.clear()
        self._links.clear()
        self.default = Link()

    def mend(self, sources: Iterable[Host], to: Iterable[Host]) -> None:
        """What was cut from the first to the second passes again."""
        sources, to = list(sources), list(to)
        self._touch(*sources, *to)
        pairs = {(a.number, b.number) for a, b in itertools.product(sources, to)}
        self._cut_udp -= pairs
        self._cut_tcp -= pairs

    # What is so

    def passes(self, source: Host, to: Host, *, tcp: bool = False) -> bool:
        """Whether packets get from one to the other, but for loss."""
        cut = self._cut_tcp if tcp else self._cut_udp
        return (source.number, to.number) not in cut

    def connects(self, one: Host, other: Host) -> bool:
        """Whether a stream between the two can be opened, and UDP passes both ways."""
        if not self._cut_udp and not self._cut_tcp:
            return True
        there, back = (one.number, other.number), (other.number, one.number)
        return not ({there, back} & self._cut_udp or {there, back} & self._cut_tcp)

    def loss(self, source: Host, to: Host) -> float:
        """The share of packets that are lost from one to the other."""
        return self._links.get((source.number, to.number), self.default).loss

    def touched_s(self, one: Host, other: Host) -> float:
        """When a fault that concerns one of the two last came or went."""
        touched = self._touched_s
        here_s, there_s = touched.get(one.number, 0.0), touched.get(other.number, 0.0)
        return max(self._changed_s, here_s, there_s)

    def _touch(self, *hosts: Host) -> None:
        for host in hosts:
            self._touched_s[host.number] = self.clock.now_s
