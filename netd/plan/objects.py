"""The kernel objects netd manages, as values.

An object has a key, which says which object of the kernel it is, and attributes, which say
how it should be. Only attributes netd manages are here: the kernel and others may set more.
`ns` names the network namespace: "" is the host's (the daemon's own), otherwise
`net:[inode]` of a container's. `owner` is the id of the network or endpoint an object is
derived from ("host" for what serves all); in the kernel it is written into the object's tag
where the object has room for one.
"""

from collections.abc import Iterable
from typing import ClassVar, Literal

import msgspec

HOST = ""
HOST_OWNER = "host"

Key = tuple[str, ...]


class Object(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of all objects. `rank` orders creation: what others rest on comes first.

    A `permanent` object is set but never taken back: nobody knows who else relies on it.
    """

    rank: ClassVar[int] = 0
    permanent: ClassVar[bool] = False
    ns: str = HOST
    owner: str = HOST_OWNER

    @property
    def key(self) -> Key:
        raise TypeError(f"{type(self).__name__} has no key")

    @property
    def link_key(self) -> Key | None:
        """The key of the link that this object lives on and dies with, if it does."""
        return None

    def text(self) -> str:
        """One line in the words of ip, tc or nft."""
        raise TypeError(f"{type(self).__name__} has no text")


class Link(Object, frozen=True, kw_only=True):
    """Base of network interfaces. All kinds share one name space in a netns."""

    name: str
    mtu: int | None = None
    up: bool = True

    @property
    def key(self) -> Key:
        return (self.ns, "link", self.name)


class Bridge(Link, frozen=True, kw_only=True):
    """A bridge. `route_localnet` lets ports published on 127.0.0.1 reach its containers."""

    rank = 20
    mac: str
    route_localnet: bool = False

    def text(self) -> str:
        return f"link {self.name} type bridge address {self.mac} mtu {self.mtu} up"


class Veth(Link, frozen=True, kw_only=True):
    """The host's end of a veth pair; creating it creates the peer in its netns.

    With `hairpin` the bridge sends frames back out of the port they came in by.
    """

    rank = 30
    master: str | None
    peer_ns: str
    peer_name: str
    peer_mac: str
    hairpin: bool = False

    def text(self) -> str:
        master = f" master {self.master}" if self.master else ""
        master += " hairpin on" if self.hairpin else ""
        peer = f"peer {self.peer_name} netns {self.peer_ns} address {self.peer_mac}"
        return f"link {self.name} type veth mtu {self.mtu}{master} up {peer}"


class VethPeer(Link, frozen=True, kw_only=True):
    """The container's end of a veth pair. It comes and goes with the host's end."""

    rank = 40
    mac: str

    def text(self) -> str:
        return f"link {self.name} address {self.mac} mtu {self.mtu} up"


class Macvlan(Link, frozen=True, kw_only=True):
    """A macvlan or ipvlan on `parent`, a link of the host. `mac` is None for ipvlan."""

    rank = 30
    kind: Literal["macvlan", "ipvlan"] = "macvlan"
    parent: str
    mode: str
    mac: str | None

    def text(self) -> str:
        mac = f" address {self.mac}" if self.mac else ""
        base = f"link {self.name} link {self.parent} type {self.kind} mode {self.mode}"
        return f"{base}{mac} mtu {self.mtu} up"


class Ifb(Link, frozen=True, kw_only=True):
    """A link that what an endpoint sends passes through, to be shaped."""

    rank = 25

    def text(self) -> str:
        return f"link {self.name} type ifb up"


class Loopback(Link, frozen=True, kw_only=True):
    """A container's `lo`, which a new network namespace has down.

    It is shared by all endpoints of the container, so its owner is always the same.
    """

    rank = 40
    permanent = True
    name: str = "lo"

    def text(self) -> str:
        return "link lo up"


class Address(Object, frozen=True, kw_only=True):
    """An address with its prefix length, e.g. `10.20.0.2/24`, on a link.

    An IPv6 one that is not `preferred` is no source where the link has another (RFC 6724, rule 3).
    """

    rank = 50
    link: str
    address: str
    preferred: bool = True

    @property
    def key(self) -> Key:
        return (self.ns, "address", self.link, self.address)

    @property
    def link_key(self) -> Key | None:
        return (self.ns, "link", self.link)

    def text(self) -> str:
        lifetime = "" if self.preferred else " preferred_lft 0"
        return f"address {self.address} dev {self.link}{lifetime}"


class Route(Object, frozen=True, kw_only=True):
    """A unicast route. `table` is 254 (main) or a table of one endpoint.

    `metric` None stands for the kernel's default: 0 for IPv4, 1024 for IPv6
    (IP6_RT_PRIO_USER). Two routes that differ in it are two routes.
    """

    rank = 60
    destination: str  # CIDR; 0.0.0.0/0 and ::/0 are the defaults
    link: str
    gateway: str | None = None
    source: str | None = None
    table: int = 254
    metric: int | None = None

    @property
    def key(self) -> Key:
        metric = "" if self.metric is None else str(self.metric)
        return (self.ns, "route", str(self.table), self.destination, self.link, metric)

    @property
    def link_key(self) -> Key | None:
        return (self.ns, "link", self.link)

    def text(self) -> str:
        via = f" via {self.gateway}" if self.gateway else ""
        src = f" src {self.source}" if self.source else ""
        table = f" table {self.table}" if self.table != 254 else ""
        metric = f" metric {self.metric}" if self.metric is not None else ""
        return f"route {self.destination}{via} dev {self.link}{src}{table}{metric}"


class Rule(Object, frozen=True, kw_only=True):
    """A routing rule: what is sent from `source` looks its route up in `table`.

    `link` is the link whose routes the table holds; without that link the rule is useless.
    """

    rank = 70
    source: str  # CIDR
    table: int
    priority: int
    link: str

    @property
    def key(self) -> Key:
        return (self.ns, "rule", self.source, str(self.table))

    def text(self) -> str:
        return f"rule from {self.source} lookup {self.table} priority {self.priority}"


class Sysctl(Object, frozen=True, kw_only=True):
    """A kernel parameter below /proc/sys, `name` with slashes, e.g. `net/ipv4/ip_forward`."""

    rank = 10
    permanent = True
    name: str
    value: str

    @property
    def key(self) -> Key:
        return (self.ns, "sysctl", self.name)

    def text(self) -> str:
        return f"sysctl {self.name.replace('/', '.')} = {self.value}"


class LinkSysctl(Sysctl, frozen=True, kw_only=True):
    """A kernel parameter of one link, to be set before the link comes up."""

    rank = 35
    link: str

    @property
    def link_key(self) -> Key | None:
        return (self.ns, "link", self.link)


class Shaper(Object, frozen=True, kw_only=True):
    """A token bucket on what leaves `link`. `burst_bytes` and `latency_us` as in tc-tbf(8)."""

    rank = 80
    link: str
    rate_bps: int
    burst_bytes: int
    latency_us: int

    @property
    def key(self) -> Key:
        return (self.ns, "shaper", self.link)

    @property
    def link_key(self) -> Key | None:
        return (self.ns, "link", self.link)

    def text(self) -> str:
        return f"qdisc tbf dev {self.link} rate {self.rate_bps}bit burst {self.burst_bytes}"


class Redirect(Object, frozen=True, kw_only=True):
    """All that `link` receives is passed through `target` first."""

    rank = 81
    link: str
    target: str

    @property
    def key(self) -> Key:
        return (self.ns, "redirect", self.link)

    @property
    def link_key(self) -> Key | None:
        return (self.ns, "link", self.link)

    def text(self) -> str:
        return f"filter ingress dev {self.link} mirred redirect dev {self.target}"


class Ruleset(Object, frozen=True, kw_only=True):
    """The constant part of netd's nft table: sets, maps, chains and rules.

    `digest` stands for the text; the kernel keeps it in the table so that a changed or
    damaged ruleset is seen without comparing rules one by one.
    """

    rank = 15
    family: str = "inet"
    name: str = "netd"
    digest: str
    script: str = ""

    @property
    def key(self) -> Key:
        return (self.ns, "ruleset", self.family, self.name)

    def text(self) -> str:
        return f"table {self.family} {self.name} digest {self.digest}"


class SetElement(Object, frozen=True, kw_only=True):
    """One element of a set or map of netd's table. `value` is () in a set."""

    rank = 90
    set_name: str
    element: tuple[str, ...]
    value: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        return (self.ns, "element", self.set_name, *self.element)

    def text(self) -> str:
        value = f" : {' . '.join(self.value)}" if self.value else ""
        return f"element {self.set_name} {{ {' . '.join(self.element)}{value} }}"


State = dict[Key, Object]


def state_of(objects: Iterable[Object]) -> State:
    """Index objects by key. A later object replaces an earlier one with the same key."""
    return {obj.key: obj for obj in objects}


def render(state: State) -> str:
    """A state as text, one line for each object, sorted: for people and for tests."""
    lines = sorted(
        (obj.ns, obj.rank, f"{obj.ns or 'host':<17} {obj.text()}") for obj in state.values()
    )
    return "\n".join(line for _, _, line in lines)
