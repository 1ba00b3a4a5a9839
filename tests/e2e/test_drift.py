"""What somebody else breaks is put back within a second; what is somebody else's is left alone."""

import queue
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from netd.client.client import Client
from netd.client.errors import Unreachable
from tests.e2e.census import census, ruleset_of
from tests.e2e.lab import Host
from tests.e2e.web import serve

REPAIR_DEADLINE_S = 1.0
LOOK_EACH_S = 1
_MADE_BY = re.compile(r" protocol (kernel|110)( prefsrc \S+)?")
SYSCTLS = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")


class Events:
    """The events of a daemon, as they come, until it ends."""

    def __init__(self, socket: str) -> None:
        self.seen: list[dict[str, Any]] = []
        self._queue: queue.Queue[dict[str, Any]] = queue.Queue()
        self._lines = Client(socket).events()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for event in self._lines:
                self.seen.append(event)
                self._queue.put(event)
        except Unreachable:
            pass  # the daemon was killed, as the test is over

    def forget(self) -> None:
        while not self._queue.empty():
            self._queue.get()

    def await_one(self, kind: str, detail: str) -> dict[str, Any]:
        """The first event of this type whose detail contains `detail`."""
        seen = []
        try:
            while True:
                event = self._queue.get(timeout=REPAIR_DEADLINE_S)
                if event["type"] == kind and detail in event["detail"]:
                    return event
                seen.append(f"{event['type']}: {event['detail']}")
        except queue.Empty:
            raise AssertionError(f"no {kind} with {detail!r}, only {seen}") from None


class Town:
    """A host with two networks, containers on them, and traffic of every kind."""

    def __init__(self, stack: ExitStack, folder: Path, *flags: str) -> None:
        self.host = host = Host(stack, folder)
        host.start_daemon(*flags)
        host.client.create_network(
            name="blue", driver="bridge", subnets=["10.20.0.0/24", "fd20::/64"]
        )
        host.client.create_network(name="red", driver="bridge", subnets=["10.30.0.0/24"])
        self.one, self.two, self.three = (host.container() for _ in range(3))
        self.endpoint = host.attach(
            "blue",
            self.one,
            name="one",
            ports=[{"host_port": 8080, "container_port": 80}],
            bandwidth={"ingress_bps": 10**9, "egress_bps": 10**9},
        )
        self.second = host.attach("red", self.one, name="one", ifname="eth1")
        host.attach("blue", self.two, name="two")
        host.client.create_network(
            name="lan",
            driver="macvlan",
            parent="eth0",
            subnets=["10.40.0.0/24", "fd40::/64"],
            options={"shim": True},
        )
        host.attach("lan", self.two, name="two", ifname="eth1")
        host.attach("lan", self.three, name="three")  # no veth leads there
        self._server = serve(self.one, stack, 80)
        self.events = Events(host.socket)
        self.as_it_was = self.world()

    def world(self) -> tuple[frozenset[str], ...]:
        names = {self.endpoint["id"]: "one"}
        sysctls = frozenset(self.host.run("sysctl", *SYSCTLS).splitlines())
        # The kernel's own routes are as good when netd has made them anew.
        links = frozenset(_MADE_BY.sub("", line) for line in census(self.host, names))
        host = links | ruleset_of(self.host, names) | sysctls
        accept_ra = frozenset([self.one.run("sysctl", "net.ipv6.conf.eth0.accept_ra", check=False)])
        return (
            host,
            census(self.one, names) | accept_ra,
            census(self.two, names),
            census(self.three, names),
        )

    def assert_traffic_flows(self) -> None:
        host, knock = self.host, self._server.knock
        assert host.outside.succeeds(*knock(Host.ADDRESS, 8080))
        assert host.outside.succeeds(*knock(Host.ADDRESS6, 8080))
        assert host.succeeds(*knock("127.0.0.1", 8080))
        for address in ("10.20.0.2", "fd20::2"):
            assert self.two.pings(address)
        for address in (Host.OUTSIDE, Host.OUTSIDE6, "10.30.0.1"):
            assert self.one.pings(address)
        # By the shim, as they have no gateway.
        for address in ("10.40.0.2", "fd40::2", "10.40.0.3", "fd40::3"):
            assert host.pings(address)

    def break_it(self, where: str, command: str) -> None:
        """Run a command with NV, NI and RED in place of the links' names."""
        nv = self.endpoint["host_ifname"]
        names = {"NV": nv, "NI": nv.replace("nv", "ni", 1), "RED": self.second["host_ifname"]}
        for name, link in names.items():
            command = command.replace(name, link)
        space = {"host": self.host, "one": self.one, "two": self.two, "three": self.three}[where]
        space.run("sh", "-ec", command)

    def await_repair(self, within_s: float) -> None:
        deadline_s = time.monotonic() + within_s
        while (world := self.world()) != self.as_it_was:
            if time.monotonic() > deadline_s:
                raise AssertionError(
                    "\n".join(
                        f"{'+' if line in now else '-'} {line}"
                        for was, now in zip(self.as_it_was, world, strict=True)
                        for line in sorted(was ^ now)
                    )
                )


