"""A bridge network with real packets."""

from contextlib import ExitStack

from tests.e2e.lab import Host, Namespace
from tests.e2e.web import UDP_ASK, UDP_SERVE, serve


def test_two_containers_talk_by_both_families(host: Host) -> None:
    host.client.create_network(name="blue", driver="bridge")
    one, two = host.container(), host.container()
    host.attach("blue", one, name="one")
    addresses = host.attach("blue", two, name="two")["addresses"]
    assert len(addresses) == 2
    for address in addresses:
        assert one.pings(address.partition("/")[0])


def test_container_reaches_the_outside_and_keeps_its_address_hidden(
    host: Host, stack: ExitStack
) -> None:
    host.client.create_network(name="blue", driver="bridge")
    one = host.container()
    host.attach("blue", one)
    for address, seen in ((Host.OUTSIDE, Host.ADDRESS), (Host.OUTSIDE6, Host.ADDRESS6)):
        server = serve(host.outside, stack, 80, family=6 if ":" in address else 4)
        assert one.run(*server.get(address)).strip() == seen
        server.stop()


def test_published_port_keeps_the_source_address(host: Host, stack: ExitStack) -> None:
    host.client.create_network(name="blue", driver="bridge")
    one = host.container()
    host.attach("blue", one, ports=[{"host_port": 8080, "container_port": 80}])
    server = serve(one, stack, 80)
    assert host.outside.run(*server.get(Host.ADDRESS, 8080)).strip() == Host.OUTSIDE
    assert host.outside.run(*server.get(Host.ADDRESS6, 8080)).strip() == Host.OUTSIDE6


def test_published_port_from_host_loopback_and_own_network(host: Host, stack: ExitStack) -> None:
    host.client.create_network(name="blue", driver="bridge")
    one, two = host.container(), host.container()
    host.attach("blue", one, ports=[{"host_port": 8080, "container_port": 80}])
    host.attach("blue", two)
    server = serve(one, stack, 80)
    for client, address in (
        (host, "127.0.0.1"),
        (host, Host.ADDRESS),
        (host, Host.ADDRESS6),
        (two, Host.ADDRESS),
        (two, Host.ADDRESS6),
        (one, Host.ADDRESS),  # hairpin: to itself
        (one, Host.ADDRESS6),
    ):
        assert client.run(*server.get(address, 8080)).strip(), address


def test_networks_are_isolated_unless_told_otherwise(host: Host, stack: ExitStack) -> None:
    host.client.create_network(name="blue", driver="bridge")
    host.client.create_network(name="red", driver="bridge")
    blue, red = host.container(), host.container()
    host.attach("blue", blue)
    address = host.attach("red", red, ports=[{"host_port": 8080, "container_port": 80}])
    ip = address["addresses"][0].partition("/")[0]
    assert not blue.pings(ip, wait_s=1)
    server = serve(red, stack, 80)
    assert not blue.succeeds(*server.get(ip, timeout_s=1))
    assert blue.succeeds(*server.get(Host.ADDRESS, 8080))  # what is published is for everybody


def test_open_networks_reach_each_other(host: Host) -> None:
    host.client.create_network(name="blue", driver="bridge", isolated=False)
    host.client.create_network(name="red", driver="bridge", isolated=False)
    blue, red = host.container(), host.container()
    host.attach("blue", blue)
    address = host.attach("red", red)["addresses"]
    for text in address:
        assert blue.pings(text.partition("/")[0])


def test_unpublished_ports_are_closed_to_the_outside(host: Host, stack: ExitStack) -> None:
    host.client.create_network(name="blue", driver="bridge", subnets=["10.20.0.0/24"])
    one = host.container()
    host.attach("blue", one)
    server = serve(one, stack, 80)
    host.outside.run("ip", "route", "add", "10.20.0.0/24", "via", Host.ADDRESS)
    assert not host.outside.succeeds(*server.get("10.20.0.2", timeout_s=1))
    assert host.succeeds(*server.get("10.20.0.2"))


def test_second_network_answers_by_its_own_gateway(host: Host, stack: ExitStack) -> None:
    host.client.create_network(name="blue", driver="bridge")
    host.client.create_network(name="red", driver="bridge")
    one = host.container()
    first = host.attach("blue", one)
    second = host.attach(
        "red", one, ifname="eth1", ports=[{"host_port": 8080, "container_port": 80}]
    )
    assert (first["default_route"], second["default_route"]) == (True, False)
    server = serve(one, stack, 80)
    assert host.outside.run(*server.get(Host.ADDRESS, 8080)).strip() == Host.OUTSIDE
    assert host.outside.run(*server.get(Host.ADDRESS6, 8080)).strip() == Host.OUTSIDE6


def test_udp_flow_follows_a_port_that_moves(host: Host, stack: ExitStack) -> None:
    host.client.create_network(name="blue", driver="bridge")
    one, two = host.container(), host.container()
    first = host.attach(
        "blue", one, ports=[{"host_port": 5353, "container_port": 53, "protocol": "udp"}]
    )
    assert _udp_answer(host, stack, one, "one") == "one"
    host.client.detach(first["id"])
    host.attach("blue", two, ports=[{"host_port": 5353, "container_port": 53, "protocol": "udp"}])
    # The same client port again: a stale flow would still lead to the first container.
    assert _udp_answer(host, stack, two, "two") == "two"


def _udp_answer(host: Host, stack: ExitStack, space: Namespace, text: str) -> str:
    server = space.start(stack, "python3", "-c", UDP_SERVE, "53", text)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    answer = host.outside.run("python3", "-c", UDP_ASK, Host.ADDRESS, "5353", "40000").strip()
    server.kill()
    return answer
