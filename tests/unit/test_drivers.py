"""What each driver makes of a network and of an endpoint on it, as one text each."""

from typing import Any

import pytest
from msgspec.structs import replace

from netd.kernel.simulated_host import DEFAULT_FACTS
from netd.model.endpoint import AttachRequest, Endpoint, EndpointRecord, Sandbox
from netd.model.errors import Conflict, Exhausted, Invalid, Unavailable
from netd.model.network import DriverName, Network, NetworkSpec
from netd.plan.addresses import Pool, ranges_in_use
from netd.plan.compile import (
    driver_of,
    endpoint_objects,
    host_objects,
    local_driver_of,
    needs_routing,
)
from netd.plan.context import Identity, Surroundings
from netd.plan.diff import creation, diff
from netd.plan.facts import AddressFact, Facts, LinkFact, RouteFact
from netd.plan.host import node_addresses
from netd.plan.objects import Ruleset, SetElement, render, state_of
from netd.plan.virtual_rules import VirtualPools

IDENTITY = Identity(id="n1", created_at="2026-01-02T03:04:05Z")
NS = "net:[4026532001]"
POOLS = VirtualPools("10.191.0.0/16", "fd6e:6574:6400::/112")
LAN = RouteFact(destination="192.0.2.0/24", link="eth0")


def around(facts: Facts = DEFAULT_FACTS, *networks: Network) -> Surroundings:
    return Surroundings(
        facts=facts,
        networks=networks,
        taken=ranges_in_use(facts, ()),
        ipv4_pools=(Pool("10.192.0.0/11", 20),),
        ipv6_pools=(Pool("fd00:1:2::/48", 64),),
    )


def complete(
    driver: DriverName, facts: Facts = DEFAULT_FACTS, *networks: Network, **more: Any
) -> Network:
    spec = NetworkSpec(name="blue", driver=driver, **more)
    return local_driver_of(driver).complete(spec, IDENTITY, around(facts, *networks))


def record(network: Network, *, default: bool = True, mac: str = "") -> EndpointRecord:
    addresses = {4: "10.20.0.5/24", 6: "fd20::5/64"}
    endpoint = Endpoint(
        id="abcdef0123456789",
        network="blue",
        network_id="n1",
        container_id="c1",
        name="web",
        node="node-1",
        ifname="eth0",
        host_ifname=driver_of(network.driver).host_ifname(network, "abcdef0123456789"),
        mac=mac,
        mtu=network.mtu,
        addresses=tuple(addresses[6 if ":" in subnet else 4] for subnet in network.subnets),
        gateways=network.gateways,
        default_route=default,
    )
    return EndpointRecord(
        endpoint=endpoint,
        request=AttachRequest(container_id="c1", netns="/x"),
        sandbox=Sandbox(path="/x", inode=4026532001),
    )


def network_text(network: Network) -> str:
    objects = driver_of(network.driver).network_objects(network)
    assert {obj.owner for obj in objects} <= {"n1"}
    return render(state_of(obj for obj in objects if not isinstance(obj, SetElement)))


def endpoint_text(network: Network, endpoint: EndpointRecord) -> str:
    objects = driver_of(network.driver).endpoint_objects(network, endpoint)
    return render(state_of(objects))


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


# bridge


def test_a_bridge_network() -> None:
    network = complete("bridge", subnets=("10.20.0.0/24", "fd20::/64"), mtu=1400)
    found = lines(network_text(network))
    for line in (
        "host link nd-blue type bridge address 0e:16:0a:14:00:01 mtu 1400 up",
        "host address 10.20.0.1/24 dev nd-blue",
        "host address fd20::1/64 dev nd-blue",
        "host route 10.20.0.0/24 dev nd-blue",
        "host route fd20::/64 dev nd-blue metric 256",
    ):
        assert line in found
    assert needs_routing(network)


def sets_of(network: Network) -> set[str]:
    objects = driver_of(network.driver).network_objects(network)
    return {obj.set_name for obj in objects if isinstance(obj, SetElement)}