@pytest.fixture(scope="module")
def shared_towns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Town]]:
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("looking-often")
        config = folder / "netd.toml"
        config.write_text(f"[reconcile]\ninterval_s = {LOOK_EACH_S}\n")
        yield {
            "at events": Town(stack, tmp_path_factory.mktemp("at-events")),
            "often": Town(stack, folder, "--config", str(config)),
        }


@pytest.fixture
def town(shared_towns: dict[str, Town], request: pytest.FixtureRequest) -> Town:
    """The same for all, as each test leaves it as it was; a failed one may not have."""
    town = shared_towns[getattr(request, "param", "at events")]
    if town.world() != town.as_it_was:
        town.host.client.reconcile()
    town.events.forget()
    return town


def _ids(value: str) -> str:
    return value[:50].replace(" ", "-")


@pytest.mark.parametrize(
    ("where", "command", "repair"),
    [
        ("host", "ip link del nd-blue", "add link nd-blue type bridge"),
        ("host", "ip link set nd-blue down", "change link nd-blue"),
        ("host", "ip link set nd-blue mtu 1300", "mtu is 1300, not 1500"),
        ("host", "ip link set nd-blue address 02:00:00:00:00:01", "mac is 02:00:00:00:00:01"),
        ("host", "ip link set nd-blue alias ''", "owner is , not"),
        ("host", "ip link set NV group 0", "owner is , not"),
        ("host", "ip link set ns-lan address 02:00:00:00:00:01", "mac is 02:00:00:00:00:01"),
        ("host", "ip address del 10.20.0.1/24 dev nd-blue", "add address 10.20.0.1/24"),
        ("host", "ip address del fd20::1/64 dev nd-blue", "add address fd20::1/64"),
        ("host", "ip address flush dev nd-blue", "add address fe80::"),
        ("host", "ip route del 10.20.0.0/24 dev nd-blue", "add route 10.20.0.0/24"),
        ("host", "ip -6 route del fd20::/64 dev nd-blue", "add route fd20::/64"),
        ("host", "ip link set NV nomaster", "master is None, not nd-blue"),
        ("host", "ip link set NV master nd-red", "master is nd-red, not nd-blue"),
        ("host", "ip link set NV down", "up is False"),
        ("host", "ip link set NV mtu 1300", "mtu is 1300, not 1500"),
        ("host", "ip link del NV", "add link NV type veth"),
        ("host", "nft flush ruleset", "table inet netd"),
        ("host", "nft delete table inet netd", "table inet netd"),
        ("host", "nft flush chain inet netd nat_postrouting", "table inet netd"),
        ("host", "nft insert rule inet netd filter_forward drop", "table inet netd"),
        (
            "host",
            "nft delete rule inet netd filter_forward handle "
            "$(nft -a list chain inet netd filter_forward | sed -n 's/.*established.*handle //p')",
            "table inet netd",
        ),
        ("host", "nft delete element inet netd ports4_any '{ tcp . 8080 }'", "element ports4_any"),
        ("host", "nft delete element inet netd bridges '{ nd-blue }'", "element bridges"),
        ("host", "nft add element inet netd internal '{ nd-blue }'", "delete element internal"),
        ("host", "nft flush map inet netd ports6_any", "element ports6_any"),
        ("host", "tc qdisc del dev NV root", "add qdisc tbf dev NV"),
        ("host", "tc qdisc del dev NV ingress", "redirect dev NI"),
        ("host", "tc filter del dev NV ingress", "redirect dev NI"),
        ("host", "ip link set NI down", "up is False"),
        ("host", "ip link del NI", "add link NI type ifb"),
        ("host", "ip link del ns-lan", "add link ns-lan link eth0 type macvlan"),
        ("host", "ip address del 10.40.0.1/32 dev ns-lan", "add address 10.40.0.1/32"),
        ("host", "ip route del 10.40.0.2", "add route 10.40.0.2/32"),
        ("two", "ip link del eth1", "add link eth1 link eth0 type macvlan"),
        ("two", "ip address del fd40::2/64 dev eth1", "add address fd40::2/64"),
        ("three", "ip link del eth0", "add link eth0 link eth0 type macvlan"),
        ("three", "ip address del 10.40.0.3/24 dev eth0", "add address 10.40.0.3/24"),
        ("host", "sysctl -w net.ipv4.ip_forward=0", "sysctl net.ipv4.ip_forward = 1"),
        ("host", "sysctl -w net.ipv6.conf.all.forwarding=0", "net.ipv6.conf.all.forwarding = 1"),
        ("one", "ip link set eth0 down", "up is False"),
        ("one", "ip link del eth0", "add link NV type veth"),
        ("one", "ip address del 10.20.0.2/24 dev eth0", "add address 10.20.0.2/24"),
        ("one", "ip address del fd20::2/64 dev eth0", "add address fd20::2/64"),
        ("one", "ip route del default", "add route 0.0.0.0/0 via 10.20.0.1"),
        ("one", "ip -6 route del default", "add route ::/0 via fd20::1"),
        ("one", "ip rule del priority 110", "add rule from 10.30.0.2/32"),
        ("one", "ip route flush table $(ip -o rule | sed -n 's/^110:.* lookup //p')", "dev eth1"),
    ],
    ids=_ids,
)
def test_damage_is_repaired_within_a_second(
    town: Town, where: str, command: str, repair: str
) -> None:
    _damage_and_await_repair(town, where, command, repair, REPAIR_DEADLINE_S)


