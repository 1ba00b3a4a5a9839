"""The desired kernel state, kept up to date as intent changes."""

from collections import Counter

from netd.plan.objects import Address, Key, Object, State


class Desired:
    """Desired kernel objects by key, and by the owner they are derived from."""

    def __init__(self) -> None:
        self.state: State = {}
        self._of: dict[str, list[Object]] = {}
        self._by_address: dict[str, str] = {}  # address without prefix length -> owner
        # Permanent objects (a container's lo) may be wanted by several owners.
        self._wanted_by: Counter[Key] = Counter()

    def put(self, owner: str, objects: list[Object]) -> None:
        """Replace what `owner` wants."""
        self.drop(owner)
        self._of[owner] = objects
        for obj in objects:
            self.state[obj.key] = obj
            if obj.permanent:
                self._wanted_by[obj.key] += 1
            if isinstance(obj, Address):
                self._by_address[_bare(obj)] = owner

    def drop(self, owner: str) -> list[Object]:
        """Forget what `owner` wants and return it; what others want too stays."""
        objects = self._of.pop(owner, [])
        for obj in objects:
            if obj.permanent:
                self._wanted_by[obj.key] -= 1
                if self._wanted_by[obj.key] > 0:
                    continue
                del self._wanted_by[obj.key]
            if self.state.get(obj.key) is obj:  # else somebody else wants it by now
                del self.state[obj.key]
            if isinstance(obj, Address) and self._by_address.get(_bare(obj)) == owner:
                del self._by_address[_bare(obj)]
        return objects

    def of(self, owner: str) -> list[Object]:
        return self._of.get(owner, [])

    def owner_of_address(self, address: str) -> str | None:
        """Who wants this address (with or without prefix length) on a link, if anyone."""
        return self._by_address.get(address.partition("/")[0])


def _bare(obj: Address) -> str:
    return obj.address.partition("/")[0]
