"""What of an answer its caller may see."""

from collections.abc import Iterable
from typing import Final

from netd.registry.catalog.records import Instance, Node
from netd.registry.http.rights import Resource, Rights

# Said to callers with a token only: others need not know that there is more.
FILTERED: Final = {"X-Consul-Results-Filtered-By-ACLs": "true"}


class Sight:
    """Lets through what `rights` show, and notes that it has held something back."""

    def __init__(self, rights: Rights) -> None:
        self._rights = rights
        self._hidden = False

    @property
    def headers(self) -> dict[str, str]:
        """What the answer says of it."""
        return FILTERED if self._hidden and self._rights.named else {}

    def sees(self, resource: Resource, name: str) -> bool:
        if self._rights.may(resource, name, "read"):
            return True
        self._hidden = True
        return False

    def instances(self, found: Iterable[Instance]) -> list[Instance]:
        return [each for each in found if self.sees_instance(each)]

    def sees_instance(self, instance: Instance) -> bool:
        """One that stands for a node is seen as the node is."""
        if not self.sees("node", instance.node):
            return False
        return instance.is_node or self.sees("service", instance.name)

    def nodes(self, found: Iterable[Node]) -> list[Node]:
        return [each for each in found if self.sees("node", each.name)]
