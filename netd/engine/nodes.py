"""Names of the cluster's hosts: each leads to one host, also where two claim it."""

from collections.abc import Mapping
from typing import NamedTuple

from netd.engine.names import NameTable
from netd.engine.round_trips import is_other
from netd.model.directory import NodeEntry
from netd.model.position import Position
from netd.plan.addresses import bare


class _Claim(NamedTuple):
    addresses: tuple[str, ...]
    tags: Mapping[str, str]


class NodeNames:
    """Keeps `<node>.node.<zone>` in step with who is there.

    A name that several hosts claim goes to the one with the lowest id: that is known
    everywhere, so all hosts choose the same one.
    """

    def __init__(self, names: NameTable) -> None:
        self._names = names
        self._claims: dict[str, dict[str, _Claim]] = {}  # name -> id
        self._name_of: dict[str, str] = {}
        self._rtt_ms: dict[str, float] = {}  # as it was last told of
        self._positions: dict[str, Position] = {}
        self._contested: dict[str, tuple[str, ...]] = {}

    def put(
        self, node_id: str, name: str, addresses: tuple[str, ...], tags: Mapping[str, str]
    ) -> bool:
        """The node claims `name`, and no other from now on; whether `contested` has changed."""
        name = name.lower()
        changed = False
        if self._name_of.get(node_id, name) != name:
            changed = self.drop(node_id)
        self._name_of[node_id] = name
        self._claims.setdefault(name, {})[node_id] = _Claim(addresses, tags)
        return self._settle(name) or changed

    def drop(self, node_id: str) -> bool:
        """The node is gone, or hidden, or was never there; whether `contested` has changed."""
        name = self._name_of.pop(node_id, None)
        self._rtt_ms.pop(node_id, None)
        if name is None:
            return False
        claims = self._claims[name]
        del claims[node_id]
        if not claims:
            del self._claims[name]
        return self._settle(name)

    def measured(self, node_id: str, rtt_ms: float) -> None:
        """How long a packet takes to the node and back, which is told if it is news."""
        name = self._name_of.get(node_id)
        if name is not None and is_other(self._rtt_ms.get(node_id), rtt_ms):
            self._rtt_ms[node_id] = rtt_ms
            self._settle(name)

    def at(self, node_id: str, position: Position | None) -> None:
        """Where the node says that it is; None: it does not say so any more."""
        if position is None:
            self._positions.pop(node_id, None)
        else:
            self._positions[node_id] = position
        if node_id in self._name_of:
            self._settle(self._name_of[node_id])

    def contested(self) -> Mapping[str, tuple[str, ...]]:
        """Names with more than one claim, and the ids that claim them; the first has it."""
        return self._contested

    def _settle(self, name: str) -> bool:
        claims = self._claims.get(name)
        if claims:
            first = min(claims)
            claim = claims[first]
            entry = NodeEntry(
                node_id=first,
                addresses=bare(claim.addresses),
                tags=dict(claim.tags),
                rtt_ms=self._rtt_ms.get(first),
                position=self._positions.get(first),
            )
            self._names.put_node(name, entry)
        else:
            self._names.remove_node(name)
        before = self._contested.pop(name, None)
        if claims and len(claims) > 1:
            self._contested[name] = tuple(sorted(claims))
        return before != self._contested.get(name)
