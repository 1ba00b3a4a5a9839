"""What a caller may do by what it shows of itself, beyond what it may from where it calls."""

from collections.abc import Hashable
from typing import Literal

Resource = Literal[
    "acl",
    "agent",
    "event",
    "key",
    "keyring",
    "mesh",
    "node",
    "operator",
    "peering",
    "query",
    "service",
    "session",
]
Access = Literal["deny", "read", "list", "write"]


class Rights:
    """Those of everybody where nobody is asked who it is: all."""

    checked = False  # whether some have less
    named = False  # whether the caller has said who it is

    @property
    def key(self) -> Hashable:
        """Those with the same key may do the same."""
        return None

    def may(self, resource: Resource, name: str, access: Access) -> bool:
        """`name` is of the resource, "" for one that has no names."""
        return True

    def may_write_all(self, prefix: str) -> bool:
        """Whether all keys may be written that begin so."""
        return True

    def demand(self, resource: Resource, name: str, access: Access) -> None:
        """Raise `Failure` 403 unless it may."""

    def demand_write_all(self, prefix: str) -> None:
        """Raise `Failure` 403 unless all keys may be written that begin so."""

    def renewed(self) -> "Rights":
        """As they are now, after a wait. Raises `Failure` when there are none any more."""
        return self


ALL = Rights()