@pytest.mark.parametrize("town", ["often"], indirect=True)
@pytest.mark.parametrize(
    ("where", "command", "repair"),
    [
        ("host", "ip link set NV name mine", "add link NV type veth"),
        ("host", "bridge link set dev NV hairpin off", "hairpin is False"),
        ("host", "tc qdisc replace dev NV root tbf rate 1mbit burst 5k lat 1ms", "rate_bps is"),
        ("one", "ip link set eth0 mtu 1300", "mtu is 1300, not 1500"),
        ("one", "ip link set eth0 address 02:00:00:00:00:01", "mac is 02:00:00:00:00:01"),
        ("one", "ip link set eth0 name mine", "link NV type veth"),
        ("one", "ip route replace default dev eth0", "change route 0.0.0.0/0 via 10.20.0.1"),
        ("one", "ip link set lo down", "change link lo up"),
        ("one", "sysctl -w net.ipv6.conf.eth0.accept_ra=1", "accept_ra = 0 (value is 1"),
    ],
    ids=_ids,
)
def test_damage_without_news_is_repaired_at_the_next_look(
    town: Town, where: str, command: str, repair: str
) -> None:
    _damage_and_await_repair(town, where, command, repair, LOOK_EACH_S + REPAIR_DEADLINE_S)


def test_the_plan_says_what_is_wrong_before_it_is_repaired(cold_host: Host, tmp_path: Path) -> None:
    config = tmp_path / "netd.toml"
    config.write_text("[reconcile]\ndebounce_ms = 500\n")
    cold_host.start_daemon("--config", str(config))
    cold_host.client.create_network(name="blue", driver="bridge", subnets=["10.20.0.0/24"])
    events = Events(cold_host.socket)
    for command, planned in (
        ("ip link set nd-blue mtu 1300", "change link nd-blue "),
        ("ip address del 10.20.0.1/24 dev nd-blue", "add address 10.20.0.1/24 dev nd-blue"),
        ("nft flush set inet netd masqueraded", "add element masqueraded { nd-blue }"),
        ("ip link del nd-blue", "add link nd-blue type bridge"),
    ):
        cold_host.run("sh", "-c", command)
        plan = cold_host.client.plan()
        assert any(f"{op['verb']} {op['object']}".startswith(planned) for op in plan), plan
        assert all(op["reason"] and op["owner"] for op in plan)
        assert cold_host.client.status()["drift"] == len(plan)
        events.await_one("drift.repaired", planned)
        assert cold_host.plan() == []
        assert cold_host.client.status()["drift"] == 0


