"""The firewall's rules judged by packets: published ports, isolation, sources, leaks."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP, SCTPChunkInit

from netd.plan.firewall import ruleset
from netd.plan.operations import Operation
from tests.netns.conftest import Container, run
from tests.netns.host_lab import DROPPED_S, WAIT_S, Lab

FAMILIES: Final = (4, 6)
Make = Callable[[], Container]


@pytest.fixture
def lab(container: Make) -> Iterator[Lab]:
    made = Lab(container)
    yield made
    made.nft.close()


def tcp_source(lab: Lab, client: str, address: str, port: int, server: str, at: int) -> str | None:
    """The client's address as the server sees it; None when no connection comes about."""
    family = 6 if ":" in address else 4
    with (
        closing(lab.open(server, family, socket.SOCK_STREAM)) as listener,
        closing(lab.open(client, family, socket.SOCK_STREAM)) as calling,
    ):
        listener.bind(("", at))
        listener.listen()
        calling.settimeout(DROPPED_S)
        try:
            calling.connect((address, port))
        except OSError:
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()
            return None
        calling.settimeout(WAIT_S)
        accepted, peer = listener.accept()
        with closing(accepted):
            calling.sendall(b"ask")
            assert accepted.recv(9) == b"ask"
            accepted.sendall(b"answer")
            assert calling.recv(9) == b"answer"
        return str(peer[0])


def udp_source(lab: Lab, client: str, address: str, port: int, server: str, at: int) -> str | None:
    """The same for a datagram. The answer must come from the address that was asked."""
    family = 6 if ":" in address else 4
    with (
        closing(lab.open(server, family, socket.SOCK_DGRAM)) as serving,
        closing(lab.open(client, family, socket.SOCK_DGRAM)) as calling,
    ):
        serving.bind(("", at))
        serving.settimeout(DROPPED_S)
        calling.connect((address, port))
        calling.send(b"ask")
        try:
            data, peer = serving.recvfrom(9)
        except TimeoutError:
            return None
        assert data == b"ask"
        serving.sendto(b"answer", peer)
        assert calling.recv(9) == b"answer"
        return str(peer[0])


SOURCES = {"tcp": tcp_source, "udp": udp_source}