@pytest.mark.parametrize(
    ("more", "there", "not_there"),
    [
        ({}, {"bridges", "intra", "isolated", "masqueraded"}, {"internal"}),
        ({"isolated": False}, {"bridges", "masqueraded"}, {"isolated", "internal"}),
        ({"internal": True}, {"bridges", "internal"}, {"masqueraded"}),
        ({"options": {"masquerade": False}}, {"bridges"}, {"masqueraded", "internal"}),
    ],
)
def test_the_firewall_knows_a_bridge_network(
    more: dict[str, Any], there: set[str], not_there: set[str]
) -> None:
    found = sets_of(complete("bridge", **more))
    assert there <= found
    assert not not_there & found


def test_a_bridge_endpoint() -> None:
    network = complete("bridge", subnets=("10.20.0.0/24", "fd20::/64"))
    found = lines(endpoint_text(network, record(network, mac="02:00:00:00:00:05")))
    for line in (
        "host link nvabcdef012345 type veth mtu 1500 master nd-blue up "
        f"peer eth0 netns {NS} address 02:00:00:00:00:05",
        f"{NS} link lo up",
        f"{NS} link eth0 address 02:00:00:00:00:05 mtu 1500 up",
        f"{NS} address 10.20.0.5/24 dev eth0",
        f"{NS} address fd20::5/64 dev eth0",
        f"{NS} route 0.0.0.0/0 via 10.20.0.1 dev eth0",
        f"{NS} route ::/0 via fd20::1 dev eth0",
    ):
        assert line in found


def test_without_the_default_route_an_endpoint_has_a_table_and_rules() -> None:
    network = complete("bridge", subnets=("10.20.0.0/24", "fd20::/64"))
    table = 0x40000000 | 0xABCDEF01 >> 2
    found = lines(endpoint_text(network, record(network, default=False)))
    assert f"{NS} route 0.0.0.0/0 via 10.20.0.1 dev eth0 table {table}" in found
    assert f"{NS} rule from 10.20.0.5/32 lookup {table} priority 110" in found
    assert f"{NS} rule from fd20::5/128 lookup {table} priority 110" in found
    assert f"{NS} route 0.0.0.0/0 via 10.20.0.1 dev eth0" not in found


def test_an_internal_endpoint_leads_nowhere() -> None:
    network = complete("bridge", internal=True)
    found = endpoint_text(network, record(network, default=False))
    assert "route" not in found
    assert "rule" not in found


def test_an_internal_endpoint_reaches_virtual_addresses_where_nothing_else_leads_there() -> None:
    network = complete("bridge", internal=True, subnets=("10.20.0.0/24", "fd20::/64"))
    inside = record(network, default=False)
    plain = endpoint_objects(network, inside, None)
    found = [each.text() for each in endpoint_objects(network, inside, POOLS) if each not in plain]
    table = 0x40000000 | 0xABCDEF01 >> 2
    assert found == [
        f"route 10.191.0.0/16 via 10.20.0.1 dev eth0 table {table}",
        f"rule from 0.0.0.0/0 lookup {table} priority 32800",
        f"route fd6e:6574:6400::/112 via fd20::1 dev eth0 table {table}",
        f"rule from ::/0 lookup {table} priority 32800",
    ]
    handed_over = replace(inside, sandbox=None)
    for other in (complete("bridge"), complete("host")):
        assert endpoint_objects(other, inside, POOLS) == endpoint_objects(other, inside, None)
    assert endpoint_objects(network, handed_over, POOLS) == endpoint_objects(
        network, handed_over, None
    )


def test_the_mtu_is_the_uplinks() -> None:
    links = (replace(DEFAULT_FACTS.links[0], mtu=1420),)
    assert complete("bridge", replace(DEFAULT_FACTS, links=links)).mtu == 1420
    assert complete("bridge", replace(DEFAULT_FACTS, routes=())).mtu == 1500


# host and none


@pytest.mark.parametrize("driver", ["host", "none"])
def test_host_and_none_make_no_links(driver: DriverName) -> None:
    network = complete(driver)
    assert network_text(network) == ""
    assert (network.subnets, network.gateways, network.mtu) == ((), (), None)
    assert not needs_routing(network)
    expected = [f"{NS} link lo up"] if driver == "none" else []
    assert lines(endpoint_text(network, record(network))) == expected


