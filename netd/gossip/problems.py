"""What is wrong in the cluster and needs a person: told when it begins and when it ends."""

from netd.gossip.parts import Parts
from netd.gossip.values import NodeId, ProblemChanged


class Problems:
    """Open problems by code and node. Each is told once, however often it is seen."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.open: dict[tuple[str, NodeId], str] = {}

    def set(self, code: str, about: NodeId, detail: str) -> None:
        if (code, about) not in self.open and len(self.open) < self._parts.settings.members_max:
            self.open[code, about] = detail
            self._parts.events.append(ProblemChanged(code, about, detail))

    def clear(self, code: str, about: NodeId) -> None:
        if self.open.pop((code, about), None) is not None:
            self._parts.events.append(ProblemChanged(code, about, ""))

    def drop(self, about: NodeId) -> None:
        """The node is gone, and its problems with it."""
        for code, node in list(self.open):
            if node == about:
                self.clear(code, about)

    def check_name(self, name: str) -> None:
        """Two live members of one name at two addresses: a condition of both.

        At one address the later is the earlier one with its disk lost, which dies of itself.
        """
        holders = [other for other in self._parts.members.named(name) if other.live]
        addresses = {other.address for other in holders}
        for other in self._parts.members.named(name):
            if other in holders and len(addresses) > 1:
                places = ", ".join(f"{host} port {port}" for host, port in sorted(addresses))
                detail = f"{len(addresses)} hosts are called {name}: {places}"
                self.set("duplicate-name", other.id, detail)
            else:
                self.clear("duplicate-name", other.id)