@pytest.mark.parametrize("br_netfilter", [False, True], ids=["bridged", "br_netfilter"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_published_port_is_reachable_from_everywhere_with_its_source(
    container: Make, protocol: str, family: int, br_netfilter: bool
) -> None:
    lab = Lab(container, br_netfilter=br_netfilter)
    lab.publish(protocol, family, 8080, "blue1", 80)
    uplink, gateway = lab.uplink[family], lab.gateways["blue"][family]
    loopback = "127.0.0.1" if family == 4 else "::1"
    own = {name: place.addresses.get(family) for name, place in lab.places.items()}

    def source(client: str, address: str) -> str | None:
        return SOURCES[protocol](lab, client, address, 8080, "blue1", 80)

    assert {
        "outside": source("lan", uplink),
        "outside, to another address of the host": source("far", uplink),
        "the host, by its address": source("host", uplink),
        "the host, by the gateway's": source("host", gateway),
        "the host, by loopback": source("host", loopback),
        "its own network": source("blue2", uplink),
        "its own network, by the gateway": source("blue2", gateway),
        "itself": source("blue1", uplink),
        "an isolated network": source("red1", uplink),
        "an isolated network, by its gateway": source("red1", lab.gateways["red"][family]),
        "an internal network": source("green1", uplink),
        "an internal network, by its gateway": source("green1", lab.gateways["green"][family]),
    } == {
        "outside": own["lan"],
        "outside, to another address of the host": own["far"],
        "the host, by its address": uplink,
        "the host, by the gateway's": gateway,
        "the host, by loopback": gateway if family == 4 else None,
        "its own network": gateway,
        "its own network, by the gateway": gateway,
        "itself": gateway,
        "an isolated network": own["red1"],
        "an isolated network, by its gateway": own["red1"],
        "an internal network": None,
        "an internal network, by its gateway": None,
    }
    lab.nft.close()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_of_one_address_is_published_there_alone_and_goes_before_all(
    lab: Lab, protocol: str, family: int
) -> None:
    source, far = SOURCES[protocol], {4: "203.0.113.1", 6: "2001:db8:2::1"}[family]
    lab.publish(protocol, family, 81, "blue1", 80, address=lab.uplink[family])
    assert source(lab, "lan", lab.uplink[family], 81, "blue1", 80)
    assert source(lab, "lan", far, 81, "blue1", 80) is None
    lab.publish(protocol, family, 81, "blue2", 80)
    assert source(lab, "lan", lab.uplink[family], 81, "blue1", 80)
    assert source(lab, "lan", far, 81, "blue2", 80)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_what_is_meant_for_the_host_is_translated(lab: Lab, family: int) -> None:
    lab.publish("tcp", family, 80, "blue1", 8080)
    far = lab.places["far"].addresses[family]
    assert tcp_source(lab, "blue2", far, 80, "far", 80) is not None
    assert tcp_source(lab, "lan", far, 80, "far", 80) is not None


@pytest.mark.parametrize("family", FAMILIES)
def test_sctp_is_translated_with_its_source_kept(lab: Lab, family: int) -> None:
    lab.publish("sctp", family, 8080, "blue1", 80)
    client, server = lab.places["lan"].addresses[family], lab.places["blue1"].addresses[family]
    layer = IP if family == 4 else IPv6
    packet = layer(src=client, dst=lab.uplink[family]) / SCTP(sport=1234, dport=8080)
    packet /= SCTPChunkInit(init_tag=1, a_rwnd=65535, n_out_streams=1, n_in_streams=1)
    frame = Ether(src=mac_of(lab, "lan"), dst=link_mac("nvlan")) / packet
    with closing(lab.capture("blue1")) as wire, closing(lab.capture("lan")) as outside:
        outside.send(bytes(frame))
        seen = next(got for got in frames(wire) if got.haslayer(SCTP))
        assert (seen[layer].src, seen[layer].dst) == (client, server)
        assert (seen[SCTP].sport, seen[SCTP].dport) == (1234, 80)
        checksum = seen[SCTP].chksum
        del seen[SCTP].chksum
        assert Ether(bytes(seen))[SCTP].chksum == checksum


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_not_published_is_closed_to_outside_and_to_other_networks(
    lab: Lab, family: int
) -> None:
    address = {name: place.addresses.get(family, "") for name, place in lab.places.items()}

    def reaches(client: str, server: str) -> bool:
        return tcp_source(lab, client, address[server], 80, server, 80) is not None

    isolated, internal, plain = "blue1", "green1", "open1"
    clients = ["host", "lan", "blue2", "red1", "green1", "open1"]
    assert [name for name in clients if reaches(name, isolated)] == ["host", "blue2"]
    assert [name for name in clients if reaches(name, internal)] == ["host", "green1"]
    assert [name for name in clients if reaches(name, plain)] == ["host", "lan", "open1"]
    lan = [name for name in ("blue1", "red1", "green1", "open1") if reaches(name, "lan")]
    assert lan == ["blue1", "red1", "open1"]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_leaves_the_host_has_its_address(lab: Lab, family: int) -> None:
    lan = lab.places["lan"].addresses[family]
    for protocol, source in SOURCES.items():
        assert source(lab, "blue1", lan, 80, "lan", 80) == lab.uplink[family], protocol


@pytest.mark.parametrize("br_netfilter", [False, True], ids=["bridged", "br_netfilter"])
def test_containers_of_a_network_talk_without_translation(
    container: Make, br_netfilter: bool
) -> None:
    lab = Lab(container, br_netfilter=br_netfilter)
    for family in FAMILIES:
        for server in ("blue2", "blue1"):
            client = {"blue1": "blue2", "blue2": "blue1"}[server]
            to = lab.places[server].addresses[family]
            own = lab.places[client].addresses[family]
            assert tcp_source(lab, client, to, 80, server, 80) == own
    lab.nft.close()


def test_nothing_leaks_from_an_internal_network(lab: Lab) -> None:
    last = IP(src="10.1.0.2", dst="192.0.2.2") / UDP(dport=9) / b"last"

    def leaked() -> int:
        with closing(lab.capture("lan")) as wire:
            with closing(lab.capture("green1")) as inside:
                for family, layer in ((4, IP), (6, IPv6)):
                    own, lan = (lab.places[name].addresses[family] for name in ("green1", "lan"))
                    for inner in (TCP(flags="S"), TCP(flags="R"), TCP(flags="A"), UDP(), SCTP()):
                        packet = layer(src=own, dst=lan) / inner / b"leak"
                        inside.send(bytes(ethernet(lab, "green1") / packet))
            # Frames are forwarded in order: when this one has come, the others would have.
            with closing(lab.capture("blue1")) as inside:
                inside.send(bytes(ethernet(lab, "blue1") / last))
            return sum(b"leak" in bytes(frame) for frame in until(wire, b"last"))

    assert leaked() == 0
    run("nft", "flush set inet netd internal")
    assert leaked() > 0


def test_invalid_packets_do_not_leave_with_a_private_source(lab: Lab) -> None:
    lan = lab.places["lan"].addresses[4]
    late = IP(src="10.1.0.2", dst=lan) / TCP(sport=80, dport=5, flags="R", seq=7) / b"late"
    last = IP(src="10.1.0.2", dst=lan) / UDP(dport=9) / b"last"

    def arrives() -> bool:
        with closing(lab.capture("lan")) as wire, closing(lab.capture("blue1")) as inside:
            for packet in (late, last):
                inside.send(bytes(ethernet(lab, "blue1") / packet))
            return any(b"late" in bytes(frame) for frame in until(wire, b"last"))

    assert not arrives()
    run("nft", "flush chain inet netd filter_forward")
    assert arrives()


@pytest.mark.parametrize(
    ("source", "destination"), [("10.1.0.2", "127.0.0.1"), ("127.0.0.5", "10.1.0.1")]
)
def test_loopback_addresses_from_containers_are_dropped(
    lab: Lab, source: str, destination: str
) -> None:
    def arrives() -> bool:
        with closing(lab.open("host", 4, socket.SOCK_DGRAM)) as server:
            server.bind((destination, 5000))
            with closing(lab.capture("blue1")) as inside:
                packet = IP(src=source, dst=destination) / UDP(dport=5000) / b"spoof"
                inside.send(bytes(ethernet(lab, "blue1") / packet))
            with closing(lab.open("host", 4, socket.SOCK_DGRAM)) as last:
                last.sendto(b"last", (destination, 5000))
            return server.recv(9) == b"spoof"

    assert not arrives()
    run("nft", "flush chain inet netd raw_prerouting")
    assert arrives()


def test_a_port_of_loopback_is_not_reachable_from_outside(lab: Lab) -> None:
    lab.publish("udp", 4, 8080, "blue1", 80, address="127.0.0.1")
    assert udp_source(lab, "host", "127.0.0.1", 8080, "blue1", 80) == "10.1.0.1"
    assert udp_source(lab, "lan", lab.uplink[4], 8080, "blue1", 80) is None

    def arrives() -> bool:
        """Whether a frame comes through that has 127.0.0.1 as destination."""
        with (
            closing(lab.open("blue1", 4, socket.SOCK_DGRAM)) as server,
            closing(lab.capture("lan")) as outside,
        ):
            server.bind(("", 80))
            packet = IP(src="192.0.2.2", dst="127.0.0.1") / UDP(dport=8080) / b"spoof"
            outside.send(bytes(Ether(src=mac_of(lab, "lan"), dst=link_mac("nvlan")) / packet))
            with closing(lab.open("host", 4, socket.SOCK_DGRAM)) as last:
                last.sendto(b"last", ("127.0.0.1", 8080))
            return server.recv(9) == b"spoof"

    assert not arrives()
    run("nft", "flush chain inet netd nat_prerouting")
    run("nft", "add rule inet netd nat_prerouting fib daddr type local jump publish")
    assert arrives()


@pytest.mark.parametrize("guard", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_guard_forwards_for_containers_alone(container: Make, family: int, guard: bool) -> None:
    lab = Lab(container, guard=guard)
    lab.publish("tcp", family, 8080, "blue1", 80)
    far = lab.places["far"].addresses[family]
    assert (tcp_source(lab, "lan", far, 80, "far", 80) is None) is guard
    assert tcp_source(lab, "blue1", far, 80, "far", 80)
    assert tcp_source(lab, "lan", lab.uplink[family], 8080, "blue1", 80)
    lab.nft.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_guard_lets_frames_within_another_programs_bridge_pass(
    container: Make, family: int
) -> None:
    lab = Lab(container, br_netfilter=True, guard=True)
    run("ip", "link", "add", "br0", "up", "type", "bridge")
    vm1, vm2 = (container() for _ in range(2))
    addresses = {4: "10.99.0.{}/24", 6: "fd99::{}/64"}[family]
    for number, vm in enumerate((vm1, vm2), 1):
        peer = ("peer", "name", "eth0", "netns", str(vm.pid))
        run("ip", "link", "add", f"vm{number}", "up", "master", "br0", "type", "veth", *peer)
        nodad = ("nodad",) if family == 6 else ()
        vm.run("ip", "address", "add", addresses.format(number), "dev", "eth0", *nodad)
        vm.run("ip", "link", "set", "eth0", "up")
    second = addresses.format(2).partition("/")[0]
    assert "1 received" in vm1.run("ping", "-c", "1", "-W", "2", second)
    lab.nft.close()


def test_replacing_the_rules_disturbs_no_connection_and_lets_nothing_through(lab: Lab) -> None:
    lab.publish("tcp", 4, 8080, "blue1", 80)
    change = Operation(verb="change", object=ruleset(forward_guard=True), reason="test")
    failures = []
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            failures.extend(lab.nft.apply([change]))

    replacing = threading.Thread(target=replace)
    replacing.start()
    try:
        with closing(lab.capture("blue1")) as wire, closing(lab.capture("lan")) as outside:
            frame = Ether(src=mac_of(lab, "lan"), dst=link_mac("nvlan"))
            for port in range(1000, 1500):
                closed = IP(src="192.0.2.2", dst="10.1.0.2") / UDP(sport=port, dport=9) / b"leak"
                outside.send(bytes(frame / closed))
                if port % 10 == 0:
                    assert tcp_source(lab, "lan", lab.uplink[4], 8080, "blue1", 80) == "192.0.2.2"
            wire.setblocking(False)
            assert not [got for got in pending(wire) if b"leak" in got]
    finally:
        stop.set()
        replacing.join()
    assert failures == []


def ethernet(lab: Lab, container: str) -> Ether:
    """A frame's head from a container to its gateway."""
    bridge = f"nd-{container.rstrip('12')}"
    return Ether(src=mac_of(lab, container), dst=link_mac(bridge))


def mac_of(lab: Lab, place: str) -> str:
    container = lab.places[place].container
    assert container is not None
    return container.run("ip", "-brief", "link", "show", "eth0").split()[2]


def link_mac(link: str) -> str:
    return run("ip", "-brief", "link", "show", link).split()[2]


def frames(wire: socket.socket) -> Iterator[Ether]:
    while True:
        yield Ether(wire.recv(65536))


def until(wire: socket.socket, mark: bytes) -> Iterator[Ether]:
    """The frames before the one with that mark."""
    for frame in frames(wire):
        if mark in bytes(frame):
            return
        yield frame


def pending(wire: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            yield wire.recv(65536)
        except BlockingIOError:
            return
