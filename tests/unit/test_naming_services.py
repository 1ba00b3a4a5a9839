"""Names of services: which instances are answered to whom, how, and what that depends on."""

from collections.abc import Iterable

import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest

from netd.naming.values import Record
from tests.unit.naming_lab import World, service


@pytest.fixture
def world() -> World:
    """`web` has an instance on blue, one on red, and one of the host's that everybody sees."""
    made = World()
    made.node("node-1", "192.0.2.10")
    made.node("node-2", "192.0.2.20")
    made.network("blue", "10.20.0.0/24", "fd20::/64")
    made.network("red", "10.30.0.0/24")
    made.attach("blue", "a", "10.20.0.2", "fd20::2")
    made.attach("red", "b", "10.30.0.2")
    made.register(service("web", "10.20.0.2", 8080, ident="w1", network="blue", tags=("v1", "Eu")))
    made.register(service("web", "10.30.0.2", 8081, ident="w2", network="red", tags=("v2",)))
    made.register(service("web", "192.0.2.20", 8082, ident="w3", node="node-2", meta={"k": "v"}))
    return made


def texts(records: Iterable[Record]) -> set[str]:
    return {f"{record.name} {record.type} {record.data}" for record in records}


ALL = ["10.20.0.2", "10.30.0.2", "192.0.2.20"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web", ALL),
        ("web.service.netd.internal", ALL),
        ("web.service.consul", ALL),
        ("web.service.dc1.consul", ALL),
        ("v1.web.service.netd.internal", ["10.20.0.2"]),
        ("eu.web.service.consul", ["10.20.0.2"]),
        ("_web._tcp.netd.internal", ALL),
        ("_web._udp.service.netd.internal", ALL),
        ("_web._v2.service.consul", ["10.30.0.2"]),
        ("_web._tcp.consul", ALL),
        ("_web._v1.dc1.consul", ["10.20.0.2"]),
    ],
)
def test_forms_of_the_name(world: World, name: str, expected: list[str]) -> None:
    assert world.data(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "v3.web.service.netd.internal",
        "_web._v3.netd.internal",
        "_web._v3.service.consul",
        "_web.tcp.service.consul",
        "_mail._tcp.consul",
        "web.consul",
        "web.service.dc2.consul",
        "web.connect.consul",
        "web.virtual.netd.internal",
    ],
)
def test_no_instance_no_name(world: World, name: str) -> None:
    assert world.rcode(name) == "NXDOMAIN"


@pytest.mark.parametrize("name", ["web", "web.service.netd.internal", "_web._tcp.consul"])
def test_a_container_gets_instances_of_its_networks_and_of_none(world: World, name: str) -> None:
    assert world.data(name, "A", "10.20.0.2") == ["10.20.0.2", "192.0.2.20"]
    assert world.data(name, "A", "10.30.0.2") == ["10.30.0.2", "192.0.2.20"]
    assert world.data(name, "A", "203.0.113.7") == ["192.0.2.20"]


def test_a_service_of_a_network_that_cannot_be_seen_is_not_there(world: World) -> None:
    world.put("service", "w3", None)
    world.put("service", "w2", None)
    for name in ("web", "web.service.netd.internal", "web.service.consul"):
        assert world.rcode(name, "A", "10.30.0.2") == "NXDOMAIN"
        assert world.rcode(name, "A", "10.20.0.2") == "NOERROR"
    assert world.rcode("v1.web.service.netd.internal", "A", "10.30.0.2") == "NXDOMAIN"


def test_an_endpoint_comes_before_a_service_of_its_name(world: World) -> None:
    world.attach("blue", "web", "10.20.0.9")
    assert world.data("web", "A", "10.20.0.2") == ["10.20.0.9"]
    assert world.data("web", "A", "10.30.0.2") == ["10.30.0.2", "192.0.2.20"]
    assert world.data("web.service.netd.internal", "A", "10.20.0.2") == ["10.20.0.2", "192.0.2.20"]


def test_places_of_instances(world: World) -> None:
    answer = world.answer("web.service.netd.internal", "SRV")
    assert texts(answer.records) == {
        "web.service.netd.internal SRV 1 1 8080 a.blue.netd.internal.",
        "web.service.netd.internal SRV 1 1 8081 b.red.netd.internal.",
        "web.service.netd.internal SRV 1 1 8082 node-2.node.netd.internal.",
    }
    assert texts(answer.additional) == {
        "a.blue.netd.internal A 10.20.0.2",
        "b.red.netd.internal A 10.30.0.2",
        "node-2.node.netd.internal A 192.0.2.20",
    }
    for record in answer.records:
        made = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.SRV, record.data)
        assert record.rdata == made.to_wire()


