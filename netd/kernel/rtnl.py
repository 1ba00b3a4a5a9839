"""Running operations on links, addresses, routes, rules, forwarding entries and neighbours.

Consecutive operations on one namespace become one packed request. Whether a link may be
touched is decided here, last before the kernel: a link of the host must carry netd's tag.
"""

import errno
import secrets
from collections.abc import Iterable

from netd.kernel import rtnl_encode as encode
from netd.kernel import tunnels_encode as tunnels
from netd.kernel.channel import Channel, failure
from netd.kernel.netlink import NetlinkSocket
from netd.kernel.netns import OpenSandboxes, make_heard
from netd.kernel.obstacles import host_end, is_present, remove_obstacle
from netd.kernel.rtnl_decode import ADDRESSES, LinkInfo
from netd.plan.diff import is_made_anew
from netd.plan.objects import (
    HOST,
    Address,
    Bridge,
    Ifb,
    Link,
    Loopback,
    Macvlan,
    Object,
    Route,
    Rule,
    Veth,
    VethPeer,
)
from netd.plan.operations import Failure, Operation
from netd.plan.tunnels import FdbEntry, Neighbour, Vxlan

OPEN_NAMESPACES = 64
"""As many stay open within one plan: opening costs 0.1 ms, and descriptors are limited."""

_GONE = (errno.ENOENT, errno.ENODEV, errno.ESRCH, errno.EADDRNOTAVAIL)


