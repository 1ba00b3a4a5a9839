"""Any history of calls, right and wrong, at the real daemon: what is said is what there is."""

import ipaddress
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from netd.client.errors import ApiError
from tests.e2e.lab import Host, Namespace
from tests.e2e.remains import Remains

SETTLED_S = 15.0
NETWORKS: dict[str, dict[str, Any]] = {
    "tiny": {"driver": "bridge", "subnets": ["10.50.0.0/29"]},
    "dual": {"driver": "bridge", "subnets": ["10.51.0.0/28", "fd51::/64"]},
    "open": {"driver": "bridge", "isolated": False},
    "inner": {"driver": "bridge", "internal": True},
    "wire": {"driver": "macvlan", "subnets": ["10.52.0.0/24"], "options": {"shim": True}},
    "alone": {"driver": "none"},
}
MALFORMED = [
    {"name": "Dual", "driver": "bridge"},
    {"name": "other", "driver": "bridge", "subnets": ["10.51.0.0/24"]},
    {"name": "other", "driver": "bridge", "subnets": ["192.0.2.0/25"]},
    {"name": "other", "driver": "macvlan", "parent": "nd-dual"},
    {"name": "dual", "driver": "none"},
]
WRONG = [
    {"ifname": "eth/0"},
    {"addresses": ["10.51.0.1"]},
    {"addresses": ["192.0.2.10"]},
    {"mac": "01:00:00:00:00:00"},
    {"ports": [{"host_port": 0, "container_port": 1}]},
    {"labels": {"": ""}},
    {"pid": None, "netns": "/proc/self/ns/net"},
    {"pid": None},
    {"colour": "red"},
]

networks = st.sampled_from(sorted(NETWORKS))
containers = st.integers(0, 2)
ports = st.lists(
    st.builds(
        lambda port, protocol, count: {
            "host_port": port, "container_port": 80, "protocol": protocol, "count": count
        },
        st.sampled_from([8001, 8002, 8003]),
        st.sampled_from(["tcp", "udp", "sctp"]),
        st.sampled_from([1, 3]),
    ),
    max_size=2,
)  # fmt: skip
bandwidths = st.sampled_from([{}, {"ingress_bps": 10**7}, {"egress_bps": 10**7}])
aliases = st.lists(st.sampled_from(["www", "db", "x"]), max_size=2)

patches = st.fixed_dictionaries(
    {}, optional={"ports": ports, "aliases": aliases, "bandwidth": bandwidths}
)


class Lab:
    """One host for all histories, and the containers of the current one."""

    def __init__(self, stack: ExitStack, host: Host) -> None:
        self._stack = stack
        self.host = host
        self.containers = [host.container() for _ in range(3)]

    def kill(self, number: int) -> None:
        """End a container without a word, and put a new one in its place."""
        self.containers[number].end()
        self.containers[number] = self.host.container()

    def inside(self, container: Namespace) -> dict[str, set[str]]:
        """What the container really has: addresses in CIDR form by interface."""
        found: dict[str, set[str]] = {}
        for link in json.loads(container.run("ip", "-json", "address")):
            if link["ifname"] == "lo" or "LOWER_UP" not in link["flags"]:
                continue  # a detached link goes down at once and is removed in a moment
            found[link["ifname"]] = {
                f"{address['local']}/{address['prefixlen']}"
                for address in link["addr_info"]
                if address["scope"] == "global"
            }
        return found


