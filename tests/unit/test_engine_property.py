"""Any order of use cases, damage by hand, restarts and deaths: the host comes right again."""

import asyncio
import errno
import shutil
import tempfile
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from netd.engine.intent import ports_of
from netd.kernel.faults import Crash
from netd.kernel.simulation import OtherLink
from netd.model.endpoint import Bandwidth, EndpointPatch, PortMapping, Sandbox
from netd.model.errors import NetdError
from netd.plan.objects import HOST, Link, Loopback, Veth
from tests.unit.engine_fixture import SETTINGS, Host

T = TypeVar("T")

NETWORKS = st.sampled_from(["blue", "red", "lan", "node"])
CONTAINERS = st.sampled_from(["a", "b", "c"])
IFNAMES = st.sampled_from(["eth0", "eth1"])
PORTS = st.lists(
    st.builds(
        PortMapping,
        host_port=st.integers(80, 83),
        container_port=st.just(80),
        protocol=st.sampled_from(["tcp", "udp"]),
        host_ip=st.sampled_from(["", "192.0.2.10", "127.0.0.1"]),
        count=st.integers(1, 2),
    ),
    max_size=2,
).map(tuple)
LIMITS = st.sampled_from([Bandwidth(), Bandwidth(egress_bps=10**6), Bandwidth(ingress_bps=10**6)])

SPECS = {
    "blue": {"driver": "bridge", "subnets": ("10.20.0.0/28", "fd20::/124")},
    "red": {"driver": "bridge", "subnets": ("10.30.0.0/29",)},
    "lan": {
        "driver": "macvlan",
        "subnets": ("198.51.100.0/28",),
        "gateways": ("198.51.100.1",),
        "options": {"shim": True},
    },
    "node": {"driver": "host"},
}


