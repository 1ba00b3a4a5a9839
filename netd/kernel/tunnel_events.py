"""What rtnetlink reports of netd's tunnels, as triggers.

A busy host has many neighbours and forwarding entries that come and go. So the kernel is told
which links matter, and of others nothing is heard.
"""

from collections.abc import Callable, Collection, Iterable, Set
from socket import AF_BRIDGE, inet_ntop
from typing import Final, Literal, NamedTuple

from msgspec.structs import replace

from netd.engine.interfaces import Trigger
from netd.kernel import tag, uapi
from netd.kernel.attributes import attributes
from netd.kernel.rtnl_decode import LinkInfo
from netd.kernel.tunnels_decode import Entry, decode_entry, decode_port, destination_of
from netd.kernel.uapi import NLMSGHDR
from netd.plan.objects import HOST
from netd.plan.tunnels import fdb_key

Verb = Literal["new", "delete"]

_VERBS: Final[dict[int, Verb]] = {uapi.RTM_NEWNEIGH: "new", uapi.RTM_DELNEIGH: "delete"}


class _Tunnel(NamedTuple):
    trigger: Trigger  # what was last said of the link
    master: int | None


class TunnelEvents:
    """Reads notifications of entries of netd's tunnels, which it learns of by those of links.

    `narrow` is called with the indexes of all links that matter when these change.
    """

    def __init__(self, narrow: Callable[[Collection[int]], None] = lambda _: None) -> None:
        self._narrow = narrow
        self._tunnels: dict[int, _Tunnel] = {}
        self._bridges: dict[int, str] = {}
        self._links: Set[int] = frozenset()
        self._narrow(self._links)

    def learn(self, links: Iterable[LinkInfo]) -> None:
        """Take in all links there are."""
        by_index = {link.index: link for link in links}
        for link in by_index.values():
            if link.tunnel is not None and link.ours:
                master = by_index.get(link.master) if link.master is not None else None
                self.note(link, None if master is None else master.name)

    def note(self, link: LinkInfo, master: str | None) -> Trigger:
        """A VXLAN link is new or has changed. Returns the trigger for that."""
        assert link.tunnel is not None
        trigger = Trigger(
            kind="link",
            verb="new",
            name=link.name,
            master=master,
            up=link.up,
            mtu=link.mtu,
            mac=link.mac,
            owner=tag.owner_by(link.group, link.alias),
            flood=link.tunnel.flood,
            quiet=link.tunnel.quiet,
        )
        if link.ours:
            self._tunnels[link.index] = _Tunnel(trigger, link.master)
            self._look_there()
        else:
            self.forget(link.index)
        return trigger

    def forget(self, index: int) -> None:
        """A link is gone. If it is a bridge, its tunnels have told already that they left it."""
        if self._tunnels.pop(index, None) is not None:
            self._look_there()

    def port(self, index: int, data: bytes, start: int, end: int) -> Trigger | None:
        """A bridge tells of its port `index`; there are other ports than tunnels."""
        known = self._tunnels.get(index)
        place = known and attributes(data, start, end).get(uapi.IFLA_PROTINFO)
        if known is None or place is None:
            return None
        flood, quiet = decode_port(data, place)
        trigger = replace(known.trigger, flood=flood, quiet=quiet)
        self._tunnels[index] = known._replace(trigger=trigger)
        return trigger

    def triggers(self, data: bytes, _nsid: int) -> list[Trigger]:
        """The triggers in a datagram of RTNLGRP_NEIGH; raises as `RtnlEvents.triggers`."""
        length, kind, *_ = NLMSGHDR.unpack_from(data)
        if kind not in _VERBS:
            return []
        entry = decode_entry(data, NLMSGHDR.size, length)
        if entry.family == AF_BRIDGE:
            trigger = self._fdb(_VERBS[kind], entry)
        else:
            trigger = self._neighbour(_VERBS[kind], entry)
        return [] if trigger is None else [trigger]

    def _fdb(self, verb: Verb, entry: Entry) -> Trigger | None:
        tunnel = self._tunnels.get(entry.link)
        if tunnel is None:
            return None
        value = ""
        if entry.flags & uapi.NTF_SELF:
            value = destination_of(entry)
        elif verb == "new" and entry.state & uapi.NUD_NOARP:
            return None  # the bridge's half, as it should be; what matters is in the other one
        else:
            verb = "delete"
        key = fdb_key(HOST, tunnel.trigger.name, entry.mac.hex(":"), value)
        return Trigger(kind="fdb", verb=verb, key=key, value=value)

    def _neighbour(self, verb: Verb, entry: Entry) -> Trigger | None:
        bridge = self._bridges.get(entry.link)
        if bridge is None:
            return None
        if not entry.state & uapi.NUD_PERMANENT:
            verb = "delete"
        key = (HOST, "neighbour", bridge, inet_ntop(entry.family, entry.destination))
        return Trigger(kind="neighbour", verb=verb, key=key, value=entry.mac.hex(":"))

    def _look_there(self) -> None:
        self._bridges = {
            tunnel.master: tunnel.trigger.master
            for tunnel in self._tunnels.values()
            if tunnel.master is not None and tunnel.trigger.master is not None
        }
        links = self._tunnels.keys() | self._bridges.keys()
        if links != self._links:
            self._links = links
            self._narrow(links)