def test_the_nodes_addresses_are_those_of_its_uplinks_first() -> None:
    facts = Facts(
        node="n",
        boot_id="b",
        kernel="6.1",
        links=(
            LinkFact(index=1, name="lo"),
            LinkFact(index=2, name="eth0"),
            LinkFact(index=3, name="eth1"),
            LinkFact(index=4, name="nd-blue", ours=True),
        ),
        addresses=(
            AddressFact(link="lo", address="127.0.0.1/8", scope="global"),
            AddressFact(link="eth0", address="198.51.100.2/24"),
            AddressFact(link="eth0", address="fe80::2/64", scope="link"),
            AddressFact(link="eth1", address="192.0.2.2/24"),
            AddressFact(link="nd-blue", address="10.20.0.1/24"),
        ),
        routes=(RouteFact(destination="0.0.0.0/0", link="eth1"),),
    )
    assert node_addresses(facts) == ("192.0.2.2/24", "198.51.100.2/24")


# macvlan and ipvlan


def test_a_macvlan_endpoint_without_shim_is_in_the_container_alone() -> None:
    network = complete("macvlan", subnets=("10.20.0.0/24",))
    assert network_text(network) == ""
    assert (network.parent, network.mtu, network.gateways) == ("eth0", 1500, ())
    found = lines(endpoint_text(network, record(network, mac="02:00:00:00:00:05")))
    assert found[:2] == [
        f"{NS} link eth0 link eth0 type macvlan mode bridge address 02:00:00:00:00:05 mtu 1500 up",
        f"{NS} link lo up",
    ]
    assert not any("route" in line for line in found)


def test_an_ipvlan_endpoint_has_its_parents_mac() -> None:
    network = complete("ipvlan", subnets=("10.20.0.0/24",), options={"mode": "l3"})
    found = lines(endpoint_text(network, record(network)))
    assert f"{NS} link eth0 link eth0 type ipvlan mode l3 mtu 1500 up" in found


def test_a_shim_leads_the_host_to_its_containers() -> None:
    network = complete(
        "macvlan",
        subnets=("10.20.0.0/24", "fd20::/64"),
        gateways=("10.20.0.1",),
        options={"shim": True},
    )
    found = lines(network_text(network))
    assert "host address 10.20.0.2/32 dev ns-blue" in found
    assert "host address fd20::2/128 dev ns-blue" in found
    inside = lines(endpoint_text(network, record(network)))
    assert "host route 10.20.0.5/32 dev ns-blue src 10.20.0.2" in inside
    assert "host route fd20::5/128 dev ns-blue src fd20::2" in inside


@pytest.mark.parametrize(
    ("facts", "more", "error", "field"),
    [
        (replace(DEFAULT_FACTS, routes=()), {}, Invalid, "parent"),
        (DEFAULT_FACTS, {"parent": "eth7"}, Invalid, "parent"),
        (DEFAULT_FACTS, {"parent": "eth%d"}, Invalid, "parent"),
        (DEFAULT_FACTS, {"options": {"mode": "l2"}}, Invalid, "options.mode"),
        (DEFAULT_FACTS, {"options": {"shim": 1}}, Invalid, "options.shim"),
        (DEFAULT_FACTS, {"internal": True}, Invalid, "internal"),
        (replace(DEFAULT_FACTS, capabilities=frozenset()), {}, Unavailable, "driver"),
        (
            replace(DEFAULT_FACTS, links=(replace(DEFAULT_FACTS.links[0], wireless=True),)),
            {},
            Invalid,
            "parent",
        ),
        (
            replace(DEFAULT_FACTS, links=(replace(DEFAULT_FACTS.links[0], ours=True),)),
            {},
            Invalid,
            "parent",
        ),
        (
            DEFAULT_FACTS,
            {"subnets": ("10.20.0.0/30",), "options": {"shim": True}},
            Exhausted,
            "subnets",
        ),
        (DEFAULT_FACTS, {"subnets": ("192.0.2.0/24",)}, Invalid, "options.range"),
        (
            DEFAULT_FACTS,
            {"subnets": ("192.0.2.0/24",), "options": {"range": "192.0.3.0/26"}},
            Invalid,
            "options.range",
        ),
    ],
)
def test_a_parent_that_cannot_be(
    facts: Facts, more: dict[str, Any], error: type[Exception], field: str
) -> None:
    with pytest.raises(error) as caught:
        complete("macvlan", facts, **more)
    assert getattr(caught.value, "field", None) == field


