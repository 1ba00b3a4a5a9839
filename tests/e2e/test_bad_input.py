"""Bad input at the real daemon: each gets the right problem, and nothing is left behind."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from netd.client.client import Client
from netd.client.errors import ApiError
from tests.e2e.lab import Host, Namespace
from tests.e2e.wire import Answer, Refusal, ask, call, connect, exchange, request

SUBNET, SUBNET6 = "10.20.0.0/28", "fd20::/64"
SETTLED_S = 2.0
ROOM = 13  # addresses of SUBNET without its own two and the gateway
ABSENT = object()  # a field that is left out


@dataclass(frozen=True)
class World:
    """A host with networks of every kind, one endpoint, and a container to attach."""

    host: Host
    one: dict[str, Any]
    container: Namespace
    folder: Path
    before: dict[str, Any] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        """All that bad input must not change, but for the address pools."""
        host, client = self.host, self.host.client
        return {
            "networks": client.networks(),
            "endpoints": client.endpoints(),
            "plan": client.plan(),
            "links": host.run("ip", "-oneline", "link").splitlines(),
            "addresses": host.run("ip", "-oneline", "address").splitlines(),
            "routes": host.run("ip", "route", "show", "table", "all").splitlines(),
            "rules": host.run("nft", "--stateless", "list", "ruleset").splitlines(),
            "held": sorted(host.run("ss", "-Hlntu").splitlines()),
            "inside": self.container.run("ip", "-oneline", "address").splitlines(),
        }

    def call(self, method: str, target: str, value: object = None) -> Answer:
        return call(self.host.socket, method, target, value)

    def attach(self, network: str, **fields: Any) -> Answer:
        """Attach the container, as the fields say; what is ABSENT is left out."""
        request = {"container_id": "c", **fields}
        if "netns" not in request:
            request.setdefault("pid", self.container.pid)
        given = {name: value for name, value in request.items() if value is not ABSENT}
        return self.call("POST", f"/v1/networks/{network}/endpoints", given)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("host")
    with ExitStack() as stack:
        host = Host(stack, folder)
        config = folder / "netd.toml"
        config.write_text("[networks]\nquarantine_s = 0\n")
        host.start_daemon("--config", str(config))
        _add_routes(host)
        _add_files(folder)
        client = host.client
        client.create_network(name="blue", driver="bridge", subnets=[SUBNET, SUBNET6])
        client.create_network(name="inner", driver="bridge", internal=True)
        client.create_network(name="alone", driver="none")
        client.create_network(name="open", driver="host")
        client.create_network(name="wire", driver="macvlan", subnets=["10.22.0.0/24"])
        port = {"host_port": 80, "container_port": 80}
        one = host.attach("blue", host.container(), addresses=["10.20.0.5"], ports=[port])
        world = World(host, one, host.container(), folder)
        world.container.run("ip", "link", "set", "lo", "up")
        while "tentative" in host.run("ip", "address"):
            time.sleep(0.05)  # the uplink's own link-local address (RFC 4862)
        world.before.update(world.state())
        assert world.before["plan"] == []
        yield world
        _check_that_no_address_was_lost(world)
        log = host.log.read_text()
        assert "Traceback" not in log, log[-4000:]


@pytest.fixture(autouse=True)
def unchanged(world: World) -> Iterator[None]:
    """After each test all is as it was before."""
    yield
    deadline_s = time.monotonic() + SETTLED_S
    while (state := world.state()) != world.before and time.monotonic() < deadline_s:
        time.sleep(0.02)  # nothing tells from outside when a detached link's remains are gone
    assert state == world.before


def _add_routes(host: Host) -> None:
    via = ("via", Host.OUTSIDE, "dev", "eth0")
    host.run("ip", "route", "add", "172.20.0.0/16", *via)
    host.run("ip", "route", "add", "172.21.0.0/16", *via, "table", "77")
    host.run("ip", "rule", "add", "from", "192.0.2.77", "lookup", "77")


def _add_files(folder: Path) -> None:
    (folder / "file").write_text("not a namespace")
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "dangling").symlink_to(folder / "nothing")
    (folder / "left").touch()  # what is left of a bind mount when it is unmounted


def _check_that_no_address_was_lost(world: World) -> None:
    client = world.host.client
    ids = [
        client.attach("blue", container_id="all", pid=world.container.pid, ifname=f"e{n}")["id"]
        for n in range(ROOM - 1)
    ]
    assert len(ids) == len(set(ids))
    with pytest.raises(ApiError, match="no free address") as caught:
        client.attach("blue", container_id="all", pid=world.container.pid, ifname="more")
    assert (caught.value.status, caught.value.code) == (507, "exhausted")


def invalid(field: str | None, says: str) -> Refusal:
    return Refusal(400, "invalid", field, says)


def conflict(field: str | None, says: str) -> Refusal:
    return Refusal(409, "conflict", field, says)


def not_found(field: str | None, says: str) -> Refusal:
    return Refusal(404, "not-found", field, says)


# Networks

NAME = invalid("name", "use 1 to 63 lower-case letters, digits")
LONG = "expected str of length <= 256"
SPECIAL = "cannot be used for containers"


@pytest.mark.parametrize(
    ("spec", "refusal"),
    [
        ({"name": ABSENT}, invalid("name", "name is required")),
        ({"driver": ABSENT}, invalid("driver", "driver is required")),
        ({"name": 1}, invalid("name", "expected str, got int")),
        ({"name": None}, invalid("name", "expected str, got null")),
        ({"name": "w" * 5000}, invalid("name", LONG)),
        *(
            ({"name": name}, NAME)
            for name in (
                *("", "A", "a" * 64, "a/b", "a\0", "a\n", "a b", "-", ".a", "a.", "..", "é"),
                *("a;drop", "$(id)", "\x1b[31m", "\u202e"),
            )
        ),
        ({"driver": "vxlan"}, invalid("driver", "one of bridge, host, ipvlan, macvlan, none")),
        ({"driver": "overlay", "parent": "eth0"}, invalid("parent", "takes no parent")),
        ({"driver": "overlay", "vni": 1 << 24}, invalid("vni", "a number from 1 to 16777215")),
        (
            {"driver": "overlay", "options": {"learning": True}},
            invalid("options.learning", "it has: broadcast, hairpin, masquerade"),
        ),
        (
            {"driver": "overlay", "name": "blue"},
            conflict("driver", 'exists with driver "bridge"'),
        ),
        ({"subnet": "10.1.0.0/24"}, invalid("subnet", "did you mean subnets?")),
        ({"colour": "blue"}, invalid("colour", "known are name, driver, subnets")),
        ({"subnets": "10.1.0.0/24"}, invalid("subnets", "expected array, got str")),
        ({"subnets": [1]}, invalid("subnets[0]", "expected str, got int")),
        ({"subnets": ["10.1.0.0/" + "9" * 5000]}, invalid("subnets[0]", LONG)),
        *(
            ({"subnets": [text]}, invalid("subnets[0]", "write one like 10.20.0.0/24"))
            for text in ("", "10.1.0.0/33", "fd00::/129", "10.1.0/24", "a\0b", "10.1.0.0/-1", "٣/8")
        ),
        ({"subnets": ["10.1.0.1/24"]}, invalid("subnets[0]", "write 10.1.0.0/24")),
        ({"subnets": ["10.1.0.0"]}, invalid("subnets[0]", "write 10.1.0.0/24, for example")),
        ({"subnets": ["10.1.0.0/31"]}, invalid("subnets[0]", "no room for a gateway")),
        ({"subnets": ["fd01::%eth0/64"]}, invalid("subnets[0]", "without the zone")),
        *(
            ({"subnets": [text]}, invalid("subnets[0]", SPECIAL))
            for text in (
                *("0.0.0.0/0", "::/0", "127.0.0.0/24", "169.254.0.0/16", "224.0.0.0/24"),
                *("240.0.0.0/24", "fe80::/64", "ff02::/64", "::ffff:10.0.0.0/120"),
            )
        ),
        (
            {"subnets": ["10.1.0.0/24", "10.2.0.0/24"]},
            invalid("subnets[1]", "at most one of each family"),
        ),
        ({"subnets": ["10.20.0.0/16"]}, conflict("subnets[0]", "overlaps network 'blue'")),
        ({"subnets": ["10.20.0.8/29"]}, conflict("subnets[0]", "overlaps network 'blue'")),
        ({"subnets": ["10.22.0.0/24"]}, conflict("subnets[0]", "overlaps network 'wire'")),
        ({"subnets": ["fd21::/64", SUBNET]}, conflict("subnets[1]", "overlaps network 'blue'")),
        ({"subnets": ["172.20.5.0/24"]}, conflict("subnets[0]", "the host's route 172.20.0.0/16")),
        ({"subnets": ["172.21.5.0/24"]}, conflict("subnets[0]", "the host's route 172.21.0.0/16")),
        ({"subnets": ["192.0.2.128/25"]}, conflict("subnets[0]", "the host's route 192.0.2.0/24")),
        ({"subnets": ["2001:db8::/64"]}, conflict("subnets[0]", "the host's route 2001:db8::/64")),
        ({"gateways": ["10.2.0.1"]}, invalid("gateways[0]", "in no subnet of the network")),
        ({"gateways": ["10.1.0.0"]}, invalid("gateways[0]", "10.1.0.0/24's own address")),
        ({"gateways": ["10.1.0.255"]}, invalid("gateways[0]", "10.1.0.0/24's own address")),
        ({"gateways": ["10.1.0.1/16"]}, invalid("gateways[0]", "write 10.1.0.1")),
        ({"gateways": ["fd01::1%eth0"]}, invalid("gateways[0]", "without the zone")),
        ({"gateways": ["router"]}, invalid("gateways[0]", "write one like 10.20.0.5")),
        ({"gateways": ["10.1.0.1", "10.1.0.2"]}, conflict("gateways[1]", "has a gateway already")),
        *(
            ({"mtu": mtu}, invalid("mtu", "takes 576 to 65535 bytes"))
            for mtu in (575, 0, -1, 65536, 2**31, 10**30)
        ),
        (
            {"subnets": ["fd01::/64"], "mtu": 1279},
            invalid("mtu", "this network takes 1280 to 65535 bytes"),
        ),
        ({"mtu": 1500.5}, invalid("mtu", "expected int | null, got float")),
        ({"mtu": "1500"}, invalid("mtu", "got str")),
        ({"mtu": True}, invalid("mtu", "got bool")),
        ({"vni": 5}, invalid("vni", "driver 'bridge' takes no vni")),
        ({"parent": "eth0"}, invalid("parent", "driver 'bridge' takes no parent")),
        ({"encrypted": True}, invalid("encrypted", "driver 'bridge' takes no encrypted")),
        ({"options": {"mode": "x"}}, invalid("options.mode", "it has: hairpin, masquerade, range")),
        (
            {"options": {"masquerade": "yes"}},
            invalid("options.masquerade", "must be true or false"),
        ),
        ({"options": {"range": 5}}, invalid("options.range", "must be a string")),
        ({"options": {"range": "10.9.0.0/24"}}, invalid("options.range", "in no subnet")),
        ({"options": {"range": 1.5}}, invalid("options", "got float")),
        ({"labels": {"a": 1}}, invalid("labels", "expected str, got int")),
        ({"labels": {"": "x"}}, invalid("labels.", "keys have 1 to 1024 bytes")),
        ({"labels": {"a": "x" * 1025}}, invalid("labels.a", "values at most 1024")),
        ({"labels": {str(n): "" for n in range(5000)}}, invalid("labels", "at most 64 are kept")),
        ({"driver": "macvlan", "mtu": 1501}, invalid("mtu", "no link on eth0 can have more")),
        ({"driver": "macvlan", "parent": "nope"}, invalid("parent", "no link 'nope'")),
        ({"driver": "macvlan", "parent": "e/h"}, invalid("parent", "use 1 to 15 letters")),
        ({"driver": "macvlan", "parent": "lo"}, invalid("parent", "not 'lo'")),
        ({"driver": "macvlan", "parent": "nd-blue"}, invalid("parent", "is netd's own")),
        (
            {"driver": "macvlan", "subnets": ["192.0.2.0/24"]},
            invalid("options.range", "the part of it that is netd's"),
        ),
        (
            {"driver": "macvlan", "options": {"mode": "x"}},
            invalid("options.mode", "bridge, private, vepa, passthru"),
        ),
        ({"driver": "host"}, invalid("subnets", "driver 'host' takes no subnets")),
        (
            {"driver": "none", "subnets": ABSENT, "mtu": 1500},
            invalid("mtu", "driver 'none' takes no mtu"),
        ),
        (
            {"name": "blue", "subnets": ["10.1.0.0/24"]},
            conflict("subnets", f'exists with subnets ["{SUBNET}","{SUBNET6}"]; choose'),
        ),
        ({"name": "blue", "driver": "none"}, conflict("driver", 'exists with driver "bridge"')),
        ({"name": "blue", "subnets": [], "mtu": 1400}, conflict("mtu", "exists with mtu 1500")),
    ],
)
def test_networks_that_cannot_be(world: World, spec: dict[str, Any], refusal: Refusal) -> None:
    fields = {"name": "new", "driver": "bridge", "subnets": ["10.1.0.0/24"]} | spec
    given = {name: value for name, value in fields.items() if value is not ABSENT}
    refusal.check(world.call("POST", "/v1/networks", given))


# Endpoints

IFNAME = invalid("ifname", "use 1 to 15 letters, digits or one of '_.@+-'")
CONTAINER = invalid("container_id", "use 1 to 128 letters, digits or one of '_.:@-'")
MAC = invalid("mac", "is not a unicast MAC address like 02:00:5e:10:00:01")


def port(**fields: Any) -> dict[str, Any]:
    return {"ports": [{"host_port": 81, "container_port": 81} | fields]}


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        *(
            ({"container_id": text}, CONTAINER)
            for text in ("", "a/b", "../x", ".x", "a b", "a\0", "é", "a" * 129, "$(id)", "%2e")
        ),
        ({"container_id": ABSENT}, invalid("container_id", "is required")),
        ({"container_id": "w" * 5000}, invalid("container_id", LONG)),
        *(
            ({"name": text}, invalid("name", "is not a DNS label"))
            for text in ("a.b", "-a", "a-", "a" * 64, "é", "a\0", "*", "a b", "a\n", "\x1b[2J")
        ),
        ({"aliases": "a"}, invalid("aliases", "expected array")),
        ({"aliases": ["a", "b c"]}, invalid("aliases[1]", "is not a DNS label")),
        ({"aliases": [""]}, invalid("aliases[0]", "is not a DNS label")),
        ({"aliases": [str(n) for n in range(33)]}, invalid("aliases", "at most 32")),
        *(
            ({"ifname": text}, IFNAME)
            for text in (
                *("", ".", "..", "lo", "all", "default", "a/b", "a b", "a:b", "a\t", "a\0"),
                *("eth%d", "%s", "a" * 16, "é" * 8, "eth0\n", " eth0", "a\\b", "a;b", "a'b", 'a"b'),
            )
        ),
        ({"addresses": ["10.20.0.0"]}, invalid("addresses[0]", "the subnet's own")),
        ({"addresses": ["10.20.0.1"]}, invalid("addresses[0]", "the gateway's")),
        ({"addresses": ["10.20.0.15"]}, invalid("addresses[0]", "the subnet's own")),
        ({"addresses": ["fd20::"]}, invalid("addresses[0]", "the subnet's own")),
        ({"addresses": ["fd20::1"]}, invalid("addresses[0]", "the gateway's")),
        (
            {"addresses": ["10.20.0.16"]},
            invalid("addresses[0]", f"in no subnet of the network ({SUBNET}, {SUBNET6})"),
        ),
        ({"addresses": ["::ffff:10.20.0.6"]}, invalid("addresses[0]", "in no subnet")),
        ({"addresses": ["10.20.0.5"]}, conflict("addresses[0]", "is held by endpoint")),
        (
            {"addresses": ["fd20::77", "10.20.0.5"]},
            conflict("addresses[1]", "10.20.0.5 is held by endpoint"),
        ),
        ({"addresses": ["10.20.0.6", "10.20.0.7"]}, invalid("addresses[1]", "a second address")),
        ({"addresses": ["10.20.0.6/24"]}, invalid("addresses[0]", "write 10.20.0.6")),
        ({"addresses": ["fd20::5%eth0"]}, invalid("addresses[0]", "without the zone")),
        *(
            ({"addresses": [text]}, invalid("addresses[0]", "write one like 10.20.0.5"))
            for text in ("", "010.20.0.6", "169017350", "10.20.0.6\n", "10.20.0.6/x", "10.20.0")
        ),
        ({"addresses": ["x" * 5000]}, invalid("addresses[0]", LONG)),
        *(
            ({"mac": text}, MAC)
            for text in (
                *("", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"),
                *("02aabbccddee", "02:aa:bb:cc:dd", "02:aa:bb:cc:dd:ee:ff", "02:aa:bb:cc:dd:gg"),
            )
        ),
        ({"mac": 5}, invalid("mac", "got int")),
        ({"mac": "0e:aa:bb:cc:dd:ee"}, conflict("mac", "netd derives addresses")),
        (port(host_port=0), invalid("ports[0].host_port", "expected int >= 1")),
        (port(container_port=0), invalid("ports[0].container_port", "expected int >= 1")),
        (port(host_port=65536), invalid("ports[0].host_port", "expected int <= 65535")),
        (port(host_port="81"), invalid("ports[0].host_port", "got str")),
        (port(host_port=65535, count=2), invalid("ports[0].host_port", "do not end by 65535")),
        (port(container_port=65535, count=2), invalid("ports[0].container_port", "by 65535")),
        (port(count=0), invalid("ports[0].count", "expected int >= 1")),
        (port(count=1025), invalid("ports[0].count", "expected int <= 1024")),
        (port(protocol="icmp"), invalid("ports[0].protocol", "one of sctp, tcp, udp")),
        (port(protocol="TCP"), invalid("ports[0].protocol", "one of sctp, tcp, udp")),
        (port(host_ip="nowhere"), invalid("ports[0].host_ip", "is not an IP address")),
        (port(host_ip="::1"), invalid("ports[0].host_ip", "publish on 127.0.0.1")),
        (port(host_ip="fe80::1%eth0"), invalid("ports[0].host_ip", "without zone")),
        (port(host_ip="::ffff:192.0.2.10"), invalid("ports[0].host_ip", "IPv4 address as such")),
        (port(host_ip="224.0.0.1"), invalid("ports[0].host_ip", "not an address of one host")),
        (port(speed=5), invalid("ports[0].speed", "known are host_port")),
        (port(host_port=80), conflict("ports", "tcp 0.0.0.0:80 is taken by endpoint")),
        (port(host_port=79, count=2), conflict("ports", "tcp 0.0.0.0:80 is taken by endpoint")),
        (port(host_port=80, host_ip="192.0.2.10"), conflict("ports", "is taken by endpoint")),
        ({"ports": [7]}, invalid("ports[0]", "expected object, got int")),
        (
            {"ports": port()["ports"] * 2},
            invalid("ports[1].host_port", "also asked for by ports[0]"),
        ),
        (
            {"ports": port()["ports"] + port(host_port=80, count=2)["ports"]},
            invalid("ports[1].host_port", "also asked for by ports[0]"),
        ),
        (
            {"ports": [port(host_port=1000 * n, count=1000)["ports"][0] for n in range(1, 6)]},
            invalid("ports", "publishes at most 4096"),
        ),
        ({"bandwidth": {"ingress_bps": 1}}, invalid("bandwidth.ingress_bps", ">= 8000")),
        ({"bandwidth": {"egress_bps": 10**13}}, invalid("bandwidth.egress_bps", "<= 1000000")),
        ({"bandwidth": {"speed": 1}}, invalid("bandwidth.speed", "known are ingress_bps")),
        ({"bandwidth": 5}, invalid("bandwidth", "expected object")),
        ({"default_route": "yes"}, invalid("default_route", "expected bool")),
        ({"labels": []}, invalid("labels", "expected object, got array")),
        ({"labels": {str(n): "" for n in range(2000)}}, invalid("labels", "at most 64")),
    ],
)
def test_endpoints_that_cannot_be(world: World, fields: dict[str, Any], refusal: Refusal) -> None:
    refusal.check(world.attach("blue", **fields))


@pytest.mark.parametrize(
    ("network", "fields", "refusal"),
    [
        ("inner", port(), invalid("ports", "network 'inner' is internal")),
        ("inner", {"default_route": True}, invalid("default_route", "leads nowhere else")),
        ("alone", {"addresses": ["10.0.0.1"]}, invalid("addresses", "takes no addresses")),
        ("alone", {"mac": "02:00:00:00:00:01"}, invalid("mac", "takes no mac")),
        ("alone", port(), invalid("ports", "publishes no ports")),
        ("open", {}, invalid("pid", "is not the host's network namespace")),
        ("open", {"pid": ABSENT, "addresses": ["10.0.0.1"]}, invalid("addresses", "takes no")),
        ("wire", port(), invalid("ports", "a macvlan network publishes no ports")),
        ("wire", {"bandwidth": {"egress_bps": 10**6}}, invalid("bandwidth", "no bandwidth limits")),
        ("nowhere", {}, not_found(None, "no network 'nowhere'; `netctl network ls` shows all")),
        ("..%2Fblue", {}, not_found(None, "no network '../blue'")),
        ("%00", {}, not_found(None, r"no network '\x00'")),
        ("blue%20", {}, not_found(None, "no network 'blue '")),
        ("%FF", {}, invalid(None, "is not UTF-8")),
    ],
)
def test_endpoints_that_do_not_fit_their_network(
    world: World, network: str, fields: dict[str, Any], refusal: Refusal
) -> None:
    refusal.check(world.attach(network, **fields))


# Namespaces

NO_NAMESPACE = "is not a network namespace"


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        *(
            (path, invalid("netns", NO_NAMESPACE))
            for path in (
                *(
                    "{folder}",
                    "{folder}/file",
                    "{folder}/fifo",
                    "{folder}/left",
                    "/",
                    "/etc/passwd",
                ),
                *("/dev/null", "/dev/zero", "/dev/tty", "/proc/kmsg", "/proc/self/ns/mnt"),
                *("/proc/{container}/ns/mnt", "/proc/{container}/ns/user", "/proc/self/fd/0"),
            )
        ),
        ("{folder}/loop", invalid("netns", "Too many levels of symbolic links")),
        ("{folder}/dangling", not_found("netns", "does not exist")),
        ("{folder}/nothing", not_found("netns", "does not exist")),
        ("/etc/passwd/x", not_found("netns", "does not exist")),
        ("/proc/4194304/ns/net", not_found("netns", "there is no process 4194304")),
        ("/proc/0/ns/net", not_found("netns", "does not exist")),
        ("/" + "a" * 300, invalid("netns", "File name too long")),
        ("/" + "a/" * 3000, invalid("netns", "expected str of length <= 4096")),
        ("/a\0b", invalid("netns", "embedded null byte")),
        ("", invalid("netns", "is not an absolute path")),
        ("blue", invalid("netns", "is not an absolute path")),
        ("~/ns", invalid("netns", "is not an absolute path")),
        *(
            (path, invalid("netns", "is the host's own network namespace"))
            for path in ("/proc/self/ns/net", "/proc/{host}/ns/net", "/proc/{host}/root/{ns}")
        ),
    ],
)
def test_paths_that_lead_to_no_container(world: World, path: str, refusal: Refusal) -> None:
    places = {"folder": world.folder, "container": world.container.pid, "host": world.host.pid}
    named = path.format(**places, ns=f"proc/{world.host.pid}/ns/net")
    refusal.check(world.attach("blue", netns=named))


@pytest.mark.parametrize(
    ("pid", "refusal"),
    [
        (0, invalid("pid", "expected int >= 1")),
        (-1, invalid("pid", "expected int >= 1")),
        (2**31, invalid("pid", "expected int <= 4194304")),
        (2**64, invalid("pid", "expected int <= 4194304")),
        (4194304, not_found("pid", "there is no process 4194304")),
        ("1", invalid("pid", "got str")),
        (True, invalid("pid", "got bool")),
        (None, invalid("netns", "give the container's network namespace as netns or pid")),
    ],
)
def test_pids_that_lead_to_no_container(world: World, pid: object, refusal: Refusal) -> None:
    refusal.check(world.attach("blue", pid=pid))


def test_the_hosts_own_namespace_is_for_host_networks_only(world: World) -> None:
    for network in ("blue", "inner", "alone", "wire"):
        refusal = invalid("pid", "is the host's own network namespace; only a host network takes")
        refusal.check(world.attach(network, pid=world.host.pid))


def test_a_process_that_has_ended_leads_nowhere(world: World) -> None:
    with ExitStack() as stack:
        gone = Namespace(stack)
    not_found("pid", f"there is no process {gone.pid}").check(world.attach("blue", pid=gone.pid))


def test_netns_and_pid_exclude_each_other(world: World) -> None:
    refusal = invalid("pid", "give netns or pid, not both")
    refusal.check(world.attach("blue", netns=world.container.path, pid=world.container.pid))


def test_an_interface_name_that_is_taken(world: World) -> None:
    world.container.run("ip", "link", "add", "tap7", "type", "bridge")
    try:
        refusal = conflict("ifname", "has an interface 'tap7' already; choose another ifname")
        refusal.check(world.attach("blue", ifname="tap7"))
    finally:
        world.container.run("ip", "link", "delete", "tap7")


def test_a_port_that_a_program_of_the_host_has(world: World) -> None:
    listen = "import socket, signal; s = socket.create_server(('', 8100)); print(flush=True)"
    with ExitStack() as stack:
        program = world.host.start(stack, "python3", "-c", f"{listen}; signal.pause()")
        assert program.stdout is not None
        assert program.stdout.readline() == "\n"
        refusal = conflict("ports", "tcp 0.0.0.0:8100 is taken by a program of the host; `ss -lnp")
        refusal.check(world.attach("blue", **port(host_port=8100)))


@pytest.mark.parametrize(
    ("patch", "refusal"),
    [
        (port(host_port=0), invalid("ports[0].host_port", "expected int >= 1")),
        (port(host_ip="2001:db8::10%eth0"), invalid("ports[0].host_ip", "without zone")),
        ({"ports": port()["ports"] * 2}, invalid("ports[1].host_port", "also asked for")),
        ({"aliases": ["a b"]}, invalid("aliases[0]", "is not a DNS label")),
        ({"name": "a b"}, invalid("name", "is not a DNS label")),
        ({"labels": {"": ""}}, invalid("labels.", "keys have 1 to")),
        ({"bandwidth": {"ingress_bps": 7999}}, invalid("bandwidth.ingress_bps", ">= 8000")),
        ({"mac": "02:00:00:00:00:01"}, invalid("mac", "known are ports, aliases, labels")),
        ({"ifname": "eth1"}, invalid("ifname", "is not a known field")),
        ([], invalid(None, "expected object, got array")),
    ],
)
def test_changes_that_cannot_be(world: World, patch: object, refusal: Refusal) -> None:
    refusal.check(world.call("PATCH", f"/v1/endpoints/{world.one['id']}", patch))


def test_what_is_not_there(world: World) -> None:
    for method, target in (("GET", "/v1/endpoints/x"), ("PATCH", "/v1/endpoints/x%2Fy")):
        value: object = {} if method == "PATCH" else None
        assert world.call(method, target, value).status == 404
    for target in ("/v1/endpoints/x", "/v1/networks/x", "/v1/containers/x%00"):
        assert world.call("DELETE", target).status == 204


def test_a_network_in_use_stays(world: World) -> None:
    refusal = conflict(None, f"network 'blue' is used by endpoints {world.one['id']}")
    refusal.check(world.call("DELETE", "/v1/networks/blue"))


# What looks odd and is right


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"mac": "02:AA:BB:CC:DD:EE"}, {"mac": "02:aa:bb:cc:dd:ee"}),
        ({"mac": "02-aa-bb-cc-dd-ee"}, {"mac": "02:aa:bb:cc:dd:ee"}),
        ({"addresses": ["10.20.0.6/28"]}, {}),
        ({"addresses": ["FD20:0::0005"]}, {}),
        ({"container_id": "a" * 128}, {"name": ""}),
        ({"ifname": "a" * 15}, {"ifname": "a" * 15}),
        ({"ifname": "-x"}, {"ifname": "-x"}),
        ({"labels": {"\0 \x1b[31m\n": "'; $(id) \u202e"}}, {}),
        ({"aliases": ["a", "A"]}, {}),
    ],
)
def test_odd_input_that_is_right(
    world: World, fields: dict[str, Any], shown: dict[str, Any]
) -> None:
    answer = world.attach("blue", **fields)
    try:
        assert answer.status == 201, answer
        made = answer.json
        assert {name: made[name] for name in shown} == shown
        assert made["labels"] == fields.get("labels", {})
        assert world.host.client.plan() == []
    finally:
        world.host.client.detach_container(fields.get("container_id", "c"))


# Two at once


def at_once(world: World, *requests: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Attach to `blue` from as many connections at the same time."""

    def attach(fields: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with Client(world.host.socket) as client:
            body = {"container_id": "c", "pid": world.container.pid} | fields
            try:
                return 200, client.attach("blue", **body)
            except ApiError as error:
                return error.status, {"code": error.code, "field": error.field}

    with ThreadPoolExecutor(len(requests)) as threads:
        return list(threads.map(attach, requests))


def test_the_same_attach_at_once_is_one_endpoint(world: World) -> None:
    answers = at_once(world, *[{"labels": {"a": "b"}}] * 8)
    assert {status for status, _ in answers} == {200}
    assert len({made["id"] for _, made in answers}) == 1
    world.host.client.detach_container("c")


def test_of_different_attaches_at_once_one_wins(world: World) -> None:
    answers = at_once(world, *({"labels": {"n": str(n)}} for n in range(8)))
    assert sorted(status for status, _ in answers) == [200] + [409] * 7
    lost = [made for status, made in answers if status == 409]
    assert all(made == {"code": "conflict", "field": "labels"} for made in lost)
    world.host.client.detach_container("c")


@pytest.mark.parametrize(
    "fields", [{"addresses": ["10.20.0.9"]}, {"ports": [{"host_port": 82, "container_port": 1}]}]
)
def test_what_only_one_can_have_goes_to_one(world: World, fields: dict[str, Any]) -> None:
    answers = at_once(
        world, *({"container_id": f"c{n}", "ifname": f"e{n}"} | fields for n in range(6))
    )
    assert sorted(status for status, _ in answers) == [200] + [409] * 5
    for n in range(6):
        world.host.client.detach_container(f"c{n}")


def test_networks_at_once_do_not_overlap(world: World) -> None:
    def create(name: str) -> dict[str, Any]:
        with Client(world.host.socket) as client:
            return client.create_network(name=name, driver="bridge")

    names = ["n1", "n1", "n2", "n3", "n3", "n3"]
    with ThreadPoolExecutor(len(names)) as threads:
        made = list(threads.map(create, names))
    assert len({network["id"] for network in made}) == 3
    assert len({subnet for network in made for subnet in network["subnets"]}) == 6
    for name in set(names):
        world.host.client.delete_network(name)


# Bodies

POST = ("POST", "/v1/networks")


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (b"", invalid(None, "the body is empty; send a JSON object")),
        (b" \n", invalid(None, "the body is empty")),
        (b'{"name":"x', invalid(None, "it ends too early, after byte 10")),
        (b'{"name":"x","driver":"none"} x', invalid(None, "trailing characters (byte 30)")),
        (b"null", invalid(None, "expected object, got null")),
        (b"\0", invalid(None, "the body is not JSON")),
        (b'{"name":"a\x01b"}', invalid(None, "invalid character (byte 10)")),
        (b'{"name":"\xff"}', invalid(None, "the body is not UTF-8")),
        (b'{"name":"\\ud800","driver":"none"}', invalid(None, "surrogate pair")),
        ('{"name":"x"}'.encode("utf-16"), invalid(None, "the body is not JSON")),
        (b"\xef\xbb\xbf{}", invalid(None, "invalid character (byte 0)")),
        (b'{"name":"x","name":"y","driver":"none"}', invalid("name", "has name twice")),
        (
            b'{"name":"x","driver":"none","labels":{"a":"1","\\u0061":"2"}}',
            invalid("a", "has a twice in one object"),
        ),
        (b'{"name":"x","driver":"none","mtu":NaN}', invalid(None, "the body is not JSON")),
        (b'{"name":"x","driver":"none","mtu":1e999}', invalid("mtu", "out of range")),
        *(
            (b'{"name":"x","driver":"none","%s":%s}' % (at, b"9" * 5000), invalid(field, says))
            for at, field, says in (
                (b"mtu", "mtu", "out of range"),
                (b"vni", "vni", "out of range"),
                (b'labels":{"a":1},"x', "labels", "expected str, got int"),
            )
        ),
        (
            b'{"name":"x","driver":"none","options":{"a":%s}}' % (b"9" * 5000),
            invalid("options", "out of range"),
        ),
        (b"[" * 200_000, invalid(None, "expected object, got array")),
        (b'{"labels":' * 90_000, invalid("labels", "expected str, got object")),
        (
            b'{"name":"x","driver":"none","options":{"a":%s%s}}' % (b"[" * 9999, b"]" * 9999),
            invalid("options", "got array"),
        ),
        (
            b'{"bogus":%s%s}' % (b"[" * 99999, b"]" * 99999),
            invalid("bogus", "is not a known field"),
        ),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_bodies_that_cannot_be_read(world: World, body: bytes, refusal: Refusal) -> None:
    refusal.check(ask(world.host.socket, request(*POST, body)))


def test_ten_megabytes_are_refused(world: World) -> None:
    body = b'{"name":"' + b"a" * 10_000_000 + b'"}'
    refusal = Refusal(413, "invalid", None, "more than 1048576 bytes")
    refusal.check(ask(world.host.socket, request(*POST, body)))
    chunk = b"%x\r\n%s\r\n" % (len(body), body)
    head = request(*POST, headers=b"Transfer-Encoding: chunked\r\n")
    refusal.check(ask(world.host.socket, head + chunk + b"0\r\n\r\n"))


def test_a_body_in_small_chunks_is_read(world: World) -> None:
    body = b'{"name":"x"}'
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    head = request(*POST, headers=b"Transfer-Encoding: chunked\r\n")
    invalid("driver", "is required").check(ask(world.host.socket, head + chunks))


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"br", b"x"])
def test_packed_bodies_are_not_unpacked(world: World, coding: bytes) -> None:
    """A small body could else unpack to a large one."""
    sent = request(*POST, b"\x1f\x8b\x08\x00", b"Content-Encoding: " + coding + b"\r\n")
    Refusal(415, "invalid", None, "without Content-Encoding").check(ask(world.host.socket, sent))


