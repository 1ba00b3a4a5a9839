"""Requests over TLS: slower than a packet, and whole or not at all."""

import random
from typing import Protocol

from netd.gossip.values import Call, NodeId
from tests.sim.clock import Clock
from tests.sim.network import Host, Network

ROUND_TRIPS = 3  # TCP's handshake, TLS's, the request
RESEND_S = 0.2  # TCP's least retransmission time on Linux; doubles each time
RATE_BYTES_PER_S = 50e6


class Caller(Protocol):
    """One run of a node."""

    @property
    def host(self) -> Host: ...
    @property
    def id(self) -> NodeId: ...
    def end_call(self, number: int, reply: bytes | None) -> None: ...


class Streams:
    """Makes the calls of all nodes. Every one ends, by its timeout at the latest.

    A host that is up and runs no node refuses at once; one that is not there, or to or from which
    nothing passes, is silent. Lost packets make a call slower.
    """

    def __init__(self, clock: Clock, network: Network, source: random.Random) -> None:
        self.clock = clock
        self.network = network
        self.random = source
        self.calls = 0
        self.bytes = 0  # of requests and replies

    def start(self, caller: Caller, call: Call) -> None:
        self.calls += 1
        self.bytes += len(call.request)
        _Stream(self, caller, call).open()


class _Stream:
    """One call: opened, asked, answered; or it ends with None."""

    def __init__(self, streams: Streams, caller: Caller, call: Call) -> None:
        self._streams = streams
        self._clock = streams.clock
        self._network = streams.network
        self._caller = caller
        self._call = call
        self._ended = False

    def open(self) -> None:
        self._clock.at(self._clock.now_s + self._call.timeout_s, self._end, None)
        target = self._network.hosts.get(self._call.to)
        if target is None or not self._passes(target):
            return
        refused = target.running_id is None and target.refuses
        took_s = sum(self._trip_s(target) for _ in range(1 if refused else ROUND_TRIPS))
        took_s += len(self._call.request) / RATE_BYTES_PER_S
        self._clock.at(self._clock.now_s + took_s, self._reach, target)

    def _reach(self, target: Host) -> None:
        """The request is there, and the handshake has shown who answers."""
        if self._ended or not self._passes(target):
            return
        there, wanted = target.running_id, self._call.node
        if there is None:
            if target.refuses:
                self._end(None)
        elif wanted is not None and there != wanted:
            self._end(None)
        else:
            caller = self._caller
            number = caller.host.number
            target.accept(self._call.request, caller.id, number, lambda r: self._back(target, r))

    def _back(self, target: Host, reply: bytes) -> None:
        if self._ended or not self._passes(target):
            return
        self._streams.bytes += len(reply)
        took_s = self._trip_s(target) / 2 + len(reply) / RATE_BYTES_PER_S
        self._clock.at(self._clock.now_s + took_s, self._end, reply)

    def _end(self, reply: bytes | None) -> None:
        if not self._ended:
            self._ended = True
            self._caller.end_call(self._call.number, reply)

    def _passes(self, target: Host) -> bool:
        network, host = self._network, self._caller.host
        return network.passes(host, target, tcp=True) and network.passes(target, host, tcp=True)

    def _trip_s(self, target: Host) -> float:
        """One round trip, with what is lost sent again."""
        network, host, draw = self._network, self._caller.host, self._streams.random.random
        least_s, most_s = network.default.delay_s
        took_s = 2 * (least_s + (most_s - least_s) * draw())
        lost = max(network.loss(host, target), network.loss(target, host))
        wait_s = RESEND_S
        while lost and draw() < 1 - (1 - lost) ** 2 and wait_s < 60:
            took_s += wait_s
            wait_s *= 2
        return took_s
