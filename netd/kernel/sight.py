"""What the simulated kernel tells by itself: facts and triggers."""

from typing import Final, Literal

from netd.engine.interfaces import Trigger
from netd.kernel.simulation import OtherLink
from netd.plan.facts import LinkFact
from netd.plan.objects import (
    HOST,
    Address,
    Bridge,
    Ifb,
    Link,
    Loopback,
    Macvlan,
    Object,
    Redirect,
    Route,
    Rule,
    Ruleset,
    SetElement,
    Shaper,
    Sysctl,
    Veth,
    VethPeer,
)
from netd.plan.tunnels import FdbEntry, Neighbour, Vxlan

# Of sysctls only these are told of: inet_netconf_notify_devconf() in net/ipv4/devinet.c.
_NOTIFIED: Final = frozenset({"ip_forward", "forwarding", "rp_filter", "proxy_arp", "proxy_ndp"})
_KIND: Final = {
    Bridge: "bridge",
    Veth: "veth",
    VethPeer: "veth",
    Ifb: "ifb",
    Vxlan: "vxlan",
    Loopback: "",
}


def trigger_of(verb: Literal["new", "delete"], obj: Object, nsid: int) -> Trigger | None:
    """The event that the kernel would send; None for what it tells nobody."""
    host = obj.ns == HOST
    match obj:
        case Link():
            if not host:
                return Trigger(kind="link", verb=verb, name=obj.name, host=False, nsid=nsid)
            return Trigger(
                kind="link",
                verb=verb,
                name=obj.name,
                master=_master(obj),
                up=obj.up,
                mtu=obj.mtu or 0,
                mac=_mac(obj),
                owner=obj.owner,
                flood=isinstance(obj, Vxlan) and obj.flood,
                quiet=not isinstance(obj, Vxlan) or obj.quiet,
            )
        case Address():
            return Trigger(kind="address", verb=verb, name=obj.address, host=host, nsid=nsid)
        case Route():
            return Trigger(kind="route", verb=verb, name=obj.destination, host=host, nsid=nsid)
        case Rule():
            return Trigger(kind="rule", verb=verb, name=obj.source, host=host, nsid=nsid)
        case FdbEntry(destination=value) | Neighbour(mac=value):
            return Trigger(
                kind="fdb" if isinstance(obj, FdbEntry) else "neighbour",
                verb=verb if getattr(obj, "bridged", True) and value else "delete",
                key=obj.key,
                value=value,
            )
        case Shaper() | Redirect():
            return Trigger(kind="shaping", verb=verb, name=obj.link, host=host, nsid=nsid)
        case Sysctl() if obj.name.rpartition("/")[2] in _NOTIFIED:
            return Trigger(kind="sysctl", verb=verb, name=obj.name, host=host, nsid=nsid)
        case Ruleset() | SetElement():
            return Trigger(kind="ruleset", verb=verb, host=host, nsid=nsid)
        case _:
            return None


def link_fact(link: Link, *, index: int, ours: bool) -> LinkFact:
    """The link as `Facts` show it."""
    kind = link.kind if isinstance(link, Macvlan | OtherLink) else _KIND.get(type(link), "")
    return LinkFact(
        index=index,
        name=link.name,
        mac=_mac(link),
        mtu=link.mtu or 0,
        kind=kind,
        up=link.up,
        ours=ours,
        master=_master(link),
    )


def _master(link: Link) -> str | None:
    return link.master or None if isinstance(link, Veth | Vxlan | OtherLink) else None


def _mac(link: Link) -> str:
    match link:
        case Bridge(mac=mac) | Macvlan(mac=mac) | VethPeer(mac=mac) | Vxlan(mac=mac):
            return mac or ""
        case OtherLink(mac=mac):
            return mac
        case _:
            return ""
