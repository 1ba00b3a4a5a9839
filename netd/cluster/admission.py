"""Which connections are held: a bounded number, however many strangers ask for one.

A connection begins as a stranger's and becomes a member's when its certificate has proved a
node. Strangers cannot keep members out: when all their places are taken, the one that has
waited longest goes, so a handshake that takes its usual milliseconds gets through. A handshake
costs some 2 ms of this node's time, so there are only so many a second, also of one address.
"""

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from netd.cluster.allowance import Allowance
from netd.gossip.values import NodeId, T

STRANGERS_MAX: Final = 128
STRANGERS_OF_ADDRESS_MAX: Final = 64
MEMBERS_MAX: Final = 256
CONNECTIONS_OF_MEMBER_MAX: Final = 16
RATE_PER_S: Final = 100.0
BURST: Final = 300.0
RATE_OF_ADDRESS_PER_S: Final = 30.0
BURST_OF_ADDRESS: Final = 100.0
ADDRESSES_MAX: Final = 4096  # whose rate is remembered


class Place:
    """What one connection holds. `evict` ends it; `begun` says that it is being handled."""

    def __init__(self, host: str, evict: Callable[[], object]) -> None:
        self.host = host
        self.evict = evict
        self.begun = False
        self.node: NodeId | None = None


class Admission:
    """Counts refusals in `counters`, by reason."""

    def __init__(self, counters: Counter[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._counters = counters
        self._clock = clock
        self._rate = Allowance(RATE_PER_S, BURST, clock())
        self._rate_of_host: dict[str, Allowance] = {}
        self._strangers: dict[Place, None] = {}  # the oldest first
        self._of_host: Counter[str] = Counter()
        self._members: set[Place] = set()
        self._of_node: Counter[NodeId] = Counter()

    @property
    def strangers(self) -> int:
        return len(self._strangers)

    @property
    def members(self) -> int:
        return len(self._members)

    def admits(self, host: str) -> bool:
        """Whether a connection from the host may begin."""
        if self._of_host[host] >= STRANGERS_OF_ADDRESS_MAX:
            self._counters["stream_refused_address"] += 1
            return False
        now_s = self._clock()
        if not self._allowance(host, now_s).take(now_s) or not self._rate.take(now_s):
            self._counters["stream_refused_rate"] += 1
            return False
        return True

    def _allowance(self, host: str, now_s: float) -> Allowance:
        allowance = self._rate_of_host.get(host)
        if allowance is None:
            if len(self._rate_of_host) >= ADDRESSES_MAX:
                self._rate_of_host = {
                    known: rate
                    for known, rate in self._rate_of_host.items()
                    if not rate.is_full(now_s)
                }
            if len(self._rate_of_host) >= ADDRESSES_MAX:
                return self._rate  # that many addresses share what there is
            allowance = Allowance(RATE_OF_ADDRESS_PER_S, BURST_OF_ADDRESS, now_s)
            self._rate_of_host[host] = allowance
        return allowance

    def enter(self, place: Place) -> None:
        """Hold the place of a connection that `admits` let in."""
        if len(self._strangers) >= STRANGERS_MAX:
            oldest = next(iter(self._strangers))
            self._counters["stream_refused_evicted"] += 1
            self.leave(oldest)
            oldest.evict()
        self._strangers[place] = None
        self._of_host[place.host] += 1

    def prove(self, place: Place, node: NodeId) -> bool:
        """Make it a member's; False when members have too many connections already."""
        if len(self._members) >= MEMBERS_MAX or self._of_node[node] >= CONNECTIONS_OF_MEMBER_MAX:
            self._counters["stream_refused_member"] += 1
            return False
        self.leave(place)
        place.node = node
        self._members.add(place)
        self._of_node[node] += 1
        return True

    def leave(self, place: Place) -> None:
        """Give the place up. It may have been given up before."""
        if place in self._strangers:
            del self._strangers[place]
            _count_down(self._of_host, place.host)
        elif place in self._members and place.node is not None:
            self._members.remove(place)
            _count_down(self._of_node, place.node)


def _count_down(counter: Counter[T], key: T) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
