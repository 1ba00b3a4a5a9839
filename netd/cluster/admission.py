"""Which connections are held: a bounded number, however many strangers ask for one.

A connection begins as a stranger's and becomes a member's when its certificate has proved a
node. Strangers cannot keep members out: when all their places are taken, the one that has
waited longest goes, so a handshake that takes its usual milliseconds gets through.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

from netd.gossip.values import NodeId, T

STRANGERS_MAX: Final = 128
STRANGERS_OF_ADDRESS_MAX: Final = 64
MEMBERS_MAX: Final = 256
CONNECTIONS_OF_MEMBER_MAX: Final = 16


class Place:
    """What one connection holds. `evict` ends the connection."""

    def __init__(self, host: str, evict: Callable[[], object]) -> None:
        self.host = host
        self.evict = evict
        self.node: NodeId | None = None


class Admission:
    """Counts refusals in `counters`, by reason."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
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
        return True

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