class History(RuleBasedStateMachine):
    """Calls in any order. The model knows one thing: what the daemon says must be true."""

    lab: Lab
    answered: ClassVar[Counter[str]] = Counter()

    @initialize()
    def begin(self) -> None:
        for name, spec in NETWORKS.items():
            self.lab.host.client.create_network(name=name, **spec)

    def call(self, work: Any, *arguments: Any, **fields: Any) -> Any:
        """Make a call; a refusal is an answer too, but only one that blames the caller."""
        try:
            value = work(*arguments, **fields)
        except ApiError as error:
            self.answered[error.code] += 1
            # A killed container's macvlan link keeps its MAC until the kernel has removed it.
            if "another macvlan link on eth0 has the MAC" not in error.detail and (
                error.code not in ("invalid", "not-found", "conflict", "exhausted")
            ):
                raise
            return None
        self.answered[work.__name__] += 1
        return value

    @rule(name=networks)
    def create(self, name: str) -> None:
        client = self.lab.host.client
        made = self.call(client.create_network, name=name, **NETWORKS[name])
        if made is not None:
            assert client.network(name) == made

    @rule(spec=st.sampled_from(MALFORMED))
    def create_what_cannot_be(self, spec: dict[str, Any]) -> None:
        client = self.lab.host.client
        known = client.networks()
        made = self.call(client.create_network, **spec)
        if made is None:
            assert client.networks() == known

    @rule(name=networks)
    def delete(self, name: str) -> None:
        client = self.lab.host.client
        before = self.users(name)  # of which one may go meanwhile, when its container was killed
        self.call(client.delete_network, name)
        there = name in [network["name"] for network in client.networks()]
        assert before if there else not self.users(name)

    def users(self, name: str) -> list[str]:
        endpoints = self.lab.host.client.endpoints()
        return [endpoint["id"] for endpoint in endpoints if endpoint["network"] == name]

    @rule(
        network=networks,
        number=containers,
        ifname=st.sampled_from(["eth0", "eth1", "eth2"]),
        fields=st.fixed_dictionaries(
            {},
            optional={
                "ports": ports,
                "aliases": aliases,
                "bandwidth": bandwidths,
                "name": st.sampled_from(["web", "db"]),
                "addresses": st.sampled_from([["10.51.0.5"], ["10.50.0.2"], ["fd51::5"]]),
                "mac": st.just("02:00:00:00:00:09"),
                "default_route": st.booleans(),
            },
        ),
    )
    def attach(self, network: str, number: int, ifname: str, fields: dict[str, Any]) -> None:
        lab = self.lab
        request = {
            "container_id": f"c{number}", "pid": lab.containers[number].pid, "ifname": ifname
        } | fields  # fmt: skip
        made = self.call(lab.host.client.attach, network, **request)
        if made is not None:
            assert made["state"] == "ready"
            assert lab.host.client.attach(network, **request) == made  # the same again

    @rule(
        network=st.sampled_from(["dual", "open"]),
        number=containers,
        ifname=st.sampled_from(["eth0", "eth1", "eth2"]),
        published=ports,
        patch=patches,
    )
    def attach_plainly(
        self,
        network: str,
        number: int,
        ifname: str,
        published: list[dict[str, Any]],
        patch: dict[str, Any],
    ) -> None:
        """Attach, which mostly can be done, and change one of all endpoints."""
        self.attach(network, number, ifname, {"ports": published})
        self.change(self.pick(number), patch)

    @rule(network=networks, number=containers, wrong=st.sampled_from(WRONG))
    def attach_what_cannot_be(self, network: str, number: int, wrong: dict[str, Any]) -> None:
        client = self.lab.host.client
        request = {"container_id": f"c{number}", "pid": self.lab.containers[number].pid} | wrong
        known = {endpoint["id"] for endpoint in client.endpoints()}
        if self.call(client.attach, network, **request) is None:
            # One of a killed container may go meanwhile.
            assert {endpoint["id"] for endpoint in client.endpoints()} <= known

    @rule(pick=st.integers(0, 8), patch=patches)
    def update(self, pick: int, patch: dict[str, Any]) -> None:
        self.change(self.pick(pick), patch)

    def change(self, endpoint: dict[str, Any], patch: dict[str, Any]) -> None:
        if not endpoint:
            return
        client = self.lab.host.client
        changed = self.call(client.update_endpoint, endpoint["id"], **patch)
        if changed is None:
            now = [end for end in client.endpoints() if end["id"] == endpoint["id"]]
            assert now in ([endpoint], [])  # none when its container was killed
        else:
            assert [port["host_port"] for port in changed["ports"]] == [
                port["host_port"] for port in patch.get("ports", endpoint["ports"])
            ]

    @rule(pick=st.integers(0, 8))
    def detach(self, pick: int) -> None:
        if endpoint := self.pick(pick):
            self.lab.host.client.detach(endpoint["id"])
            self.lab.host.client.detach(endpoint["id"])

    @rule(number=containers)
    def detach_container(self, number: int) -> None:
        self.lab.host.client.detach_container(f"c{number}")

    @rule(number=containers)
    def kill(self, number: int) -> None:
        self.lab.kill(number)

    def pick(self, number: int) -> dict[str, Any]:
        endpoints = self.lab.host.client.endpoints()
        return endpoints[number % len(endpoints)] if endpoints else {}

    def teardown(self) -> None:
        client = self.lab.host.client
        deadline_s = time.monotonic() + SETTLED_S
        # The kernel ends a killed container's namespace in its own time, and only then is its
        # endpoint gone; a detached link is removed in a moment.
        while (said := self.said()) != (found := self.found()) and time.monotonic() < deadline_s:
            time.sleep(0.02)
        assert found == said
        endpoints = client.endpoints()
        taken = [(end["network"], address) for end in endpoints for address in end["addresses"]]
        assert len(taken) == len(set(taken))
        for network in client.networks():
            for name, address in taken:
                if name == network["name"]:
                    assert str(ipaddress.ip_interface(address).network) in network["subnets"]
                    assert address.partition("/")[0] not in network["gateways"]
        assert client.plan() == []
        self.clear()

    def said(self) -> list[dict[str, set[str]]]:
        """By container: the addresses on each interface, as the daemon says."""
        endpoints = self.lab.host.client.endpoints()
        return [
            {
                endpoint["ifname"]: set(endpoint["addresses"])
                for endpoint in endpoints
                if endpoint["container_id"] == f"c{number}" and endpoint["ifname"]
            }
            for number in range(len(self.lab.containers))
        ]

    def found(self) -> list[dict[str, set[str]]]:
        return [self.lab.inside(container) for container in self.lab.containers]

    def clear(self) -> None:
        client = self.lab.host.client
        for number in range(len(self.lab.containers)):
            client.detach_container(f"c{number}")
        for network in client.networks():
            client.delete_network(network["id"])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("host")
        config = folder / "netd.toml"
        config.write_text("[networks]\nquarantine_s = 0\n")
        host = Host(stack, folder)
        host.start_daemon("--config", str(config))
        yield Lab(stack, host)


@pytest.mark.timeout(200)
def test_histories(lab: Lab) -> None:
    before = Remains.settled(lab.host)

    class OfLab(History):
        pass

    OfLab.lab = lab
    run_state_machine_as_test(
        seed(5)(OfLab),
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # a host has a memory: a shorter history is another one
            suppress_health_check=list(HealthCheck),
        ),
    )
    # Otherwise the histories would not be worth the name.
    assert History.answered["attach"] > 20
    assert History.answered["update_endpoint"] > 10
    assert min(History.answered[code] for code in ("invalid", "not-found", "conflict")) > 3
    before.check(lab.host)
    assert "Traceback" not in lab.host.log.read_text()
