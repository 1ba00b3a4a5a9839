"""Virtual addresses on real hosts: balanced, drained, repaired, on one host and across several."""

import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from typing import Any, Final

import pytest

from tests.e2e.cluster_lab import Cluster, ClusterHost
from tests.e2e.lab import Host, Machine, Namespace, await_true, ip_of

FAMILIES: Final = (4, 6)
# Tells its name on each connection and to each datagram; a connection is held until it is closed.
SERVE: Final = """
import selectors, socket, sys
port, name = int(sys.argv[1]), sys.argv[2].encode()
waiting = selectors.DefaultSelector()
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    server = socket.socket(socket.AF_INET6, kind)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("", port))
    if kind == socket.SOCK_STREAM:
        server.listen(64)
    waiting.register(server, selectors.EVENT_READ)
print("ready", flush=True)
held = []
while True:
    for key, _ in waiting.select():
        if key.fileobj.type == socket.SOCK_STREAM:
            connection, _ = key.fileobj.accept()
            connection.sendall(name + b"\\n")
            held.append(connection)
        else:
            _, peer = key.fileobj.recvfrom(100)
            key.fileobj.sendto(name, peer)
"""
# Asks so many times, each time anew, and prints who answered.
ASK: Final = """
import socket, sys
address, port, kind, times = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
for _ in range(times):
    with socket.socket(family, getattr(socket, kind)) as client:
        client.settimeout(3)
        try:
            client.connect((address, port))
            if kind == "SOCK_DGRAM":
                client.send(b"?")
            print(client.recv(100).decode().strip())
        except OSError as error:
            print(type(error).__name__)
"""
# Keeps a connection, says who answered, and then how it ended.
HOLD: Final = """
import socket, sys
client = socket.create_connection((sys.argv[1], 80), 5)
print(client.recv(100).decode().strip(), flush=True)
client.settimeout(20)
try:
    while True:
        client.sendall(b"?")
        client.settimeout(0.05)
        try:
            if not client.recv(100):
                print("closed", flush=True)
                break
        except TimeoutError:
            pass
except OSError as error:
    print(type(error).__name__, flush=True)
"""


def serve(
    stack: ExitStack, place: Namespace, name: str, port: int = 8080
) -> "subprocess.Popen[str]":
    process = place.start(stack, sys.executable, "-c", SERVE, str(port), name)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def ask(
    place: Namespace, address: str, port: int = 80, kind: str = "SOCK_STREAM", times: int = 30
) -> Counter[str]:
    """Who answers there, and how often."""
    said = place.run(sys.executable, "-c", ASK, address, str(port), kind, str(times), timeout_s=120)
    return Counter(said.split())


def expose(machine: Machine, name: str = "web", port: int = 80, **more: Any) -> list[str]:
    ports = [{"port": port}, {"port": port, "protocol": "udp"}]
    addresses: list[str] = machine.client.expose(name, ports=ports, **more)["addresses"]
    return addresses


class Pair(dict[str, Namespace]):
    """Containers by name, with a server in each."""

    def __init__(self) -> None:
        self.servers: dict[str, subprocess.Popen[str]] = {}

    def end(self, name: str) -> None:
        """End all that is in the container, and so its namespace."""
        self.servers[name].kill()
        self.servers[name].wait()
        self[name].end()


@pytest.fixture
def pair(host: Host, stack: ExitStack) -> Pair:
    """Containers `a` and `b` on a network, each with an instance of the service web."""
    host.client.create_network(name="blue", driver="bridge", subnets=["10.20.0.0/24", "fd20::/64"])
    places = Pair()
    for name in ("a", "b"):
        place = places[name] = host.container()
        endpoint = host.attach("blue", place, name=name)
        for version in FAMILIES:
            host.client.register(
                f"{name}-{version}",
                name="web",
                port=8080,
                endpoint=endpoint["id"],
                address=ip_of(endpoint, version),
            )
        places.servers[name] = serve(stack, place, name)
    return places


def test_containers_and_the_host_reach_the_instances(host: Host, pair: Pair) -> None:
    client = host.container()
    host.attach("blue", client)
    other = host.container()
    host.client.create_network(name="red", driver="bridge")
    host.attach("red", other)
    for address in expose(host):
        for place in (client, host, pair["a"]):
            for kind in ("SOCK_STREAM", "SOCK_DGRAM"):
                assert ask(place, address, kind=kind).keys() == {"a", "b"}, (place, address, kind)
        assert ask(other, address, times=1) == {"ConnectionRefusedError": 1}
        assert ask(client, address, 81, times=1) == {"ConnectionRefusedError": 1}
    assert host.plan() == []


