"""Checks of a node as a whole: what they make of its instances, for names and virtual addresses."""

import itertools

import hypothesis.strategies as st
import pytest
from hypothesis import given
from msgspec.structs import replace

from netd.engine.services.catalogue import Catalogue
from netd.engine.services.node_checks import NodeChecks
from netd.model.service import (
    NODE_SERVICE,
    SEVERITY,
    Check,
    CheckResult,
    CheckSpec,
    CheckStatus,
    Maintenance,
    Service,
    ServiceSpec,
    shown_on,
)
from tests.unit.engine_fixture import Host
from tests.unit.memory_cluster import MemoryCluster, Mesh
from tests.unit.test_virtual_engine import HTTP, expose, hosts, register, settled, targets

__all__ = ["hosts"]  # the fixture

WEB = Service(
    id="web-1", name="web", node="here", address="10.20.0.2", created_at="2026-01-02T03:04:05.000Z"
)


def node_of(host: str, status: CheckStatus = "critical", shown: str = "") -> Service:
    """What stands for a node: the host itself, or one that it was told of."""
    disk = Check(id="disk", name="disk", kind="ttl", status=status, output="full", since="then")
    extra = {"consul": {"node": {"Node": shown}}} if shown else {}
    return Service(
        id=f"{NODE_SERVICE}-{shown or host}",
        name=NODE_SERVICE,
        node=host,
        address="10.20.0.1",
        checks=(disk,),
        status=status,
        extra=extra,
        created_at="2026-01-02T03:04:05.000Z",
    )


async def pair() -> tuple[Catalogue, Catalogue]:
    """Two members, called `here` and `there`."""
    mesh = Mesh()
    made: list[tuple[MemoryCluster, Catalogue]] = []
    for name in ("here", "there"):
        cluster = mesh.node(name)
        made.append((cluster, Catalogue(cluster)))
        made[-1][1].start()
    await made[1][0].join([made[0][0].address], None)
    return made[0][1], made[1][1]


def found(catalogue: Catalogue, ident: str = "web-1") -> Service:
    service = catalogue.find(ident)
    assert service is not None
    return service


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
async def test_instances_are_no_better_than_their_node(order: tuple[int, ...]) -> None:
    here, there = await pair()
    for each in order:
        here.put((WEB, node_of("here"))[each])
    for catalogue in (here, there):
        assert found(catalogue).status == "critical"
        (why,) = found(catalogue).conditions
        assert why.code == "node-critical"
        assert why.detail == "node here is critical: disk: full"
        assert why.since == "then"
    here.put(node_of("here", "warning"))
    for catalogue in (here, there):
        assert found(catalogue).status == "warning"
        assert [each.code for each in found(catalogue).conditions] == ["node-warning"]
    here.put(node_of("here", "passing"))
    assert found(here) == found(there) == WEB
    here.put(node_of("here"))
    here.drop(node_of("here").id)
    assert found(here) == found(there) == WEB


async def test_a_node_does_not_make_an_instance_better() -> None:
    here, _ = await pair()
    here.put(node_of("here", "warning"))
    here.put(replace(WEB, status="critical"))
    assert found(here).status == "critical"


async def test_followers_are_told_of_each_instance_once_and_of_no_other() -> None:
    here, there = await pair()
    here.put(WEB)
    here.put(replace(WEB, id="web-2"))
    there.put(replace(WEB, id="web-3", node="there"))
    told: list[str] = []
    there.subscribe(lambda ident, _: told.append(ident))
    told.clear()
    here.put(node_of("here"))
    assert told == ["_node-here", "web-1", "web-2"]


async def test_nobody_speaks_of_the_instances_of_others() -> None:
    here, there = await pair()
    here.put(WEB)
    there.put(node_of("there", shown="here"))
    assert found(here) == found(there) == WEB


async def test_an_instance_stands_for_its_node_by_its_id_alone() -> None:
    """Whoever registers an instance chooses its name."""
    here, there = await pair()
    here.put(WEB)
    here.put(replace(node_of("here"), id="_node@here"))
    here.put(replace(node_of("here", shown="printer"), extra={}))
    assert found(here) == found(there) == WEB
    assert found(here, "_node@here").conditions == ()
    here.put(node_of("here"))
    assert found(there).status == "critical"


