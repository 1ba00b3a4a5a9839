"""Names of endpoints and hosts: who sees which, what is answered, and what is left to others."""

import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest

from netd.model.directory import NetworkEntry, ZoneEntry
from tests.unit.naming_lab import World, world_with_settings


@pytest.fixture
def world() -> World:
    """`web` is on blue and red, `db` on red only; inside is internal."""
    made = World()
    made.node("node-1", "192.0.2.10", "192.0.2.11", "2001:db8::10", rack="r1")
    made.node("node-2", "192.0.2.20")
    made.network("blue", "10.20.0.0/24", "fd20::/64", resolvers=("10.20.0.1", "fd20::1"))
    made.network("red", "10.30.0.0/20")
    made.network("inside", "10.40.0.0/24", internal=True)
    made.network("a.dotted.one", "10.50.0.0/24")
    made.attach("blue", "web", "10.20.0.2", "fd20::2", aliases=("www", "API"))
    made.attach("red", "web", "10.30.0.2", container="web")
    made.attach("red", "db", "10.30.0.3")
    made.attach("inside", "safe", "10.40.0.2")
    made.attach("a.dotted.one", "far", "10.50.0.2", node="node-2")
    return made


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("web.blue.netd.internal", "A", ["10.20.0.2"]),
        ("web.blue.netd.internal", "AAAA", ["fd20::2"]),
        ("web.blue", "A", ["10.20.0.2"]),
        ("www.blue", "A", ["10.20.0.2"]),
        ("api.blue.netd.internal", "A", ["10.20.0.2"]),
        ("web", "A", ["10.20.0.2", "10.30.0.2"]),
        ("far.a.dotted.one.netd.internal", "A", ["10.50.0.2"]),
        ("far.a.dotted.one", "A", ["10.50.0.2"]),
        ("node-1.node.netd.internal", "A", ["192.0.2.10"]),
        ("node-1.node.netd.internal", "AAAA", ["2001:db8::10"]),
        ("node-1.node.netd.internal", "TXT", ['"rack=r1"']),
        ("node-1.node.consul", "A", ["192.0.2.10"]),
        ("node-1.node.dc1.consul", "A", ["192.0.2.10"]),
        ("node-1.node.dc1.dc.consul", "A", ["192.0.2.10"]),
        ("0a140002.addr.consul", "A", ["10.20.0.2"]),
        ("0a140002.addr.dc1.consul", "A", ["10.20.0.2"]),
        ("0a140002.addr.netd.internal", "A", ["10.20.0.2"]),
        ("fd200000000000000000000000000002.addr.consul", "AAAA", ["fd20::2"]),
        ("2.0.20.10.in-addr.arpa", "PTR", ["web.blue.netd.internal."]),
        ("10.2.0.192.in-addr.arpa", "PTR", ["node-1.node.netd.internal."]),
        ("localhost", "A", ["127.0.0.1"]),
        ("a.localhost", "AAAA", ["::1"]),
    ],
)
def test_what_the_host_is_answered(world: World, name: str, kind: str, expected: list[str]) -> None:
    answer = world.answer(name, kind)
    assert world.data(name, kind) == expected
    assert (answer.rcode, answer.aa, answer.authority) == ("NOERROR", True, ())
    assert {record.type for record in answer.records} == {kind}


@pytest.mark.parametrize(
    ("source", "name", "expected"),
    [
        # A container sees all networks it is on; a single label is looked for near by first.
        ("10.20.0.2", "web", ["10.20.0.2"]),
        ("10.30.0.2", "web", ["10.30.0.2"]),
        ("10.20.0.2", "db", ["10.30.0.3"]),
        ("10.20.0.2", "db.red.netd.internal", ["10.30.0.3"]),
        ("10.30.0.3", "web", ["10.30.0.2"]),
        ("10.30.0.3", "web.blue.netd.internal", []),
        ("10.30.0.3", "www", []),
        ("10.30.0.3", "node-2.node.netd.internal", ["192.0.2.20"]),
        # Addresses without a known endpoint see the network that they are in.
        ("10.20.0.77", "web", ["10.20.0.2"]),
        ("10.20.0.77", "db", []),
        ("10.30.15.255", "db", ["10.30.0.3"]),
        ("10.30.16.0", "db", []),
        # The host itself sees all, by whatever address of its own.
        ("127.0.0.1", "db", ["10.30.0.3"]),
        ("127.9.9.9", "db", ["10.30.0.3"]),
        ("::1", "db", ["10.30.0.3"]),
        ("192.0.2.11", "db", ["10.30.0.3"]),
        ("10.20.0.1", "db", ["10.30.0.3"]),
        ("fd20::1", "db", ["10.30.0.3"]),
        ("::ffff:10.20.0.2", "web", ["10.20.0.2"]),
        # Strangers, another host among them, see no network.
        ("192.0.2.20", "db", []),
        ("203.0.113.7", "db", []),
        ("fe80::1%eth0", "db", []),
        ("nonsense", "db", []),
    ],
)
def test_who_sees_which_names(world: World, source: str, name: str, expected: list[str]) -> None:
    assert world.data(name, "A", source) == expected