def test_clients_are_led_to_instances_on_their_own_network(host: Host, stack: ExitStack) -> None:
    clients = {}
    for number, name in enumerate(("blue", "red")):
        subnets = [f"10.{20 + number}.0.0/24", f"fd2{number}::/64"]
        host.client.create_network(name=name, driver="bridge", subnets=subnets)
        place, clients[name] = host.container(), host.container()
        endpoint = host.attach(name, place)
        host.attach(name, clients[name])
        host.client.register(name, name="web", port=8080, endpoint=endpoint["id"])
        serve(stack, place, name)
    for address in expose(host):
        for kind in ("SOCK_STREAM", "SOCK_DGRAM"):
            assert {name: ask(place, address, kind=kind) for name, place in clients.items()} == {
                "blue": {"blue": 30},
                "red": {"red": 30},
            }
            assert ask(host, address, kind=kind).keys() == {"blue", "red"}
    assert host.plan() == []


def test_an_internal_network_has_virtual_addresses_and_no_way_out(
    host: Host, stack: ExitStack
) -> None:
    create = host.client.create_network
    create(name="back", driver="bridge", internal=True, subnets=["10.20.0.0/24", "fd20::/64"])
    create(name="front", driver="bridge", subnets=["10.21.0.0/24", "fd21::/64"])
    for name in ("back", "front"):
        place = host.container()
        endpoint = host.attach(name, place)
        host.client.register(name, name="web", port=8080, endpoint=endpoint["id"])
        serve(stack, place, name)
    host.client.register("host", name="web", port=8080)
    serve(stack, host, "host")
    inside, both = host.container(), host.container()
    host.attach("back", inside)
    host.attach("back", both)
    host.attach("front", both, ifname="eth1")
    address4, address6 = expose(host)
    # The host's program answers datagrams from the address of the bridge, so it is asked by TCP.
    assert ask(inside, address4).keys() == {"back", "host"}
    assert ask(both, address4).keys() == {"front", "host"}  # by its default route
    for kind in ("SOCK_STREAM", "SOCK_DGRAM"):
        assert ask(inside, address6, kind=kind).keys() == {"back"}
        assert ask(both, address6, kind=kind).keys() == {"front"}
    assert ask(inside, address4, 81, times=1) == {"ConnectionRefusedError": 1}
    for target in ("198.51.100.1", "10.21.0.2", "2001:db8::1", "fd21::2"):
        assert not inside.succeeds("ip", "route", "get", target)
    assert host.plan() == []


def test_an_instance_whose_container_ends_is_out_at_once(host: Host, pair: Pair) -> None:
    address, _ = expose(host)
    client = host.container()
    host.attach("blue", client)
    pair.end("a")
    begun_s = time.monotonic()
    while (said := ask(client, address, times=1)) != {"b": 1}:
        assert time.monotonic() - begun_s < 2, said
    assert ask(client, address) == {"b": 30}
    assert ask(host, address, kind="SOCK_DGRAM") == {"b": 30}
    pair.end("b")
    await_true(lambda: host.client.virtual("web")["instances"] == 0)
    begun_s = time.monotonic()
    assert ask(client, address, times=1) == {"ConnectionRefusedError": 1}
    assert ask(host, address, times=1) == {"ConnectionRefusedError": 1}
    assert time.monotonic() - begun_s < 2


def test_an_instance_that_is_taken_out_is_drained(host: Host, pair: Pair, stack: ExitStack) -> None:
    address, _ = expose(host, drain_s=1.0)
    client = host.container()
    host.attach("blue", client)
    held = client.start(stack, sys.executable, "-c", HOLD, address)
    assert held.stdout is not None
    name = held.stdout.readline().strip()
    for version in FAMILIES:
        host.client.maintain(f"{name}-{version}", True)
    other = "b" if name == "a" else "a"
    begun_s = time.monotonic()
    assert ask(client, address) == {other: 30}
    assert held.poll() is None, "what was open stays open"
    assert held.stdout.readline() == "ConnectionResetError\n"
    assert 0.5 < time.monotonic() - begun_s < 5


