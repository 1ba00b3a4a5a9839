"""Packets of an overlay network between two hosts on the real kernel, and what crosses between."""

import ctypes
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal

import pytest
from msgspec.structs import replace
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

from netd.kernel.linux import LinuxKernel
from netd.model.endpoint import Sandbox
from netd.model.network import Network
from netd.plan.diff import creation
from netd.plan.objects import Address, Loopback, Object, Route, SetElement, Veth, VethPeer
from netd.plan.overlay import Opening, flood_objects, open_objects, remote_objects
from netd.plan.tunnels import Neighbour
from tests.netns.conftest import CLONE_NEWNET, Container, run

UNDERLAY: Final = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}
MTU: Final = 1400
ETH_P_ALL: Final = 3

_libc = ctypes.CDLL(None, use_errno=True)


def network(*, broadcast: bool) -> Network:
    return Network(
        id="net1",
        name="blue",
        driver="overlay",
        subnets=("10.20.0.0/24", "fd20::/64"),
        gateways=("10.20.0.1", "fd20::1"),
        vni=5000,
        mtu=MTU,
        options={"broadcast": True} if broadcast else {},
    )


class Site:
    """A host with one container on the network. `number` is 0 or 1."""

    def __init__(
        self, number: int, host: Container | None, box: Container, family: Literal[4, 6]
    ) -> None:
        self.number = number
        self.host = host
        self.box = box
        self.opening = Opening(
            addresses=(f"10.20.0.{201 + number}/24", f"fd20::{201 + number}/64"),
            mtu=MTU,
            family=family,
        )
        self.underlay = UNDERLAY[family][number]
        self.box_mac = f"0e:00:00:00:00:1{number}"
        self.box_addresses = (f"10.20.0.{11 + number}", f"fd20::{11 + number}")
        with inside(host):
            run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
            self.kernel = LinuxKernel(node=f"node-{number}")

    async def make(self, *objects: Object) -> None:
        sandbox, _ = await self.kernel.enter(path=self.box.path, pid=None)
        sandboxes: dict[str, Sandbox] = {sandbox.key: sandbox}
        # The firewall is another test's.
        plan = creation([obj for obj in objects if not isinstance(obj, SetElement)], "test")
        failures = await self.kernel.apply(plan, sandboxes)
        assert [failure.text() for failure in failures] == []

    async def open(self, net: Network) -> None:
        sandbox, _ = await self.kernel.enter(path=self.box.path, pid=None)
        await self.make(*open_objects(net, self.opening), *self._endpoint(sandbox.key))

    async def learn(self, net: Network, other: "Site") -> None:
        """What is on the other host: a container and the host itself."""
        await self.make(
            *remote_objects(net, "ep", other.box_mac, other.box_addresses, other.underlay),
            *remote_objects(
                net, "net1", other.opening.mac(net), other.opening.addresses, other.underlay
            ),
            *flood_objects(net, "net1", other.underlay),
        )

    def _endpoint(self, ns: str) -> list[Object]:
        name, mac = f"nv{self.number}", self.box_mac
        objects: list[Object] = [
            Veth(
                owner="ep",
                name=name,
                mtu=MTU,
                master="nd-blue",
                peer_ns=ns,
                peer_name="eth0",
                peer_mac=mac,
            ),
            VethPeer(ns=ns, owner="ep", name="eth0", mac=mac, mtu=MTU),
            Loopback(ns=ns),
        ]
        for address, length, default, gateway in zip(
            self.box_addresses,
            (24, 64),
            ("0.0.0.0/0", "::/0"),
            ("10.20.0.1", "fd20::1"),
            strict=True,
        ):
            objects += [
                Address(ns=ns, owner="ep", link="eth0", address=f"{address}/{length}"),
                Route(ns=ns, owner="ep", destination=default, link="eth0", gateway=gateway),
            ]
        return objects

    def run(self, *command: str) -> str:
        """Run a program on the host."""
        return run(*command) if self.host is None else self.host.run(*command)


