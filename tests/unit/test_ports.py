"""Published ports: elements, host ports, checks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.model.endpoint import Endpoint, PortMapping, Protocol
from netd.model.errors import Invalid
from netd.plan.firewall import element_text
from netd.plan.ports import (
    Family,
    HeldPort,
    check_ports,
    clash,
    describe,
    families,
    held_ports,
    port_elements,
)

BOTH: frozenset[Family] = frozenset((4, 6))


def mapping(
    host_port: int = 8080,
    container_port: int = 80,
    *,
    protocol: Protocol = "tcp",
    host_ip: str = "",
    count: int = 1,
) -> PortMapping:
    return PortMapping(
        host_port=host_port,
        container_port=container_port,
        protocol=protocol,
        host_ip=host_ip,
        count=count,
    )


def endpoint(
    *ports: PortMapping, addresses: tuple[str, ...] = ("10.20.0.2/24", "fd00:1::2/64")
) -> Endpoint:
    return Endpoint(
        id="0123456789abcdef",
        network="blue",
        network_id="b" * 16,
        container_id="c",
        name="web",
        node="n",
        ifname="eth0",
        addresses=addresses,
        ports=ports,
    )


def held(
    port: int = 80, *, address: str = "", family: Family = 4, protocol: Protocol = "tcp"
) -> HeldPort:
    return HeldPort(protocol=protocol, family=family, address=address, port=port)


def texts(published: Endpoint) -> list[str]:
    return [element.text() for element in port_elements(published)]


def test_a_port_of_all_addresses_has_an_element_for_each_family() -> None:
    assert texts(endpoint(mapping())) == [
        "element ports4_any { tcp . 8080 : 10.20.0.2 . 80 }",
        "element ports6_any { tcp . 8080 : fd00:1::2 . 80 }",
    ]


def test_a_family_that_the_endpoint_lacks_has_none() -> None:
    alone = endpoint(mapping(), addresses=("10.20.0.2/24",))
    assert texts(alone) == ["element ports4_any { tcp . 8080 : 10.20.0.2 . 80 }"]
    assert texts(endpoint(mapping(), addresses=())) == []
    assert families(alone.addresses) == {4}
    assert families(endpoint().addresses) == BOTH


@pytest.mark.parametrize(
    ("host_ip", "expected"),
    [
        ("192.0.2.1", "element ports4 { 192.0.2.1 . udp . 8080 : 10.20.0.2 . 80 }"),
        ("2001:DB8:0::1", "element ports6 { 2001:db8::1 . udp . 8080 : fd00:1::2 . 80 }"),
        ("0.0.0.0", "element ports4_any { udp . 8080 : 10.20.0.2 . 80 }"),
        ("::", "element ports6_any { udp . 8080 : fd00:1::2 . 80 }"),
    ],
)
def test_a_host_address_is_of_one_family(host_ip: str, expected: str) -> None:
    assert texts(endpoint(mapping(protocol="udp", host_ip=host_ip))) == [expected]


def test_a_range_is_one_element_for_each_port() -> None:
    ranged = mapping(8080, 80, host_ip="192.0.2.1", count=3)
    assert texts(endpoint(ranged)) == [
        "element ports4 { 192.0.2.1 . tcp . 8080 : 10.20.0.2 . 80 }",
        "element ports4 { 192.0.2.1 . tcp . 8081 : 10.20.0.2 . 81 }",
        "element ports4 { 192.0.2.1 . tcp . 8082 : 10.20.0.2 . 82 }",
    ]


def test_elements_belong_to_the_endpoint_and_can_be_written() -> None:
    elements = port_elements(endpoint(mapping(count=2), mapping(9000, protocol="sctp")))
    assert {element.owner for element in elements} == {"0123456789abcdef"}
    assert all(element_text(element) for element in elements)


def test_of_several_addresses_the_first_of_its_family_is_led_to() -> None:
    several = endpoint(mapping(), addresses=("10.20.0.9/24", "10.20.0.2/24"))
    assert texts(several) == ["element ports4_any { tcp . 8080 : 10.20.0.9 . 80 }"]


def test_held_ports_are_those_of_the_elements() -> None:
    ports = (mapping(count=2), mapping(53, protocol="udp", host_ip="192.0.2.1"))
    assert held_ports(ports, BOTH) == [
        held(8080),
        held(8081),
        held(8080, family=6),
        held(8081, family=6),
        held(53, protocol="udp", address="192.0.2.1"),
    ]
    assert held_ports(ports, frozenset((6,))) == [held(8080, family=6), held(8081, family=6)]


@pytest.mark.parametrize(
    ("ports", "field", "words"),
    [
        ([mapping(), mapping(65535, 1, count=2)], "ports[1].host_port", "65535"),
        ([mapping(1, 65000, count=1000)], "ports[0].container_port", "65535"),
        ([mapping(host_ip="nonsense")], "ports[0].host_ip", "nonsense"),
        ([mapping(host_ip="10.0.0.0/8")], "ports[0].host_ip", "10.0.0.0/8"),
        ([mapping(host_ip="224.0.0.1")], "ports[0].host_ip", "one host"),
        ([mapping(host_ip="ff02::1")], "ports[0].host_ip", "one host"),
        ([mapping(host_ip="255.255.255.255")], "ports[0].host_ip", "one host"),
        ([mapping(host_ip="fd00::1%x } ; flush ruleset")], "ports[0].host_ip", "zone"),
        ([mapping(host_ip="::ffff:192.0.2.1")], "ports[0].host_ip", "IPv4"),
        ([mapping(host_ip="::1")], "ports[0].host_ip", "127.0.0.1"),
        ([mapping(host_ip="fe80::1")], "ports[0].host_ip", "global"),
        ([mapping(), mapping(container_port=81)], "ports[1].host_port", "ports[0]"),
        ([mapping(8000, count=100), mapping(8050)], "ports[1].host_port", "ports[0]"),
        ([mapping(8050), mapping(8000, count=100)], "ports[1].host_port", "tcp 0.0.0.0:8050"),
        ([mapping(), mapping(host_ip="192.0.2.1")], "ports[1].host_port", "ports[0]"),
        ([mapping(host_ip="192.0.2.1"), mapping()], "ports[1].host_port", "ports[0]"),
        ([mapping(host_ip="2001:db8::1"), mapping(host_ip="::")], "ports[1].host_port", "[::]"),
        (
            [mapping(host_ip="2001:DB8::1"), mapping(host_ip="2001:db8:0::1")],
            "ports[1].host_port",
            "[",
        ),
    ],
)
def test_what_cannot_be_published_is_refused_by_field(
    ports: list[PortMapping], field: str, words: str
) -> None:
    with pytest.raises(Invalid) as refusal:
        check_ports(ports, BOTH)
    assert refusal.value.field == field
    assert words in refusal.value.detail


@pytest.mark.parametrize(("host_ip", "lacking"), [("192.0.2.1", 4), ("::", 6), ("0.0.0.0", 4)])
def test_a_host_address_of_a_family_that_the_endpoint_lacks_is_refused(
    host_ip: str, lacking: Family
) -> None:
    check_ports([mapping(host_ip=host_ip)], BOTH)
    with pytest.raises(Invalid, match=f"no IPv{lacking}") as refusal:
        check_ports([mapping(host_ip=host_ip)], BOTH - {lacking})
    assert refusal.value.field == "ports[0].host_ip"


def test_what_can_be_published_at_once_is_not_refused() -> None:
    check_ports(
        [
            mapping(1, 1, count=1024),
            mapping(65535, 65535),
            mapping(1, 1, protocol="udp", count=1024),
            mapping(5000, host_ip="192.0.2.1"),
            mapping(5000, host_ip="192.0.2.2"),
            mapping(6000, host_ip="0.0.0.0"),
            mapping(6000, host_ip="::"),
        ],
        BOTH,
    )


@pytest.mark.parametrize(
    ("wanted", "taken", "pair"),
    [
        ([held(80)], [held(80)], (held(80), held(80))),
        ([held(80)], [held(81), held(80, family=6), held(80, protocol="udp")], None),
        ([held(80)], [held(80, address="192.0.2.1")], (held(80), held(80, address="192.0.2.1"))),
        ([held(80, address="192.0.2.1")], [held(80)], (held(80, address="192.0.2.1"), held(80))),
        ([held(80, address="192.0.2.1")], [held(80, address="192.0.2.2")], None),
        ([held(79), held(81)], [held(80), held(81)], (held(81), held(81))),
        ([], [held(80)], None),
        ([held(80)], [], None),
    ],
)
def test_the_first_clash_is_found(
    wanted: list[HeldPort], taken: list[HeldPort], pair: tuple[HeldPort, HeldPort] | None
) -> None:
    assert clash(wanted, taken) == pair


PORTS = st.lists(
    st.builds(
        HeldPort,
        protocol=st.sampled_from(("tcp", "udp")),
        family=st.sampled_from((4, 6)),
        address=st.sampled_from(("", "a", "b")),
        port=st.integers(1, 3),
    ),
    max_size=6,
)


def overlap(one: HeldPort, other: HeldPort) -> bool:
    same = (one.protocol, one.family, one.port) == (other.protocol, other.family, other.port)
    return same and (one.address == other.address or "" in (one.address, other.address))


@given(PORTS, PORTS)
def test_a_clash_is_found_exactly_when_two_overlap(
    wanted: list[HeldPort], taken: list[HeldPort]
) -> None:
    first = next((one for one in wanted if any(overlap(one, other) for other in taken)), None)
    found = clash(wanted, taken)
    if found is None:
        assert first is None
    else:
        assert found[0] == first
        assert found[1] in taken
        assert overlap(*found)


@pytest.mark.parametrize(
    ("port", "words"),
    [
        (held(80), "tcp 0.0.0.0:80"),
        (held(53, protocol="udp", address="192.0.2.1"), "udp 192.0.2.1:53"),
        (held(80, family=6), "tcp [::]:80"),
        (held(80, family=6, address="2001:db8::1"), "tcp [2001:db8::1]:80"),
    ],
)
def test_a_port_in_words(port: HeldPort, words: str) -> None:
    assert describe(port) == words
