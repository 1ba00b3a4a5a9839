"""Where hosts are, and how far from each other.

From this host to another it is what gossip has measured; between two others it is what the
positions say that all hosts tell of themselves.
"""

import math
from typing import Any, Final

from netd.registry.catalog.catalog import Catalog

_HEIGHT_MIN_S: Final = 1e-5  # of Consul's coordinates, which are higher where the way up is long


class Coordinates:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def distance_s(self, first: str, second: str) -> float | None:
        """See `Distance`."""
        if first == second:
            return 0.0
        own = self._catalog.own_node.lower()
        other = second if first == own else first
        measured_s = self._catalog.rtt_s(other) if own in (first, second) else None
        if measured_s is not None:
            return measured_s
        places = self._catalog.position(first), self._catalog.position(second)
        if places[0] is None or places[1] is None:
            return None
        return math.dist(places[0].vector, places[1].vector)

    def of(self, node: str) -> dict[str, Any] | None:
        """A row of `/v1/coordinate`; None for a node that has not said where it is."""
        position = self._catalog.position(node)
        if position is None:
            return None
        return {
            "Node": node,
            "Segment": "",
            "Partition": "default",
            "Coord": {
                "Vec": position.vector,
                "Error": position.error,
                "Adjustment": 0,
                "Height": _HEIGHT_MIN_S,
            },
        }