class RtnlApplier:
    """Runs operations of one plan, on the host by `host`, in containers by sockets inside."""

    def __init__(self, host: NetlinkSocket, inside: OpenSandboxes) -> None:
        self._host = self._current = Channel(host)
        self._inside = inside
        self._channels: dict[str, Channel] = {HOST: self._host}
        self._failures: list[Failure] = []
        self._tried_again: set[int] = set()
        self.retired = 0
        """How many links were marked for removal."""

    def run(self, operations: Iterable[Operation]) -> list[Failure]:
        """Run `operations` in order, going on after a failure; return the failures."""
        self._failures = []
        for operation in operations:
            if len(self._channels) > OPEN_NAMESPACES:
                self._settle()
                self._channels = {HOST: self._host}
                self._current = self._host
                self._inside.close()
            self._stage(operation)
        self._settle()
        return self._failures

    def _stage(self, operation: Operation) -> None:
        try:
            match operation.verb:
                case "add":
                    self._add(operation)
                case "change":
                    self._change(operation)
                case "delete" | "retire":
                    self._remove(operation)
        except OSError as error:
            if not _is_gone(operation, error):
                self._failures.append(failure(operation, error))

    def _settle(self) -> None:
        """Send what is staged, and once more what the kernel refused for a curable reason."""
        channel = self._current
        again: list[Operation] = []
        for operation, error in channel.send():
            if _is_gone(operation, error):
                continue
            if is_present(channel, self._inside, operation, error):
                continue
            # What follows may have been refused just because this one was.
            if id(operation) not in self._tried_again and (
                again or remove_obstacle(self._host, self._inside, operation, error)
            ):
                self._tried_again.add(id(operation))
                again.append(operation)
            else:
                self._failures.append(failure(operation, _explained(operation, error)))
        if again:
            for operation in again:
                self._stage(operation)
            self._settle()

    def _add(self, operation: Operation) -> None:
        match operation.object:
            case FdbEntry() | Neighbour() as entry:
                self._set_entry(operation, entry)
            case Bridge() | Veth() | Macvlan() | Ifb() | Vxlan() as link:
                self._create(operation, link)
            case Loopback() as link:
                self._channel(link.ns).stage(operation, encode.set_link(link))
            case VethPeer() as link:
                channel = self._channel(link.ns)
                index = self._own_link(channel, link).index
                channel.stage(operation, encode.set_link(link, index=index))
            case Address() as address:
                channel, index = self._link_of(address)
                channel.stage(operation, encode.new_address(address, index))
            case Route() as route:
                channel, index = self._link_of(route)
                channel.stage(operation, encode.new_route(route, index))
            case Rule() as rule:
                self._channel(rule.ns).stage(operation, encode.new_rule(rule))
            case other:
                raise TypeError(f"{type(other).__name__} is not rtnetlink's")

    def _create(self, operation: Operation, link: Link) -> None:
        """Create a link, from the host even when it is to be in a container."""
        match link:
            case Veth():
                is_beside = link.peer_ns == HOST
                peer_netns = None if is_beside else self._inside.open(link.peer_ns).descriptor
                self._forget(link.peer_ns, link.peer_name)
                host = self._channel(HOST)
                master = None if link.master is None else self._index(host, link.master)
                message = encode.new_veth(link, master=master, peer_netns=peer_netns)
            case Macvlan():
                netns = None if link.ns == HOST else self._inside.open(link.ns).descriptor
                self._forget(link.ns, link.name)
                host = self._channel(HOST)
                index = 0
                if netns is not None:
                    make_heard(netns, host.socket)
                    index = _index_for(link.name, host)
                parent = self._index(host, link.parent)
                message = encode.new_macvlan(link, parent=parent, netns=netns, index=index)
            case Bridge():
                host, message = self._channel(HOST), encode.new_bridge(link)
            case Vxlan():
                host = self._channel(HOST)
                message = encode.new_vxlan(link, master=self._index(host, link.master))
            case Ifb():
                host, message = self._channel(HOST), encode.new_ifb(link)
            case _:
                raise TypeError(f"a {type(link).__name__} is not created")
        if link.ns == HOST:
            host.stage(operation, message, then=encode.finish_link(link), link=link.name)
        else:
            host.stage(operation, message)

    def _set_entry(self, operation: Operation, entry: FdbEntry | Neighbour) -> None:
        channel, index = self._link_of(entry)
        if isinstance(entry, FdbEntry):
            channel.stage(operation, tunnels.set_fdb_entry(entry, index))
        else:
            channel.stage(operation, tunnels.set_neighbour(entry, index))

    def _change(self, operation: Operation) -> None:
        match operation.object:
            case FdbEntry() | Neighbour() as entry:
                self._set_entry(operation, entry)
            case Loopback() as link:
                self._channel(link.ns).stage(operation, encode.set_link(link))
            case Link() as link:
                self._change_link(operation, link)
            case Address() as address:
                channel, index = self._link_of(address)
                channel.stage(operation, encode.new_address(address, index, replace=True))
            case Route() as route:
                channel, index = self._link_of(route)
                channel.stage(operation, encode.new_route(route, index, replace=True))
            case Rule() as rule:
                channel = self._channel(rule.ns)
                channel.stage(operation, encode.new_rule(rule))
                if isinstance(operation.was, Rule):
                    channel.stage(operation, encode.delete_rule(operation.was))
            case other:
                raise TypeError(f"{type(other).__name__} is not rtnetlink's")

    def _change_link(self, operation: Operation, link: Link) -> None:
        channel = self._channel(link.ns)
        found = self._own_link(channel, link)
        if _must_be_made_anew(link, operation.was):
            channel.stage(operation, encode.delete_link(found.index), link=link.name)
            self._create(operation, link)
            return
        master, then = None, None
        if isinstance(link, Veth | Vxlan):
            master = 0 if link.master is None else self._index(channel, link.master)
            if master:
                then = encode.set_port(link, found.index)
        gets_ipv6 = link.mtu is not None and found.mtu < encode.IPV6_MTU_MIN <= link.mtu
        if link.mtu is not None and gets_ipv6:
            channel.stage(operation, encode.set_mtu(found.index, link.mtu))
        message = encode.change_link(link, found.index, mac=found.mac, master=master)
        channel.stage(operation, message, then=then)
        if gets_ipv6:
            self._settle()
            self._remove_kernels_address(operation, channel, found.index)

    def _remove_kernels_address(self, operation: Operation, channel: Channel, index: int) -> None:
        """The link-local address of a link that has come to have IPv6 by a larger MTU: the kernel
        makes it at once (addrconf_notify() in net/ipv6/addrconf.c), before it could be told not to.

        It would ask for routers as soon as it has tested the address, after a second.
        """
        for found in channel.socket.dump(ADDRESSES):
            if found.index == index and found.address.startswith("fe80:"):
                address = Address(link="", address=found.address)
                channel.stage(operation, encode.delete_address(address, index))

    def _remove(self, operation: Operation) -> None:
        match operation.object:
            case VethPeer() | Loopback():
                return  # the one goes with the host's end, the other is never taken away
            case Link() as link:
                channel = self._channel(link.ns)
                index = self._own_link(channel, link).index
                if operation.verb == "retire" and isinstance(link, Veth | Ifb):
                    channel.stage(operation, encode.retire_link(index), link=link.name)
                    self.retired += 1
                else:
                    channel.stage(operation, encode.delete_link(index), link=link.name)
            case Address() as address:
                channel = self._channel(address.ns)
                index = self._link(channel, address.link).index
                channel.stage(operation, encode.delete_address(address, index))
            case Route() as route:
                channel = self._channel(route.ns)
                index = self._link(channel, route.link).index
                channel.stage(operation, encode.delete_route(route, index))
            case Rule() as rule:
                self._channel(rule.ns).stage(operation, encode.delete_rule(rule))
            case FdbEntry() | Neighbour() as entry:
                self._remove_entry(operation, entry)
            case other:
                raise TypeError(f"{type(other).__name__} is not rtnetlink's")

    def _remove_entry(self, operation: Operation, entry: FdbEntry | Neighbour) -> None:
        channel = self._channel(entry.ns)
        link = self._link(channel, entry.link)
        if not link.ours:
            return  # what it has is not netd's
        if isinstance(entry, Neighbour):
            channel.stage(operation, tunnels.delete_neighbour(entry, link.index))
            return
        bridged = link.master is not None
        for message in tunnels.delete_fdb_entry(entry, link.index, bridged=bridged):
            channel.stage(operation, message)

    def _channel(self, ns: str) -> Channel:
        """The namespace's channel. What is staged on another one is sent first."""
        channel = self._channels.get(ns)
        if channel is None:
            channel = self._channels[ns] = Channel(self._inside.open(ns).socket)
        if channel is not self._current:
            self._settle()
            self._current = channel
        return channel

    def _link(self, channel: Channel, name: str) -> LinkInfo:
        if channel.awaits(name):
            self._settle()
        found = channel.link(name)
        if found is None:
            raise OSError(errno.ENODEV, f"there is no link {name}")
        return found

    def _own_link(self, channel: Channel, link: Link) -> LinkInfo:
        """The link, to be changed or removed. Raises OSError when it is not netd's."""
        found = self._link(channel, link.name)
        if not isinstance(link, Loopback):
            self._demand_ours(found, link.ns)
        return found

    def _demand_ours(self, link: LinkInfo, ns: str) -> None:
        ours = link.ours if ns == HOST else self._is_guest(link)
        if not ours:
            raise OSError(errno.EPERM, f"link {link.name} is not netd's")

    def _is_guest(self, link: LinkInfo) -> bool:
        # A container's own administrator may have removed the mark.
        return link.is_guest or host_end(self._host, link) is not None

    def _index(self, channel: Channel, name: str) -> int:
        return self._link(channel, name).index

    def _link_of(self, obj: Address | Route | FdbEntry | Neighbour) -> tuple[Channel, int]:
        """Where to put an object. Raises OSError when its link is not netd's."""
        channel = self._channel(obj.ns)
        link = self._link(channel, obj.link)
        self._demand_ours(link, obj.ns)
        return channel, link.index

    def _forget(self, ns: str, link: str) -> None:
        if channel := self._channels.get(ns):
            channel.forget(link)