# HTTP

GET = ("GET", "/healthz")
HOST = b"Host: n\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "status", "says"),
    [
        (b"BREW /v1/networks HTTP/1.1\r\n" + HOST, 400, "Invalid method"),
        (b"get /v1/status HTTP/1.1\r\n" + HOST, 400, "Invalid method"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "PRI"),
        (b"GET /healthz HTTP/9.9\r\n" + HOST, 400, "Invalid HTTP version"),
        (b"GET /health z HTTP/1.1\r\n" + HOST, 400, "Bad status line"),
        (b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", 400, "Missing 'Host' header"),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + HOST, 400, "Duplicate 'Host' header"),
        (b"GET /v1/networks/\xff HTTP/1.1\r\n" + HOST, 400, "Invalid char in url path"),
        (b"GET /healthz HTTP/1.1\r\nX: a\0b\r\n" + HOST, 400, "Invalid header value char"),
        (b"GET /healthz HTTP/1.1\r\nX-Request-Id: \x1b[0m\r\n" + HOST, 400, "Invalid header"),
        (b"GET /healthz HTTP/1.1\r\nX: %s\r\n" % (b"a" * 99999) + HOST, 400, "8190 bytes"),
        (b"GET /healthz HTTP/1.1\r\n" + b"X: a\r\n" * 9999 + HOST, 400, "Too many headers"),
        (b"GET /%s HTTP/1.1\r\n" % (b"a" * 99999) + HOST, 400, "8190 bytes"),
        (b"POST / HTTP/1.1\r\nContent-Length: -2\r\n" + HOST, 400, "Content-Length"),
        (b"POST / HTTP/1.1\r\nContent-Length: %s\r\n" % (b"9" * 30) + HOST, 400, "overflow"),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n" + HOST + b"{}x",
            400,
            "Duplicate Content-Length",
        ),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n" + HOST,
            400,
            "can't be present with Content-Length",
        ),
        (
            b"POST /v1/networks HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + b"zz\r\n",
            400,
            "chunk size",
        ),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "HTTPS traffic"),
        (b"\0" * 5000 + b"\r\n\r\n", 400, "Invalid method"),
        (request("HEAD", "/v1/status"), 405, ""),
        (request("TRACE", "/v1/status"), 405, "this path has GET"),
        (request("PUT", "/v1/networks", b"{}"), 405, "this path has GET, POST"),
        (request("DELETE", "/v1/status"), 405, "this path has GET"),
        (request("OPTIONS", "*"), 404, "there is no *"),
        (request("CONNECT", "a:1"), 404, "there is no such path"),
        (request("GET", "/v1/networks/"), 404, "there is no /v1/networks/"),
        (request("GET", "//v1/networks"), 404, "there is no //v1/networks"),
        (request("GET", "/v1/networks/../status"), 404, "there is no /v1/networks/../status"),
        (request("GET", "/v1/networks/%2e%2e%2fstatus"), 404, "no network '../status'"),
        (request("GET", "/v1/networks/%zz"), 404, "no network '%zz'"),
        (request("GET", "/V1/status"), 404, "there is no /V1/status"),
        (request("GET", "/v1/networks?colour=blue"), 400, "colour is not a known field"),
        (request("GET", "/v1/endpoints?networks=blue"), 400, "did you mean network?"),
        (request("GET", "/v1/endpoints?node=a&node=b"), 400, "has node twice"),
        (request("GET", "/v1/endpoints?node=%ff"), 400, "the query is not UTF-8"),
        (request("GET", "/v1/endpoints?network=nowhere"), 404, "no network 'nowhere'"),
        (request("GET", "/v1/events?since=-1"), 400, "expected int >= 0"),
        (request("GET", "/v1/events?since=" + "9" * 40), 400, "expected int <="),
        (request("GET", "/v1/events?since=x"), 400, "since"),
        (request("GET", "/v1/names?watch=perhaps"), 400, "watch"),
        (request("GET", "/v1/resolve"), 400, "name is required"),
        (request("GET", "/v1/resolve?name=a&type=MX"), 400, "not 'MX'"),
        (request("GET", "/v1/resolve?name=a&from=b"), 400, "'b' is not an IP address"),
        (request("GET", "/v1/resolve?name=" + "a" * 300), 400, "length <= 255"),
        (request("DELETE", "/v1/networks/x", b"xxx"), 400, "the body is not JSON"),
        (request("GET", "/v1/status", b'{"a":1}'), 400, "a is not a known field"),
    ],
    ids=lambda value: repr(value)[:50] if isinstance(value, bytes) else None,
)
def test_http_that_is_refused(world: World, sent: bytes, status: int, says: str) -> None:
    answer = ask(world.host.socket, sent)
    assert answer.status == status, answer
    if sent.startswith(b"HEAD"):
        return
    problem = answer.json
    Refusal(status, problem["code"], problem.get("field"), says).check(answer)
    assert "\n" not in problem["detail"]


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.0\r\n\r\n",
        b"GET http://anywhere/healthz HTTP/1.1\r\n" + HOST,
        b"GET /healthz? HTTP/1.1\r\n" + HOST,
        b"GET /%68ealthz HTTP/1.1\r\n" + HOST,
        b"GET /healthz HTTP/1.1\r\nUpgrade: websocket\r\n" + HOST,
        b"\r\n\r\nGET /healthz HTTP/1.1\r\n" + HOST,
        request("GET", "/healthz", b"{}"),
    ],
)
def test_odd_http_that_is_right(world: World, sent: bytes) -> None:
    answer = ask(world.host.socket, sent)
    if b"%68" in sent:  # paths are compared as they are written
        assert answer.status == 404
    else:
        assert (answer.status, answer.json) == (200, {"ok": True})


