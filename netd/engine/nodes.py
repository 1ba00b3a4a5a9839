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

    def put(self, node_id: str, name: str, addresses: tuple[str, ...]) -> None:
        """The node `node_id` claims `name`, and no other name from now on."""
        name = name.lower()
        if self._name_of.get(node_id, name) != name:
            self.drop(node_id)
        self._name_of[node_id] = name
        self._claims.setdefault(name, {})[node_id] = addresses
        self._settle(name)

    def drop(self, node_id: str) -> None:
        """The node is gone, or hidden; it need not have been there."""
        name = self._name_of.pop(node_id, None)
        if name is None:
            return
        claims = self._claims[name]
        del claims[node_id]
        if not claims:
            del self._claims[name]
        self._settle(name)

    def contested(self) -> Mapping[str, tuple[str, ...]]:
        """Names with more than one claim, and the ids that claim them; the first has it."""
        return {
            name: tuple(sorted(claims))
            for name, claims in sorted(self._claims.items())
            if len(claims) > 1
        }

    def _settle(self, name: str) -> None:
        claims = self._claims.get(name)
        self._names.put_node(name, claims[min(claims)] if claims else ())
