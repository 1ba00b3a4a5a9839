"""What can be changed on a live endpoint, under traffic."""

import errno
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import pytest

from netd.client.errors import ApiError
from tests.e2e.flow import Stream
from tests.e2e.lab import Host, Namespace
from tests.e2e.web import UDP_ASK, UDP_SERVE, serve

WEB = {"host_port": 8080, "container_port": 80}
DNS = {"host_port": 5353, "container_port": 53, "protocol": "udp"}


@pytest.fixture
def one(host: Host) -> Namespace:
    host.client.create_network(name="blue", driver="bridge")
    return host.container()


def bind_error(space: Namespace, port: int, *, address: str = "", kind: str = "tcp") -> str:
    """What a program gets that binds the port; "" when it can."""
    program = (
        "import socket, sys\n"
        "address, port, kind = sys.argv[1:]\n"
        "family = socket.AF_INET6 if ':' in address else socket.AF_INET\n"
        "made = socket.socket(family, socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM)\n"
        "try:\n"
        "    made.bind((address, int(port)))\n"
        "except OSError as error:\n"
        "    print(error.errno)\n"
    )
    return space.run(sys.executable, "-c", program, address, str(port), kind).strip()


IN_USE = str(errno.EADDRINUSE)


# Ports


def test_ports_come_and_go_beside_established_flows(
    host: Host, stack: ExitStack, one: Namespace
) -> None:
    other = {"host_port": 8081, "container_port": 81}
    endpoint = host.attach("blue", one, ports=[WEB])["id"]
    stream = Stream(stack, host.outside, one, Host.ADDRESS, 8080, listen=80)
    server = serve(one, stack, 81)
    reach = server.get(Host.ADDRESS, 8081, timeout_s=1)
    reach6 = server.get(Host.ADDRESS6, 8081, timeout_s=1)
    assert not host.outside.succeeds(*reach)
    assert (
        host.client.update_endpoint(endpoint, ports=[WEB, other])["ports"][1]["host_port"] == 8081
    )
    assert host.outside.run(*reach).strip() == Host.OUTSIDE
    assert host.outside.run(*reach6).strip() == Host.OUTSIDE6
    host.client.update_endpoint(endpoint, ports=[WEB, DNS])
    assert not host.outside.succeeds(*reach)
    assert not host.outside.succeeds(*reach6)
    stream.assert_nothing_was_lost()
    assert host.plan() == []


def test_a_port_that_leads_elsewhere_by_now(host: Host, stack: ExitStack, one: Namespace) -> None:
    """The established flow stays where it is, new ones go to the new place."""
    endpoint = host.attach("blue", one, ports=[WEB])["id"]
    stream = Stream(stack, host.outside, one, Host.ADDRESS6, 8080, listen=80)
    server = serve(one, stack, 81)
    host.client.update_endpoint(endpoint, ports=[WEB | {"container_port": 81}])
    assert host.outside.run(*server.get(Host.ADDRESS6, 8080)).strip() == Host.OUTSIDE6
    stream.assert_nothing_was_lost()


def test_udp_flows_follow_the_ports(host: Host, stack: ExitStack, one: Namespace) -> None:
    """The client keeps its port, so the kernel remembers where its last packets went."""
    endpoint = host.attach("blue", one)["id"]
    for port in ("53", "54"):
        server = one.start(stack, sys.executable, "-c", UDP_SERVE, port, f"by {port}")
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
    ask = (sys.executable, "-c", UDP_ASK, Host.ADDRESS, "5353", "40000")
    assert not host.outside.succeeds(*ask)  # refused, and remembered as to the host itself
    host.client.update_endpoint(endpoint, ports=[DNS])
    assert host.outside.run(*ask).strip() == "by 53"
    host.client.update_endpoint(endpoint, ports=[DNS | {"container_port": 54}])
    assert host.outside.run(*ask).strip() == "by 54"
    host.client.update_endpoint(endpoint, ports=[])
    assert not host.outside.succeeds(*ask)


def test_two_hundred_ports_are_no_matter(host: Host, one: Namespace) -> None:
    began_s = time.monotonic()
    ports = [{"host_port": port, "container_port": port} for port in range(10_000, 10_200)]
    endpoint = host.attach("blue", one, ports=ports)
    host.client.detach(endpoint["id"])
    assert time.monotonic() - began_s < 2  # usually a tenth of it


def test_a_range_leads_port_by_port(host: Host, stack: ExitStack, one: Namespace) -> None:
    host.attach("blue", one, ports=[{"host_port": 9000, "container_port": 80, "count": 3}])
    first, last = serve(one, stack, 80), serve(one, stack, 82)
    for server, port in ((first, 9000), (last, 9002)):
        assert host.outside.succeeds(*server.get(Host.ADDRESS, port))
        server.stop()
        assert not host.outside.succeeds(*server.get(Host.ADDRESS, port, timeout_s=1))


