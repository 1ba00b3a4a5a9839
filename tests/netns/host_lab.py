"""A host with netd's firewall, networks with containers, and neighbours outside.

    lan (192.0.2.2) --- up0 | host | nd-blue   10.1.0.0/24  isolated: blue1, blue2
    far (203.0.113.2) - up1 |      | nd-red    10.2.0.0/24  isolated: red1
                                   | nd-green  10.3.0.0/24  internal: green1
                                   | nd-open   10.4.0.0/24  neither: open1

IPv6 is fd00:N::/64 in network N, 2001:db8:1::/64 at up0 and 2001:db8:2::/64 at up1. Everyone
routes everything through the host. The links are made by plain `ip`: these tests are about
the rules alone.
"""

import ctypes
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from netd.kernel.nft import Nftables
from netd.model.network import Network
from netd.plan.firewall import network_elements, ruleset
from netd.plan.objects import Object, SetElement
from netd.plan.operations import Operation
from tests.netns.conftest import CLONE_NEWNET, Container


def _network(number: int, name: str, *, internal: bool = False, isolated: bool = True) -> Network:
    return Network(
        id=str(number) * 16,
        name=name,
        driver="bridge",
        subnets=(f"10.{number}.0.0/24", f"fd00:{number}::/64"),
        internal=internal,
        isolated=isolated,
    )


NETWORKS: Final = {
    "blue": _network(1, "blue"),
    "red": _network(2, "red"),
    "green": _network(3, "green", internal=True),
    "open": _network(4, "open", isolated=False),
}
WAIT_S: Final = 5.0  # for what must come
DROPPED_S: Final = 0.15  # for what must not

_libc = ctypes.CDLL(None, use_errno=True)


class Place:
    """Somewhere a packet comes from or goes to. The host has no container and no link."""

    def __init__(self, container: Container | None, link: str, addresses: dict[int, str]) -> None:
        self.container = container
        self.link = link
        self.addresses = addresses


class Lab:
    """The places by name, e.g. `blue1`; `gateways` and `uplink` are the host's addresses."""

    def __init__(
        self, make: Callable[[], Container], *, br_netfilter: bool = False, guard: bool = False
    ) -> None:
        self.places = {"host": Place(None, "", {})}
        self.gateways: dict[str, dict[int, str]] = {}
        for table in ("iptables", "ip6tables"):
            _sysctl(f"bridge/bridge-nf-call-{table}", int(br_netfilter))
        _without_dad()
        _sysctl("ipv4/ip_forward", 1)
        _sysctl("ipv6/conf/all/forwarding", 1)
        for number, network in enumerate(NETWORKS, start=1):
            bridge = f"nd-{network}"
            self.gateways[network] = {4: f"10.{number}.0.1", 6: f"fd00:{number}::1"}
            _ip(f"link add {bridge} type bridge", *_addresses(bridge, self.gateways[network]))
            if not NETWORKS[network].internal:
                _sysctl(f"ipv4/conf/{bridge}/route_localnet", 1)
            for index in (1, 2) if network == "blue" else (1,):
                host_part = index + 1
                addresses = {4: f"10.{number}.0.{host_part}", 6: f"fd00:{number}::{host_part}"}
                self._join(f"{network}{index}", make(), addresses, self.gateways[network], bridge)
        self.uplink = {4: "192.0.2.1", 6: "2001:db8:1::1"}
        self._join("lan", make(), {4: "192.0.2.2", 6: "2001:db8:1::2"}, self.uplink, "")
        far = {4: "203.0.113.2", 6: "2001:db8:2::2"}
        self._join("far", make(), far, {4: "203.0.113.1", 6: "2001:db8:2::1"}, "")
        self.nft = Nftables()
        self.add(ruleset(forward_guard=guard))
        for network, value in NETWORKS.items():
            self.add(*network_elements(value, f"nd-{network}"))

    def add(self, *objects: Object) -> None:
        operations = [Operation(verb="add", object=obj, reason="test") for obj in objects]
        failures = self.nft.apply(operations)
        assert failures == [], failures[0].text()

    def publish(
        self, protocol: str, family: int, port: int, to: str, to_port: int, address: str = ""
    ) -> None:
        """Publish a port of a place; on all addresses of the host when none is given."""
        service = (protocol, str(port))
        element = SetElement(
            owner="test",
            set_name=f"ports{family}" if address else f"ports{family}_any",
            element=(address, *service) if address else service,
            value=(self.places[to].addresses[family], str(to_port)),
        )
        self.add(element)

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """The test is at that place meanwhile; sockets it opens there stay there."""
        container = self.places[place].container
        if container is None:
            yield
            return
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(container.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            assert _libc.setns(there, CLONE_NEWNET) == 0
            yield
        finally:
            assert _libc.setns(back, CLONE_NEWNET) == 0
            os.close(there)
            os.close(back)

    def open(self, place: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
        with self.at(place):
            made = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.settimeout(WAIT_S)
        return made

    def capture(self, place: str) -> socket.socket:
        """A socket that gets every frame that place's link sends or receives."""
        with self.at(place):
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
        made.bind((self.places[place].link, 3))
        made.settimeout(WAIT_S)
        return made

    def _join(
        self,
        name: str,
        container: Container,
        addresses: dict[int, str],
        gateways: dict[int, str],
        bridge: str,
    ) -> None:
        """Connect a container to a bridge or, without one, to the host itself."""
        link = f"nv{name}"
        self.places[name] = Place(container, "eth0", addresses)
        with self.at(name):
            _without_dad()
        _ip(f"link add {link} type veth peer name eth0 netns {container.pid}")
        if bridge:
            # Hairpin is for br_netfilter, which translates frames without routing them.
            hairpin = f"link set {link} type bridge_slave hairpin on"
            _ip(f"link set {link} master {bridge} up", hairpin)
        else:
            _ip(*_addresses(link, gateways))
        with_routes = _addresses("eth0", addresses)
        with_routes += [f"route add default via {gateways[family]}" for family in (4, 6)]
        _ip("link set lo up", *with_routes, inside=container)


def _addresses(link: str, addresses: dict[int, str]) -> list[str]:
    lengths = {4: "24", 6: "64 nodad"}
    commands = [f"address add {addresses[f]}/{lengths[f]} dev {link}" for f in (4, 6)]
    return [*commands, f"link set {link} up"]


def _ip(*commands: str, inside: Container | None = None) -> None:
    prefix = ["nsenter", f"--net={inside.path}"] if inside else []
    done = subprocess.run(
        [*prefix, "ip", "-batch", "-"],
        input="\n".join(commands) + "\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 0, f"{commands}: {done.stderr}"


def _without_dad() -> None:
    """Link-local addresses are used at once; a router without one asks for no neighbour."""
    _sysctl("ipv6/conf/default/accept_dad", 0)


def _sysctl(name: str, value: int) -> None:
    path = Path("/proc/sys/net", name)
    if path.exists():
        path.write_text(f"{value}\n")
