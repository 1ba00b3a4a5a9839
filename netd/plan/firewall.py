"""The firewall: one nftables table of constant rules, and the sets and maps that feed them.

Networks, endpoints and ports come and go as elements of sets; no rule is ever added for one
of them. So the cost of a packet does not grow with what exists, a change is one element, and
the rules can be compared with what they should be by one digest.

The text loads with nft 1.0.2, but for virtual addresses, and runs on Linux 5.10 and later: numeric
priorities, because older nft knows names for some hooks only; `iifname` in postrouting is known
since Linux 5.7.
"""

import hashlib
import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec

from netd.model.errors import Invalid
from netd.model.network import Network
from netd.plan.addresses import bare
from netd.plan.objects import Ruleset, SetElement
from netd.plan.virtual_rules import (
    SPREADS,
    STICKY_SPREADS,
    VirtualPools,
    chains_of,
    declaration_of_slots,
    rules_of,
    spread_set,
)

TABLE: Final = "inet netd"
MASTERS_MAX: Final = 4096  # bridges of one host
PORTS_MAX: Final = 65536  # published ports in one map
VTEPS_MAX: Final = 16384  # hosts of a cluster

_DECLARED = re.compile(r"^\t(?:set|map) (\w+) \{ type", re.MULTILINE)
_OWNER = re.compile(r"[0-9a-z._-]{1,80}\Z")
# Wider than the names netd gives, so that what somebody else put into a set can be taken out.
_IFNAME = re.compile(r"[!#-)+-.0-\[\]-~]{1,15}\Z")  # ASCII without space " * / and backslash


class SetSpec(msgspec.Struct, frozen=True):
    """A set or, with a value, a map: nft data types of its key and value, most elements.

    The types `ipv4_prefix` and `ipv6_prefix` are addresses of which an element has a range;
    `slot` is a number below `slots`, `client` one that stands for a link and a protocol. A map of
    slots has no size, so that the kernel lets it grow: one with a size has its memory from the
    beginning.
    """

    key: tuple[str, ...]
    value: tuple[str, ...] = ()
    size: int = MASTERS_MAX
    slots: int = 0


_TARGET4 = ("ipv4_addr", "inet_service")
_TARGET6 = ("ipv6_addr", "inet_service")
_SERVICE = ("inet_proto", "inet_service")


def _spread_sets() -> dict[str, SetSpec]:
    return {
        spread_set(version, slots, sticky=sticky, near=near): SetSpec(
            (address, "client" if near else "inet_proto", "inet_service", "slot"),
            (address, "inet_service"),
            slots=slots,
        )
        for near in (True, False)
        for version, address in ((4, "ipv4_addr"), (6, "ipv6_addr"))
        for sticky, sizes in ((False, SPREADS), (True, STICKY_SPREADS))
        for slots in sizes
    }


SETS: Final[dict[str, SetSpec]] = {
    "bridges": SetSpec(("ifname",)),
    "intra": SetSpec(("ifname", "ifname")),  # each bridge with itself
    "local4": SetSpec(("ipv4_prefix", "ifname")),  # each subnet on its bridge
    "local6": SetSpec(("ipv6_prefix", "ifname")),
    "isolated": SetSpec(("ifname",)),
    "internal": SetSpec(("ifname",)),
    "masqueraded": SetSpec(("ifname",)),
    "ports4": SetSpec(("ipv4_addr", *_SERVICE), _TARGET4, PORTS_MAX),
    "ports6": SetSpec(("ipv6_addr", *_SERVICE), _TARGET6, PORTS_MAX),
    "ports4_any": SetSpec(_SERVICE, _TARGET4, PORTS_MAX),
    "ports6_any": SetSpec(_SERVICE, _TARGET6, PORTS_MAX),
    "vteps4": SetSpec(("ipv4_addr",), size=VTEPS_MAX),  # other hosts with overlay networks
    "vteps6": SetSpec(("ipv6_addr",), size=VTEPS_MAX),
    "own4": SetSpec(("ifname",), ("ipv4_addr",)),  # the host's own address in an overlay network
    "own6": SetSpec(("ifname",), ("ipv6_addr",)),
    **_spread_sets(),
}

