"""What this kernel can do, found out by trying it.

All is tried in a network namespace that a short-lived thread makes for itself and that ends
with it: the kernel loads what modules it needs, and nothing of the host is touched.
"""

import ctypes
import errno
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Final

from pyroute2.netlink import NETLINK_NETFILTER
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg, nftsocket
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from netd.kernel import rtnl_encode
from netd.kernel.codec import encoded, nested
from netd.kernel.netlink import Message, NetlinkSocket
from netd.kernel.nft import Nftables
from netd.kernel.tc import TrafficControl
from netd.kernel.uapi import CLONE_NEWNET, NLM_F_CREATE, NLM_F_EXCL, RTM_NEWLINK
from netd.model.errors import Unavailable
from netd.plan.objects import Ifb, Object, Redirect, Shaper
from netd.plan.operations import Operation
from netd.plan.virtual_rules import declaration_of_slots

LINK_KINDS: Final = ("bridge", "ifb", "ipvlan", "macvlan", "veth", "vxlan", "wireguard")

# include/uapi/linux/netfilter/nfnetlink.h, netfilter.h, in.h
NFNL_MSG_BATCH_BEGIN = 16
NFPROTO_INET = 1
IPPROTO_SCTP = 132

_IFB, _PROBE_MTU = "probe", 1500


@cache
def probe() -> frozenset[str]:
    """The names of what this kernel has; the first answer is kept for the process's life.

    `bridge`, `ifb`, `ipvlan`, `macvlan`, `veth`, `vxlan`, `wireguard`: links of that kind;
    `tbf`, `mirred`: limits on what a link sends, and on what it receives; `nft`: NAT in an
    nftables table of family inet; `virtual`: maps as virtual addresses need them, which
    libnftables knows since 1.0.3; `ipv6`, `sctp`: sockets of that protocol;
    `netns-cookie`: SO_NETNS_COOKIE; `br-netfilter`: bridged frames can reach iptables.
    Takes about 10 ms, more when modules are loaded. Raises OSError without CAP_SYS_ADMIN.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(_probe_in_own_namespace).result()


def _probe_in_own_namespace() -> frozenset[str]:
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"no network namespace to try things in: {os.strerror(code)}")
    with NetlinkSocket() as rtnl, NetlinkSocket(NETLINK_NETFILTER) as netfilter:
        found = _link_kinds(rtnl) | _traffic_control(rtnl)
        if not netfilter.send(nat_chain()):
            found.add("nft")
            if _has_maps_of_slots():
                found.add("virtual")
        if rtnl.namespace_cookie():
            found.add("netns-cookie")
    if _has_socket(socket.AF_INET6, socket.SOCK_DGRAM, 0):
        found.add("ipv6")
    if _has_socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_SCTP):
        found.add("sctp")
    if Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists():
        found.add("br-netfilter")
    return frozenset(found)


def _has_maps_of_slots() -> bool:
    try:
        nftables = Nftables()
    except Unavailable:
        return False
    try:
        return nftables.takes(declaration_of_slots("probe", 4, 2, near=True))
    finally:
        nftables.close()


def _link_kinds(rtnl: NetlinkSocket) -> set[str]:
    # Most kinds refuse a link without parent or parameters, but only after the kernel has
    # found the kind; an unknown one is EOPNOTSUPP (rtnl_newlink in net/core/rtnetlink.c).
    refused = rtnl.send([_new_link(kind) for kind in LINK_KINDS])
    return {
        kind
        for position, kind in enumerate(LINK_KINDS)
        if position not in refused or refused[position].errno != errno.EOPNOTSUPP
    }


def _new_link(kind: str) -> Message:
    info = ("IFLA_LINKINFO", nested(("IFLA_INFO_KIND", kind)))
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, encoded(ifinfmsg, info))


def _traffic_control(rtnl: NetlinkSocket) -> set[str]:
    if rtnl.send([rtnl_encode.new_ifb(Ifb(name=_IFB, mtu=_PROBE_MTU))]):
        return set()
    control = TrafficControl(rtnl)
    tried: dict[str, Object] = {
        "tbf": Shaper(link=_IFB, rate_bps=1_000_000, burst_bytes=20_000, latency_us=50_000),
        "mirred": Redirect(link=_IFB, target=_IFB),
    }
    return {
        name
        for name, obj in tried.items()
        if control.apply(Operation(verb="add", object=obj, reason="probe")) is None
    }


def nat_chain() -> list[Message]:
    """A batch without an end: the kernel checks every message and commits none of them."""
    table = encoded(
        nftsocket.nft_table_msg, ("NFTA_TABLE_NAME", "probe"), nfgen_family=NFPROTO_INET
    )
    chain = encoded(
        nftsocket.nft_chain_msg,
        ("NFTA_CHAIN_TABLE", "probe"),
        ("NFTA_CHAIN_NAME", "probe"),
        ("NFTA_CHAIN_HOOK", nested(("NFTA_HOOK_HOOKNUM", 0), ("NFTA_HOOK_PRIORITY", 0))),
        ("NFTA_CHAIN_TYPE", "nat"),
        nfgen_family=NFPROTO_INET,
    )
    return [
        Message(NFNL_MSG_BATCH_BEGIN, 0, encoded(nfgen_msg, res_id=NFNL_SUBSYS_NFTABLES)),
        _nftables(nftsocket.NFT_MSG_NEWTABLE, table),
        _nftables(nftsocket.NFT_MSG_NEWCHAIN, chain),
    ]


def _nftables(kind: int, payload: bytes) -> Message:
    return Message(NFNL_SUBSYS_NFTABLES << 8 | kind, NLM_F_CREATE, payload)


def _has_socket(family: int, kind: int, protocol: int) -> bool:
    try:
        socket.socket(family, kind, protocol).close()
    except OSError as error:
        if error.errno not in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.ESOCKTNOSUPPORT):
            raise
        return False
    return True
