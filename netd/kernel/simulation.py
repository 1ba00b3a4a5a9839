"""What Linux does to kernel objects, in memory: the rules that the fake kernel plays by.

Only what is visible at the level of `netd.plan.objects` is here: which objects need which
others, what goes when something else goes, and the errno of each refusal. The contract tests
ask the real kernel the same questions.
"""

import errno
from collections.abc import Callable, Iterator
from ipaddress import ip_interface
from typing import Final, Literal, TypeVar

from msgspec.structs import replace

from netd.kernel.refusal import Refused
from netd.kernel.simulated_routes import after_address, check_route
from netd.kernel.simulated_tunnels import (
    as_port,
    as_written,
    check_fdb_entry,
    check_vxlan,
    without_half,
)
from netd.model.errors import Invalid
from netd.plan.diff import is_made_anew
from netd.plan.firewall import element_text, has_set
from netd.plan.objects import (
    HOST,
    Address,
    Bridge,
    Key,
    Link,
    Loopback,
    Macvlan,
    Object,
    Redirect,
    Route,
    Ruleset,
    SetElement,
    Shaper,
    State,
    Sysctl,
    Veth,
    VethPeer,
)
from netd.plan.tunnels import FdbEntry, Neighbour, Vxlan

BRIDGE_PORTS_MAX: Final = 1023  # find_portno() in net/bridge/br_if.c; 0 is not given out
DEFAULT_MTU: Final = 1500
LOOPBACK_MTU: Final = 65536

AnyObject = TypeVar("AnyObject", bound=Object)


class OtherLink(Link, frozen=True, kw_only=True):
    """A link of a kind that netd never makes: hardware, a tunnel, another program's."""

    rank = 20
    kind: str = ""
    mac: str = ""
    master: str | None = None

    def text(self) -> str:
        kind = f" type {self.kind}" if self.kind else ""
        return f"link {self.name}{kind} mtu {self.mtu}"


_NAMES_ITS_LINK: Final = (Address, Route, Shaper, Redirect, FdbEntry, Neighbour)