@contextmanager
def inside(host: Container | None) -> Iterator[None]:
    """This thread is in the host's namespace meanwhile."""
    if host is None:
        yield
        return
    back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(host.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        assert _libc.setns(there, CLONE_NEWNET) == 0
        yield
    finally:
        assert _libc.setns(back, CLONE_NEWNET) == 0
        os.close(there)
        os.close(back)


class Wire:
    """What goes over the underlay, seen at the first host's end."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.bind(("u0", ETH_P_ALL))
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def crossed(self) -> list[Packet]:
        """The inner frames of all tunnel packets since the last call."""
        frames: list[Packet] = []
        while True:
            try:
                frame = Ether(self._socket.recv(65535))
            except BlockingIOError:
                return [frame[VXLAN].payload for frame in frames if VXLAN in frame]
            frames.append(frame)


Pair = Callable[[Literal[4, 6]], tuple[Site, Site, Wire]]


@pytest.fixture
def pair(container: Callable[[], Container]) -> Iterator[Pair]:
    """Two hosts that are joined by a cable; the first one is the test's own namespace."""
    closing: list[Callable[[], None]] = []

    def make(family: Literal[4, 6]) -> tuple[Site, Site, Wire]:
        far = container()
        far.run("ip", "link", "set", "lo", "up")
        run(*f"ip link add u0 type veth peer name u0 netns {far.pid}".split())
        for end, four, six in zip((run, far.run), *UNDERLAY.values(), strict=True):
            end("ip", "address", "add", f"{four}/24", "dev", "u0")
            end("ip", "address", "add", f"{six}/64", "dev", "u0", "nodad")
            end("ip", "link", "set", "u0", "up")
        sites = Site(0, None, container(), family), Site(1, far, container(), family)
        wire = Wire()
        closing.extend((sites[0].kernel.close, sites[1].kernel.close, wire.close))
        return *sites, wire

    yield make
    for close in closing:
        close()


async def connect(first: Site, second: Site, net: Network) -> None:
    for site in (first, second):
        await site.open(net)
    await first.learn(net, second)
    await second.learn(net, first)


def ping(run_at: Callable[..., str], address: str, *more: str) -> None:
    run_at("ping", "-c1", "-W2", *more, address)


def is_question(frame: Packet) -> bool:
    """Whether it asks for a MAC, or tells one unasked."""
    return ARP in frame or (
        frame.type == 0x86DD
        and frame[IPv6].nh == socket.IPPROTO_ICMPV6
        and bytes(frame[IPv6].payload)[0] in range(133, 138)
    )


@pytest.mark.parametrize("family", [4, 6])
async def test_all_reach_all_and_nobody_asks_for_them(pair: Pair, family: Literal[4, 6]) -> None:
    net = network(broadcast=False)
    first, second, wire = pair(family)
    await connect(first, second, net)
    for site, other in ((first, second), (second, first)):
        for address in other.box_addresses:
            ping(site.box.run, address)
            ping(site.run, address)
        for address in other.opening.addresses:
            ping(site.box.run, address.partition("/")[0])
            ping(site.run, address.partition("/")[0])
        for address in site.opening.addresses:
            ping(site.box.run, address.partition("/")[0])
        for gateway in net.gateways:
            ping(site.box.run, gateway)
    seen = wire.crossed()
    assert sum(ICMP in frame for frame in seen) == 2 * 2 * 4
    assert sum(ICMPv6EchoRequest in frame for frame in seen) == 2 * 4
    assert [frame.summary() for frame in seen if is_question(frame)] == []
    known = {site.box_mac for site in (first, second)} | {
        site.opening.mac(net) for site in (first, second)
    }
    assert {frame.dst for frame in seen} <= known
    # A full packet goes through whole.
    ping(first.box.run, "10.20.0.12", "-Mdo", f"-s{MTU - 28}")
    ping(first.box.run, "fd20::12", "-Mdo", f"-s{MTU - 48}")


async def test_what_nobody_knows_stays_on_the_host(pair: Pair) -> None:
    first, second, wire = pair(4)
    await connect(first, second, network(broadcast=False))
    wire.crossed()
    tries = ("ping", "-c1", "-W1")
    first.box.run(*tries, "10.20.0.99", check=False)  # ARP that is not answered
    first.box.run(*tries, "fd20::99", check=False)
    run(*tries, "10.20.0.98", check=False)  # the host's own
    unknown = ("lladdr", "0e:00:00:00:00:99", "dev", "eth0")
    first.box.run("ip", "neighbour", "add", "10.20.0.97", *unknown)
    first.box.run("ip", "neighbour", "add", "fd20::97", *unknown)
    first.box.run(*tries, "10.20.0.97", check=False)
    first.box.run(*tries, "fd20::97", check=False)
    first.box.run(*tries, "-b", "10.20.0.255", check=False)
    first.box.run(*tries, "ff02::1%eth0", check=False)
    assert [frame.summary() for frame in wire.crossed()] == []
    ping(first.box.run, "10.20.0.12")
    assert len(wire.crossed()) == 2


async def test_with_broadcast_it_goes_to_all_hosts_and_questions_still_do_not(pair: Pair) -> None:
    first, second, wire = pair(4)
    await connect(first, second, network(broadcast=True))
    second.box.run("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_broadcasts=0")
    wire.crossed()
    ping(first.box.run, "10.20.0.255", "-b")
    ping(first.box.run, "ff02::1%eth0")
    ping(first.box.run, "10.20.0.12")
    ping(first.box.run, "fd20::12")
    seen = wire.crossed()
    assert "ff:ff:ff:ff:ff:ff" in {frame.dst for frame in seen if IP in frame}
    assert "33:33:00:00:00:01" in {frame.dst for frame in seen if IPv6 in frame}
    asked = {frame[ARP].pdst for frame in seen if ARP in frame}
    assert asked.isdisjoint(second.box_addresses), asked
    # Nor does what is for one that nobody knows.
    unknown = "0e:00:00:00:00:99"
    first.box.run("ip", "neighbour", "add", "10.20.0.97", "lladdr", unknown, "dev", "eth0")
    first.box.run("ping", "-c1", "-W1", "10.20.0.97", check=False)
    assert unknown not in {frame.dst for frame in wire.crossed()}


async def test_a_container_cannot_draw_what_is_for_another_hosts(pair: Pair) -> None:
    """It sends with the other's MAC; the bridge does not learn that it is here."""
    first, second, wire = pair(4)
    await connect(first, second, network(broadcast=False))
    forged = Ether(src=second.box_mac, dst="ff:ff:ff:ff:ff:ff") / IP(src="10.20.0.12")
    with inside(first.box), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("eth0", 0))
        raw.send(bytes(forged))
    wire.crossed()
    ping(run, "10.20.0.12")
    assert len(wire.crossed()) == 2


