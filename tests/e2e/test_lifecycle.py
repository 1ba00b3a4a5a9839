"""What each driver promises, by real packets: routes, names, limits, and what must not leak."""

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from netd.client.errors import ApiError
from tests.e2e.census import await_removals
from tests.e2e.lab import Host, Namespace, await_true, ip_of
from tests.e2e.web import serve

WEB = [{"host_port": 8080, "container_port": 80}]


def refusal(error: pytest.ExceptionInfo[ApiError]) -> tuple[str, str | None]:
    return error.value.code, error.value.field


# Several networks


def test_the_default_route_is_inherited(host: Host, stack: ExitStack) -> None:
    for name in ("blue", "red", "green"):
        host.client.create_network(name=name, driver="bridge")
    one = host.container()
    blue = host.attach("blue", one, ifname="eth0", ports=WEB)
    green = host.attach("green", one, ifname="eth2", default_route=False)
    red = host.attach("red", one, ifname="eth1", ports=[{"host_port": 81, "container_port": 80}])
    server = serve(one, stack, 80)
    assert blue["default_route"]
    with host.client.events() as events:
        host.client.detach(blue["id"])
        inherited = next(event for event in events if event["type"] == "endpoint.updated")
    assert inherited["object"] == red["id"]
    assert host.client.endpoint(red["id"])["default_route"]
    assert not host.client.endpoint(green["id"])["default_route"]  # it did not want to
    for family, outside in (("-4", Host.OUTSIDE), ("-6", Host.OUTSIDE6)):
        (route,) = json.loads(one.run("ip", "-j", family, "route", "show", "default"))
        assert route["dev"] == "eth1"
        assert one.pings(outside)
    assert host.outside.run(*server.get(Host.ADDRESS, 81)).strip() == Host.OUTSIDE
    again = host.attach("blue", one, ifname="eth0", ports=WEB)
    assert not again["default_route"]
    assert host.outside.run(*server.get(Host.ADDRESS6, 8080)).strip() == Host.OUTSIDE6
    assert host.plan() == []
    host.client.detach_container(red["container_id"])
    await_removals(host)
    assert one.links() == []
    assert "110:" not in one.run("ip", "rule") + one.run("ip", "-6", "rule")
    assert host.plan() == []


def test_a_container_moves_between_networks_at_once(host: Host) -> None:
    """What was detached is still being removed, and must not be in the way."""
    host.client.create_network(name="blue", driver="bridge")
    host.client.create_network(name="red", driver="bridge")
    one = host.container()
    for _ in range(3):
        for network, ifname in (("blue", "eth0"), ("red", "eth0"), ("blue", "eth1")):
            endpoint = host.attach(network, one, ifname=ifname)
            assert endpoint["default_route"]
            assert one.pings(Host.OUTSIDE)
            assert one.pings(Host.OUTSIDE6)
            host.client.detach(endpoint["id"])
    assert host.plan() == []


# Drivers without a bridge


def test_host_mode_has_the_hosts_addresses_and_checks_its_ports(
    host: Host, stack: ExitStack
) -> None:
    host.client.create_network(name="h", driver="host")
    endpoint = host.client.attach("h", container_id="one", name="one", pid=host.pid, ports=WEB)
    assert {text.partition("/")[0] for text in endpoint["addresses"]} == {
        Host.ADDRESS,
        Host.ADDRESS6,
    }
    found = host.client.resolve("one.h.netd.internal")["records"]
    assert [record["data"] for record in found] == [Host.ADDRESS]
    server = serve(host, stack, 80)  # the container's program has the port itself
    assert host.outside.succeeds(*server.get(Host.ADDRESS))
    serve(host, stack, 9000)
    busy = [{"host_port": 9000, "container_port": 9000}]
    with pytest.raises(ApiError) as refused:
        host.client.attach("h", container_id="two", ports=busy)
    assert refusal(refused) == ("conflict", "ports")
    with pytest.raises(ApiError) as refused:
        host.client.attach("h", container_id="two", ports=WEB)
    assert refusal(refused) == ("conflict", "ports")
    assert endpoint["id"] in refused.value.detail
    with pytest.raises(ApiError) as refused:
        host.attach("h", host.container(), container_id="two")
    assert refusal(refused) == ("invalid", "pid")
    host.client.detach(endpoint["id"])
    host.client.attach("h", container_id="two", ports=WEB)
    assert host.plan() == []


def test_none_has_its_loopback_only(host: Host) -> None:
    host.client.create_network(name="n", driver="none")
    one = host.container()
    endpoint = host.attach("n", one)
    assert endpoint["addresses"] == []
    assert one.links() == []
    assert one.pings("127.0.0.1")
    assert one.pings("::1")
    assert not one.pings(Host.OUTSIDE, wait_s=1)


