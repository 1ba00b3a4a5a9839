"""Forwarding entries and neighbours of netd's tunnels, as they are.

Nothing in an entry says whose it is: all that such a link has is netd's.
"""

from collections.abc import Callable, Iterable, Iterator
from socket import inet_ntop

from netd.kernel import uapi
from netd.kernel.netlink import NetlinkSocket
from netd.kernel.rtnl_decode import LinkInfo
from netd.kernel.tunnels_decode import NEIGHBOURS, destination_of, forwarding_of
from netd.plan.objects import HOST, Key, Object, State
from netd.plan.tunnels import FdbEntry, Neighbour, fdb_key

Owner = Callable[[Key, Key | None], str]

_NOBODY = bytes(6)


def fdb_entries(
    socket: NetlinkSocket, tunnels: Iterable[LinkInfo], wanted: State, owner: Owner
) -> Iterator[Object]:
    """The entries of these VXLAN links. One that is as wanted is the wanted object itself."""
    for tunnel in tunnels:
        bridged: set[bytes] = set()
        remote: list[tuple[bytes, str]] = []
        for entry in socket.dump(forwarding_of(tunnel.index)):
            if entry.flags & uapi.NTF_SELF:
                remote.append((entry.mac, destination_of(entry)))
            elif entry.state & uapi.NUD_NOARP and uapi.NDA_VLAN not in entry.kinds:
                bridged.add(entry.mac)
        for mac, destination in remote:
            text = mac.hex(":")
            found = _fdb_entry(tunnel.name, text, destination, wanted, owner)
            whole = mac in bridged or mac == _NOBODY
            yield found if whole else _halved(found)
        for mac in bridged.difference(mac for mac, _ in remote):
            yield _fdb_entry(tunnel.name, mac.hex(":"), "", wanted, owner)


def neighbours(
    socket: NetlinkSocket, bridges: dict[int, str], wanted: State, owner: Owner
) -> Iterator[Object]:
    """The permanent neighbours of these bridges, which are named by their indexes."""
    for entry in socket.dump(NEIGHBOURS):
        if not entry.state & uapi.NUD_PERMANENT or entry.link not in bridges:
            continue
        address = inet_ntop(entry.family, entry.destination)
        link, mac = bridges[entry.link], entry.mac.hex(":")
        key = (HOST, "neighbour", link, address)
        want = wanted.get(key)
        if isinstance(want, Neighbour) and want.mac == mac:
            yield want
        else:
            whose = owner(key, (HOST, "link", link))
            yield Neighbour(owner=whose, link=link, address=address, mac=mac)


def _fdb_entry(link: str, mac: str, destination: str, wanted: State, owner: Owner) -> FdbEntry:
    key = fdb_key(HOST, link, mac, destination)
    want = wanted.get(key)
    if isinstance(want, FdbEntry) and want.destination == destination:
        return want
    whose = owner(key, (HOST, "link", link))
    return FdbEntry(owner=whose, link=link, mac=mac, destination=destination)


def _halved(entry: FdbEntry) -> FdbEntry:
    return FdbEntry(
        owner=entry.owner,
        link=entry.link,
        mac=entry.mac,
        destination=entry.destination,
        bridged=False,
    )