def test_weights_and_affinity(host: Host, pair: Pair) -> None:
    for version in FAMILIES:
        known = host.client.service(f"a-{version}")
        host.client.register(
            f"a-{version}",
            name="web",
            port=8080,
            endpoint=known["endpoint"],
            address=known["address"],
            weights={"passing": 9, "warning": 1},
        )
    client = host.container()
    host.attach("blue", client)
    address, address6 = expose(host)
    said = ask(client, address, times=200)
    assert said.keys() == {"a", "b"}
    assert said["a"] > 140  # 180 are expected; 140 are 9 standard deviations less
    assert expose(host, affinity="source") == [address, address6]
    assert len(ask(client, address)) == len(ask(client, address6)) == 1


def test_it_comes_back_and_survives_the_daemon(host: Host, pair: Pair) -> None:
    address, _ = expose(host)
    host.run("nft", "flush", "ruleset")
    await_true(lambda: host.plan() == [])
    assert ask(host, address).keys() == {"a", "b"}
    host.run("ip", "link", "del", "ndvirtual")
    await_true(lambda: "10.191.0.0/16" in host.run("ip", "route", "show"))
    assert ask(host, address).keys() == {"a", "b"}
    before = host.run("nft", "list", "table", "inet", "netd")
    host.kill()
    assert ask(pair["a"], address).keys() == {"a", "b"}
    host.start_daemon()
    assert host.run("nft", "list", "table", "inet", "netd") == before
    assert ask(host, address).keys() == {"a", "b"}
    host.client.unexpose("web")
    assert "10.191" not in host.run("nft", "list", "table", "inet", "netd")
    assert not host.succeeds("ip", "link", "show", "ndvirtual")
    assert host.plan() == []


def test_instances_at_the_host_and_behind_a_published_port(host: Host, stack: ExitStack) -> None:
    host.client.create_network(name="blue", driver="bridge")
    client, published = host.container(), host.container()
    host.attach("blue", client)
    host.attach("blue", published, ports=[{"host_port": 8081, "container_port": 8080}])
    serve(stack, host, "host", 8082)
    serve(stack, published, "published")
    host.client.register("one", name="web", port=8082)
    host.client.register("two", name="web", port=8081)
    address = host.client.expose("web", ports=[{"port": 80}])["addresses"][0]
    for place in (client, host, published):
        assert ask(place, address).keys() == {"host", "published"}


def test_across_hosts(cluster: Cluster, stack: ExitStack) -> None:
    one, two, three, *_ = cluster.hosts
    one.client.create_network(name="wide", driver="overlay", subnets=["10.40.0.0/16", "fd40::/64"])
    for host in cluster.hosts:
        await_true(lambda host=host: "wide" in networks(host))  # type: ignore[misc]
    client, a, b = one.container(), two.container(), three.container()
    serving = {}
    one.attach("wide", client, name="client")
    for host, place, name in ((two, a, "a"), (three, b, "b")):
        endpoint = host.attach("wide", place, name=name)
        host.client.register(name, name="web", port=8080, endpoint=endpoint["id"])
        serving[name] = serve(stack, place, name)
    addresses = expose(two)
    await_true(lambda: ids(one) == ["web"] and one.client.virtual("web")["instances"] == 2)
    assert one.client.virtual("web")["addresses"] == addresses
    for address in addresses:
        for place in (client, one, a, two, three):
            for kind in ("SOCK_STREAM", "SOCK_DGRAM"):
                assert ask(place, address, kind=kind).keys() == {"a", "b"}, (place, address, kind)
    serving["a"].kill()
    serving["a"].wait()
    a.end()
    await_true(lambda: one.client.virtual("web")["instances"] == 1)
    for address in addresses:
        assert ask(client, address) == {"b": 30}
    three.client.unexpose("web")
    await_true(lambda: ids(one) == [])
    for host in cluster.hosts:
        await_true(lambda host=host: host.plan() == [])  # type: ignore[misc]


def test_netctl(cluster: Cluster) -> None:
    one, two, *_ = cluster.hosts
    shown = one.netctl("service", "expose", "shop", "--port", "80:8080", "--affinity", "source")
    addresses = shown.split()
    assert len(addresses) == 2
    await_true(lambda: ids(two) == ["shop"])
    assert two.netctl("service", "virtual", "ls").splitlines()[1].split() == [
        "shop",
        ",".join(addresses),
        "80:8080/tcp",
        "source",
        "0",
        "-",
    ]
    two.netctl("service", "unexpose", "shop")
    await_true(lambda: ids(one) == [])


def networks(host: ClusterHost) -> list[str]:
    return [network["name"] for network in host.client.networks()]


def ids(host: ClusterHost) -> list[str]:
    return [virtual["id"] for virtual in host.client.virtuals()]
