"""What rtnetlink reports of changes, as triggers.

A trigger says where to look, so only names are read. Every change in every container passes
through here: what nobody asks for is dropped before it is decoded.
"""

import socket
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from netd.engine.interfaces import Trigger
from netd.kernel import tag, uapi
from netd.kernel.attributes import Attributes, attributes
from netd.kernel.rtnl_decode import (
    decode_address,
    decode_link,
    decode_route,
    decode_rule,
    mac,
    text,
    u32,
)
from netd.kernel.tunnel_events import TunnelEvents
from netd.kernel.uapi import I32, IFINFOMSG, NLMSGHDR

HOST_NSID: Final = -1

# include/uapi/linux/rtnetlink.h, netconf.h
RTM_DELQDISC, RTM_DELTFILTER = 37, 45
_TCM_IFINDEX_OFFSET = 4  # of tcm_ifindex in struct tcmsg
RTM_NEWNETCONF = 80
NETCONFA_IFINDEX, NETCONFA_FORWARDING, NETCONFA_RP_FILTER = 1, 2, 3
NETCONFA_IFINDEX_ALL = -1
NETCONFMSG_SIZE = 4
_RTM_TYPE_OFFSET = 7  # of rtm_type in struct rtmsg

_DEVCONF: Final[dict[tuple[int, int], str]] = {
    (socket.AF_INET, NETCONFA_FORWARDING): "net/ipv4/ip_forward",
    (socket.AF_INET, NETCONFA_RP_FILTER): "net/ipv4/conf/all/rp_filter",
    (socket.AF_INET6, NETCONFA_FORWARDING): "net/ipv6/conf/all/forwarding",
}


_Verb = Literal["new", "delete"]


class _Event(NamedTuple):
    verb: _Verb
    nsid: int
    data: bytes
    start: int
    end: int


