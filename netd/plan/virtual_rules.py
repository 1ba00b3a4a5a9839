"""The firewall's rules for virtual addresses of services: constant, and fed by maps of slots.

The maps are declared by `typeof`, as `type` has no word for a number; as a part of a key nft takes
one since 1.0.3. All are declared by `numgen`: nft 1.0.6 crashes when it lists a map that is
declared by `jhash`. The kernel has both numbers in its own byte order, and nft writes the keys so.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import msgspec

from netd.model.service import Transport
from netd.plan.jhash import jhash, scaled
from netd.plan.objects import SetElement

SPREADS: Final = (1, 2, 3, 4, 5, 6, 7, 8, 16, 128, 1024)  # how many slots a service may have
STICKY_SPREADS: Final = (128, 1024)  # where the client's address chooses the slot

# A virtual address leads to what is in one of its slots, of which there are as many as its map has
# for each. For a client it is in one map only, and the maps are tried in turn: a verdict map that
# names the right one would have the kernel walk through all its elements at each change of them
# (nft_table_validate() in net/netfilter/nf_tables_api.c). All of it twice, as a transaction may
# come between two look-ups of one packet, which then meets neither the old map nor the new one.
# First come the maps that go by where the client is, then those for clients wherever they are: an
# internal network reaches nothing of the latter. What the host sends has the link that leads to
# the pools. A link's name is too long for nft's registers, so in its place the key has a number
# that is made of it; that two links of a host have the same is one chance in 2**31, and clients
# would be refused then.
_TRANSLATE = """\
		iifname @bridges ip daddr %(pool4)s jump virtual4
		iifname @bridges ip daddr %(pool4)s jump virtual4
		iifname @bridges ip6 daddr %(pool6)s jump virtual6
		iifname @bridges ip6 daddr %(pool6)s jump virtual6
"""
_TRANSLATE_OWN = """\
		ip daddr %(pool4)s jump virtual4_own
		ip daddr %(pool4)s jump virtual4_own
		ip6 daddr %(pool6)s jump virtual6_own
		ip6 daddr %(pool6)s jump virtual6_own
"""
_CHAINS = """
	chain virtual%(version)d {
%(from_container)s		iifname @internal return
		jump virtual%(version)d_all
	}

	chain virtual%(version)d_own {
%(from_host)s		jump virtual%(version)d_all
	}

	chain virtual%(version)d_all {
%(from_anywhere)s	}
"""
# What goes to an instance in a network comes from the host: a host further on would send the
# answer its own way. The gateway's address is on all hosts of an overlay network.
_MASQUERADE = """\
		ct original ip daddr %(pool4)s oifname @bridges snat ip to oifname map @own4
		ct original ip daddr %(pool4)s oifname @bridges masquerade
		ct original ip daddr %(pool4)s fib saddr type local oifname != "lo" masquerade
		ct original ip6 daddr %(pool6)s oifname @bridges snat ip6 to oifname map @own6
		ct original ip6 daddr %(pool6)s oifname @bridges masquerade
		ct original ip6 daddr %(pool6)s fib saddr type local oifname != "lo" masquerade
"""
# A virtual address opens no way out of, or into, a network that is isolated or internal, as a
# published port does.
_REFUSE = """\
		ip daddr %(pool4)s goto refuse
		ip6 daddr %(pool6)s goto refuse
		ct original ip daddr %(pool4)s goto forward_virtual
		ct original ip6 daddr %(pool6)s goto forward_virtual
"""
_REFUSING = """
	# What a virtual address was not translated for is refused, lest the client waits.
	chain filter_output {
		type filter hook output priority 0; policy accept;
		ip daddr %(pool4)s goto refuse
		ip6 daddr %(pool6)s goto refuse
	}

	# By ICMP: a reset is not translated back where br_netfilter is on. With IPv6 Linux's TCP
	# takes notice of that when it sends its first packet again, after a second.
	chain forward_virtual {
		iifname @internal reject
		oifname @internal reject
		oifname @isolated reject
		iifname @isolated oifname @bridges reject
	}

	chain refuse {
		meta l4proto tcp reject with tcp reset
		reject
	}
