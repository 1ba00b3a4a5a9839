"""What Linux does to tunnels and their entries, in memory: a part of `simulation`."""

import errno
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Literal

from msgspec.structs import replace

from netd.kernel.refusal import Refused
from netd.plan.objects import Link
from netd.plan.tunnels import ALL_HOSTS, FdbEntry, Vxlan


def check_vxlan(wanted: Vxlan, others: Iterable[Vxlan]) -> None:
    """vxlan_config_validate() in drivers/net/vxlan/vxlan_core.c"""
    identity = (wanted.ns, wanted.vni, wanted.port, wanted.family)
    for other in others:
        if other.key != wanted.key and identity == (other.ns, other.vni, other.port, other.family):
            raise Refused(errno.EEXIST)


def check_fdb_entry(entry: FdbEntry, link: Link) -> None:
    """vxlan_fdb_add(), which has only destinations of the link's own address family."""
    if not isinstance(link, Vxlan):
        raise Refused(errno.EINVAL)
    if entry.destination and ip_address(entry.destination).version != link.family:
        raise Refused(errno.EAFNOSUPPORT)


def as_written(entry: FdbEntry, link: Link) -> FdbEntry:
    """Without a bridge there is only the link's half."""
    has_bridge = isinstance(link, Vxlan) and bool(link.master)
    return replace(entry, bridged=has_bridge or entry.mac == ALL_HOSTS)


def without_half(entry: FdbEntry, half: Literal["bridge", "link"]) -> FdbEntry | None:
    """What is left of an entry when that half of it is deleted."""
    if half == "link":
        whole = entry.bridged and entry.mac != ALL_HOSTS
        return replace(entry, destination="") if whole else None
    if entry.mac == ALL_HOSTS:
        return entry
    return replace(entry, bridged=False) if entry.destination else None


def as_port(link: Vxlan, master: str) -> Vxlan:
    """The link as a port that was just put into the bridge `master`, "" for none."""
    return replace(link, master=master, flood=bool(master), quiet=False)