def test_a_wireless_parent_can_have_ipvlan() -> None:
    links = (replace(DEFAULT_FACTS.links[0], wireless=True),)
    assert complete("ipvlan", replace(DEFAULT_FACTS, links=links)).parent == "eth0"


def test_macvlan_and_ipvlan_do_not_share_a_parent() -> None:
    lan = Network(id="n0", name="lan", driver="macvlan", parent="eth0")
    complete("macvlan", DEFAULT_FACTS, lan)
    with pytest.raises(Conflict) as caught:
        complete("ipvlan", DEFAULT_FACTS, lan)
    assert caught.value.field == "parent"


def test_a_part_of_the_parents_subnet_is_netds_when_it_is_named() -> None:
    facts = replace(DEFAULT_FACTS, routes=(*DEFAULT_FACTS.routes, LAN))
    network = complete(
        "macvlan", facts, subnets=("192.0.2.0/24",), options={"range": "192.0.2.128/26"}
    )
    assert network.subnets == ("192.0.2.0/24",)


# What all networks share


SETTINGS: Any = {"forward_guard": True, "manage_forwarding": True, "tunnel_port": 4789}


def shared(*networks: Network, facts: Facts = DEFAULT_FACTS, **more: bool) -> list[str]:
    settings = {**SETTINGS, **more}
    return [obj.text() for obj in host_objects(networks, facts, **settings) if obj.text()]


def test_without_a_routed_network_the_host_stays_as_it_is() -> None:
    assert shared() == []
    assert shared(complete("host"), complete("macvlan"), complete("none")) == []


def test_a_routed_network_needs_forwarding_of_its_families() -> None:
    four = complete("bridge", subnets=("10.20.0.0/24",))
    both = complete("bridge")
    assert "sysctl net.ipv4.ip_forward = 1" in shared(four)
    assert "sysctl net.ipv6.conf.all.forwarding = 1" not in shared(four)
    assert "sysctl net.ipv6.conf.all.forwarding = 1" in shared(four, both)


def test_forwarding_can_be_left_to_others() -> None:
    found = shared(complete("bridge"), manage_forwarding=False)
    assert len(found) == 1
    assert found[0].startswith("table inet netd")


@pytest.mark.parametrize(("value", "told"), [("1", True), ("0", False), ("2", False)])
def test_an_uplink_that_relies_on_router_advertisements_goes_on_to(value: str, told: bool) -> None:
    facts = replace(DEFAULT_FACTS, sysctls={"net/ipv6/conf/eth0/accept_ra": value})
    found = shared(complete("bridge"), facts=facts)
    assert ("sysctl net.ipv6.conf.eth0.accept_ra = 2" in found) == told


def test_an_uplink_is_told_so_before_the_host_forwards() -> None:
    """Or Linux drops its default route."""
    facts = replace(DEFAULT_FACTS, sysctls={"net/ipv6/conf/eth0/accept_ra": "1"})
    objects = host_objects([complete("bridge")], facts, **SETTINGS)
    for plan in (creation(objects, "made"), diff(state_of(objects), {})):
        texts = [operation.text() for operation in plan]
        assert texts.index("add sysctl net.ipv6.conf.eth0.accept_ra = 2") < texts.index(
            "add sysctl net.ipv6.conf.all.forwarding = 1"
        )


def test_the_guard_changes_the_ruleset() -> None:
    both = [
        next(
            obj
            for obj in host_objects(
                [complete("bridge")], DEFAULT_FACTS, **{**SETTINGS, "forward_guard": guard}
            )
            if isinstance(obj, Ruleset)
        )
        for guard in (True, False)
    ]
    assert both[0].digest != both[1].digest