def test_pipelined_requests_are_answered_in_order(world: World) -> None:
    sent = (
        request(*GET, last=False)
        + request("GET", "/v1/nothing", last=False)
        + request(*POST, b"{", last=False)
        + request("GET", "/readyz")
    )
    answers = exchange(world.host.socket, sent)
    assert [answer.status for answer in answers] == [200, 404, 400, 200]


def test_what_follows_bad_http_is_not_read(world: World) -> None:
    sent = request(*GET, last=False) + b"nonsense\r\n\r\n" + request(*GET)
    assert [answer.status for answer in exchange(world.host.socket, sent)][-1] == 400


def test_expect_is_answered_before_the_body(world: World) -> None:
    sent = request(*POST, b"{}", b"Expect: 100-continue\r\n")
    first, second = exchange(world.host.socket, sent)
    assert first.status == 100
    invalid("name", "is required").check(second)


def test_an_expected_body_that_is_too_large_is_refused_unsent(world: World) -> None:
    head = b"POST /v1/networks HTTP/1.1\r\nContent-Length: 10000000\r\nExpect: 100-continue\r\n"
    with connect(world.host.socket) as connection:
        connection.sendall(head + HOST)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_caller_that_leaves_in_the_middle_changes_nothing(world: World) -> None:
    whole = request(*POST, b'{"name":"left","driver":"none"}')
    for length in range(1, len(whole), 7):
        with connect(world.host.socket) as connection:
            connection.sendall(whole[:length])
