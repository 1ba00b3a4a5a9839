"""What is seen of the simulated kernel from outside: observations, facts and triggers."""

from typing import Final, Literal

from msgspec.structs import replace

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

# Of sysctls only these are told of: inet_netconf_notify_devconf() in net/ipv4/devinet.c.
_NOTIFIED: Final = frozenset({"ip_forward", "forwarding", "rp_filter", "proxy_arp", "proxy_ndp"})
_KIND: Final = {Bridge: "bridge", Veth: "veth", VethPeer: "veth", Ifb: "ifb", Loopback: ""}


def as_seen(obj: Object, want: Object | None, link_owner: str) -> Object:
    """What an observer sees: owners only of host links, of a veth's peer that there is one."""
    if want is None or type(want) is not type(obj):
        return obj if isinstance(obj, Link | SetElement) else replace(obj, owner=link_owner)
    match obj, want:
        case Veth(), Veth():
            return replace(
                obj, peer_ns=want.peer_ns, peer_name=want.peer_name, peer_mac=want.peer_mac
            )
        case Rule(), Rule():
            return replace(obj, owner=want.owner, link=want.link)
        case Link(ns=ns), _ if ns == HOST:
            return obj
        case _:
            return replace(obj, owner=want.owner)


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
                master=obj.master if isinstance(obj, Veth | OtherLink) else None,
                up=obj.up,
                mtu=obj.mtu or 0,
                mac=_mac(obj),
                owner=obj.owner,
            )
        case Address():
            return Trigger(kind="address", verb=verb, name=obj.address, host=host, nsid=nsid)
        case Route():
            return Trigger(kind="route", verb=verb, name=obj.destination, host=host, nsid=nsid)
        case Rule():
            return Trigger(kind="rule", verb=verb, name=obj.source, host=host, nsid=nsid)
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
        master=link.master if isinstance(link, Veth | OtherLink) else None,
    )


def _mac(link: Link) -> str:
    return link.mac or "" if isinstance(link, Bridge | Macvlan | VethPeer | OtherLink) else ""