"""
# All hosts choose the same slot for a client, and do so after the rules were loaded anew.
_SEED: Final = 0x6E64
_LINKS: Final = 1 << 31  # numbers of links
_OFFSETS: Final[dict[Transport, int]] = {"tcp": 0, "udp": _LINKS}  # of what is sent by UDP
_IFNAME_BYTES: Final = 16


class VirtualPools(msgspec.Struct, frozen=True):
    """Where virtual addresses are from, in CIDR form."""

    ipv4: str
    ipv6: str


def spread_set(version: int, slots: int, *, sticky: bool = False, near: bool = False) -> str:
    """The map that has the targets of virtual addresses with so many slots: for clients wherever
    they are, or by the link that they are at (`near`).
    """
    return f"{'near_' if near else ''}{'sticky' if sticky else 'spread'}{slots}_{version}"


def declaration_of_slots(name: str, version: int, slots: int, *, near: bool) -> str:
    """A map of slots. It has no size: with one, the kernel would take all its memory at once."""
    ip = "ip" if version == 4 else "ip6"
    client = f"numgen random mod {2 * _LINKS - 1}" if near else "meta l4proto"
    key = f"{ip} daddr . {client} . th dport . numgen random mod {slots}"
    return f"\tmap {name} {{ typeof {key} : {ip} daddr . th dport; }}\n"


@lru_cache(maxsize=4096)
def client_number(link: str, protocol: Transport) -> int:
    """What stands for a link, and for a protocol, in a map that goes by where the client is."""
    hashed = jhash(link.encode().ljust(_IFNAME_BYTES, b"\0"), _SEED)
    return scaled(hashed, _LINKS) + _OFFSETS[protocol]


def protocol_of(element: SetElement) -> Transport:
    """The protocol of an element of these maps. What is neither counts as TCP."""
    told = element.element[1]
    is_udp = told == "udp" or (told.isdecimal() and int(told) >= _OFFSETS["udp"])
    return "udp" if is_udp else "tcp"


def rules_of(pools: VirtualPools) -> dict[str, str]:
    """What is put into the chains that there are in any case, by the name of its place."""
    names = {"pool4": pools.ipv4, "pool6": pools.ipv6}
    return {
        # From elsewhere nobody has virtual addresses.
        "translate": _TRANSLATE % names,
        "translate_own": _TRANSLATE_OWN % names,
        "masquerade": _MASQUERADE % names,
        "refuse": _REFUSE % names,
    }


def chains_of(pools: VirtualPools) -> str:
    """The chains that there are for virtual addresses alone."""
    chains = "".join(
        _CHAINS
        % {
            "version": version,
            "from_container": "".join(_spread_rules(version, "iifname")),
            "from_host": "".join(_spread_rules(version, "oifname")),
            "from_anywhere": "".join(_spread_rules(version, "")),
        }
        for version in (4, 6)
    )
    return chains + _REFUSING % {"pool4": pools.ipv4, "pool6": pools.ipv6}


def _spread_rules(version: int, link: str) -> Iterator[str]:
    """A rule for each map of slots: of those that go by that link (`iifname`), or by none ("").

    What goes by a link has a rule for each protocol.
    """
    ip, near = "ip" if version == 4 else "ip6", bool(link)
    clients = {"{ tcp, udp }": "meta l4proto"}
    if near:
        clients = {
            protocol: f"{_hash(link, _LINKS)} offset {offset}"
            for protocol, offset in _OFFSETS.items()
        }
    choices = [
        (spread_set(version, slots, near=near), f"numgen random mod {slots}") for slots in SPREADS
    ]
    choices += [
        (spread_set(version, slots, sticky=True, near=near), _hash(f"{ip} saddr", slots))
        for slots in STICKY_SPREADS
    ]
    for protocols, client in clients.items():
        for name, choice in choices:
            key = f"{ip} daddr . {client} . th dport . {choice}"
            yield (
                f"\t\tmeta nfproto ipv{version} meta l4proto {protocols} \\\n"
                f"\t\t\tdnat {ip} to {key} map @{name}\n"
            )


def _hash(of: str, modulus: int) -> str:
    return f"jhash {of} mod {modulus} seed 0x{_SEED:x}"
