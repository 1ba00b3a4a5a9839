"""UDP flows are forgotten by host port."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from netd.kernel.conntrack import flush_udp
from netd.plan.ports import Family, HeldPort
from tests.netns.conftest import Container, run
from tests.netns.host_lab import Lab


@pytest.fixture
def lab(container: Callable[[], Container]) -> Iterator[Lab]:
    made = Lab(container)
    yield made
    made.nft.close()


def held(family: Family, port: int, address: str = "") -> HeldPort:
    return HeldPort(protocol="udp", family=family, address=address, port=port)


def flows(family: int) -> set[tuple[str, str, str]]:
    """Protocol, destination and port of each flow, as conntrack(8) lists them."""
    listed = run("conntrack", "-L", "-f", f"ipv{family}", check=False)
    found = set()
    for line in listed.splitlines():
        words = line.split()
        fields = dict(word.split("=", 1) for word in reversed(words) if "=" in word)
        found.add((words[0], fields["dst"], fields.get("dport", "")))  # IGMP has no ports
    return found


def send(lab: Lab, client: str, address: str, port: int) -> None:
    with closing(lab.open(client, 6 if ":" in address else 4, socket.SOCK_DGRAM)) as calling:
        calling.sendto(b"x", (address, port))


@pytest.mark.parametrize(("family", "other"), [(4, "203.0.113.2"), (6, "2001:db8:2::2")])
def test_flows_to_the_hosts_ports_go_and_all_others_stay(
    lab: Lab, family: Family, other: str
) -> None:
    uplink, gateway = lab.uplink[family], lab.gateways["blue"][family]
    with closing(lab.open("host", family, socket.SOCK_DGRAM)) as listening:
        listening.bind(("", 53))
        for port in (53, 54):
            send(lab, "lan", uplink, port)
            send(lab, "blue1", gateway, port)
            send(lab, "blue1", other, port)
        calling = lab.open("lan", family, socket.SOCK_STREAM)
        calling.settimeout(1)
        with closing(calling), pytest.raises(ConnectionRefusedError):
            calling.connect((uplink, 53))
    before = flows(family)
    assert before >= {("udp", to, port) for to in (uplink, gateway, other) for port in ("53", "54")}
    assert flush_udp([held(family, 53)]) == 2
    assert before - flows(family) == {("udp", uplink, "53"), ("udp", gateway, "53")}
    assert flush_udp([held(family, 53)]) == 0
    assert flush_udp([held(family, 54, uplink), held(family, 9)]) == 1
    assert ("udp", gateway, "54") in flows(family)
    assert flush_udp([held(family, port, other) for port in (53, 54)]) == 2


def test_only_udp_of_that_family_is_looked_at(lab: Lab) -> None:
    send(lab, "lan", lab.uplink[4], 53)
    tcp = HeldPort(protocol="tcp", family=4, address="", port=53)
    assert flush_udp([]) == flush_udp([tcp]) == flush_udp([held(6, 53)]) == 0
    assert flush_udp([held(4, 53)]) == 1


@pytest.mark.parametrize("zone", ["ct zone set 7", "ct original zone set 7"])
def test_a_flow_in_a_zone_goes_as_well(zone: str) -> None:
    chain = f"chain c {{ type filter hook output priority -300; {zone}; }}"
    # A rule that looks at flows has them tracked in this namespace.
    tracking = "chain t { type filter hook output priority 0; ct state new counter; }"
    run("nft", f"table ip z {{ {chain}; {tracking}; }}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", ("127.0.0.1", 9053))
    assert ("udp", "127.0.0.1", "9053") in flows(4)
    assert flush_udp([held(4, 9053)]) == 1
    assert ("udp", "127.0.0.1", "9053") not in flows(4)


def test_a_client_that_goes_on_sending_reaches_a_port_published_later(lab: Lab) -> None:
    with (
        closing(lab.open("blue1", 4, socket.SOCK_DGRAM)) as first,
        closing(lab.open("blue2", 4, socket.SOCK_DGRAM)) as second,
        closing(lab.open("lan", 4, socket.SOCK_DGRAM)) as client,
        closing(lab.open("host", 4, socket.SOCK_DGRAM)) as host,
    ):
        first.bind(("", 80))
        second.bind(("", 80))
        host.bind(("", 8080))
        client.sendto(b"1", (lab.uplink[4], 8080))
        assert host.recv(9) == b"1"
        lab.publish("udp", 4, 8080, "blue1", 80)
        client.sendto(b"2", (lab.uplink[4], 8080))
        assert host.recv(9) == b"2"  # the old flow lives on
        assert flush_udp([held(4, 8080)]) == 1
        client.sendto(b"3", (lab.uplink[4], 8080))
        assert first.recv(9) == b"3"
        lab.publish("udp", 4, 8080, "blue2", 80)
        assert flush_udp([held(4, 8080)]) == 1
        client.sendto(b"4", (lab.uplink[4], 8080))
        assert second.recv(9) == b"4"