class RtnlEvents:
    """Reads notifications of links, addresses, routes, rules, shaping and settings of all links.

    Remembers the names of the host's links, to tell a link's master by name.
    """

    def __init__(self, tunnels: TunnelEvents) -> None:
        self._tunnels = tunnels
        self._names: dict[int, str] = {}

    def triggers(self, data: bytes, nsid: int) -> list[Trigger]:
        """The triggers in a datagram of the namespace `nsid`, HOST_NSID for the host's.

        Of a container only deletions matter. Raises struct.error, LookupError, ValueError or
        OSError when the datagram is not understood.
        """
        readers = _HOST_READERS if nsid == HOST_NSID else _CONTAINER_READERS
        found = []
        offset, size = 0, len(data)
        while offset < size:
            length, kind, *_ = NLMSGHDR.unpack_from(data, offset)
            if length < NLMSGHDR.size or offset + length > size:
                raise ValueError("a netlink message was cut short")
            if known := readers.get(kind):
                verb, read = known
                event = _Event(verb, nsid, data, offset + NLMSGHDR.size, offset + length)
                if trigger := read(self, event):
                    found.append(trigger)
            offset += (length + 3) & ~3
        return found

    def triggers_of_containers(self, data: bytes, nsid: int) -> list[Trigger]:
        """The same, but nothing of the host's own, which comes by another socket."""
        return [] if nsid == HOST_NSID else self.triggers(data, nsid)

    def _link(self, event: _Event) -> Trigger | None:
        data = event.data
        family, _, index, flags, _ = IFINFOMSG.unpack_from(data, event.start)
        if family != socket.AF_UNSPEC:
            # The bridge tells of its ports in the same group. Its "delete" is a port that
            # leaves, and a message of the link itself comes as well.
            if event.nsid != HOST_NSID or event.verb == "delete":
                return None
            return self._tunnels.port(index, data, event.start + IFINFOMSG.size, event.end)
        found = attributes(data, event.start + IFINFOMSG.size, event.end)
        name = text(data, found[uapi.IFLA_IFNAME])
        if event.nsid != HOST_NSID:
            return Trigger(kind="link", verb=event.verb, name=name, host=False, nsid=event.nsid)
        self._remember(event.verb, index, name)
        master = u32(data, found.get(uapi.IFLA_MASTER))
        if event.verb == "new" and _kind(data, found) == "vxlan":
            link = decode_link(data, event.start, event.end)
            return self._tunnels.note(link, None if master is None else self._name(master))
        group = u32(data, found.get(uapi.IFLA_GROUP)) or 0
        return Trigger(
            kind="link",
            verb=event.verb,
            name=name,
            master=None if master is None else self._name(master),
            up=bool(flags & uapi.IFF_UP),
            mtu=u32(data, found.get(uapi.IFLA_MTU)) or 0,
            mac=mac(data, found.get(uapi.IFLA_ADDRESS)),
            owner=tag.owner_by(group, text(data, found.get(uapi.IFLA_IFALIAS))),
        )

    def _remember(self, verb: str, index: int, name: str) -> None:
        if verb == "new":
            self._names[index] = name
        else:
            self._names.pop(index, None)
            self._tunnels.forget(index)

    def _name(self, index: int) -> str:
        name = self._names.get(index)
        if name is None:
            try:
                name = self._names[index] = socket.if_indextoname(index)
            except OSError:
                return ""  # gone already; that is reported too
        return name

    def _address(self, event: _Event) -> Trigger:
        address = decode_address(event.data, event.start, event.end).address
        return _trigger("address", event, address)

    def _route(self, event: _Event) -> Trigger | None:
        if event.data[event.start + _RTM_TYPE_OFFSET] != uapi.RTN_UNICAST:
            return None  # the local and broadcast routes that come with an address
        destination = decode_route(event.data, event.start, event.end).destination
        return _trigger("route", event, destination)

    def _rule(self, event: _Event) -> Trigger:
        return _trigger("rule", event, decode_rule(event.data, event.start, event.end).source or "")

    def _shaping(self, event: _Event) -> Trigger:
        (index,) = I32.unpack_from(event.data, event.start + _TCM_IFINDEX_OFFSET)
        return _trigger("shaping", event, self._name(index))

    def _devconf(self, event: _Event) -> Trigger | None:
        # Each link tells of its own settings, a new one of all; netd sets those for all links.
        found = attributes(event.data, event.start + NETCONFMSG_SIZE, event.end)
        index = I32.unpack_from(event.data, found[NETCONFA_IFINDEX][0])[0]
        if index != NETCONFA_IFINDEX_ALL:
            return None
        family = event.data[event.start]
        for kind in found:
            if name := _DEVCONF.get((family, kind)):
                return _trigger("sysctl", event, name)
        return None


def _kind(data: bytes, found: Attributes) -> str:
    info = found.get(uapi.IFLA_LINKINFO)
    return text(data, attributes(data, *info).get(uapi.IFLA_INFO_KIND)) if info else ""


def _trigger(
    kind: Literal["address", "route", "rule", "shaping", "sysctl"], event: _Event, name: str
) -> Trigger:
    host = event.nsid == HOST_NSID
    return Trigger(kind=kind, verb=event.verb, name=name, host=host, nsid=event.nsid)


_Reader = Callable[[RtnlEvents, _Event], Trigger | None]

_CONTAINER_READERS: Final[dict[int, tuple[_Verb, _Reader]]] = {
    uapi.RTM_DELLINK: ("delete", RtnlEvents._link),
    uapi.RTM_DELADDR: ("delete", RtnlEvents._address),
    uapi.RTM_DELROUTE: ("delete", RtnlEvents._route),
    uapi.RTM_DELRULE: ("delete", RtnlEvents._rule),
}
_HOST_READERS: Final[dict[int, tuple[_Verb, _Reader]]] = {
    **_CONTAINER_READERS,
    uapi.RTM_NEWLINK: ("new", RtnlEvents._link),
    uapi.RTM_NEWADDR: ("new", RtnlEvents._address),
    uapi.RTM_NEWROUTE: ("new", RtnlEvents._route),
    uapi.RTM_NEWRULE: ("new", RtnlEvents._rule),
    RTM_NEWNETCONF: ("new", RtnlEvents._devconf),
    RTM_DELQDISC: ("delete", RtnlEvents._shaping),
    RTM_DELTFILTER: ("delete", RtnlEvents._shaping),
}