async def test_a_moved_mac_leads_to_the_other_host_at_once(pair: Pair) -> None:
    first, second, wire = pair(4)
    net = network(broadcast=False)
    await connect(first, second, net)
    ping(first.box.run, "10.20.0.12")
    away = remote_objects(net, "ep", second.box_mac, (), "192.0.2.99")
    run("ip", "neighbour", "add", "192.0.2.99", "lladdr", "02:00:00:00:00:99", "dev", "u0")
    await first.make(*away)
    wire.crossed()
    first.box.run("ping", "-c1", "-W1", "10.20.0.12", check=False)
    assert len(wire.crossed()) == 1  # and it was not sent to both
    await first.make(*(replace(obj, destination=second.underlay) for obj in away))
    ping(first.box.run, "10.20.0.12")


async def test_who_asked_before_the_answer_was_known_gets_it_unasked(pair: Pair) -> None:
    first, second, wire = pair(4)
    net = network(broadcast=True)
    await first.open(net)
    await second.open(net)
    await second.learn(net, first)
    entries = _asked_in_vain(first, second.box_addresses)
    assert {entry["state"][0] for entry in entries.values()} == {"INCOMPLETE"}
    await first.learn(net, second)
    wire.crossed()
    await first.kernel.announce(
        [
            Neighbour(owner="ep", link=link, address=address, mac=second.box_mac)
            for link in ("nd-gone", "nd-blue")
            for address in second.box_addresses
        ]
    )
    for address in second.box_addresses:
        assert _entry(first, address)["lladdr"] == second.box_mac
    told = [frame for frame in wire.crossed() if is_question(frame)]
    assert [frame.summary() for frame in told if frame.src == second.box_mac] == []


def _asked_in_vain(site: Site, addresses: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The container's entries for addresses that it has just begun to ask for."""
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with inside(site.box), socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.sendto(b"", (address, 9))
    return {address: _entry(site, address) for address in addresses}


def _entry(site: Site, address: str) -> dict[str, Any]:
    [entry] = json.loads(site.box.run("ip", "-json", "neighbour", "show", address))
    return dict(entry)