class Life(RuleBasedStateMachine):
    """One host. What is answered is remembered here; the daemon has to stand by it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.host = Host(self.folder / "state")
        self.host.settings = replace(SETTINGS, quarantine_s=5.0)
        self.run(self.host.start())

    def teardown(self) -> None:
        self.run(self.host.stop())
        self.loop.close()
        shutil.rmtree(self.folder)

    def run(self, work: Awaitable[T]) -> T:
        async def done() -> T:
            return await work

        return self.loop.run_until_complete(done())

    def attempt(self, work: Awaitable[object]) -> None:
        """Do it; a refusal is an answer, and a death is followed by a new life."""

        async def lived() -> None:
            try:
                with suppress(NetdError):
                    await work
                await self.host.quiet()
            except Crash:
                await self.host.killed()
                await self.host.start()
                await self.host.quiet()

        self.run(lived())

    # Use cases.

    @rule(name=NETWORKS)
    def create(self, name: str) -> None:
        self.attempt(self.host.network(name, **SPECS[name]))  # type: ignore[arg-type]

    @rule(name=NETWORKS)
    def delete(self, name: str) -> None:
        self.attempt(self.host.engine.delete_network(name))

    @rule(network=NETWORKS, container=CONTAINERS, ifname=IFNAMES, ports=PORTS, limits=LIMITS)
    def attach(
        self,
        network: str,
        container: str,
        ifname: str,
        ports: tuple[PortMapping, ...],
        limits: Bandwidth,
    ) -> None:
        more: dict[str, object] = {"ifname": ifname}
        if network in ("blue", "red"):
            more |= {"ports": ports, "bandwidth": limits}
        if network == "node":
            more |= {"netns": None, "ports": ports}
        self.attempt(self.host.attach(network, container, **more))

    @rule(data=st.data(), ports=PORTS, limits=LIMITS)
    def update(
        self, data: st.DataObject, ports: tuple[PortMapping, ...], limits: Bandwidth
    ) -> None:
        endpoints = self.host.engine.endpoints()
        if endpoints:
            endpoint = data.draw(st.sampled_from(endpoints))
            patch = EndpointPatch(ports=ports, bandwidth=limits)
            self.attempt(self.host.engine.update_endpoint(endpoint.id, patch))

    @rule(data=st.data())
    def detach(self, data: st.DataObject) -> None:
        endpoints = self.host.engine.endpoints()
        if endpoints:
            self.attempt(self.host.engine.detach(data.draw(st.sampled_from(endpoints)).id))

    @rule(container=CONTAINERS)
    def detach_container(self, container: str) -> None:
        self.attempt(self.host.engine.detach_container(container))

    @rule(network=NETWORKS, container=CONTAINERS, other=CONTAINERS, ports=PORTS)
    def two_at_once(
        self, network: str, container: str, other: str, ports: tuple[PortMapping, ...]
    ) -> None:
        """An attach beside the end of another container, and of itself."""

        async def both() -> None:
            await asyncio.gather(
                self.host.engine.detach_container(other),
                self.host.attach(
                    network,
                    container,
                    **({"ports": ports} if network in ("blue", "red") else {}),
                ),
                self.host.engine.reconcile(),
                return_exceptions=True,
            )

        # A death in one of them would leave the others alive.
        if not self.host.kernel.faults.pending:
            self.attempt(both())

    @rule()
    def wait(self) -> None:
        self.host.clock.now_s += 3.0

    # Trouble.

    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        """Somebody deletes something of netd's, or takes a link down."""
        kernel = self.host.kernel
        tagged = sorted(
            key
            for key in kernel.simulation.tagged
            if not isinstance(kernel.simulation.objects[key], Loopback)
        )
        if tagged:
            key = data.draw(st.sampled_from(tagged))
            obj = kernel.simulation.objects[key]
            if isinstance(obj, Link) and data.draw(st.booleans()):
                kernel.by_hand.set_link(obj.name, obj.ns, up=False)
            else:
                kernel.simulation.delete(key)

    @rule(container=CONTAINERS)
    def container_ends(self, container: str) -> None:
        sandbox = self.host.kernel.places.get(f"/run/netns/{container}")
        if isinstance(sandbox, Sandbox):
            self.host.kernel.by_hand.end_namespace(sandbox)

    @rule(nth=st.integers(1, 8))
    def the_kernel_refuses(self, nth: int) -> None:
        self.host.kernel.faults.fail(nth, errno.ENOMEM)

    @rule(nth=st.integers(1, 8), when=st.sampled_from(["before", "after"]))
    def death_is_near(self, nth: int, when: str) -> None:
        self.host.kernel.faults.crash(nth, when)  # type: ignore[arg-type]

    @rule(full=st.booleans())
    def the_disk(self, full: bool) -> None:
        self.host.store.full = full

    @rule()
    def restart(self) -> None:
        self.host.kernel.faults.clear()
        self.host.store.full = False
        self.attempt(self.host.restart())

    @rule()
    def kill(self) -> None:
        self.run(self.host.killed())
        self.attempt(self.host.start())

    @rule()
    def come_right(self) -> None:
        """Without further trouble one pass is enough, and the store alone says the same."""
        host = self.host
        host.kernel.faults.clear()
        host.store.full = False

        async def passed() -> None:
            await host.quiet()
            report = await host.engine.reconcile()
            assert report.failed == ()
            await host.check()

        self.run(passed())
        for endpoint in host.engine.endpoints():
            assert endpoint.state == "ready", endpoint.conditions

    # What is always true.

    @invariant()
    def addresses_are_held_by_one_endpoint(self) -> None:
        intent = self.host.engine._parts.intent
        held: dict[tuple[str, str], str] = {}
        for endpoint in self.host.engine.endpoints():
            if endpoint.network == "node":
                continue
            for address in endpoint.addresses:
                assert held.setdefault((endpoint.network_id, address), endpoint.id) == endpoint.id
        for network in self.host.engine.networks():
            shim = 1 if network.options.get("shim") else 0
            mine = [e for e in self.host.engine.endpoints() if e.network_id == network.id]
            for pool in intent.pools[network.id]:
                assert pool.held == len(mine) + shim

    @invariant()
    def ports_are_held_by_one_endpoint(self) -> None:
        intent = self.host.engine._parts.intent
        taken: dict[tuple[str, int, int], dict[str, str]] = {}
        for record in intent.records.values():
            for port in ports_of(record):
                there = taken.setdefault((port.protocol, port.family, port.port), {})
                for address, holder in there.items():
                    overlap = not address or not port.address or address == port.address
                    assert not overlap or holder == record.endpoint.id
                there[port.address] = record.endpoint.id
        assert {slot: claims for slot, claims in intent.ports._claims.items() if claims} == taken

    @invariant()
    def one_default_route_for_each_container(self) -> None:
        for container in ("a", "b", "c"):
            endpoints = self.host.engine.endpoints(container_id=container)
            assert sum(endpoint.default_route for endpoint in endpoints) <= 1

    @invariant()
    def nobody_is_busy_any_more(self) -> None:
        parts = self.host.engine._parts
        assert not parts.busy._active
        assert not parts.locks._locks

    @invariant()
    def what_is_not_netds_is_as_it_was(self) -> None:
        simulation = self.host.kernel.simulation
        others = [obj for obj in simulation.of_type(OtherLink) if obj.ns == HOST]
        assert [obj.name for obj in others] == ["eth0"]
        for veth in simulation.of_type(Veth):
            assert veth.master in (None, "nd-blue", "nd-red")


Life.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLife = pytest.mark.timeout(300)(Life.TestCase)
