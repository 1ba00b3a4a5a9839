"""Links and routes of the kernel as netd's objects, where one says all of the other.

Indexes are resolved by the caller: `parent` and `master` are names.
"""

from typing import Final

from netd.kernel.rtnl_decode import LinkInfo, RouteInfo
from netd.kernel.rtnl_encode import IPVLAN_MODES, MACVLAN_MODES, default_metric
from netd.plan.objects import Bridge, Ifb, Macvlan, Route
from netd.plan.tunnels import Vxlan

_MACVLAN_MODE: Final = {number: name for name, number in MACVLAN_MODES.items()}
_IPVLAN_MODE: Final = {number: name for name, number in IPVLAN_MODES.items()}


def bridge_of(link: LinkInfo, owner: str) -> Bridge:
    return Bridge(
        owner=owner,
        name=link.name,
        mtu=link.mtu,
        up=link.up,
        mac=link.mac,
        route_localnet=link.route_localnet,
    )


def ifb_of(link: LinkInfo, owner: str) -> Ifb:
    return Ifb(owner=owner, name=link.name, mtu=link.mtu, up=link.up)


def vxlan_of(link: LinkInfo, owner: str, master: str | None) -> Vxlan:
    tunnel = link.tunnel
    assert tunnel is not None
    return Vxlan(
        owner=owner,
        name=link.name,
        mtu=link.mtu,
        up=link.up,
        vni=tunnel.vni,
        port=tunnel.port,
        mac=link.mac,
        master=master or "",
        family=6 if tunnel.family == 6 else 4,
        flood=tunnel.flood,
        quiet=tunnel.quiet,
    )


def macvlan_of(ns: str, link: LinkInfo, owner: str, parent: str | None) -> Macvlan:
    modes = _MACVLAN_MODE if link.kind == "macvlan" else _IPVLAN_MODE
    return Macvlan(
        ns=ns,
        owner=owner,
        name=link.name,
        mtu=link.mtu,
        up=link.up,
        kind="macvlan" if link.kind == "macvlan" else "ipvlan",
        parent=parent or "",
        mode=modes.get(link.mode, "") if link.mode is not None else "",
        mac=link.mac,
    )


def route_of(ns: str, link: str, found: RouteInfo) -> Route:
    by_default = found.metric == default_metric(found.family)
    return Route(
        ns=ns,
        destination=found.destination,
        link=link,
        gateway=found.gateway,
        source=found.source,
        table=found.table,
        metric=None if by_default else found.metric,
    )
