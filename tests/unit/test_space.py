"""Sets of addresses behave as sets, whatever their size."""

import ipaddress
from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.plan.addresses import IPAddress
from netd.plan.space import NOWHERE, Block, Space, address_at, number_of
from tests.spaces import disjoint

BASES = (ipaddress.ip_address("10.0.0.0"), ipaddress.ip_address("fd00::"))


def address(offset: int) -> IPAddress:
    """Some of the addresses are IPv6 ones."""
    return BASES[offset // 32] + offset % 32


offsets = st.sets(st.integers(0, 63))


def space(of: set[int]) -> Space:
    return Space.of_addresses(map(address, of))


@given(offsets, offsets)
def test_operations_are_those_of_sets(one: set[int], other: set[int]) -> None:
    assert space(one) | space(other) == space(one | other)
    assert space(one) & space(other) == space(one & other)
    assert space(one) - space(other) == space(one - other)
    assert space(one).size == len(one)
    assert disjoint([space(one), space(other)]) == one.isdisjoint(other)
    assert bool(space(one)) == bool(one)


@given(offsets)
def test_prefixes_say_the_same(of: set[int]) -> None:
    prefixes = space(of).prefixes()
    assert Space.of(prefixes) == space(of)
    networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
    four = [net for net in networks if isinstance(net, IPv4Network)]
    assert list(ipaddress.collapse_addresses(four)) == four
    six = [net for net in networks if isinstance(net, IPv6Network)]
    assert list(ipaddress.collapse_addresses(six)) == six


@given(offsets, st.integers(0, 63))
def test_membership_and_numbers(of: set[int], start: int) -> None:
    assert {offset for offset in range(64) if address(offset) in space(of)} == of
    listed = space(of).numbers(number_of(address(start)))
    assert list(map(address_at, listed)) == [address(o) for o in sorted(of) if o >= start]


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "fd00::/64", "10.1.2.3/32", "::1/128"])
def test_blocks_of_any_size_are_written_as_prefixes(text: str) -> None:
    assert Space.of([text]).prefixes() == (text,)
    assert Space.of([text]).size == ipaddress.ip_network(text).num_addresses


def test_a_huge_set_costs_nothing() -> None:
    rest = Space.of(["fd00::/64"]) - Space.of(["fd00::1"])
    assert rest.size == (1 << 64) - 1
    assert len(rest.prefixes()) == 64
    assert str(Block(number_of(BASES[1]), 1 << 48)) == "fd00::/80"


def test_nothing_is_nowhere() -> None:
    assert Space.of([]) == NOWHERE
    assert not NOWHERE
    assert NOWHERE.end == 0