def _index_for(name: str, host: Channel) -> int:
    """The index for a link of that name to be made in a container. 0: of the kernel's choice.

    Linux 6.1 (not 6.18) refuses a name that is a link's where the request comes from, the host,
    but does not look for it when it is given an index (__rtnl_newlink() in net/core/rtnetlink.c).
    That is taken by chance from where the kernel, which counts, does not get.
    """
    return 0 if host.link(name) is None else (1 << 30) + secrets.randbelow(1 << 30)


def _is_gone(operation: Operation, error: OSError) -> bool:
    """Whether what was to be removed is not there (a rule is changed by removing the old)."""
    removes = operation.verb != "add" and isinstance(operation.object, Rule)
    return error.errno in _GONE and (removes or operation.verb in ("delete", "retire"))


def _explained(operation: Operation, error: OSError) -> OSError:
    """ "File exists" does not say what stands in the way of a link."""
    link = operation.object
    if error.errno != errno.EEXIST or not isinstance(link, Link):
        return error
    if isinstance(link, Vxlan) and ": " in str(error.strerror):
        return error  # another link has the VNI: here the kernel says so itself
    names = f"{link.name} or {link.peer_name}" if isinstance(link, Veth) else link.name
    return OSError(errno.EEXIST, f"there is a link {names} that is not netd's")


def _must_be_made_anew(link: Link, was: Object | None) -> bool:
    """Whether the difference is one that the kernel only takes at creation."""
    match link, was:
        case Veth(), Veth():
            return (link.peer_ns, link.peer_name) != (was.peer_ns, was.peer_name)
        case _:
            return is_made_anew(link, was)