@pytest.mark.parametrize(
    "name",
    [
        "db.red.netd.internal",
        "db.red",
        "db",
        "node-2.node.netd.internal",
        "netd.internal",
        "consul",
        "red.netd.internal",
        "dotted.one.netd.internal",
        "one.netd.internal",
        "node.netd.internal",
        "service.netd.internal",
        "service.consul",
        "dc1.consul",
        "_tcp.netd.internal",
        "_tcp.service.consul",
        "3.0.30.10.in-addr.arpa",
        "0.30.10.in-addr.arpa",
        "0.2.d.f.ip6.arpa",
        "localhost",
    ],
)
def test_a_known_name_without_such_a_record_is_no_error(world: World, name: str) -> None:
    """A resolver may take NXDOMAIN to say that nothing is below either (RFC 8020)."""
    if name == "0.2.d.f.ip6.arpa":
        world.network("wide", "fd20::/16")
    answer = world.answer(name, "MX")
    assert (answer.rcode, answer.records, answer.aa) == ("NOERROR", (), True)
    (soa,) = answer.authority
    assert soa.type == "SOA"


@pytest.mark.parametrize(
    "name",
    [
        "nobody.red.netd.internal",
        "nobody.netd.internal",
        "web.gray.netd.internal",
        "nobody.node.netd.internal",
        "node-1.node.dc2.consul",
        "web.blue.consul",
        "node-1.node.x.consul",
        "a.query.consul",
        "nobody.service.netd.internal",
        "xyz.addr.consul",
        "0a14.addr.consul",
        "0a.14.addr.consul",
        "nobody",
        "web\\.blue",
        ".netd.internal",
        "web..blue.netd.internal",
        "..netd.internal",
        ".".join("a" * 60) + ".service.netd.internal",
        "9.9.30.10.in-addr.arpa",
        "x.3.0.30.10.in-addr.arpa",
        "x.invalid",
    ],
)
def test_an_unknown_name_of_netd_is_asked_of_nobody_else(world: World, name: str) -> None:
    for source in (None, "10.20.0.2", "10.40.0.2", "203.0.113.7"):
        answer = world.answer(name, "A", source)
        assert (answer.rcode, answer.records, answer.aa) == ("NXDOMAIN", (), True)
        (soa,) = answer.authority
        assert soa.type == "SOA"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "example.com",
        "internal",
        "xnetd.internal",
        "nobody.blue",
        "x.consul.example",
        "8.8.8.8.in-addr.arpa",
        "10.in-addr.arpa",
        "in-addr.arpa",
        "x.in-addr.arpa",
        "300.0.30.10.in-addr.arpa",
        "1.0.0.2.ip6.arpa",
    ],
)
def test_all_else_is_for_others(world: World, name: str) -> None:
    if name == "internal":
        assert world.rcode(name) == "NXDOMAIN"  # a single label
        return
    if name == "300.0.30.10.in-addr.arpa":
        assert world.rcode(name) == "NXDOMAIN"  # below a subnet of netd's
        return
    for source in (None, "127.0.0.1", "10.20.0.2", "10.20.0.77"):
        answer = world.answer(name, "A", source)
        assert (answer.rcode, answer.aa, answer.authority) == ("FORWARD", False, ())
    # What is on internal networks only, and strangers, get nothing from outside.
    for source in ("10.40.0.2", "10.40.0.9", "203.0.113.7"):
        assert world.rcode(name, "A", source) == "REFUSED"


def test_one_network_that_leads_outside_is_enough(world: World) -> None:
    world.attach("red", "safe", "10.30.0.9", container="safe")
    assert world.rcode("example.com", "A", "10.40.0.2") == "FORWARD"
    world.put("endpoint", "safe@red", None)
    assert world.rcode("example.com", "A", "10.40.0.2") == "REFUSED"


def test_reverse_names_show_what_may_be_seen_only(world: World) -> None:
    name = "2.0.20.10.in-addr.arpa"
    assert world.data(name, "PTR", "10.20.0.2") == ["web.blue.netd.internal."]
    assert world.rcode(name, "PTR", "10.30.0.3") == "NXDOMAIN"


def test_reverse_names_of_ipv6(world: World) -> None:
    name = "2." + "0." * 27 + "0.2.d.f.ip6.arpa"
    assert world.data(name, "PTR") == ["web.blue.netd.internal."]
    unknown = "f" + name[1:]
    answer = world.answer(unknown, "PTR")
    assert answer.rcode == "NXDOMAIN"
    assert answer.authority[0].name == "0." * 12 + "0.2.d.f.ip6.arpa"


def test_the_top_of_a_zone(world: World) -> None:
    for zone in ("netd.internal", "consul"):
        (soa,) = world.answer(zone, "SOA").records
        assert soa.data == f"node-1.node.netd.internal. hostmaster.{zone}. 1 3600 600 86400 2"
        (ns,) = world.answer(zone, "NS").records
        assert ns.data == "node-1.node.netd.internal."
        assert world.answer(zone, "ANY").records == (soa,)


