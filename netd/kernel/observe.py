"""What the kernel has, as a state that can be compared with the wanted one.

Of the host: objects with netd's tag. Of a container, where tags would be its own to change:
what is wanted there, and routes and rules with netd's protocol number.
"""

from collections import defaultdict
from collections.abc import Iterable
from socket import AF_INET, AF_INET6

from msgspec.structs import replace

from netd.engine.interfaces import Observation, Scope
from netd.kernel import sysctl, tag
from netd.kernel.netlink import NetlinkSocket
from netd.kernel.netns import Namespaces, OpenNamespace, make_heard
from netd.kernel.nft import Nftables
from netd.kernel.rtnl_decode import (
    ADDRESSES,
    CONNECTED_ROUTES_4,
    CONNECTED_ROUTES_6,
    LINKS,
    OWN_ROUTES_4,
    OWN_ROUTES_6,
    ROUTES_4,
    ROUTES_6,
    RULES,
    LinkInfo,
    RouteInfo,
)
from netd.kernel.rtnl_objects import bridge_of, ifb_of, macvlan_of, route_of, vxlan_of
from netd.kernel.tc import TrafficControl
from netd.kernel.tunnels_observe import fdb_entries, neighbours
from netd.plan.objects import (
    HOST,
    HOST_OWNER,
    Address,
    Bridge,
    Key,
    Link,
    Loopback,
    Macvlan,
    Object,
    Route,
    Rule,
    State,
    Sysctl,
    Veth,
    VethPeer,
)
from netd.plan.tunnels import Neighbour, Vxlan

_EVERYTHING: dict[int, str] = {
    AF_INET: "0.0.0.0/0",
    AF_INET6: "::/0",
}  # what a rule without a source holds for


