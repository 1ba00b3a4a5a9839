"""Rules of access control, and which of them holds for a name. Without I/O.

A rule is for one name, or for all that begin with a prefix. That of the name itself holds, else
that of its longest prefix, else the default. Of several rules of one name or prefix, as several
policies may have them, the strictest holds if it denies, otherwise the one that gives most.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final, get_args

import msgspec

from netd.registry.http.rights import Access, Resource

SCALARS: Final = frozenset(("acl", "keyring", "mesh", "operator", "peering"))  # without names
RESOURCES: Final[tuple[Resource, ...]] = get_args(Resource)
_LEVELS: Final[dict[Access, int]] = {"deny": 0, "read": 1, "list": 2, "write": 3}
# Of two rules of one name, the one with the larger number.
_STRENGTH: Final[dict[Access, int]] = {"read": 0, "list": 1, "write": 2, "deny": 3}
_EXACT: Final = frozenset(("key", "event"))  # whose names are others in another case


class Rule(msgspec.Struct, frozen=True):
    """`name` is a prefix if `is_prefix`. A rule of a resource without names has the prefix ""."""

    resource: Resource
    name: str
    is_prefix: bool
    access: Access


class Rules:
    """Several rules, made to be asked, and what holds where there is none: of access control
    itself, nothing without a rule.
    """

    def __init__(self, rules: Iterable[Rule], default: Access) -> None:
        self._default = default
        self._names: dict[tuple[Resource, str], Access] = {}
        self._prefixes: dict[tuple[Resource, str], Access] = {}
        for rule in rules:
            table = self._prefixes if rule.is_prefix else self._names
            place = rule.resource, _folded(rule.resource, rule.name)
            known = table.get(place)
            if known is None or _STRENGTH[rule.access] > _STRENGTH[known]:
                table[place] = rule.access
        lengths: defaultdict[Resource, set[int]] = defaultdict(set)
        for resource, prefix in self._prefixes:
            lengths[resource].add(len(prefix))
        self._lengths = {each: sorted(lengths[each], reverse=True) for each in lengths}

    def may(self, resource: Resource, name: str, access: Access) -> bool:
        name = _folded(resource, name)
        found = self._names.get((resource, name))
        if found is None:
            found = self._by_prefix(resource, name)
        return _LEVELS[found] >= _LEVELS[access]

    def may_write_all(self, prefix: str) -> bool:
        """Whether all keys may be written that begin so, those that are still to come, too."""
        if self._by_prefix("key", prefix) != "write":
            return False
        return all(
            access == "write"
            for table in (self._names, self._prefixes)
            for (resource, name), access in table.items()
            if resource == "key" and name.startswith(prefix)
        )

    def _by_prefix(self, resource: Resource, name: str) -> Access:
        for length in self._lengths.get(resource, ()):
            if length <= len(name):
                found = self._prefixes.get((resource, name[:length]))
                if found is not None:
                    return found
        return "deny" if resource == "acl" else self._default


def _folded(resource: Resource, name: str) -> str:
    """Services and nodes are the same whatever their case, so rules about them are, too."""
    return name if resource in _EXACT else name.lower()