_CHAINS = """
	# Bridges have route_localnet, so that the host's 127.0.0.1 can be translated to containers.
	# The kernel then no longer refuses 127.0.0.0/8 that comes from containers (CVE-2020-8558).
	chain raw_prerouting {
		type filter hook prerouting priority -300; policy accept;
		iifname @bridges ip daddr 127.0.0.0/8 drop
		iifname @bridges ip saddr 127.0.0.0/8 drop
	}

	# What is published on 127.0.0.1 must not be had by a neighbour that sends a frame with that
	# destination: translation comes before the kernel's own check of the address.
	chain nat_prerouting {
		type nat hook prerouting priority -100; policy accept;
%(translate)s		ip daddr 127.0.0.0/8 return
		fib daddr type local jump publish
	}

	# Answers to ::1 that come by a bridge are not delivered, so ::1 is left alone: refused at
	# once, a client goes on to 127.0.0.1.
	chain nat_output {
		type nat hook output priority -100; policy accept;
%(translate_own)s		ip6 daddr ::1 return
		fib daddr type local jump publish
	}

	# A port of one address goes before the same port of all addresses.
	chain publish {
		meta nfproto ipv4 meta l4proto { tcp, udp, sctp } \\
			dnat ip to ip daddr . meta l4proto . th dport map @ports4
		meta nfproto ipv4 meta l4proto { tcp, udp, sctp } \\
			dnat ip to meta l4proto . th dport map @ports4_any
		meta nfproto ipv6 meta l4proto { tcp, udp, sctp } \\
			dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6
		meta nfproto ipv6 meta l4proto { tcp, udp, sctp } \\
			dnat ip6 to meta l4proto . th dport map @ports6_any
	}

	# Sources are kept but where the answer would not come back through the host: a container
	# that reaches its own network by a published port, and the host's loopback addresses. The
	# former is told by address, as frames that br_netfilter translates have no iifname here.
	chain nat_postrouting {
		type nat hook postrouting priority 100; policy accept;
%(masquerade)s		ct status dnat ip saddr . oifname @local4 masquerade
		ct status dnat ip6 saddr . oifname @local6 masquerade
		oifname @bridges ip saddr 127.0.0.0/8 masquerade
		iifname @masqueraded oifname != @bridges masquerade
	}

	# Bridged frames come here too where br_netfilter is on: they are what `intra` accepts.
	# Invalid packets, such as a late RST, would leave untranslated with a private source.
	# Published ports are reachable from outside and from other networks, all other ports of an
	# isolated network are not; an internal network reaches, and is reached by, the host alone.
	chain filter_forward {
		type filter hook forward priority 0; policy accept;
		ct state established,related accept
		iifname . oifname @intra accept
		iifname @bridges ct state invalid drop
%(refuse)s		iifname @internal drop
		oifname @internal drop
		ct status dnat accept
		oifname @isolated drop
		iifname @isolated oifname @bridges drop
%(guard)s	}
"""

# Tunnelled frames are taken from hosts that have overlay networks, on the way from outside, and
# from nowhere else: a container, or any program of this host or of another, could else put frames
# into every network. What the kernel tunnels has no socket, but for what the host itself sends
# into a network, which is marked. Containers' packets to the port of other hosts would leave with
# this host's address and be taken there.
_TUNNELS = """
	chain tunnel_in {
		type filter hook prerouting priority -290; policy accept;
		meta l4proto != udp return
		udp dport != %(port)d return
		iifname @bridges ip daddr @vteps4 drop
		iifname @bridges ip6 daddr @vteps6 drop
		fib daddr type unicast return
		iifname @bridges drop
		iifname "lo" drop
		ip saddr @vteps4 return
		ip6 saddr @vteps6 return
		drop
	}

	chain tunnel_out {
		type filter hook output priority 300; policy accept;
		meta l4proto udp udp dport %(port)d meta mark & 0x%(mark)x != 0x%(mark)x \\
			meta skuid >= 0 drop
	}

	# Not in the hook above, where a packet goes on with the link that it came there with, whoever
	# translates it to a container meanwhile.
	chain tunnel_mark {
		type filter hook postrouting priority -150; policy accept;
		oifname @bridges meta skuid >= 0 meta mark set meta mark | 0x%(mark)x
	}

	# A container may say that it takes larger segments than a tunnel carries, or a way outside.
	chain clamp_segments {
		type filter hook forward priority -150; policy accept;
		iifname @bridges tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
		oifname @bridges tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
	}
"""
TUNNEL_MARK: Final = 0x6E64_0000

# Where netd switched forwarding on, the host must not become a router for others by that. Frames
# within another program's bridge, which come here where br_netfilter is on, are none of its matter;
# they have the bridge as both devices, and there is no rule that compares the two.
_GUARD = """\
		iifname != @bridges oifname != @bridges meta iifkind != "bridge" drop
		iifname != @bridges oifname != @bridges meta oifkind != "bridge" drop
"""


def ruleset(
    *, forward_guard: bool, tunnel_port: int | None = None, virtual: VirtualPools | None = None
) -> Ruleset:
    """The table with its constant rules and empty sets.

    With `forward_guard` nothing is forwarded but what comes from or goes to a bridge of
    netd: for hosts that did not forward before. `tunnel_port` is the UDP port of VXLAN on a host
    with overlay networks. `virtual` is for a host of a cluster that has virtual addresses.
    """
    sets = "".join(
        _declaration(name, spec)
        for name, spec in SETS.items()
        if virtual is not None or not spec.slots
    )
    parts = dict.fromkeys(("translate", "translate_own", "masquerade", "refuse"), "")
    parts["guard"] = _GUARD if forward_guard else ""
    if virtual is not None:
        parts |= rules_of(virtual)
    chains = _CHAINS % parts
    if tunnel_port is not None:
        chains += _TUNNELS % {
            "port": tunnel_port,
            "mark": TUNNEL_MARK,
        }
    if virtual is not None:
        chains += chains_of(virtual)
    script = f"table {TABLE} {{\n{sets}{chains}}}\n"
    return Ruleset(digest=hashlib.sha256(script.encode()).hexdigest()[:16], script=script)