def test_ports_of_one_host_address(host: Host, stack: ExitStack, one: Namespace) -> None:
    host.attach(
        "blue",
        one,
        ports=[
            WEB | {"host_ip": "127.0.0.1"},
            {"host_port": 8081, "container_port": 80, "host_ip": Host.ADDRESS6},
        ],
    )
    server = serve(one, stack, 80)
    assert host.succeeds(*server.get("127.0.0.1", 8080))
    assert not host.outside.succeeds(*server.get(Host.ADDRESS, 8080, timeout_s=1))
    assert host.outside.succeeds(*server.get(Host.ADDRESS6, 8081))
    assert not host.outside.succeeds(*server.get(Host.ADDRESS, 8081, timeout_s=1))
    assert bind_error(host, 8080, address="127.0.0.1") == IN_USE
    assert bind_error(host, 8080, address=Host.ADDRESS) == ""


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_published_ports_are_kept_from_programs(host: Host, one: Namespace, kind: str) -> None:
    port = WEB | {"protocol": kind}
    endpoint = host.attach("blue", one, ports=[port])["id"]
    places = ("", "127.0.0.1", Host.ADDRESS, "::", Host.ADDRESS6)
    for address in places:
        assert bind_error(host, 8080, address=address, kind=kind) == IN_USE
    assert bind_error(one, 8080, kind=kind) == ""
    host.client.update_endpoint(endpoint, ports=[port | {"host_port": 8081}])
    for address in places:
        assert bind_error(host, 8080, address=address, kind=kind) == ""
        assert bind_error(host, 8081, address=address, kind=kind) == IN_USE
    host.client.detach(endpoint)
    assert bind_error(host, 8081, kind=kind) == ""


def test_a_port_of_a_program_is_refused_and_nothing_changes(
    host: Host, stack: ExitStack, one: Namespace
) -> None:
    server = serve(host, stack, 8081)
    endpoint = host.attach("blue", one, ports=[WEB])
    two = host.container()
    taken = [DNS, {"host_port": 8081, "container_port": 80}]
    with pytest.raises(ApiError) as refused:
        host.client.update_endpoint(endpoint["id"], ports=taken)
    assert (refused.value.code, refused.value.field) == ("conflict", "ports")
    assert "ss -lnp" in refused.value.detail
    assert host.client.endpoint(endpoint["id"]) == endpoint
    with pytest.raises(ApiError) as refused:
        host.attach("blue", two, ports=[WEB])
    assert refused.value.code == "conflict"
    assert endpoint["id"] in refused.value.detail
    assert two.links() == []
    assert host.plan() == []
    assert bind_error(host, 5353, kind="udp") == ""  # taken with the others, and given back
    server.stop()
    host.client.update_endpoint(endpoint["id"], ports=taken)


# Bandwidth


_RECEIVE = """
import socket, sys, time
server = socket.create_server(("::", 90), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
connection, _ = server.accept()
begun_s, received = time.monotonic(), 0
while data := connection.recv(1 << 20):
    received += len(data)
print(int(received * 8 / (time.monotonic() - begun_s)))
"""
_SEND = """
import socket, sys, time
connection = socket.create_connection((sys.argv[1], 90), 5)
end_s = time.monotonic() + 0.5
while time.monotonic() < end_s:
    connection.sendall(bytes(65536))
"""


def rate_bps(stack: ExitStack, source: Namespace, sink: Namespace, address: str) -> int:
    """How fast TCP gets from one to the other."""
    receiver = sink.start(stack, sys.executable, "-c", _RECEIVE)
    assert receiver.stdout is not None
    assert receiver.stdout.readline() == "ready\n"
    source.run(sys.executable, "-c", _SEND, address)
    rate, _ = receiver.communicate(timeout=10)
    return int(rate)


def test_bandwidth_is_limited_live_in_both_directions(
    host: Host, stack: ExitStack, one: Namespace
) -> None:
    endpoint = host.attach("blue", one)
    address = endpoint["addresses"][0].partition("/")[0]
    limit, other, much = 20_000_000, 40_000_000, 200_000_000
    stream = Stream(stack, host, one, address, 80, listen=80)

    def measured() -> tuple[int, int]:
        return (
            rate_bps(stack, host, one, address),
            rate_bps(stack, one, host, endpoint["gateways"][0]),
        )

    for ingress, egress in ((None, None), (limit, other), (other, None), (None, None)):
        bandwidth = {"ingress_bps": ingress, "egress_bps": egress}
        host.client.update_endpoint(endpoint["id"], bandwidth=bandwidth)
        for wanted, found in zip((ingress, egress), measured(), strict=True):
            if wanted is None:
                assert found > much
            else:
                assert 0.6 * wanted < found < 1.2 * wanted
        assert host.plan() == []
    stream.assert_nothing_was_lost()


# Names


def test_aliases_and_labels_are_known_at_once(host: Host, one: Namespace) -> None:
    endpoint = host.attach("blue", one, name="web", aliases=["www"], labels={"tier": "front"})
    address = endpoint["addresses"][0].partition("/")[0]

    def known(name: str) -> list[str]:
        return [record["data"] for record in host.client.resolve(name)["records"]]

    assert known("www.blue.netd.internal") == [address]
    with host.client.names(watch=True) as lines:
        table = list(_until_sync(lines))
        assert "www.blue.netd.internal" in {line["record"]["name"] for line in table}
        host.client.update_endpoint(
            endpoint["id"], aliases=["shop", "store"], labels={"tier": "back"}
        )
        changes = [next(lines) for _ in range(6)]  # of both families
    assert {(line["op"], line["record"]["name"].partition(".")[0]) for line in changes} == {
        ("remove", "www"),
        ("add", "shop"),
        ("add", "store"),
    }
    assert all(one["revision"] < two["revision"] for one, two in pairwise(changes))
    assert known("shop.blue.netd.internal") == [address]
    assert known("web.blue.netd.internal") == [address]
    assert known("www.blue.netd.internal") == []
    found = host.client.resolve("store", source=address)
    assert [record["data"] for record in found["records"]] == [address]
    after = host.client.endpoint(endpoint["id"])
    assert (after["aliases"], after["labels"]) == (["shop", "store"], {"tier": "back"})


def _until_sync(lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line["op"] == "sync":
            return
        yield line
