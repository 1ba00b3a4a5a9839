"""What netd needs to know of the host it runs on, as a value."""

import msgspec


class LinkFact(msgspec.Struct, frozen=True, kw_only=True):
    """A link of the host. `ours` says that it carries netd's tag. `kind` is "" for hardware."""

    index: int
    name: str
    mac: str = ""
    mtu: int = 1500
    kind: str = ""
    up: bool = True
    ours: bool = False
    master: str | None = None
    wireless: bool = False


class AddressFact(msgspec.Struct, frozen=True, kw_only=True):
    """An address of the host in CIDR form. `scope` as in ip-address(8): global, link, host."""

    link: str
    address: str
    scope: str = "global"


class RouteFact(msgspec.Struct, frozen=True, kw_only=True):
    """A route of the host, of any table. `metric` orders routes to the same destination."""

    destination: str
    link: str | None
    gateway: str | None = None
    table: int = 254
    protocol: int = 0
    metric: int = 0


class ForeignChain(msgspec.Struct, frozen=True, kw_only=True):
    """A forward chain of another program that drops what no rule of it accepts.

    `hook` is a chain made for users' own rules (Docker's DOCKER-USER), "" where there is none.
    """

    table: str  # e.g. "ip filter"
    chain: str
    verdict: str  # e.g. "policy drop", "last rule rejects"
    program: str  # Docker, ufw, firewalld or "unknown"
    hook: str = ""


class NextHop(msgspec.Struct, frozen=True, kw_only=True):
    """Which way a packet goes: `link` is where it leaves, `gateway` the router that gets it, None
    where the destination itself does. A `local` one ends where it is.
    """

    link: str
    gateway: str | None = None
    local: bool = False


class Echo(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an echo request: `rtt_ms` is None when no answer came in time.

    `mtu` is what the kernel or a router on the way called the most that can pass, in bytes of
    an IP packet; None when nobody did.
    """

    rtt_ms: float | None
    mtu: int | None = None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """One observation of the host. `capabilities` are names from `netctl status`.

    `managers` are running programs that configure links and were not told to leave those of
    netd alone.
    """

    node: str
    boot_id: str
    kernel: str
    links: tuple[LinkFact, ...] = ()
    addresses: tuple[AddressFact, ...] = ()
    routes: tuple[RouteFact, ...] = ()
    nameservers: tuple[str, ...] = ()
    capabilities: frozenset[str] = frozenset()
    foreign_chains: tuple[ForeignChain, ...] = ()
    sysctls: dict[str, str] = {}
    managers: frozenset[str] = frozenset()

    def link(self, name: str) -> LinkFact | None:
        return next((link for link in self.links if link.name == name), None)

    def uplinks(self) -> tuple[LinkFact, ...]:
        """The links with a default route, the most preferred first."""
        defaults = [
            route
            for route in self.routes
            if route.destination in ("0.0.0.0/0", "::/0") and route.table == 254 and route.link
        ]
        defaults.sort(key=lambda route: route.metric)
        names = dict.fromkeys(route.link for route in defaults)
        found = (self.link(name) for name in names if name is not None)
        return tuple(link for link in found if link is not None)