def test_places_in_the_zone_of_consul_are_as_there(world: World) -> None:
    answer = world.answer("_web._tcp.service.consul", "SRV")
    assert {record.data for record in answer.records} == {
        "1 1 8080 0a140002.addr.dc1.consul.",
        "1 1 8081 0a1e0002.addr.dc1.consul.",
        "1 1 8082 node-2.node.dc1.consul.",
    }


def test_each_target_leads_to_its_instance_alone(world: World) -> None:
    """An endpoint's name is no target while others of its network have it too."""
    world.put("endpoint", "twin", None)
    world.attach("blue", "a", "10.20.0.2", "fd20::2")
    world.attach("blue", "twin", "10.20.0.3", aliases=("a",))
    world.register(service("web", "10.20.0.77", 1, ident="w4", network="blue"))
    for zone in ("netd.internal", "consul"):
        for source in (None, "10.20.0.2", "10.30.0.2", "203.0.113.7"):
            answer = world.answer(f"web.service.{zone}", "SRV", source)
            assert answer.records
            for record in answer.records:
                target = record.data.split()[-1].removesuffix(".")
                (address,) = (r.data for r in answer.additional if r.name == target)
                assert world.data(target, "A", source) == [address]


def test_a_name_of_a_network_that_cannot_be_seen_is_no_target(world: World) -> None:
    """Also where everybody may use an instance there."""
    world.register(service("open", "10.20.0.2"))
    assert world.data("open.service.netd.internal", "SRV", "10.30.0.2") == [
        "1 1 80 0a140002.addr.netd.internal."
    ]
    assert world.data("open.service.netd.internal", "SRV", "10.20.0.2") == [
        "1 1 80 a.blue.netd.internal."
    ]


def test_instances_that_are_not_well_are_left_out(world: World) -> None:
    world.register(service("web", "192.0.2.20", 8082, ident="w3", node="node-2", status="critical"))
    world.register(service("web", "10.30.0.2", 8081, ident="w2", network="red", status="warning"))
    assert world.data("web") == ["10.20.0.2", "10.30.0.2"]
    assert len(world.answer("web", "SRV").records) == 2


def test_a_service_without_an_instance_that_is_well(world: World) -> None:
    world.register(service("sick", "10.20.0.2", status="critical"))
    assert world.rcode("sick.service.netd.internal") == "NOERROR"
    assert world.rcode("sick") == "NOERROR"
    assert world.answer("sick.service.netd.internal").authority[0].name == "netd.internal"
    assert world.rcode("sick.service.consul") == "NXDOMAIN"  # as Consul has it


def test_weights(world: World) -> None:
    world.register(service("w", "10.20.0.2", 1, ident="a", weight=10))
    world.register(service("w", "10.20.0.2", 2, ident="b", weight=5))
    world.register(service("w", "10.20.0.3", 1, ident="c", weight=0))
    world.register(service("w", "10.20.0.4", 1, ident="d", weight=3, status="warning"))
    found = world.answer("w.service.netd.internal").records
    assert {record.data: record.weight for record in found} == {"10.20.0.2": 15, "10.20.0.4": 3}
    places = world.answer("w.service.netd.internal", "SRV").records
    assert sorted(record.data.split()[1] for record in places) == ["0", "10", "3", "5"]


def test_equal_places_are_told_once(world: World) -> None:
    for ident in ("x", "y"):
        world.register(service("twice", "10.20.0.2", 80, ident=ident))
    for kind in ("A", "SRV"):
        assert len(world.answer("twice.service.netd.internal", kind).records) == 1


def test_ipv6_instances(world: World) -> None:
    world.register(service("six", "fd20::2", 80, network="blue"))
    assert world.data("six.service.netd.internal", "AAAA") == ["fd20::2"]
    assert world.answer("six.service.netd.internal", "A").records == ()
    (more,) = world.answer("six.service.consul", "SRV").additional
    assert (more.name, more.type) == (f"{'fd20' + '0' * 27}2.addr.dc1.consul", "AAAA")
    assert world.data(more.name, "AAAA") == ["fd20::2"]