def lan(host: Host, driver: str = "macvlan", **more: Any) -> None:
    host.client.create_network(
        name="lan",
        driver=driver,
        parent="eth0",
        subnets=["10.40.0.0/24", "fd40::/64"],
        gateways=["10.40.0.254", "fd40::fe"],
        **more,
    )
    for address in ("10.40.0.254/24", "fd40::fe/64"):
        host.outside.run("ip", "address", "add", address, "dev", "eth0", *_NODAD[":" in address])


_NODAD: tuple[tuple[str, ...], ...] = ((), ("nodad",))


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_containers_on_the_parents_segment(host: Host, driver: str) -> None:
    if driver not in host.client.status()["capabilities"]:
        pytest.skip(f"the kernel has no {driver}")
    lan(host, driver)
    one, two = host.container(), host.container()
    first, second = host.attach("lan", one), host.attach("lan", two)
    for version, router in ((4, "10.40.0.254"), (6, "fd40::fe")):
        assert one.pings(ip_of(second, version))
        assert one.pings(router)
        assert host.outside.pings(ip_of(first, version))
        assert not host.pings(ip_of(first, version), wait_s=1)  # there is no shim
    host.client.detach(first["id"])
    assert one.links() == []
    assert host.plan() == []


def test_with_a_shim_host_and_containers_talk(host: Host) -> None:
    lan(host, options={"shim": True})
    one = host.container()
    endpoint = host.attach("lan", one)
    for version, shim in ((4, "10.40.0.1"), (6, "fd40::2")):
        assert host.pings(ip_of(endpoint, version))
        assert one.pings(shim)
        assert host.outside.pings(ip_of(endpoint, version))
    host.client.detach(endpoint["id"])
    host.client.delete_network("lan")
    assert sorted(host.links()) == ["eth0"]


def test_a_parent_that_goes_and_comes_back(cold_host: Host, tmp_path: Path) -> None:
    host = cold_host
    config = tmp_path / "netd.toml"
    config.write_text("[reconcile]\ninterval_s = 1\n")
    host.start_daemon("--config", str(config))
    lan(host, options={"shim": True})
    one = host.container()
    endpoint = host.attach("lan", one)
    host.run("ip", "link", "del", "eth0")

    def conditions() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = host.client.endpoint(endpoint["id"])["conditions"]
        return found

    await_true(lambda: any("eth0" in condition["detail"] for condition in conditions()))
    host.add_uplink()
    host.outside.run("ip", "address", "add", "10.40.0.254/24", "dev", "eth0")
    await_true(lambda: conditions() == [])
    assert host.pings(ip_of(endpoint))
    assert one.pings("10.40.0.254")
    assert host.plan() == []


# What must not leak


# Prints each packet that is neither ARP, nor IPv6's neighbour and group upkeep, until told.
_SNIFF = """
import select, sys
from scapy.all import ARP, ICMPv6MLReport2, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RS, conf
UPKEEP = (ARP, ICMPv6MLReport2, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RS)
socket = conf.L2listen(iface="eth0")
print("ready", flush=True)
while True:
    readable, _, _ = select.select([socket, sys.stdin], [], [])
    if socket in readable:
        packet = socket.recv()
        if packet is not None and not any(kind in packet for kind in UPKEEP):
            print(packet.summary(), flush=True)
    elif sys.stdin in readable:
        break
"""
# Sends something by each protocol to an address, answered or not.
_PROBE = """
import socket, sys
for address in sys.argv[1:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    icmp = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
    echo = bytes((128 if family == socket.AF_INET6 else 8, 0, 0, 0, 0, 1, 0, 1))
    if family == socket.AF_INET:
        echo = bytes((8, 0, 0xF7, 0xFD, 0, 1, 0, 1))  # with its checksum
    for kind, protocol, text in (
        (socket.SOCK_STREAM, 0, None), (socket.SOCK_DGRAM, 0, b"x"), (socket.SOCK_RAW, icmp, echo)
    ):
        with socket.socket(family, kind, protocol) as made:
            made.settimeout(0.2)
            try:
                made.connect((address, 9))
                if text:
                    made.send(text)
            except OSError:
                pass
"""


