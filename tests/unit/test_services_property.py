"""Any order of registrations, results, ends and deaths: hosts, store and followers agree."""

import asyncio
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

from netd.model.endpoint import EndpointPatch, Sandbox
from netd.model.errors import NetdError
from netd.model.service import CheckResult, CheckSpec, Maintenance, Service, ServiceSpec
from tests.unit.engine_fixture import Host
from tests.unit.memory_cluster import Mesh

T = TypeVar("T")

IDS = st.sampled_from(["a", "b", "c"])
CHECKS = st.lists(
    st.sampled_from(
        [
            CheckSpec(kind="tcp", id="tcp", status="passing"),
            CheckSpec(kind="ttl", id="ttl", ttl_s=20, deregister_after_s=60),
            CheckSpec(kind="alias", id="alias", target="a"),
            CheckSpec(kind="alias", id="other", target="b"),
        ]
    ),
    max_size=3,
    unique_by=lambda spec: spec.id,
).map(tuple)
RESULTS = st.sampled_from([CheckResult(status="passing"), CheckResult(status="critical")])
LABELS = st.sampled_from([{}, {"netd.service": "web:1"}, {"netd.service": "web:2,api:3"}])


class Life(RuleBasedStateMachine):
    """Two hosts of a cluster; the second one registers, too, and follows the first."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        mesh = Mesh()
        self.one = Host(self.folder / "1", mesh)
        self.two = Host(self.folder / "2", mesh, node="node-2", node_id="6" * 32)
        self.told: dict[str, Service] = {}
        self.processes: set[int] = set()
        self.run(self._begin())

    async def _begin(self) -> None:
        await self.one.start()
        await self.two.start()
        await self.one.network("blue", subnets=("10.20.0.0/24",))
        await self.two.cluster.join([self.one.cluster.address], None)
        self.two.engine.catalogue.subscribe(self._told)

    def _told(self, ident: str, service: Service | None) -> None:
        if service is None:
            del self.told[ident]
        else:
            self.told[ident] = service

    def teardown(self) -> None:
        self.run(self.one.stop())
        self.run(self.two.stop())
        self.loop.close()
        shutil.rmtree(self.folder)

    def run(self, work: Awaitable[T]) -> T:
        async def done() -> T:
            return await work

        return self.loop.run_until_complete(done())

    def attempt(self, work: Awaitable[object]) -> None:
        async def done() -> None:
            with suppress(NetdError):
                await work
            await self.one.quiet()

        self.run(done())

    def a_process(self) -> int:
        pid = self.one.kernel.processes.start()
        self.processes.add(pid)
        return pid

    # What is asked for

    @rule(ident=IDS, port=st.integers(1, 2), checks=CHECKS, bound=st.sampled_from(["", "p", "e"]))
    def register(self, ident: str, port: int, checks: tuple[CheckSpec, ...], bound: str) -> None:
        spec = ServiceSpec(name="web", port=port, checks=checks)
        ends = self.one.engine.endpoints()
        if bound == "p":
            spec = replace(spec, pid=self.a_process())
        if bound == "e" and ends:
            spec = replace(spec, endpoint=ends[0].id)
        self.attempt(self.one.engine.services.put(ident, spec))

    @rule(ident=IDS)
    def register_elsewhere(self, ident: str) -> None:
        self.attempt(self.two.engine.services.put(ident, ServiceSpec(name="web", port=9)))

    @rule(ident=IDS)
    def deregister(self, ident: str) -> None:
        self.attempt(self.one.engine.services.delete(ident))
        self.attempt(self.two.engine.services.delete(ident))

    @rule(ident=IDS, check=st.sampled_from(["tcp", "ttl"]), result=RESULTS)
    def report(self, ident: str, check: str, result: CheckResult) -> None:
        async def report() -> None:
            self.one.engine.services.report(ident, check, result)

        self.attempt(report())

    @rule(ident=IDS, enable=st.booleans())
    def maintain(self, ident: str, enable: bool) -> None:
        self.attempt(self.one.engine.services.maintain(ident, Maintenance(enable=enable)))

    @rule(container=st.sampled_from(["x", "y"]), labels=LABELS)
    def attach(self, container: str, labels: dict[str, str]) -> None:
        self.attempt(self.one.attach("blue", container, labels=labels))

    @rule(labels=LABELS)
    def label(self, labels: dict[str, str]) -> None:
        for endpoint in self.one.engine.endpoints()[:1]:
            self.attempt(self.one.engine.update_endpoint(endpoint.id, EndpointPatch(labels=labels)))

    @rule(container=st.sampled_from(["x", "y"]))
    def detach(self, container: str) -> None:
        self.attempt(self.one.engine.detach_container(container))

    # What happens

    @rule()
    def process_ends(self) -> None:
        if self.processes:
            self.one.kernel.processes.end(self.processes.pop())
            self.attempt(asyncio.sleep(0))

    @rule(container=st.sampled_from(["x", "y"]))
    def namespace_ends(self, container: str) -> None:
        box = self.one.kernel.places.get(f"/run/netns/{container}")
        if isinstance(box, Sandbox):
            self.one.kernel.by_hand.end_namespace(box)
            self.attempt(asyncio.sleep(0))

    @rule(seconds=st.sampled_from([1, 15, 45]))
    def time_passes(self, seconds: int) -> None:
        self.one.clock.now_s += seconds
        self.two.clock.now_s += seconds

        async def ring() -> None:
            self.one.engine.services._own.ring_due()

        self.attempt(ring())

    @rule(killed=st.booleans())
    def restart(self, killed: bool) -> None:
        async def again() -> None:
            if killed:
                await self.one.killed()
                self.one.cluster.becomes("dead")
                await self.one.start()
            else:
                await self.one.restart()
            await self.one.cluster.join([self.two.cluster.address], None)

        self.attempt(self._settled())
        self.attempt(again())

    # What has to hold

    @invariant()
    def all_agree(self) -> None:
        self.run(self._settled())
        own = self.one.engine.services._own.records
        stored = {record.service.id: record for record in self.run(self.one.store.load()).services}
        for ident, record in stored.items():
            assert own[ident].spec == record.spec
            assert _without_output(own[ident].service) == _without_output(record.service)
        assert own.keys() - stored.keys() == {
            ident for ident, record in own.items() if record.labelled and ident not in stored
        }
        here = {service.id: service for service in self.one.engine.services.all()}
        there = {service.id: service for service in self.two.engine.services.all()}
        assert there == self.told | {i: s for i, s in there.items() if s.node == "node-2"}
        assert here.keys() == there.keys()
        for ident, service in here.items():
            assert _seen_elsewhere(service) == _seen_elsewhere(there[ident])
            # The worst check tells, and an alias is as its target.
            statuses = {check.status for check in service.checks}
            worst = [s for s in ("critical", "warning", "passing") if s in statuses]
            assert service.status == (worst[0] if worst else "passing")
            for check in service.checks:
                if check.spec is not None and check.spec.kind == "alias":
                    target = own.get(check.spec.target)
                    assert check.status == (target.service.status if target else "critical")

    @invariant()
    def nothing_outlives_what_it_goes_with(self) -> None:
        ends = {endpoint.id: endpoint for endpoint in self.one.engine.endpoints()}
        wanted = self.one.kernel.processes.watched()
        own = self.one.engine.services._own.records
        assert wanted == {record.spec.pid for record in own.values() if record.spec.pid}
        assert wanted <= self.processes
        for record in own.values():
            assert not record.spec.endpoint or record.spec.endpoint in ends
        for endpoint in ends.values():
            labelled = endpoint.labels.get("netd.service", "").split(",")
            named = {part.partition(":")[0] for part in labelled if part}
            assert {f"{name}-{endpoint.id}" for name in named} <= own.keys()

    async def _settled(self) -> None:
        keeper = self.one.engine.services._keeper
        async with asyncio.timeout(5):
            while keeper.waiting:
                await asyncio.sleep(0)
        await self.one.store.load()  # what the keeper has handed over is written by then


def _without_output(service: Service) -> Service:
    return replace(service, checks=tuple(replace(check, output="") for check in service.checks))


def _seen_elsewhere(service: Service) -> Service:
    checks = tuple(replace(check, spec=None) for check in _without_output(service).checks)
    return replace(service, checks=checks, pid=None, conditions=())


Life.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLife = pytest.mark.timeout(300)(Life.TestCase)
