"""Tunnels, forwarding entries and neighbours as rtnetlink requests.

As in `rtnl_encode`, of which this is a part.
"""

from socket import AF_BRIDGE, AF_INET, AF_INET6, inet_pton
from typing import Final

from netd.kernel import tag, uapi
from netd.kernel.attributes import attribute, u8, u32
from netd.kernel.netlink import Message
from netd.kernel.uapi import NDMSG, NLATTR, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE
from netd.plan.tunnels import ALL_HOSTS, FdbEntry, Neighbour, Vxlan

TTL: Final = 64  # the kernel's own default is 1 for what it takes for multicast, and the route's
LABEL6: Final = 1
"""The flow label of tunnels over IPv6. An address family cannot be read back from a link
without a remote; a label can, and the kernel refuses one on a link of the other family
(vxlan_config_validate in drivers/net/vxlan/vxlan_core.c)."""

_STATIC: Final = uapi.NUD_NOARP | uapi.NUD_REACHABLE


def vxlan_details(link: Vxlan) -> bytes:
    """IFLA_INFO_DATA of a new link: it stays with these for life, save for learning."""
    details = (
        u32(uapi.IFLA_VXLAN_ID, link.vni)
        + attribute(uapi.IFLA_VXLAN_PORT, link.port.to_bytes(2, "big"))
        + u8(uapi.IFLA_VXLAN_TTL, TTL)
        + vxlan_learning()
    )
    if link.family == 6:
        details += attribute(uapi.IFLA_VXLAN_GROUP6, bytes(16))
        details += attribute(uapi.IFLA_VXLAN_LABEL, LABEL6.to_bytes(4, "big"))
    return details


def vxlan_learning() -> bytes:
    return u8(uapi.IFLA_VXLAN_LEARNING, 0)


def vxlan_port(link: Vxlan) -> bytes:
    """IFLA_INFO_SLAVE_DATA: how the bridge treats the link."""
    return (
        u8(uapi.IFLA_BRPORT_LEARNING, 0)
        + u8(uapi.IFLA_BRPORT_UNICAST_FLOOD, 0)
        + u8(uapi.IFLA_BRPORT_MCAST_FLOOD, int(link.flood))
        + u8(uapi.IFLA_BRPORT_BCAST_FLOOD, int(link.flood))
        + u8(uapi.IFLA_BRPORT_NEIGH_SUPPRESS, 1)
    )


def set_fdb_entry(entry: FdbEntry, index: int) -> Message:
    """Make both halves of an entry, or put them right; `index` is the VXLAN link's.

    Sticky: a container that sends with the MAC of another host's would otherwise draw what is
    for that one to itself. Not NUD_PERMANENT, which to the bridge means a MAC of the host's own.
    """
    flags, verb = uapi.NTF_SELF, NLM_F_CREATE | NLM_F_APPEND
    if entry.mac != ALL_HOSTS:
        flags, verb = (
            uapi.NTF_SELF | uapi.NTF_MASTER | uapi.NTF_STICKY,
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    header = NDMSG.pack(AF_BRIDGE, index, _STATIC, flags, 0)
    payload = header + _mac(entry.mac) + _destination(entry.destination)
    return Message(uapi.RTM_NEWNEIGH, verb, payload)


def delete_fdb_entry(entry: FdbEntry, index: int, *, bridged: bool) -> list[Message]:
    """One message for each half: the kernel stops at the first one that is not there."""
    if entry.mac == ALL_HOSTS:
        return [_delete_half(entry.mac, index, uapi.NTF_SELF, _destination(entry.destination))]
    halves = [_delete_half(entry.mac, index, uapi.NTF_SELF)]
    if bridged:
        halves.append(_delete_half(entry.mac, index, uapi.NTF_MASTER))
    return halves


def _delete_half(mac: str, index: int, half: int, destination: bytes = b"") -> Message:
    header = NDMSG.pack(AF_BRIDGE, index, 0, half, 0)
    return Message(uapi.RTM_DELNEIGH, 0, header + _mac(mac) + destination)


def set_neighbour(neighbour: Neighbour, index: int) -> Message:
    """Make a permanent entry of the bridge `index`, or put it right."""
    family = AF_INET6 if ":" in neighbour.address else AF_INET
    return Message(
        uapi.RTM_NEWNEIGH,
        NLM_F_CREATE | NLM_F_REPLACE,
        NDMSG.pack(family, index, uapi.NUD_PERMANENT, 0, 0)
        + _destination(neighbour.address)
        + _mac(neighbour.mac)
        + _BY_NETD,
    )


def delete_neighbour(neighbour: Neighbour, index: int) -> Message:
    family = AF_INET6 if ":" in neighbour.address else AF_INET
    header = NDMSG.pack(family, index, 0, 0, 0)
    return Message(uapi.RTM_DELNEIGH, 0, header + _destination(neighbour.address))


_BY_NETD: Final = u8(uapi.NDA_PROTOCOL, tag.PROTOCOL)
_MAC_HEADER: Final = NLATTR.pack(4 + 6, uapi.NDA_LLADDR)
_IPV4_HEADER: Final = NLATTR.pack(4 + 4, uapi.NDA_DST)
_IPV6_HEADER: Final = NLATTR.pack(4 + 16, uapi.NDA_DST)


def _mac(value: str) -> bytes:
    return _MAC_HEADER + bytes.fromhex(value.replace(":", "")) + b"\0\0"


def _destination(address: str) -> bytes:
    if ":" in address:
        return _IPV6_HEADER + inet_pton(AF_INET6, address)
    return _IPV4_HEADER + inet_pton(AF_INET, address)
