"""How the addresses of an overlay network are divided among hosts.

From the beginning each of the network's seeds owns a share. Others get blocks from who has more
than it needs. So an address has one owner at any time, whoever can hear whom.
"""

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from netd.model.network import Network
from netd.model.overlay import SEEDS_MAX
from netd.plan.addresses import IPNetwork
from netd.plan.ipam import reserved_of
from netd.plan.space import NOWHERE, Block, Space

SHARE_MIN: Final = 8  # addresses that a seed owns of each subnet, at least
BLOCK_MAX: Final = {4: 256, 6: 1 << 48}  # addresses in a block that is given away


def seeds_of(name: str, members: Iterable[str], subnets: Sequence[IPNetwork]) -> tuple[str, ...]:
    """The members that own a new network's addresses: all, or as many as get a fair share.

    The same for the same members in any order.
    """
    room = min(SEEDS_MAX, *(subnet.num_addresses // SHARE_MIN for subnet in subnets))
    ranked = sorted(set(members), key=lambda member: (_rank(name, member), member))
    return tuple(ranked[: max(1, room)])


def shares(subnet: IPNetwork, seeds: Sequence[str]) -> dict[str, Space]:
    """Who owns what of a subnet in the beginning: slices of equal size, one or two for each."""
    slices = 1 << (len(seeds) - 1).bit_length()
    whole = Space.of_network(subnet)
    first, size = whole.ranges[0][0], whole.size // slices
    owned = dict.fromkeys(seeds, NOWHERE)
    for index in range(slices):
        seed = seeds[index % len(seeds)]
        owned[seed] |= Space.of_block(Block(first + index * size, size))
    return owned


def share_of(network: Network, member: str) -> Space:
    """What a member owns of a network in the beginning."""
    if member not in network.seeds:
        return NOWHERE
    return _share(network.subnets, network.seeds, member)


def whole_of(network: Network) -> Space:
    return Space.of(network.subnets)


def reserved_in(network: Network) -> Space:
    """What nobody is given: the gateways and the subnets' own addresses."""
    reserved = NOWHERE
    for subnet, gateway in zip(network.subnets, network.gateways, strict=True):
        reserved |= reserved_of(ipaddress.ip_network(subnet), ipaddress.ip_address(gateway))
    return reserved


def spare_block(free: Space, limit: int) -> Block | None:
    """The block to give away of what is free: as large as leaves the giver half, from the end.

    None when there are fewer than two addresses.
    """
    most = min(limit, free.size // 2)
    if not most:
        return None
    target = 1 << most.bit_length() - 1
    blocks = list(free.blocks())
    fitting = [block for block in blocks if block.size >= target]
    if fitting:
        block = min(fitting, key=lambda block: (block.size, -block.first))
        return Block(block.first + block.size - target, target)
    return max(blocks, key=lambda block: (block.size, block.first))


def runs_low(available: int, size: int) -> bool:
    """Whether more addresses should be got before they are needed."""
    return available < 4 or available * 4 <= size


@lru_cache(maxsize=4096)
def _share(subnets: tuple[str, ...], seeds: tuple[str, ...], member: str) -> Space:
    owned = NOWHERE
    for subnet in subnets:
        owned |= shares(ipaddress.ip_network(subnet), seeds)[member]
    return owned


def _rank(name: str, member: str) -> bytes:
    return hashlib.sha256(f"{name} {member}".encode()).digest()