class Sniffer:
    """Everything that comes to the outside."""

    def __init__(self, host: Host, stack: ExitStack) -> None:
        self._process = host.outside.start(stack, sys.executable, "-c", _SNIFF, talk=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def seen(self) -> list[str]:
        told, _ = self._process.communicate("\n", timeout=10)
        return told.splitlines()


def probe(container: Namespace) -> None:
    away = ("198.51.100.1", "2001:db8:1::1", "255.255.255.255")
    container.run(sys.executable, "-c", _PROBE, Host.OUTSIDE, Host.OUTSIDE6, *away)


@pytest.mark.parametrize("internal", [True, False])
def test_an_internal_network_leaks_nothing(host: Host, stack: ExitStack, internal: bool) -> None:
    host.client.create_network(
        name="in", driver="bridge", subnets=["10.50.0.0/24", "fd50::/64"], internal=internal
    )
    one = host.container()
    endpoint = host.attach("in", one)
    sniffer = Sniffer(host, stack)
    probe(one)
    for family, gateway in (("-4", "10.50.0.1"), ("-6", "fd50::1")):  # as an intruder would
        one.run("ip", family, "route", "replace", "default", "via", gateway)
    probe(one)
    assert one.pings("10.50.0.1")
    seen = sniffer.seen()
    if internal:
        assert seen == []
    else:  # the sniffer and the probes are what they should be
        for protocol in ("TCP", "UDP", "ICMP", "IPv6"):
            assert any(protocol in packet for packet in seen), seen
    # And from outside, for whom the host is a router, nobody comes in.
    host.outside.run("ip", "route", "add", "10.50.0.0/24", "via", Host.ADDRESS)
    if internal:
        assert not host.outside.pings(ip_of(endpoint), wait_s=1)


# What packets look like


def test_full_size_packets_pass_and_larger_ones_do_not(cold_host: Host) -> None:
    host = cold_host
    for end in (host, host.outside):
        end.run("ip", "link", "set", "eth0", "mtu", "1400")
    host.start_daemon()
    assert host.client.create_network(name="blue", driver="bridge")["mtu"] == 1400
    one, two = host.container(), host.container()
    assert host.attach("blue", one)["mtu"] == 1400
    second = host.attach("blue", two)
    for headers, addresses in (
        (20 + 8, (Host.OUTSIDE, ip_of(second))),
        (40 + 8, (Host.OUTSIDE6, ip_of(second, 6))),
    ):
        for address in addresses:
            whole = ("ping", "-M", "do", "-c", "1", "-W", "0.3", address, "-s")
            assert one.succeeds(*whole, str(1400 - headers))
            assert not one.succeeds(*whole, str(1400 - headers + 1))


_FIRST_SYN = """
import json
from scapy.all import IP, TCP, IPv6, conf
socket = conf.L2listen(iface="eth0")
print("ready", flush=True)
while True:
    packet = socket.recv()
    if packet is not None and TCP in packet and packet[TCP].flags == "S":
        network = packet[IP] if IP in packet else packet[IPv6]
        hops = network.ttl if IP in packet else network.hlim
        print(json.dumps([network.src, network.dst, packet[TCP].dport, hops]))
        break
"""


@pytest.mark.parametrize("version", [4, 6])
def test_a_published_port_changes_the_destination_only(
    host: Host, stack: ExitStack, version: int
) -> None:
    host.client.create_network(name="blue", driver="bridge")
    one = host.container()
    endpoint = host.attach("blue", one, ports=WEB)
    server = serve(one, stack, 80)
    for client, source, hops in (
        (host.outside, Host.OUTSIDE if version == 4 else Host.OUTSIDE6, 63),
        (host, Host.ADDRESS if version == 4 else Host.ADDRESS6, 64),
    ):
        sniffer = one.start(stack, sys.executable, "-c", _FIRST_SYN)
        assert sniffer.stdout is not None
        assert sniffer.stdout.readline() == "ready\n"
        client.run(*server.get(Host.ADDRESS if version == 4 else Host.ADDRESS6, 8080))
        seen = json.loads(sniffer.stdout.readline())
        assert seen == [source, ip_of(endpoint, version), 80, hops]


# A full bridge


@pytest.mark.timeout(90)
def test_a_bridge_takes_1023_endpoints(host: Host) -> None:
    host.client.create_network(name="big", driver="bridge", internal=True, subnets=["10.60.0.0/20"])
    boxes = [host.container() for _ in range(11)]
    last: dict[str, Any] = {}
    for number in range(1023):
        last = host.attach(
            "big",
            boxes[number // 100],
            container_id=f"box{number // 100}",
            ifname=f"e{number}",
            name=f"n{number}",
        )
    with pytest.raises(ApiError) as refused:
        host.attach("big", boxes[0], container_id="more", ifname="more")
    assert refused.value.code == "exhausted"
    assert "1023" in refused.value.detail
    assert "more" not in boxes[0].links()
    host.client.detach(last["id"])
    host.attach("big", boxes[0], container_id="more", ifname="more")  # while the other is removed
    assert host.plan() == []
    for number in range(11):
        host.client.detach_container(f"box{number}")
    host.client.detach_container("more")
    host.client.delete_network("big")
    await_removals(host)
    assert host.links() == ["eth0"]