class Observer:
    """One observation. For one thread, which is in the host's namespace; use it once."""

    def __init__(
        self,
        host: NetlinkSocket,
        namespaces: Namespaces,
        nft: Nftables,
        tc: TrafficControl,
        scope: Scope,
    ) -> None:
        self._host = host
        self._namespaces = namespaces
        self._nft = nft
        self._tc = tc
        self._scope = scope
        self._wanted: defaultdict[str, list[Object]] = defaultdict(list)
        for obj in scope.wanted.values():
            self._wanted[obj.ns].append(obj)
        self._state: State = {}
        self._foreign: set[Key] = set()
        self._missing: set[str] = set()
        self._lost_peers: set[Key] = set()
        self._links: dict[int, LinkInfo] = {}  # the host's, by index

    def run(self) -> Observation:
        """Look at the host and at the namespaces of the scope. Raises OSError."""
        self._links = {link.index: link for link in self._host.dump(LINKS)}
        for ns, sandbox in self._scope.sandboxes.items():
            opened = self._namespaces.open(sandbox)
            if opened is None:
                self._missing.add(ns)
                continue
            try:
                self._look_inside(ns, opened)
            finally:
                opened.close()
        retired = self._look_at_host_links()
        names = {index: link.name for index, link in self._links.items()}
        self._look_at_tunnels()
        self._look_at_addresses(HOST, self._host, names)
        self._look_at_host_routes(names)
        self._look_at_rules(HOST, self._host)
        self._look_at_sysctls(HOST)
        ours = {obj.name for obj in self._state.values() if isinstance(obj, Link) and not obj.ns}
        self._state |= self._nft.observe()
        self._adopt(self._tc.observe(ours, self._scope.wanted).values())
        return Observation(
            state=self._state,
            missing=frozenset(self._missing),
            foreign=frozenset(self._foreign),
            retired=retired,
            nsids=self._nsids(ours),
        )

    def _nsids(self, ours: set[str]) -> dict[int, frozenset[str]]:
        """The kernel's ids of namespaces with the veths that lead there."""
        found: defaultdict[int, set[str]] = defaultdict(set)
        for link in self._links.values():
            if link.kind == "veth" and link.netns_id is not None and link.name in ours:
                found[link.netns_id].add(link.name)
        return {nsid: frozenset(names) for nsid, names in found.items()}

    def _look_at_host_links(self) -> int:
        """Report the host's links; return how many are marked for removal."""
        retired = 0
        for link in self._links.values():
            if link.group == tag.RETIRED_GROUP:
                retired += 1
            elif link.ours and (obj := self._host_link(link)) is not None:
                self._state[obj.key] = obj
            elif (key := (HOST, "link", link.name)) in self._scope.wanted:
                self._foreign.add(key)
        return retired

    def _host_link(self, link: LinkInfo) -> Link | None:
        owner = tag.owner_by(link.group, link.alias)
        match link.kind:
            case "bridge":
                return bridge_of(link, owner)
            case "veth":
                return self._veth(link, owner)
            case "vxlan":
                return vxlan_of(link, owner, self._name(link.master))
            case "ifb":
                return ifb_of(link, owner)
            case "macvlan" | "ipvlan":
                return macvlan_of(HOST, link, owner, self._name(link.parent))
            case _:
                return None

    def _veth(self, link: LinkInfo, owner: str) -> Veth:
        """The host's end. Of the other one it only shows that there is one: as wanted, then,
        unless it was looked for where it should be and was not there.
        """
        wanted = self._scope.wanted.get((HOST, "link", link.name))
        peer_ns = peer_name = peer_mac = ""
        if isinstance(wanted, Veth):
            peer_ns, peer_mac = wanted.peer_ns, wanted.peer_mac
            if (peer_ns, "link", wanted.peer_name) not in self._lost_peers:
                peer_name = wanted.peer_name
        return Veth(
            owner=owner,
            name=link.name,
            mtu=link.mtu,
            up=link.up,
            master=self._name(link.master),
            peer_ns=peer_ns,
            peer_name=peer_name,
            peer_mac=peer_mac,
            hairpin=link.hairpin,
        )

    def _look_at_tunnels(self) -> None:
        wanted, state = self._scope.wanted, self._state
        tunnels = {index: link for index, link in self._links.items() if self._is(Vxlan, link)}
        for entry in fdb_entries(self._host, tunnels.values(), wanted, self._owner):
            state[entry.key] = entry
        # Neighbours stay when the tunnel goes.
        served = {self._name(link.master) for link in tunnels.values()}
        served |= {obj.link for obj in self._wanted[HOST] if isinstance(obj, Neighbour)}
        bridges = {
            index: link.name
            for index, link in self._links.items()
            if link.name in served and self._is(Bridge, link)
        }
        if bridges:
            for neighbour in neighbours(self._host, bridges, wanted, self._owner):
                state[neighbour.key] = neighbour

    def _is(self, kind: type[Link], link: LinkInfo) -> bool:
        """Whether it is a link of netd's of that kind, on the host."""
        return isinstance(self._state.get((HOST, "link", link.name)), kind)

    def _look_inside(self, ns: str, opened: OpenNamespace) -> None:
        wanted = self._wanted[ns]
        kinds = {type(obj) for obj in wanted}
        if Macvlan in kinds:
            make_heard(opened.descriptor, self._host)  # before the look, lest a change is missed
        links = {link.name: link for link in opened.socket.dump(LINKS)}
        # What is on a link that is marked for removal goes with it.
        names = {link.index: link.name for link in links.values() if not self._is_retired(link)}
        for obj in wanted:
            if isinstance(obj, Link):
                self._look_at_link_inside(obj, links.get(obj.name))
        if Address in kinds:
            self._look_at_addresses(ns, opened.socket, names)
        for query in (ROUTES_4, ROUTES_6):
            self._add_routes(ns, opened.socket.dump(query), names)
        self._look_at_rules(ns, opened.socket)  # rules do not go with a link, as routes do
        if any(issubclass(kind, Sysctl) for kind in kinds):
            with self._namespaces.entered(opened.descriptor):
                self._look_at_sysctls(ns)

    def _look_at_link_inside(self, wanted: Link, link: LinkInfo | None) -> None:
        found: Link | None = None
        match wanted:
            case Loopback() if link is not None:
                found = Loopback(ns=wanted.ns, owner=wanted.owner, name=link.name, up=link.up)
            case VethPeer() if link is not None and self._is_peer(link):
                found = VethPeer(
                    ns=wanted.ns,
                    owner=wanted.owner,
                    name=link.name,
                    mtu=link.mtu,
                    up=link.up,
                    mac=link.mac,
                )
            case Macvlan() if link is not None and link.is_guest:
                found = macvlan_of(wanted.ns, link, wanted.owner, self._name(link.parent))
            case _:
                pass
        if found is not None:
            self._state[found.key] = found
        elif link is not None:
            self._foreign.add(wanted.key)
        if found is None and isinstance(wanted, VethPeer):
            self._lost_peers.add(wanted.key)

    def _is_peer(self, link: LinkInfo) -> bool:
        """Whether a container's link is the other end of a veth of ours on the host."""
        end = self._host_end(link)
        return end is not None and end.group != tag.RETIRED_GROUP

    def _is_retired(self, link: LinkInfo) -> bool:
        end = self._host_end(link)
        return end is not None and end.group == tag.RETIRED_GROUP

    def _host_end(self, link: LinkInfo) -> LinkInfo | None:
        """The end on the host, if it is ours, of the pair that a container's link is of."""
        end = self._links.get(link.parent) if link.parent is not None else None
        if end is None or not end.ours or end.parent != link.index:
            return None
        return end if end.kind == link.kind == "veth" else None

    def _look_at_addresses(self, ns: str, socket: NetlinkSocket, names: dict[int, str]) -> None:
        for found in socket.dump(ADDRESSES):
            name = names.get(found.index, "")
            wanted = self._scope.wanted.get((ns, "address", name, found.address))
            if wanted is not None:
                self._state[wanted.key] = Address(
                    ns=ns,
                    owner=wanted.owner,
                    link=name,
                    address=found.address,
                    preferred=found.preferred,
                )

    def _look_at_host_routes(self, names: dict[int, str]) -> None:
        # A router has many routes of others: they are looked at only if one is missed.
        wanted = {obj.key for obj in self._wanted[HOST] if isinstance(obj, Route)}
        for queries in (
            (OWN_ROUTES_4, OWN_ROUTES_6),
            (CONNECTED_ROUTES_4, CONNECTED_ROUTES_6),
            (ROUTES_4, ROUTES_6),
        ):
            for query in queries:
                self._add_routes(HOST, self._host.dump(query), names)
            if wanted <= self._state.keys():
                return

    def _add_routes(self, ns: str, routes: Iterable[RouteInfo], names: dict[int, str]) -> None:
        for found in routes:
            name = names.get(found.index) if found.index is not None else None
            if name is None:
                continue
            route = route_of(ns, name, found)
            if found.protocol == tag.PROTOCOL or route.key in self._scope.wanted:
                owner = self._owner(route.key, route.link_key)
                self._state[route.key] = replace(route, owner=owner)

    def _look_at_rules(self, ns: str, socket: NetlinkSocket) -> None:
        for found in socket.dump(RULES):
            if found.family not in _EVERYTHING:
                continue
            source = found.source or _EVERYTHING[found.family]
            key = (ns, "rule", source, str(found.table))
            wanted = self._scope.wanted.get(key)
            if found.protocol == tag.PROTOCOL or wanted is not None:
                self._state[key] = Rule(
                    ns=ns,
                    owner=self._owner(key, None),
                    source=source,
                    table=found.table,
                    priority=found.priority,
                    link=wanted.link if isinstance(wanted, Rule) else "",
                )

    def _look_at_sysctls(self, ns: str) -> None:
        for wanted in self._wanted[ns]:
            if not isinstance(wanted, Sysctl):
                continue
            if (value := sysctl.read(wanted.name)) is not None:
                self._state[wanted.key] = replace(wanted, value=value)
            elif sysctl.is_pointless(wanted.name):
                self._state[wanted.key] = wanted

    def _adopt(self, objects: Iterable[Object]) -> None:
        """Report objects that have no room for an owner as those whose they should be."""
        for obj in objects:
            self._state[obj.key] = replace(obj, owner=self._owner(obj.key, obj.link_key))

    def _owner(self, key: Key, link_key: Key | None) -> str:
        """Whose an object is: as wanted; else its link's owner's, else nobody's in particular."""
        wanted = self._scope.wanted.get(key)
        if wanted is None and link_key is not None:
            wanted = self._state.get(link_key)
        return HOST_OWNER if wanted is None else wanted.owner

    def _name(self, index: int | None) -> str | None:
        link = self._links.get(index) if index is not None else None
        return None if link is None else link.name
