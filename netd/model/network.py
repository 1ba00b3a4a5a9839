"""A network: what is asked for, and what it became."""

import ipaddress
from typing import Literal

import msgspec

from netd.model.condition import Condition
from netd.model.names import Word

DriverName = Literal["bridge", "host", "none", "overlay", "macvlan", "ipvlan"]


class NetworkSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a caller asks for. All but name and driver may be left out and is then chosen."""

    name: Word
    driver: DriverName
    subnets: tuple[Word, ...] = ()
    gateways: tuple[Word, ...] = ()
    internal: bool = False
    isolated: bool = True
    mtu: int | None = None
    encrypted: bool = False
    vni: int | None = None
    parent: Word | None = None
    labels: dict[str, str] = {}
    options: dict[str, Word | int | bool] = {}


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network as it is recorded and shown. `mtu` is in bytes, `created_at` RFC 3339 UTC.

    `gateways` has one address for each subnet, in the same order; both are empty where the
    driver has no subnets (host, none). `seeds` are the members that own the addresses of an
    overlay network from the beginning; () of other networks.
    """

    id: str
    name: str
    driver: DriverName
    subnets: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    internal: bool = False
    isolated: bool = True
    mtu: int | None = None
    encrypted: bool = False
    vni: int | None = None
    parent: str | None = None
    labels: dict[str, str] = {}
    options: dict[str, str | int | bool] = {}
    seeds: tuple[str, ...] = ()
    created_at: str = ""
    conditions: tuple[Condition, ...] = ()


def difference(network: Network, spec: NetworkSpec) -> str | None:
    """Name the first field in which `spec` asks for another network than `network`.

    What `spec` leaves out was chosen by netd, so it cannot differ.
    """
    for name in ("driver", "internal", "isolated", "encrypted", "labels", "options"):
        if getattr(spec, name) != getattr(network, name):
            return name
    for name in ("mtu", "vni", "parent"):
        asked = getattr(spec, name)
        if asked is not None and asked != getattr(network, name):
            return name
    if spec.subnets and tuple(map(_canonical, spec.subnets)) != network.subnets:
        return "subnets"
    # Of those that were left out, netd may have chosen some.
    asked_gateways = {_canonical(text.partition("/")[0]) for text in spec.gateways}
    return "gateways" if asked_gateways - set(map(_canonical, network.gateways)) else None


def _canonical(text: str) -> str:
    """An address or subnet in the one form that all its spellings have."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        return text