def test_any_gets_one_set_of_records(world: World) -> None:
    """RFC 8482."""
    assert world.data("web.blue.netd.internal", "ANY") == ["10.20.0.2"]
    assert world.data("2.0.20.10.in-addr.arpa", "ANY") == ["web.blue.netd.internal."]
    assert world.rcode("nobody.blue.netd.internal", "ANY") == "NXDOMAIN"
    assert world.rcode("example.com", "ANY") == "FORWARD"
    assert world.answer("red.netd.internal", "ANY").records == ()


def test_without_a_zone_for_consul_its_names_are_others() -> None:
    made = world_with_settings(consul_zone="")
    made.node("node-1", "192.0.2.10")
    assert made.rcode("node-1.node.consul") == "FORWARD"


def test_settings_hold_for_all_records() -> None:
    made = world_with_settings(ttl_s=17, consul_zone="Discovery.Example")
    made.node("node-1", "192.0.2.10")
    for name in ("node-1.node.netd.internal", "node-1.node.discovery.example"):
        (record,) = made.answer(name).records
        assert record.ttl_s == 17
    assert made.answer("x.netd.internal").authority[0].data.endswith(" 17")


def test_another_zone_takes_its_place(world: World) -> None:
    topics = world.put("zone", "", ZoneEntry(zone="example.org", node="node-1", node_id="n1"))
    assert topics == ("*",)
    assert world.data("web.blue.example.org") == ["10.20.0.2"]
    assert world.rcode("web.blue.netd.internal") == "FORWARD"
    assert world.data("2.0.20.10.in-addr.arpa", "PTR") == ["web.blue.example.org."]


def test_a_network_that_is_called_like_a_kind_of_names(world: World) -> None:
    world.network("service", "10.60.0.0/24")
    world.attach("service", "web", "10.60.0.2")
    assert world.data("web.service.netd.internal") == ["10.60.0.2"]
    assert world.rcode("web.service.consul") == "NXDOMAIN"


def test_an_address_is_of_another_container_at_once(world: World) -> None:
    assert world.data("db", "A", "10.20.0.2") == ["10.30.0.3"]
    world.put("endpoint", "web@red", None)
    assert world.data("db", "A", "10.20.0.2") == []
    assert world.data("db", "A", "10.30.0.2") == ["10.30.0.3"]  # only the network counts now
    world.attach("blue", "other", "10.20.0.2", container="other")
    assert world.directory.scope_of("10.20.0.2").networks == frozenset({"blue"})


def test_scopes_are_one_object_for_all_who_see_the_same(world: World) -> None:
    scope_of = world.directory.scope_of
    assert scope_of("10.30.0.3") is scope_of("10.30.0.99")
    assert scope_of("127.0.0.1") is scope_of(None)
    assert scope_of("10.20.0.2") is not scope_of("10.30.0.2")  # other names are near
    assert scope_of("203.0.113.7") is scope_of("nonsense")
    before = scope_of("10.30.0.3")
    world.put("network", "red", NetworkEntry(subnets=("10.30.0.0/24",)))
    assert scope_of("10.30.0.3") is before


def test_addresses_of_this_host_are_those_of_its_own_name_only(world: World) -> None:
    """Another host that has taken the name has none of this host's rights here."""
    world.node("node-1", "192.0.2.99", node_id="n9")
    assert world.data("db", "A", "192.0.2.99") == []
    assert world.data("db", "A", "192.0.2.10") == []
    assert world.data("db", "A", "127.0.0.1") == ["10.30.0.3"]


def test_what_is_no_name_or_address_is_left_out(world: World) -> None:
    world.attach("blue", "ü", "10.20.0.300", "10.20.0.9", aliases=("a.b", "x" * 64, "ok"))
    assert world.data("ok.blue") == ["10.20.0.9"]
    for name in ("ü.blue.netd.internal", "a.b.blue.netd.internal"):
        assert world.rcode(name) == "NXDOMAIN"
    assert world.data("9.0.20.10.in-addr.arpa", "PTR") == ["ok.blue.netd.internal."]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("web.blue", "A"),
        ("web.blue", "AAAA"),
        ("node-1.node.netd.internal", "TXT"),
        ("2.0.20.10.in-addr.arpa", "PTR"),
        ("netd.internal", "SOA"),
        ("consul", "NS"),
    ],
)
def test_bytes_of_records_are_those_of_dnspython(world: World, name: str, kind: str) -> None:
    for record in world.answer(name, kind).records:
        assert record.rdata == rdata(kind, record.data)


@pytest.mark.parametrize("value", ["", 'a "quoted" \\ one', "ü\n", "x" * 600])
def test_bytes_of_any_text(world: World, value: str) -> None:
    world.node("node-3", "192.0.2.30", key=value)
    (record,) = world.answer("node-3.node.netd.internal", "TXT").records
    text = f"key={value}".encode()
    parts = [text[at : at + 255] for at in range(0, len(text), 255)]
    assert record.rdata == b"".join(bytes([len(part)]) + part for part in parts)
    if len(text) <= 255:
        assert record.rdata == rdata("TXT", record.data)


def rdata(kind: str, text: str) -> bytes:
    made = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(kind), text)
    return made.to_wire() or b""