class Simulation:
    """Objects of several network namespaces, changed one at a time as Linux would.

    `tagged` holds the keys of the objects that netd made. `changed` is called after each
    change, also for those that a change brings with it.
    """

    def __init__(self, changed: Callable[[Literal["new", "delete"], Object], None]) -> None:
        self.objects: State = {}
        self.tagged: set[Key] = set()
        self.namespaces: set[str] = set()
        self._peers: dict[Key, Key] = {}
        self._changed = changed

    def add_namespace(self, ns: str) -> None:
        """A new network namespace: nothing but `lo`, which is down."""
        self.namespaces.add(ns)
        lo = Loopback(ns=ns, mtu=LOOPBACK_MTU, up=False)
        self.objects[lo.key] = lo

    def delete_namespace(self, ns: str) -> None:
        """The namespace's last user has gone: all in it goes, veth pairs with both ends."""
        for link in self.of_type(Link):
            if link.ns == ns:
                self._delete_link(link)
        self.objects = {key: obj for key, obj in self.objects.items() if key[0] != ns}
        self.tagged = {key for key in self.tagged if key[0] != ns}
        self.namespaces.remove(ns)

    def of_type(self, kind: type[AnyObject]) -> Iterator[AnyObject]:
        return (obj for obj in list(self.objects.values()) if isinstance(obj, kind))

    def link(self, ns: str, name: str) -> Link:
        """The link of that name. Raises `Refused` with ENODEV."""
        found = self.objects.get((ns, "link", name))
        if not isinstance(found, Link):
            raise Refused(errno.ENODEV)
        return found

    def add(self, obj: Object, *, tagged: bool = True) -> None:
        """Create what is not there yet. Raises `Refused`."""
        if obj.ns not in self.namespaces:
            raise Refused(errno.ENOENT)
        if obj.key in self.objects:
            raise Refused(errno.EEXIST)
        self._check(obj)
        if isinstance(obj, Link) and obj.mtu is None:
            obj = replace(obj, mtu=DEFAULT_MTU)
        if isinstance(obj, Veth):
            self._add_peer(obj, tagged)
        self._put(self._as_made(obj), tagged)

    def change(self, obj: Object) -> None:
        """Make what is there like `obj`; who made it stays as it is. Raises `Refused`."""
        now = self.objects.get(obj.key)
        if now is None or type(now) is not type(obj):
            raise Refused(errno.ENODEV if isinstance(obj, Link) else errno.ENOENT)
        if self._is_settled_otherwise(obj, now):
            tagged = obj.key in self.tagged
            self.delete(obj.key)
            self.add(obj, tagged=tagged)
            return
        self._check(obj)
        if isinstance(obj, Link) and isinstance(now, Link) and obj.mtu is None:
            obj = replace(obj, mtu=now.mtu)
        self._put(self._as_made(obj), obj.key in self.tagged)
        match obj, now:
            case Vxlan(), Vxlan() if obj.master != now.master:
                self._leave_bridge(obj)
            case Bridge(), Bridge() if obj.mac != now.mac:
                self._forget_neighbours(obj)  # neigh_changeaddr() in net/core/neighbour.c
            case Ruleset(), _:
                self._delete_elements(obj.ns, but_of=obj)
            case _:
                pass
        if isinstance(obj, Link) and not obj.up:
            self._link_down(obj)

    def delete(self, key: Key) -> None:
        """Remove an object and what cannot be without it. Raises `Refused`."""
        obj = self.objects.get(key)
        match obj:
            case None:
                raise Refused(errno.ENOENT)
            case Loopback():
                raise Refused(errno.EOPNOTSUPP)
            case Link():
                self._delete_link(obj)
            case Address():
                self._drop(obj)
                for route, left in after_address(obj, self.objects):
                    self.become(route, left)
            case Ruleset():
                self._drop(obj)
                self._delete_elements(obj.ns)
            case _:
                self._drop(obj)

    def rename(self, ns: str, name: str, new: str) -> None:
        """Give a link another name; what lives on it stays there."""
        link = self.link(ns, name)
        renamed = replace(link, name=new)
        if renamed.key in self.objects:
            raise Refused(errno.EEXIST)
        self._drop(link)
        self.objects[renamed.key] = renamed
        if peer := self._peers.pop(link.key, None):
            self._peers[peer], self._peers[renamed.key] = renamed.key, peer
        for obj in list(self.objects.values()):
            if obj.link_key == link.key and isinstance(obj, _NAMES_ITS_LINK):
                self._drop(obj)
                self._put(replace(obj, link=new), tagged=False)
        self._changed("new", renamed)

    def peer_of(self, veth: Veth) -> Key | None:
        """Where the other end of the pair is."""
        return self._peers.get(veth.key)

    def is_own(self, obj: Object) -> bool:
        """Whether what is there is netd's to change: of a link, only if it carries netd's tag.

        What else has a key that netd wants is on a link of netd's or in a place of netd's.
        """
        now = self.objects.get(obj.key)
        if type(now) is not type(obj):
            return False
        taggable = isinstance(obj, Link) and not isinstance(obj, Loopback)
        return not taggable or obj.key in self.tagged

    def is_on_a_strangers_link(self, obj: Object) -> bool:
        link = self.objects.get(obj.link_key) if obj.link_key else None
        return link is not None and not self.is_own(link)

    def _is_settled_otherwise(self, want: Object, now: Object) -> bool:
        """Whether they differ in what is settled when a link is made."""
        match want, now:
            case Veth(), Veth():
                return self.peer_of(now) != (want.peer_ns, "link", want.peer_name)
            case _:
                return is_made_anew(want, now)

    def become(self, obj: Object, left: Object | None) -> None:
        """Something changes `obj` along with itself; `left` None: it takes it along."""
        if left is None:
            self._drop(obj)
        elif left != obj:
            self._put(left, obj.key in self.tagged)

    def _put(self, obj: Object, tagged: bool) -> None:
        self.objects[obj.key] = obj
        if tagged:
            self.tagged.add(obj.key)
        self._changed("new", obj)

    def _drop(self, obj: Object) -> None:
        if self.objects.pop(obj.key, None) is not None:
            self.tagged.discard(obj.key)
            self._changed("delete", obj)

    def _check(self, obj: Object) -> None:
        match obj:
            case VethPeer():
                self.link(obj.ns, obj.name)  # it comes with the host's end only
            case Veth() | OtherLink():
                if obj.master is not None:
                    self._check_master(obj.key, obj.master)
            case Vxlan():
                check_vxlan(obj, self.of_type(Vxlan))
                if obj.master:
                    self._check_master(obj.key, obj.master)
            case FdbEntry():
                check_fdb_entry(obj, self.link(obj.ns, obj.link))
            case Neighbour():
                self.link(obj.ns, obj.link)
            case Macvlan():
                self.link(HOST, obj.parent)
            case Address():
                self.link(obj.ns, obj.link)
            case Route():
                check_route(obj, self.link(obj.ns, obj.link), self.objects)
            case Shaper():
                self.link(obj.ns, obj.link)
            case Redirect():
                self.link(obj.ns, obj.link)
                self.link(obj.ns, obj.target)
            case Sysctl():
                self._check_sysctl(obj)
            case SetElement():
                self._check_element(obj)
            case _:
                pass

    def _check_master(self, port: Key, name: str) -> None:
        master = self.link(HOST, name)
        if not isinstance(master, Bridge):
            raise Refused(errno.EOPNOTSUPP)
        others = [
            link
            for link in self.of_type(Link)
            if isinstance(link, Veth | Vxlan | OtherLink)
            and link.master == name
            and link.key != port
        ]
        if len(others) >= BRIDGE_PORTS_MAX:
            raise Refused(errno.EXFULL)

    def _check_sysctl(self, sysctl: Sysctl) -> None:
        match sysctl.name.split("/"):
            case ["net", "ipv4" | "ipv6", "conf", link, *_] if link not in ("all", "default"):
                if (sysctl.ns, "link", link) not in self.objects:
                    raise Refused(errno.ENOENT)
            case _:
                pass

    def _check_element(self, element: SetElement) -> None:
        try:
            element_text(element)
        except Invalid as invalid:
            raise Refused(errno.EINVAL) from invalid
        rulesets = (ruleset for ruleset in self.of_type(Ruleset) if ruleset.ns == element.ns)
        if not any(has_set(ruleset, element.set_name) for ruleset in rulesets):
            raise Refused(errno.ENOENT)

    def _add_peer(self, veth: Veth, tagged: bool) -> None:
        if veth.peer_ns not in self.namespaces:
            raise Refused(errno.ENOENT)
        if veth.peer_ns == HOST:
            tagged = False  # it has a container's tag, which is nothing of netd's on the host
        peer = VethPeer(
            ns=veth.peer_ns,
            owner=veth.owner,
            name=veth.peer_name,
            mac=veth.peer_mac,
            mtu=veth.mtu or DEFAULT_MTU,
            up=False,
        )
        if peer.key in self.objects:
            raise Refused(errno.EEXIST)
        self._peers[veth.key] = peer.key
        self._peers[peer.key] = veth.key
        self._put(peer, tagged)

    def _delete_link(self, link: Link) -> None:
        if self.objects.get(link.key) is not link:
            return
        self._drop(link)
        for obj in list(self.objects.values()):
            match obj:
                case Object() if obj.link_key == link.key:
                    self._drop(obj)
                case Veth() if link.ns == obj.ns and obj.master == link.name:
                    free = replace(obj, master=None, hairpin=False)
                    self._put(free, obj.key in self.tagged)
                case Vxlan() if link.ns == obj.ns and obj.master == link.name:
                    self._put(as_port(obj, ""), obj.key in self.tagged)
                    self._leave_bridge(obj)
                case OtherLink() if link.ns == obj.ns and obj.master == link.name:
                    self._put(replace(obj, master=None), obj.key in self.tagged)
                case Macvlan() if link.ns == HOST and obj.parent == link.name:
                    self._delete_link(obj)
                case Redirect() if link.ns == obj.ns and obj.target == link.name:
                    self._put(replace(obj, target=""), obj.key in self.tagged)
                case Sysctl() if obj.ns == link.ns and f"/conf/{link.name}/" in obj.name:
                    self._drop(obj)
                case _:
                    pass
        peer = self.objects.get(self._peers.pop(link.key, ()))
        if isinstance(peer, Link):
            self._delete_link(peer)

    def _as_made(self, obj: Object) -> Object:
        return as_written(obj, self.link(obj.ns, obj.link)) if isinstance(obj, FdbEntry) else obj

    def _leave_bridge(self, tunnel: Vxlan) -> None:
        """The bridge forgets what was to leave by the port; the link's entries stay."""
        for entry in self.of_type(FdbEntry):
            if entry.link_key == tunnel.key:
                self.become(entry, without_half(entry, "bridge"))

    def _forget_neighbours(self, link: Link) -> None:
        for neighbour in self.of_type(Neighbour):
            if neighbour.link_key == link.key:
                self._drop(neighbour)

    def _link_down(self, link: Link) -> None:
        """Routes and neighbours go, and IPv6 addresses (keep_addr_on_down is off by default)."""
        self._forget_neighbours(link)
        for address in self.of_type(Address):
            if address.link_key == link.key and ip_interface(address.address).version == 6:
                self._drop(address)
        for route in self.of_type(Route):
            if route.link_key == link.key:
                self._drop(route)

    def _delete_elements(self, ns: str, but_of: Ruleset | None = None) -> None:
        """All there are; or those of which these rules have no set."""
        for element in self.of_type(SetElement):
            is_kept = but_of is not None and has_set(but_of, element.set_name)
            if element.ns == ns and not is_kept:
                self._drop(element)