def has_set(rules: Ruleset, name: str) -> bool:
    """Whether these rules come with the set or map of that name."""
    return name in _declared(rules.script)


@lru_cache(maxsize=16)  # there are few rulesets, and elements by the ten thousand
def _declared(script: str) -> frozenset[str]:
    return frozenset(_DECLARED.findall(script))


def network_elements(network: Network, bridge: str) -> list[SetElement]:
    """The set elements of a network whose containers are on the link `bridge`."""

    def member(set_name: str, *element: str) -> SetElement:
        return SetElement(owner=network.id, set_name=set_name, element=element)

    elements = [member("bridges", bridge), member("intra", bridge, bridge)]
    elements += [
        member("local6" if ":" in subnet else "local4", subnet, bridge)
        for subnet in network.subnets
    ]
    if network.isolated:
        elements.append(member("isolated", bridge))
    if network.internal:
        elements.append(member("internal", bridge))
    elif network.options.get("masquerade", True):
        elements.append(member("masqueraded", bridge))
    return elements


def own_elements(network: Network, bridge: str, addresses: Iterable[str]) -> list[SetElement]:
    """The host's own addresses (CIDR) in a network whose gateway is on other hosts too."""
    return [
        SetElement(
            owner=network.id,
            set_name="own6" if ":" in address else "own4",
            element=(bridge,),
            value=(address,),
        )
        for address in bare(addresses)
    ]


def is_owner(text: str) -> bool:
    """Whether `text` can be an element's owner, which is kept as the element's comment."""
    return _OWNER.match(text) is not None


def key_text(element: SetElement) -> str:
    """The element's key in nft's language.

    Raises `Invalid` unless every part is a plain value of the set's type: only what passes
    here is put into a script.
    """
    spec = _spec(element)
    return _concatenation(spec.key, element.element)


def element_text(element: SetElement) -> str:
    """The element with its owner and value in nft's language; raises `Invalid` likewise."""
    spec = _spec(element)
    if not is_owner(element.owner):
        raise Invalid(f"owner {element.owner!r}: use 1 to 80 of a-z, 0-9, '.', '_' and '-'")
    text = f'{_concatenation(spec.key, element.element)} comment "{element.owner}"'
    return f"{text} : {_concatenation(spec.value, element.value)}" if spec.value else text


def _declaration(name: str, spec: SetSpec) -> str:
    if spec.slots:
        version, near = 4 if spec.key[0] == "ipv4_addr" else 6, "client" in spec.key
        return declaration_of_slots(name, version, spec.slots, near=near)
    kind = "map" if spec.value else "set"
    types = " . ".join(spec.key).replace("_prefix", "_addr")
    flags = " flags interval;" if "_prefix" in str(spec.key) else ""
    if spec.value:
        types += f" : {' . '.join(spec.value)}"
    return f"\t{kind} {name} {{ type {types};{flags} size {spec.size}; }}\n"


def _spec(element: SetElement) -> SetSpec:
    spec = SETS.get(element.set_name)
    if spec is None:
        raise Invalid(f"the firewall has no set {element.set_name!r}")
    return spec


def _concatenation(types: tuple[str, ...], values: tuple[str, ...]) -> str:
    if len(types) != len(values):
        raise Invalid(f"{values!r} is not of type {' . '.join(types)}")
    return " . ".join(map(_literal, types, values))


@lru_cache(maxsize=65_536)  # thousands of services have the same ports, slots and targets
def _literal(kind: str, value: str) -> str:
    try:
        match kind:
            case "ifname" if _IFNAME.match(value):
                return f'"{value}"'
            case "ipv4_addr":
                return str(ipaddress.IPv4Address(value))
            case "ipv6_addr" if "%" not in value:
                return str(ipaddress.IPv6Address(value))
            case "ipv4_prefix" | "ipv6_prefix" if "-" in value:  # none of netd's; to be taken out
                first, _, last = value.partition("-")
                address = kind.replace("_prefix", "_addr")
                return f"{_literal(address, first)}-{_literal(address, last)}"
            case "ipv4_prefix":
                return str(ipaddress.IPv4Network(value))
            case "ipv6_prefix" if "%" not in value:
                return str(ipaddress.IPv6Network(value))
            case "inet_proto" if value in ("tcp", "udp", "sctp"):
                return value
            case "inet_proto" if value.isdecimal() and int(value) < 256:
                return str(int(value))
            case "inet_service" if value.isdecimal() and int(value) < 65536:
                return str(int(value))
            case "slot" | "client" if value.isdecimal() and int(value) < 1 << 32:
                return str(int(value))
    except ValueError as error:
        raise Invalid(f"{value!r} is not of type {kind}") from error
    raise Invalid(f"{value!r} is not of type {kind}")