def test_what_instances_say_of_themselves(world: World) -> None:
    world.register(service("said", "10.20.0.2", ident="a", meta={"v": "1", "rfc1035-x": "plain"}))
    world.register(service("said", "10.20.0.3", ident="b", meta={"v": "1", "w": "2"}))
    assert world.data("said.service.netd.internal", "TXT") == ['"plain"', '"v=1"', '"w=2"']
    assert world.answer("said.service.netd.internal", "ANY").records[0].type == "A"


def test_names_and_tags_with_dots_and_capitals(world: World) -> None:
    world.register(service("API.v2", "10.20.0.2", ident="a", tags=("x.y",)))
    assert world.data("api.v2.service.netd.internal") == ["10.20.0.2"]
    assert world.data("x.y.api.v2.service.netd.internal") == ["10.20.0.2"]
    assert world.rcode("x.api.v2.service.netd.internal") == "NXDOMAIN"


def test_a_service_without_an_address_has_no_records(world: World) -> None:
    world.register(service("nowhere", "not.an.address"))
    for kind in ("A", "SRV"):
        assert world.answer("nowhere.service.netd.internal", kind).records == ()
        assert world.rcode("nowhere.service.netd.internal", kind) == "NOERROR"


def test_reverse_names_of_services_where_there_is_no_other(world: World) -> None:
    world.register(service("lone", "10.20.0.77", network="blue"))
    assert world.data("77.0.20.10.in-addr.arpa", "PTR") == ["lone.service.netd.internal."]
    assert world.rcode("77.0.20.10.in-addr.arpa", "PTR", "10.30.0.2") == "NXDOMAIN"
    assert world.data("2.0.20.10.in-addr.arpa", "PTR") == ["a.blue.netd.internal."]


def test_virtual_addresses(world: World) -> None:
    world.virtual("web", "10.191.0.7", "fd6e::7")
    assert world.data("web.virtual.netd.internal") == ["10.191.0.7"]
    assert world.data("web.virtual.consul", "AAAA", "10.20.0.2") == ["fd6e::7"]
    assert world.data("7.0.191.10.in-addr.arpa", "PTR") == ["web.virtual.netd.internal."]
    world.put("virtual", "web", None)
    assert world.rcode("web.virtual.netd.internal") == "NXDOMAIN"
    assert world.rcode("7.0.191.10.in-addr.arpa", "PTR") == "FORWARD"


def test_virtual_addresses_of_what_cannot_be_seen(world: World) -> None:
    world.register(service("hidden", "10.30.0.2", network="red"))
    world.virtual("hidden", "10.191.0.8")
    world.virtual("nobody", "10.191.0.9")
    assert world.data("hidden.virtual.netd.internal", "A", "10.30.0.2") == ["10.191.0.8"]
    assert world.rcode("hidden.virtual.netd.internal", "A", "10.20.0.2") == "NXDOMAIN"
    assert world.rcode("8.0.191.10.in-addr.arpa", "PTR", "10.20.0.2") == "FORWARD"
    assert world.data("nobody.virtual.netd.internal") == ["10.191.0.9"]
    assert world.rcode("nobody.virtual.netd.internal", "A", "10.20.0.2") == "NXDOMAIN"


def test_a_result_that_changes_nothing_concerns_no_answer(world: World) -> None:
    again = service("web", "192.0.2.20", 8082, ident="w3", node="node-2", meta={"k": "v"})
    assert world.register(again) == ()
    version = world.directory.version
    assert world.register(service("web", "192.0.2.20", 1, ident="w3", node="node-2"))
    assert world.directory.version == version + 1


def test_each_step_is_told(world: World) -> None:
    world.register(service("web", "10.30.0.2", 8081, ident="w2", network="red", status="critical"))
    steps = world.steps("web.service.netd.internal")
    assert "in the zone netd.internal: netd answers" in steps
    assert "instance w1 of web on node-1, 10.20.0.2 port 8080: well, weight 1" in steps
    assert "instance w2 of web on node-1, 10.30.0.2 port 8081: critical: left out" in steps
    assert "w1" not in world.steps("web", "A", "10.30.0.2")
    assert world.steps("web", "ANY") == world.steps("web", "A")
    assert "others are asked" in world.steps("example.com")
    assert "no such name" in world.steps("nobody.blue.netd.internal")
