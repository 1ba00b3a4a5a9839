"""Which instances of a service are reached, by where the client is.

As the firewall's chain `filter_forward` has it: the host reaches all, and so do containers what is
in no network of netd's; networks that are isolated keep to themselves, and an internal one reaches
the host besides.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

LINK: Final = "ndvirtual"  # of the host's own packets; no network's, whose names have a dash there
OTHERS: Final = ""  # containers of all networks that are not internal and have no view of their own


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """An instance that takes connections: a bare address, its own port, and its weight above 0.

    `network` is this host's network that the address is in, "" where it is in none;
    `at_host` tells that it is one of this host's own.
    """

    id: str
    address: str
    port: int
    weight: int = 1
    network: str = ""
    at_host: bool = False


class Bridged(msgspec.Struct, frozen=True, kw_only=True):
    """A network that this host has a bridge of."""

    link: str
    isolated: bool = True
    internal: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it reaches others that are open, and is reached by them."""
        return not self.isolated and not self.internal


class Networks:
    """All networks that this host has a bridge of, by name."""

    def __init__(self, networks: Mapping[str, Bridged] | None = None) -> None:
        self.by_name = dict(networks or {})
        self.open = {each for each, network in self.by_name.items() if network.is_open}
        self.internal = {each for each, network in self.by_name.items() if network.internal}


def views(backends: Sequence[Backend], networks: Networks) -> dict[str, list[Backend]]:
    """What clients reach of `backends`, by the link that their packets come from.

    `OTHERS` is always there; a link has a view of its own only where that is another one.
    """
    outside = [each for each in backends if not each.network]
    found = {OTHERS: outside}
    if len(outside) < len(backends):
        found[LINK] = list(backends)
    for name in _concerned(backends, networks):
        client = networks.by_name[name]
        reached = [each for each in backends if _reaches(networks, name, client, each)]
        if reached != ([] if client.internal else outside):
            found[client.link] = reached
    return found


def _concerned(backends: Iterable[Backend], networks: Networks) -> list[str]:
    """The networks that may see others of these than those outside."""
    concerned = {each.network for each in backends} & networks.by_name.keys()
    if not concerned.isdisjoint(networks.open):
        concerned |= networks.open
    if any(each.at_host for each in backends):
        concerned |= networks.internal
    return sorted(concerned)


def _reaches(networks: Networks, name: str, client: Bridged, backend: Backend) -> bool:
    if backend.network == name:
        return True
    if client.internal:
        return backend.at_host
    return not backend.network or (client.is_open and backend.network in networks.open)