def test_attaching_and_detaching_is_no_drift(host: Host) -> None:
    """Second endpoints have routing tables of their own, which outlive a detach for a moment."""
    for network in ("blue", "red", "green"):
        host.client.create_network(name=network, driver="bridge")
    events = Events(host.socket)
    boxes = [host.container() for _ in range(3)]
    for box in boxes:
        host.attach("blue", box)
    for _ in range(5):
        more = [
            host.attach(network, box, ifname=ifname)
            for box in boxes
            for network, ifname in (("red", "eth1"), ("green", "eth2"))
        ]
        for endpoint in more:
            host.client.detach(endpoint["id"])
            assert host.client.reconcile()["applied"] == []
    host.client.delete_network("green")
    events.await_one("network.deleted", "")
    assert not [event for event in events.seen if event["type"].startswith("drift")]
    assert re.search(r"^netd_drift_repairs_total 0\.0$", host.client.metrics(), re.MULTILINE)


FOREIGN = """
ip link add br0 type bridge
ip address add 10.99.0.1/24 dev br0
ip link set br0 up
ip link add mine type veth peer name yours
ip link set mine master nd-blue
ip link set mine up
ip address add 10.98.0.1/24 dev nd-blue
ip -6 address add fd98::1/64 dev nd-blue nodad
ip route add 198.51.100.0/24 dev nd-blue
ip route add 203.0.113.0/24 via 10.20.0.2
ip rule add from 10.98.0.0/24 lookup 77 priority 77
ip route add default dev br0 table 77
tc qdisc add dev mine root tbf rate 1mbit burst 5k lat 1ms
nft add table inet other
nft add chain inet other c '{ type filter hook forward priority 5; }'
nft add rule inet other c accept
nft add table ip netd
"""


def test_what_is_somebody_elses_is_left_alone(stack: ExitStack, tmp_path: Path) -> None:
    town = Town(stack, tmp_path)
    host = town.host
    host.run("sh", "-ec", FOREIGN)
    town.one.run("sh", "-ec", "ip address add 10.97.0.1/24 dev eth0; ip link add x type veth")
    with_foreign = town.world()
    assert len(with_foreign[0] - town.as_it_was[0]) > 15
    assert host.plan() == []

    def await_all_as_it_was() -> None:
        town.as_it_was = with_foreign
        town.await_repair(REPAIR_DEADLINE_S)

    assert host.client.reconcile()["applied"] == []
    await_all_as_it_was()
    host.run("sh", "-ec", "nft delete table inet netd; ip address del 10.20.0.1/24 dev nd-blue")
    await_all_as_it_was()
    town.assert_traffic_flows()
    for end in (host.stop_daemon, host.kill):
        end()
        host.start_daemon()
        assert host.plan() == []
        await_all_as_it_was()


def test_a_foreign_link_in_the_way_is_reported_and_left_alone(host: Host) -> None:
    host.client.create_network(name="blue", driver="bridge")
    one = host.container()
    endpoint = host.attach("blue", one)
    host.stop_daemon()
    host.run("ip", "link", "del", endpoint["host_ifname"])
    host.run("ip", "link", "add", endpoint["host_ifname"], "type", "veth", "peer", "name", "x")
    before = census(host, {})
    host.start_daemon()
    assert census(host, {}) == before
    (condition,) = host.client.endpoint(endpoint["id"])["conditions"]
    assert endpoint["host_ifname"] in condition["detail"]
    assert host.client.endpoint(endpoint["id"])["state"] == "degraded"
    events = Events(host.socket)
    host.run("ip", "link", "del", endpoint["host_ifname"])
    events.await_one("drift.repaired", f"add link {endpoint['host_ifname']}")
    events.await_one("condition.cleared", "")
    assert one.pings(endpoint["gateways"][0])
    assert host.client.endpoint(endpoint["id"])["state"] == "ready"


def _damage_and_await_repair(
    town: Town, where: str, command: str, repair: str, deadline_s: float
) -> None:
    town.break_it(where, command)
    town.await_repair(deadline_s)
    nv = town.endpoint["host_ifname"]
    detail = repair.replace("NV", nv).replace("NI", nv.replace("nv", "ni", 1))
    town.events.await_one("drift.repaired", detail)
    assert town.host.plan() == []
    town.assert_traffic_flows()
