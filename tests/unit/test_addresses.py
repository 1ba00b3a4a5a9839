"""Subnets, gateways and MACs: read strictly, chosen clear of what is there."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.model.errors import Conflict, Exhausted, Invalid
from netd.model.network import Network, NetworkSpec, difference
from netd.plan.addresses import (
    DERIVED_MACS,
    Pool,
    Taken,
    check_free,
    choose_subnet,
    derive_mac,
    link_local,
    overlap,
    parse_address,
    parse_mac,
    parse_subnet,
    ranges_in_use,
    ula_prefix,
    ula_subnets,
)
from netd.plan.facts import AddressFact, Facts, LinkFact, RouteFact
from netd.plan.subnets import settle_gateways, settle_mtu

IPV4 = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)
IPV6 = st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)


@pytest.mark.parametrize(
    ("text", "subnet"),
    [
        ("10.20.0.0/24", "10.20.0.0/24"),
        ("10.20.0.0/255.255.255.0", "10.20.0.0/24"),
        ("FD20:0::/64", "fd20::/64"),
        ("198.18.0.0/15", "198.18.0.0/15"),
        ("10.0.0.0/30", "10.0.0.0/30"),
    ],
)
def test_subnets_are_read(text: str, subnet: str) -> None:
    assert str(parse_subnet(text, "f")) == subnet


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("10.20.0.1/24", "write 10.20.0.0/24"),
        ("10.20.0.0", "write 10.20.0.0/24, for example"),
        ("", "write one like"),
        ("10.20.0.0/33", "write one like"),
        ("10.20.0.0/24/8", "write one like"),
        ("fd20::%eth0/64", "zone"),
        ("10.20.0.0/31", "no room"),
        ("fd20::/127", "no room"),
        ("0.0.0.0/0", "cannot be used"),
        ("0.0.0.0/8", "cannot be used"),
        ("126.0.0.0/7", "cannot be used"),
        ("127.5.0.0/16", "cannot be used"),
        ("169.254.1.0/24", "cannot be used"),
        ("224.0.0.0/8", "cannot be used"),
        ("::/0", "cannot be used"),
        ("::1:0:0/112", "cannot be used"),
        ("fe80::/64", "cannot be used"),
        ("ff05::/16", "cannot be used"),
    ],
)
def test_what_is_no_subnet_for_containers(text: str, hint: str) -> None:
    with pytest.raises(Invalid, match=hint) as caught:
        parse_subnet(text, "subnets[0]")
    assert caught.value.field == "subnets[0]"


@given(st.text(max_size=40))
def test_any_text_is_a_subnet_or_invalid(text: str) -> None:
    try:
        subnet = parse_subnet(text, "f")
    except Invalid:
        return
    assert parse_subnet(str(subnet), "f") == subnet


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_invalid(text: str) -> None:
    try:
        address = parse_address(text, "f")
    except Invalid:
        return
    assert parse_address(str(address), "f") == address


@given(st.text(max_size=20))
def test_any_text_is_a_mac_or_invalid(text: str) -> None:
    try:
        mac = parse_mac(text, "f")
    except Invalid:
        return
    assert bytes.fromhex(mac.replace(":", ""))[0] & 1 == 0


@pytest.mark.parametrize(
    "text", ["00:00:00:00:00:00", "01:00:5e:00:00:01", "02:00:00:00:00", "02000000000a", ""]
)
def test_what_is_no_mac_of_one_link(text: str) -> None:
    with pytest.raises(Invalid):
        parse_mac(text, "mac")


def test_macs_are_read_in_either_spelling() -> None:
    assert parse_mac("02-AB-00-00-00-0F", "mac") == "02:ab:00:00:00:0f"


@given(IPV4, IPV4)
def test_derived_macs_differ_as_addresses_do(one: object, other: object) -> None:
    assert isinstance(one, ipaddress.IPv4Address)
    assert isinstance(other, ipaddress.IPv4Address)
    macs = [derive_mac("blue", one), derive_mac("blue", other)]
    assert (macs[0] == macs[1]) == (one == other)
    assert parse_mac(macs[0], "f") == macs[0]
    assert macs[0].startswith(DERIVED_MACS)


@given(IPV6)
def test_derived_macs_depend_on_the_network(address: ipaddress.IPv6Address) -> None:
    assert derive_mac("blue", address) == derive_mac("blue", address)
    assert derive_mac("blue", address) != derive_mac("red", address)


def test_link_local_addresses_as_the_kernel_makes_them() -> None:
    assert str(link_local("02:42:ac:11:00:02")) == "fe80::42:acff:fe11:2"


def test_a_ula_prefix_depends_on_the_seed_only() -> None:
    assert ula_prefix("a") == ula_prefix("a")
    assert ula_prefix("a") != ula_prefix("b")
    assert ula_prefix("a").subnet_of(ipaddress.IPv6Network("fd00::/8"))
    assert ula_prefix("a").prefixlen == 48
    assert next(iter(ula_subnets("fd00:1:2::/48").subnets())).prefixlen == 64


FACTS = Facts(
    node="n",
    boot_id="b",
    kernel="6.1",
    links=(
        LinkFact(index=2, name="eth0"),
        LinkFact(index=3, name="nd-blue", ours=True),
        LinkFact(index=4, name="wg0"),
    ),
    addresses=(
        AddressFact(link="eth0", address="192.0.2.10/24"),
        AddressFact(link="eth0", address="fe80::1/64", scope="link"),
        AddressFact(link="lo", address="127.0.0.1/8", scope="host"),
        AddressFact(link="nd-blue", address="10.192.0.1/20"),
        AddressFact(link="wg0", address="10.7.0.9/32"),
    ),
    routes=(
        RouteFact(destination="0.0.0.0/0", link="eth0"),
        RouteFact(destination="::/0", link="eth0"),
        RouteFact(destination="0.0.0.0/1", link="wg0"),
        RouteFact(destination="128.0.0.0/1", link="wg0"),
        RouteFact(destination="2000::/3", link="wg0"),
        RouteFact(destination="10.192.0.0/20", link="nd-blue"),
        RouteFact(destination="10.0.0.0/8", link="wg0", table=51820),
        RouteFact(destination="203.0.113.0/24", link=None),
    ),
    nameservers=("127.0.0.53", "198.51.100.53", "fe80::53%eth0"),
)


def test_what_of_the_host_is_in_use() -> None:
    taken = {str(t.subnet): t.by for t in ranges_in_use(FACTS, ("nd-red",))}
    assert taken["192.0.2.0/24"] == "the address 192.0.2.10/24 of eth0"
    assert taken["10.0.0.0/8"] == "the host's route 10.0.0.0/8 dev wg0"
    assert taken["203.0.113.0/24"] == "the host's route 203.0.113.0/24"
    assert taken["198.51.100.53/32"] == "the name server 198.51.100.53"
    assert "10.7.0.9/32" in taken
    for free in ("0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1", "2000::/3", "10.192.0.0/20"):
        assert free not in taken
    assert not any(subnet.startswith(("127.", "10.192.")) for subnet in taken)


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(16, 26)), max_size=30))
def test_a_chosen_subnet_is_the_first_that_overlaps_nothing(
    blocks: list[tuple[int, int]],
) -> None:
    pools = [Pool("10.40.0.0/18", 22), Pool("10.41.0.0/20", 22)]
    taken = [
        Taken(ipaddress.ip_network(f"10.{40 + (third & 1)}.{third}.0/{bits}", strict=False), "x")
        for third, bits in blocks
    ]
    free = [
        subnet
        for pool in pools
        for subnet in pool.subnets()
        if not any(overlap(subnet, other.subnet) for other in taken)
    ]
    if free:
        assert choose_subnet(pools, taken) == free[0]
    else:
        with pytest.raises(Exhausted, match=r"10\.40\.0\.0/18 in /22.* or networks\.ula"):
            choose_subnet(pools, taken)


def test_a_subnet_that_is_kept_is_chosen_last() -> None:
    pools = [Pool("10.40.0.0/22", 24)]
    taken = [Taken(ipaddress.ip_network("10.40.0.0/24"), "x")]
    kept = [ipaddress.ip_network(text) for text in ("10.40.1.0/26", "fd00::/64", "10.40.2.0/24")]
    assert str(choose_subnet(pools, taken, kept=kept)) == "10.40.3.0/24"
    kept.append(ipaddress.ip_network("10.40.2.0/23"))
    assert str(choose_subnet(pools, taken, kept=kept)) == "10.40.1.0/24"


@given(IPV4, st.integers(8, 30), IPV4, st.integers(8, 30))
def test_overlap_is_what_it_says(
    one: ipaddress.IPv4Address, bits: int, other: ipaddress.IPv4Address, other_bits: int
) -> None:
    first = ipaddress.ip_network((int(one), bits), strict=False)
    second = ipaddress.ip_network((int(other), other_bits), strict=False)
    shared = first[0] in second or second[0] in first
    assert overlap(first, second) == shared == overlap(second, first)
    assert not overlap(first, ipaddress.ip_network("fd00::/8"))


def test_an_overlap_names_what_it_is_with() -> None:
    taken = [Taken(ipaddress.ip_network("10.0.0.0/8"), "a VPN")]
    check_free(ipaddress.ip_network("172.16.0.0/24"), taken, "f")
    with pytest.raises(Conflict, match=r"10\.1\.0\.0/24 overlaps a VPN"):
        check_free(ipaddress.ip_network("10.1.0.0/24"), taken, "f")


# Gateways and MTU.


def spec(**more: object) -> NetworkSpec:
    return NetworkSpec(name="blue", driver="bridge", **more)  # type: ignore[arg-type]


BOTH = [ipaddress.ip_network("10.20.0.0/24"), ipaddress.ip_network("fd20::/64")]


@pytest.mark.parametrize(
    ("asked", "gateways"),
    [
        ((), ("10.20.0.1", "fd20::1")),
        (("10.20.0.254",), ("10.20.0.254", "fd20::1")),
        (("fd20::9", "10.20.0.9/24"), ("10.20.0.9", "fd20::9")),
    ],
)
def test_each_subnet_has_a_gateway(asked: tuple[str, ...], gateways: tuple[str, ...]) -> None:
    assert settle_gateways(spec(gateways=asked), BOTH) == gateways


@pytest.mark.parametrize(
    ("asked", "error", "field"),
    [
        (("10.21.0.1",), Invalid, "gateways[0]"),
        (("10.20.0.0",), Invalid, "gateways[0]"),
        (("fd20::",), Invalid, "gateways[0]"),
        (("fd20::2", "nonsense"), Invalid, "gateways[1]"),
        (("10.20.0.1", "10.20.0.2"), Conflict, "gateways[1]"),
    ],
)
def test_what_is_no_gateway(asked: tuple[str, ...], error: type[Exception], field: str) -> None:
    with pytest.raises(error) as caught:
        settle_gateways(spec(gateways=asked), BOTH)
    assert getattr(caught.value, "field", None) == field


@pytest.mark.parametrize(
    ("asked", "default", "subnets", "mtu"),
    [
        (None, 1500, BOTH, 1500),
        (None, 1420, BOTH, 1420),
        (None, 1200, BOTH, 1280),
        (None, 1200, BOTH[:1], 1200),
        (None, 65536, BOTH, 65535),
        (9000, 1500, BOTH, 9000),
        (576, 1500, BOTH[:1], 576),
    ],
)
def test_the_mtu_is_the_uplinks_or_the_nearest_that_can_be(
    asked: int | None, default: int, subnets: list[ipaddress.IPv4Network], mtu: int
) -> None:
    assert settle_mtu(spec(mtu=asked), default, subnets) == mtu


@pytest.mark.parametrize(("asked", "subnets"), [(1279, BOTH), (575, BOTH[:1]), (65536, BOTH)])
def test_an_mtu_that_cannot_be_is_invalid(asked: int, subnets: list[ipaddress.IPv4Network]) -> None:
    with pytest.raises(Invalid) as caught:
        settle_mtu(spec(mtu=asked), 1500, subnets)
    assert caught.value.field == "mtu"


# Whether a spec asks for another network.


def network(**more: object) -> Network:
    fields: dict[str, object] = {
        "subnets": ("10.20.0.0/24", "fd20::/64"),
        "gateways": ("10.20.0.1", "fd20::1"),
        "mtu": 1500,
        **more,
    }
    return Network(id="n", name="blue", driver="bridge", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "differs_in"),
    [
        ({}, None),
        ({"subnets": ("10.20.0.0/255.255.255.0", "FD20::/64")}, None),
        ({"gateways": ("fd20:0::1",)}, None),
        ({"gateways": ("fd20::1", "10.20.0.1/24")}, None),
        ({"mtu": 1500}, None),
        ({"subnets": ("10.20.0.0/24",)}, "subnets"),
        ({"subnets": ("fd20::/64", "10.20.0.0/24")}, "subnets"),
        ({"subnets": ("nonsense",)}, "subnets"),
        ({"gateways": ("10.20.0.2",)}, "gateways"),
        ({"gateways": ("nonsense",)}, "gateways"),
        ({"mtu": 1400}, "mtu"),
        ({"parent": "eth0"}, "parent"),
        ({"vni": 5}, "vni"),
        ({"labels": {"a": "b"}}, "labels"),
        ({"options": {"masquerade": True}}, "options"),
    ],
)
def test_in_which_field_a_spec_differs(fields: dict[str, object], differs_in: str | None) -> None:
    assert difference(network(), spec(**fields)) == differs_in
