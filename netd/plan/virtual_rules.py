"""The firewall's rules for virtual addresses of services: constant, and fed by maps of slots.

The maps are declared by `typeof` (nft 0.9.4), as `type` has no word for a number. All are
declared by `numgen`: nft 1.0.6 crashes when it lists a map that is declared by `jhash`. The
kernel has both numbers in its own byte order, and nft writes the keys so.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

SPREADS: Final = (1, 2, 3, 4, 5, 6, 7, 8, 16, 128, 1024)  # how many slots a service may have
STICKY_SPREADS: Final = (128, 1024)  # where the client's address chooses the slot

# A virtual address leads to what is in one of its slots, of which there are as many as its map has
# for each. It is in one map only, and the maps are tried in turn: a verdict map that names the
# right one would have the kernel walk through all its elements at each change of them
# (nft_table_validate() in net/netfilter/nf_tables_api.c). All of it twice, as a transaction may
# come between two look-ups of one packet, which then meets neither the old map nor the new one.
_TRANSLATE = """\
		ip daddr %(pool4)s jump virtual4
		ip daddr %(pool4)s jump virtual4
		ip6 daddr %(pool6)s jump virtual6
		ip6 daddr %(pool6)s jump virtual6
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
_SEED: Final = "seed 0x6e64"


class VirtualPools(msgspec.Struct, frozen=True):
    """Where virtual addresses are from, in CIDR form."""

    ipv4: str
    ipv6: str


def spread_set(version: int, slots: int, *, sticky: bool = False) -> str:
    """The map that has the targets of virtual addresses with so many slots."""
    return f"{'sticky' if sticky else 'spread'}{slots}_{version}"


def declaration_of_slots(name: str, version: int, slots: int) -> str:
    """A map of slots. It has no size: with one, the kernel would take all its memory at once."""
    ip = "ip" if version == 4 else "ip6"
    key = f"{ip} daddr . meta l4proto . th dport . numgen random mod {slots}"
    return f"\tmap {name} {{ typeof {key} : {ip} daddr . th dport; }}\n"


def rules_of(pools: VirtualPools) -> dict[str, str]:
    """What is put into the chains that there are in any case, by the name of its place."""
    names = {"pool4": pools.ipv4, "pool6": pools.ipv6}
    translate = _TRANSLATE % names
    return {
        # From elsewhere nobody has virtual addresses.
        "translate": translate.replace("\t\tip", "\t\tiifname @bridges ip"),
        "translate_own": translate,
        "masquerade": _MASQUERADE % names,
        "refuse": _REFUSE % names,
    }


def chains_of(pools: VirtualPools) -> str:
    """The chains that there are for virtual addresses alone."""
    chains = "".join(
        f"\n\tchain virtual{version} {{\n{''.join(_spread_rules(version, ip))}\t}}\n"
        for version, ip in ((4, "ip"), (6, "ip6"))
    )
    return chains + _REFUSING % {"pool4": pools.ipv4, "pool6": pools.ipv6}


def mark_of(pools: VirtualPools, mark: int) -> str:
    """Marks what the host sends to virtual addresses, as what it sends into overlay networks.

    A hook that a packet is in goes on with the link that the packet had when it came there.
    """
    return (
        f"\t\tct original ip daddr {pools.ipv4} meta mark set meta mark | 0x{mark:x}\n"
        f"\t\tct original ip6 daddr {pools.ipv6} meta mark set meta mark | 0x{mark:x}\n"
    )


def _spread_rules(version: int, ip: str) -> Iterator[str]:
    """A rule for each map of slots."""
    choices = [(spread_set(version, slots), f"numgen random mod {slots}") for slots in SPREADS]
    choices += [
        (spread_set(version, slots, sticky=True), f"jhash {ip} saddr mod {slots} {_SEED}")
        for slots in STICKY_SPREADS
    ]
    for name, choice in choices:
        yield (
            f"\t\tmeta nfproto ipv{version} meta l4proto {{ tcp, udp }} \\\n"
            f"\t\t\tdnat {ip} to {ip} daddr . meta l4proto . th dport . {choice} map @{name}\n"
        )
