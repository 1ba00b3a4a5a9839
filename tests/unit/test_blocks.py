"""How addresses are divided: shares in the beginning, blocks that are given away."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.model.network import Network
from netd.plan.blocks import (
    BLOCK_MAX,
    reserved_in,
    runs_low,
    seeds_of,
    share_of,
    shares,
    spare_block,
    whole_of,
)
from netd.plan.space import Space
from tests.spaces import disjoint

MEMBERS = [f"{number:032x}" for number in range(100)]


def nets(*texts: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(text) for text in texts]


@pytest.mark.parametrize(
    ("subnets", "most"),
    [
        (("10.0.0.0/16", "fd00::/64"), 32),
        (("10.0.0.0/24",), 32),
        (("10.0.0.0/27", "fd00::/64"), 4),
        (("fd00::/64",), 32),
        (("10.0.0.0/30",), 1),
    ],
)
def test_seeds_are_as_many_as_get_a_fair_share(subnets: tuple[str, ...], most: int) -> None:
    seeds = seeds_of("blue", MEMBERS, nets(*subnets))
    assert len(seeds) == most
    assert set(seeds) <= set(MEMBERS)
    assert seeds == seeds_of("blue", reversed(MEMBERS), nets(*subnets))


def test_seeds_are_others_for_other_names_but_all_of_few() -> None:
    subnets = nets("10.0.0.0/27")
    chosen = [set(seeds_of(name, MEMBERS, subnets)) for name in ("blue", "red", "green")]
    assert chosen[0] != chosen[1] or chosen[1] != chosen[2]
    assert set(seeds_of("blue", MEMBERS[:3], subnets)) == set(MEMBERS[:3])


@given(st.integers(1, 32), st.sampled_from(["10.0.0.0/24", "10.0.0.0/16", "fd00::/64"]))
def test_shares_are_the_whole_and_fair(number: int, subnet: str) -> None:
    owned = shares(ipaddress.ip_network(subnet), MEMBERS[:number])
    assert disjoint(list(owned.values()))
    sizes = [space.size for space in owned.values()]
    assert sum(sizes) == ipaddress.ip_network(subnet).num_addresses
    assert max(sizes) <= 2 * min(sizes)


def test_the_share_of_a_network_is_of_all_its_subnets() -> None:
    network = Network(
        id="1" * 16,
        name="blue",
        driver="overlay",
        subnets=("10.0.0.0/24", "fd00::/64"),
        gateways=("10.0.0.1", "fd00::1"),
        seeds=tuple(MEMBERS[:2]),
    )
    assert share_of(network, MEMBERS[1]) == Space.of(["10.0.0.128/25", "fd00:0:0:0:8000::/65"])
    assert not share_of(network, MEMBERS[2])
    assert share_of(network, MEMBERS[0]) | share_of(network, MEMBERS[1]) == whole_of(network)
    assert reserved_in(network).prefixes() == (
        "10.0.0.0/31",
        "10.0.0.255/32",
        "fd00::/127",
    )


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (["10.0.0.0/24"], "10.0.0.128/25"),
        (["10.0.0.0/16"], "10.0.255.0/24"),  # no more than 256
        (["10.0.0.8/30", "10.0.0.16/28"], "10.0.0.24/29"),
        (["10.0.0.8/30", "10.0.0.17/32"], "10.0.0.10/31"),
        (["10.0.0.1/32", "10.0.0.5/32", "10.0.0.9/32", "10.0.0.11/32"], "10.0.0.11/32"),
        (["10.0.0.7/32"], None),
        ([], None),
    ],
)
def test_the_block_that_is_spared(free: list[str], expected: str | None) -> None:
    block = spare_block(Space.of(free), BLOCK_MAX[4])
    assert (None if block is None else str(block)) == expected


def test_of_ipv6_a_block_is_large() -> None:
    block = spare_block(Space.of(["fd00::/69"]), BLOCK_MAX[6])
    assert str(block).endswith("/80")


@given(st.sets(st.integers(0, 255)))
def test_the_giver_keeps_half(offsets: set[int]) -> None:
    free = Space.of_addresses(ipaddress.ip_address("10.0.0.0") + o for o in offsets)
    block = spare_block(free, 256)
    assert (block is None) == (len(offsets) < 2)
    if block is not None:
        given_away = Space.of_block(block)
        assert free & given_away == given_away
        assert block.size * 2 <= free.size
        assert Space.of([str(block)]) == given_away


def test_when_it_runs_low() -> None:
    assert runs_low(3, 8)
    assert runs_low(64, 256)
    assert not runs_low(65, 256)
    assert not runs_low(4, 8)
