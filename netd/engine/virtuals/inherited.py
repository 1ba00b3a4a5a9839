"""What a netd that was started again found in the kernel of virtual addresses.

Instances on other hosts, and that a service has virtual addresses at all, are heard of some time
after the start. Until then what is there goes on being wanted.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from netd.plan.firewall import SETS
from netd.plan.objects import Object, SetElement
from netd.plan.virtual_views import Backend

OWNER = "virtual-"


def owner_of(name: str) -> str:
    """Whose a service's elements are."""
    return f"{OWNER}{name}"


class Inherited:
    """Elements by service, as long as the grace lasts."""

    def __init__(self) -> None:
        self._elements: defaultdict[str, list[SetElement]] = defaultdict(list)
        self._seen: set[tuple[str, str]] = set()  # service, address of an instance

    def take(self, objects: Iterable[Object]) -> None:
        """Of what was found, what is about virtual addresses."""
        for obj in objects:
            if not isinstance(obj, SetElement) or SETS[obj.set_name].slots == 0:
                continue
            if obj.owner.startswith(OWNER):
                self._elements[obj.owner.removeprefix(OWNER)].append(obj)

    def end(self) -> set[str]:
        """All has been heard; the services that had something until now."""
        names = set(self._elements)
        self._elements.clear()
        self._seen.clear()
        return names

    def __contains__(self, name: str) -> bool:
        return name in self._elements

    def __iter__(self) -> Iterator[str]:
        return iter(self._elements)

    def of(self, name: str) -> list[SetElement]:
        return self._elements.get(name, [])

    def see(self, name: str, addresses: Iterable[str]) -> None:
        """An instance has been heard of: what becomes of it is known from now on."""
        if name in self._elements:
            self._seen.update((name, address) for address in addresses)

    def unheard(self, name: str) -> list[Backend]:
        """Instances that were there and have not been heard of yet."""
        targets = {element.value for element in self._elements.get(name, ())}
        return [
            Backend(id=f"{address} {port}", address=address, port=int(port))
            for address, port in sorted(targets)
            if (name, address) not in self._seen
        ]

    def unless_same(self, name: str, elements: Sequence[SetElement]) -> list[SetElement]:
        """The elements, or those found if these lead to the same in another order."""
        found = self.of(name)
        return list(found if _leads(found) == _leads(elements) else elements)


def _leads(elements: Iterable[SetElement]) -> Counter[tuple[str, ...]]:
    return Counter((each.set_name, *each.element[:-1], *each.value) for each in elements)
