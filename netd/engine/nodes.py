"""Names of the cluster's hosts: each leads to one host, also where two claim it."""

from collections.abc import Mapping

from netd.engine.names import NameTable


class NodeNames:
    """Keeps `<node>.node.<zone>` in step with who is there.

    A name that several hosts claim goes to the one with the lowest id: that is known
    everywhere, so all hosts choose the same one.
    """

    def __init__(self, names: NameTable) -> None:
        self._names = names
        self._claims: dict[str, dict[str, tuple[str, ...]]] = {}  # name -> id -> addresses
        self._name_of: dict[str, str] = {}
        self._contested: dict[str, tuple[str, ...]] = {}

    def put(self, node_id: str, name: str, addresses: tuple[str, ...]) -> bool:
        """The node claims `name`, and no other from now on; whether `contested` has changed."""
        name = name.lower()
        changed = False
        if self._name_of.get(node_id, name) != name:
            changed = self.drop(node_id)
        self._name_of[node_id] = name
        self._claims.setdefault(name, {})[node_id] = addresses
        return self._settle(name) or changed

    def drop(self, node_id: str) -> bool:
        """The node is gone, or hidden, or was never there; whether `contested` has changed."""
        name = self._name_of.pop(node_id, None)
        if name is None:
            return False
        claims = self._claims[name]
        del claims[node_id]
        if not claims:
            del self._claims[name]
        return self._settle(name)

    def contested(self) -> Mapping[str, tuple[str, ...]]:
        """Names with more than one claim, and the ids that claim them; the first has it."""
        return self._contested

    def _settle(self, name: str) -> bool:
        claims = self._claims.get(name)
        self._names.put_node(name, claims[min(claims)] if claims else ())
        before = self._contested.pop(name, None)
        if claims and len(claims) > 1:
            self._contested[name] = tuple(sorted(claims))
        return before != self._contested.get(name)
