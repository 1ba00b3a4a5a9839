"""The overlay driver: what is defined for all hosts, what one host has, which VNI it is."""

from typing import Any

import pytest
from msgspec.structs import replace

from netd.kernel.simulated_host import DEFAULT_FACTS
from netd.model.errors import Conflict, Invalid, NetdError
from netd.model.network import NetworkSpec
from netd.model.overlay import Definition
from netd.plan.addresses import Pool, ranges_in_use
from netd.plan.context import Surroundings
from netd.plan.facts import AddressFact, LinkFact, RouteFact
from netd.plan.firewall import ruleset
from netd.plan.objects import render, state_of
from netd.plan.overlay import (
    VNI_MAX,
    Opening,
    assign_vnis,
    check_definition,
    define,
    open_objects,
    remote_objects,
)
from netd.plan.underlay import Ways, inner_mtu

MEMBERS = ["a" * 32, "b" * 32, "c" * 32]
AROUND = Surroundings(
    facts=DEFAULT_FACTS,
    networks=(),
    taken=ranges_in_use(DEFAULT_FACTS, ()),
    ipv4_pools=(Pool("10.192.0.0/11", 20),),
    ipv6_pools=(),
)
SUBNETS = ("10.20.0.0/16", "fd20::/64")


def defined(name: str = "blue", generation: int = 1, **more: Any) -> Definition:
    spec = NetworkSpec(name=name, driver="overlay", **more)
    return define(spec, AROUND, MEMBERS, generation)


def test_hosts_that_know_the_same_members_define_the_same() -> None:
    spec = NetworkSpec(name="blue", driver="overlay")
    other = replace(AROUND, facts=replace(DEFAULT_FACTS, boot_id="another"))
    assert define(spec, AROUND, MEMBERS, 1) == define(spec, other, MEMBERS[::-1], 1)


def test_every_part_of_a_definition_is_in_its_id() -> None:
    ids = {
        defined().id,
        defined(generation=2).id,
        defined("red").id,
        defined(internal=True).id,
        defined(labels={"a": "b"}).id,
        defined(subnets=SUBNETS).id,
        define(NetworkSpec(name="blue", driver="overlay"), AROUND, MEMBERS[:2], 1).id,
    }
    assert len(ids) == 7


def test_names_get_subnets_apart_from_each_other() -> None:
    found = [defined(f"net-{number}").subnets for number in range(20)]
    assert len(set(found)) == 20
    assert len({subnets[1][:14] for subnets in found}) == 1  # one ULA prefix for one cluster


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"parent": "eth0"}, "parent"),
        ({"vni": 0}, "vni"),
        ({"vni": VNI_MAX + 1}, "vni"),
        ({"mtu": 100}, "mtu"),
        ({"options": {"learning": True}}, "options.learning"),
        ({"options": {"broadcast": "yes"}}, "options.broadcast"),
        ({"subnets": ("10.20.0.0/16", "10.21.0.0/16")}, "subnets[1]"),
    ],
)
def test_what_cannot_be_is_refused(more: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        defined(**more)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "wrong",
    [
        {"subnets": ()},
        {"subnets": ("10.20.0.0/16", "10.21.0.0/16")},
        {"gateways": ("10.20.0.1",)},
        {"gateways": ("10.21.0.1", "fd20::1")},
        {"subnets": ("nonsense", "fd20::/64")},
        {"vni": 1 << 24},
        {"mtu": 68},
        {"options": {"parent": "eth0"}},
    ],
)
def test_a_definition_of_another_host_is_not_believed(wrong: dict[str, object]) -> None:
    definition = defined(subnets=SUBNETS)
    check_definition(definition)
    with pytest.raises(NetdError):
        check_definition(replace(definition, **wrong))


def test_vnis_are_the_same_in_all_clusters_and_clashes_go_by_order() -> None:
    blue, red = defined(), defined("red")
    alone = assign_vnis([blue])[blue.id]
    assert assign_vnis([blue, red])[blue.id] == alone
    asked = replace(red, vni=alone)
    assert assign_vnis([asked, blue])[asked.id] == alone
    assert assign_vnis([asked, blue])[blue.id] not in (alone, None)
    assert assign_vnis([blue, asked])[asked.id] != alone
    assert all(4096 <= vni <= VNI_MAX for vni in assign_vnis([blue, red]).values())


