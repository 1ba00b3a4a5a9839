"""What to do when the kernel refuses to add something: see why, and clear the way if allowed."""

import errno
from socket import AF_INET, AF_INET6

from netd.kernel import rtnl_encode as encode
from netd.kernel import sysctl, tag
from netd.kernel.channel import Channel
from netd.kernel.netns import OpenSandboxes
from netd.kernel.rtnl_decode import ADDRESSES, LinkInfo, RouteInfo, routes
from netd.kernel.rtnl_encode import default_metric
from netd.plan.objects import HOST, Address, Bridge, Ifb, Link, Macvlan, Object, Route, Rule, Veth
from netd.plan.operations import Operation
from netd.plan.tunnels import Vxlan


def is_present(
    channel: Channel, inside: OpenSandboxes, operation: Operation, error: OSError
) -> bool:
    """Whether an `add` that was sent by `channel` was refused because it is there already."""
    if operation.verb != "add" or error.errno != errno.EEXIST:
        return False
    match operation.object:
        case Rule():
            return True
        case Address() as address:
            index = _index(channel, address.link)
            return any(
                found.index == index and found.address == address.address
                for found in channel.socket.dump(ADDRESSES)
            )
        case Route() as route:
            index = _index(channel, route.link)
            return any(found.index == index for found in _rivals(channel, route))
        case Link() as link:
            there = channel if link.ns == HOST else Channel(inside.open(link.ns).socket)
            found = there.link(link.name)
            return (
                found is not None
                and is_kind(found, link)
                and (found.is_guest if link.ns else found.ours)
                and found.group != tag.RETIRED_GROUP
            )
        case _:
            return False


def is_kind(found: LinkInfo, link: Object) -> bool:
    match link:
        case Bridge():
            return found.kind == "bridge"
        case Veth():
            return found.kind == "veth"
        case Macvlan(kind=kind):
            return found.kind == kind
        case Ifb():
            return found.kind == "ifb"
        case Vxlan():
            return found.kind == "vxlan"
        case _:
            return False


def remove_obstacle(
    host: Channel, inside: OpenSandboxes, operation: Operation, error: OSError
) -> bool:
    """Whether what the operation was refused for is no more, so that it is worth a new try."""
    match operation.object, error.errno:
        case Link() as link, errno.EEXIST:
            return _remove_retired(host, inside, link)
        case Route() as route, errno.EEXIST if route.ns != HOST:
            return _remove_retired_way(host, inside, route)
        case Address() as address, (errno.EACCES | errno.EPERM) if ":" in address.address:
            return _enable_ipv6(inside, address)
        case _:
            return False


def _remove_retired(host: Channel, inside: OpenSandboxes, link: Link) -> bool:
    """Remove now the retired link, waiting for its removal, that has the link's name.

    It may have it in the container: a retired pair's other end.
    """
    in_the_way = host.link(link.name) if link.ns == HOST else None
    if in_the_way is None:
        ns, name = link.ns, link.name
        if isinstance(link, Veth):
            ns, name = link.peer_ns, link.peer_name
        if not ns:
            return True  # it has been removed meanwhile
        there = Channel(inside.open(ns).socket)
        peer = there.link(name)
        return peer is None or _remove_pair_if_retired(host, there, peer)
    return _remove_if_retired(host, in_the_way)


def _remove_retired_way(host: Channel, inside: OpenSandboxes, route: Route) -> bool:
    """Remove now the retired pair that has the route's place: its routes go only with it."""
    there = Channel(inside.open(route.ns).socket)
    rivals = _rivals(there, route)
    if not rivals:
        return True  # it has been removed meanwhile
    ways = [there.link_at(rival.index) for rival in rivals if rival.index is not None]
    # Links are hidden first, and then removed with their routes, in one go.
    return any(way is None or _remove_pair_if_retired(host, there, way) for way in ways)


def _remove_if_retired(host: Channel, link: LinkInfo | None) -> bool:
    if link is None or link.group != tag.RETIRED_GROUP:
        return False
    host.forget(link.name)
    refused = host.socket.send([encode.delete_link(link.index)])
    return all(error.errno == errno.ENODEV for error in refused.values())  # reaped meanwhile


def _remove_pair_if_retired(host: Channel, there: Channel, peer: LinkInfo) -> bool:
    """The same by the other end; the pair may just be removed by somebody else, too."""
    return _remove_if_retired(host, host_end(host, peer)) or there.link_at(peer.index) is None


def _rivals(channel: Channel, route: Route) -> list[RouteInfo]:
    """The routes that the kernel, whatever link they are by, takes for this one."""
    family = AF_INET6 if ":" in route.destination else AF_INET
    metric = default_metric(family) if route.metric is None else route.metric
    wanted = (route.destination, route.table, metric)
    return [
        found
        for found in channel.socket.dump(routes(family))
        if (found.destination, found.table, found.metric) == wanted
    ]


def host_end(host: Channel, peer: LinkInfo) -> LinkInfo | None:
    """The host's end of the pair that `peer`, in a container, is of, when that is netd's."""
    if peer.kind != "veth" or peer.parent is None:
        return None
    found = host.link_at(peer.parent)
    if found is None or found.kind != "veth" or found.parent != peer.index:
        return None
    return found if found.ours else None


def _enable_ipv6(inside: OpenSandboxes, address: Address) -> bool:
    """Runtimes create namespaces with IPv6 switched off; on this one link it is wanted."""
    name = f"net/ipv6/conf/{address.link}/disable_ipv6"
    with inside.entered(address.ns):
        if sysctl.read(name) != "1":
            return False
        sysctl.write(name, "0")
    return True


def _index(channel: Channel, link: str) -> int | None:
    found = channel.link(link)
    return None if found is None else found.index