async def test_nodes_that_are_no_hosts_have_their_own_instances() -> None:
    here, there = await pair()
    here.put(WEB)
    away = replace(WEB, id="db-1", extra={"consul": {"node": {"Node": "Printer"}}})
    here.put(away)
    here.put(node_of("here", shown="printer"))
    for catalogue in (here, there):
        assert found(catalogue).status == "passing"
        assert found(catalogue, "db-1").status == "critical"


@pytest.mark.parametrize("extra", [{}, {"consul": 3}, {"consul": {"node": []}}])
def test_whatever_others_tell_an_instance_is_on_a_node(extra: dict[str, object]) -> None:
    assert shown_on(replace(WEB, extra=extra)) == "here"
    assert shown_on(replace(WEB, extra={"consul": {"node": {"Node": 7}}})) == "here"


_STATUSES: st.SearchStrategy[CheckStatus] = st.sampled_from(["passing", "warning", "critical"])
_SERVICES = st.builds(
    lambda node, shown, status: replace(node_of(node, status, shown)),
    *[st.sampled_from("ab")] * 2,
    _STATUSES,
) | st.builds(
    lambda number, node, shown, status: replace(
        WEB,
        id=f"web-{number}",
        node=node,
        status=status,
        extra={"consul": {"node": {"Node": shown}}},
    ),
    st.integers(0, 3),
    *[st.sampled_from("ab")] * 2,
    _STATUSES,
)


@given(st.lists(_SERVICES | st.sampled_from(["web-0", "web-1", "_node-a", "_node-b"])))
def test_whatever_the_order_it_follows_from_what_is_there(steps: list[Service | str]) -> None:
    """And whoever is otherwise after a step was said to be."""
    checks = NodeChecks()
    there: dict[str, Service] = {}
    for step in steps:
        ident = step if isinstance(step, str) else step.id
        before = {each: checks.applied(there[each]) for each in there}
        now = None if isinstance(step, str) else step
        affected = checks.changed(there.get(ident), now)
        there.pop(ident, None)
        if now is not None:
            there[ident] = now
        for each, service in there.items():
            applied = checks.applied(service)
            assert applied.status == _expected(service, there)
            if each != ident and applied != before[each]:
                assert each in affected


def _expected(service: Service, there: dict[str, Service]) -> CheckStatus:
    def place(each: Service) -> tuple[str, str]:
        return each.node, shown_on(each)

    said = [service.status]
    if service.name != NODE_SERVICE:
        for each in there.values():
            if each.name == NODE_SERVICE and place(each) == place(service):
                said.append(each.status)
    return max(said, key=SEVERITY.__getitem__)


async def test_a_node_in_maintenance_is_out_of_names_and_virtual_addresses(
    hosts: list[Host],
) -> None:
    one, two, three = hosts
    await expose(one, "web", HTTP)
    await register(one, "web-1", "198.51.100.7")
    await register(two, "web-2", "198.51.100.8")
    asked = ServiceSpec(name=NODE_SERVICE, checks=(CheckSpec(kind="ttl", ttl_s=60),))
    await two.engine.services.put("_node-node-2", asked)
    two.engine.services.report("_node-node-2", "ttl", CheckResult(status="passing"))
    await settled(*hosts)
    both = {"198.51.100.7", "198.51.100.8"}
    for host in hosts:
        assert names(host) == both
        assert targets(host) == {f"{address}:8080" for address in both}

    await two.engine.services.maintain("_node-node-2", Maintenance(enable=True, reason="disk"))
    await settled(*hosts)
    for host in hosts:
        assert names(host) == {"198.51.100.7"}
        assert targets(host) == {"198.51.100.7:8080"}
        shown = host.engine.services.find("web-2")
        assert shown.status == "critical"
        assert [each.code for each in shown.conditions] == ["node-critical"]
        assert "disk" in shown.conditions[0].detail
        assert [each.id for each in host.engine.services.all(name="web", passing=True)] == ["web-1"]
        assert host.engine.services.troubled() == ()

    await two.engine.services.maintain("_node-node-2", Maintenance(enable=False))
    await settled(*hosts)
    for host in hosts:
        assert names(host) == both
        assert targets(host) == {f"{address}:8080" for address in both}
        assert host.engine.services.find("web-2").conditions == ()

    two.engine.services.report("_node-node-2", "ttl", CheckResult(status="critical"))
    await settled(*hosts)
    assert names(three) == {"198.51.100.7"}
    assert targets(three) == {"198.51.100.7:8080"}


def names(host: Host) -> set[str]:
    answer = host.engine.resolve("web.service.netd.internal", "A", None)
    return {record.data for record in answer.records}