def test_what_a_host_has_of_an_open_network() -> None:
    network = replace(defined(subnets=SUBNETS).network(4242, ""), id="0123456789abcdef")
    opening = Opening(addresses=("10.20.64.2/16", "fd20::4:2/64"), mtu=1450)
    assert render(state_of(open_objects(network, opening))) == (
        "host              link nd-blue type bridge address 0e:16:0a:14:00:01 mtu 1450 up\n"
        "host              link nx-blue type vxlan id 4242 dstport 4789 IPv4 address "
        "0e:16:0a:14:40:02 mtu 1450 master nd-blue up\n"
        "host              sysctl net.ipv6.conf.nd-blue.accept_ra = 0\n"
        "host              address 10.20.0.1/32 dev nd-blue\n"
        "host              address 10.20.64.2/32 dev nd-blue\n"
        "host              address fd20::1/128 dev nd-blue preferred_lft 0\n"
        "host              address fd20::4:2/128 dev nd-blue\n"
        "host              address fe80::c16:aff:fe14:1/64 dev nd-blue\n"
        "host              route 10.20.0.0/16 dev nd-blue src 10.20.64.2\n"
        "host              route fd20::/64 dev nd-blue src fd20::4:2\n"
        "host              element bridges { nd-blue }\n"
        "host              element intra { nd-blue . nd-blue }\n"
        "host              element isolated { nd-blue }\n"
        "host              element local4 { 10.20.0.0/16 . nd-blue }\n"
        "host              element local6 { fd20::/64 . nd-blue }\n"
        "host              element masqueraded { nd-blue }\n"
        "host              element own4 { nd-blue : 10.20.64.2 }\n"
        "host              element own6 { nd-blue : fd20::4:2 }"
    )


def test_what_leads_to_another_host() -> None:
    network = defined(subnets=SUBNETS).network(4242, "")
    addresses = ("10.20.0.7/16", "fd20::7/64")
    objects = remote_objects(network, "x", "0e:16:0a:14:00:07", addresses, "192.0.2.20")
    assert [obj.text() for obj in objects] == [
        "fdb 0e:16:0a:14:00:07 dev nx-blue dst 192.0.2.20",
        "neighbour 10.20.0.7 dev nd-blue address 0e:16:0a:14:00:07",
        "neighbour fd20::7 dev nd-blue address 0e:16:0a:14:00:07",
    ]


def test_tunnels_change_the_ruleset_and_name_the_port() -> None:
    plain, tunnelled = ruleset(forward_guard=True), ruleset(forward_guard=True, tunnel_port=4790)
    assert plain.digest != tunnelled.digest
    assert "4790" in tunnelled.script
    assert "tunnel_in" not in plain.script


def test_the_underlay_has_the_mtu_of_the_narrowest_way() -> None:
    facts = replace(
        DEFAULT_FACTS,
        links=(*DEFAULT_FACTS.links, LinkFact(index=3, name="wg0", mtu=1420)),
        addresses=(*DEFAULT_FACTS.addresses, AddressFact(link="wg0", address="10.9.0.1/24")),
        routes=(*DEFAULT_FACTS.routes, RouteFact(destination="10.9.0.0/24", link="wg0")),
    )
    ways = Ways(facts)
    assert ways.mtu_to("10.9.0.2") == 1420
    assert ways.mtu_to("192.0.2.20") == 1500
    assert ways.mtu_to("203.0.113.1") == 1500
    assert ways.mtu_to("2001:db8::1") is None
    assert inner_mtu(facts, ["192.0.2.20"], 4, {}) == 1450
    assert inner_mtu(facts, ["192.0.2.20", "10.9.0.2"], 4, {}) == 1370
    assert inner_mtu(facts, ["192.0.2.20", "10.9.0.2"], 4, {"192.0.2.20": 1400}) == 1350
    assert inner_mtu(facts, [], 6, {}) == 1430


def test_a_subnet_of_the_host_is_refused() -> None:
    facts = replace(DEFAULT_FACTS, routes=(RouteFact(destination="10.20.0.0/16", link="eth0"),))
    spec = NetworkSpec(name="blue", driver="overlay", subnets=SUBNETS)
    around = replace(AROUND, facts=facts, taken=ranges_in_use(facts, ()))
    with pytest.raises(Conflict, match="overlaps"):
        define(spec, around, MEMBERS, 1)
