"""Aliases of nodes, and of instances on others, on hosts with the fake kernel."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from netd.engine.services.aliases import SETTLE_S
from netd.model.errors import Invalid
from netd.model.service import (
    NODE_SERVICE,
    CheckResult,
    CheckSpec,
    ServiceSpec,
    node_record,
)
from tests.unit.engine_fixture import Host

TOLD = CheckSpec(kind="told", id="told", status="passing")
OWN, OTHER = "node-1", "node-2"


@pytest.fixture
async def other(host: Host, tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(tmp_path / "other", host.mesh, node=OTHER, node_id="6" * 32)
    await made.start()
    await made.cluster.join([host.cluster.address], None)
    yield made
    await made.stop()


def settle(host: Host) -> None:
    host.clock.now_s += SETTLE_S + 0.1
    host.engine.services._own.ring_due()


async def alias(host: Host, ident: str = "a", **target: str) -> None:
    spec = ServiceSpec(name="web", checks=(CheckSpec(kind="alias", id="alias", **target),))  # type: ignore[arg-type]
    await host.engine.services.put(ident, spec)


async def put(host: Host, ident: str, name: str = "db", **more: Any) -> None:
    await host.engine.services.put(ident, ServiceSpec(name=name, checks=(TOLD,), **more))


def say(host: Host, ident: str, status: Any) -> None:
    host.engine.services.report(ident, "told", CheckResult(status=status))


def found(host: Host, ident: str = "a") -> tuple[str, str]:
    (check,) = host.engine.services.find(ident).checks
    return check.status, check.output


async def test_a_node_is_as_its_own_checks(host: Host, other: Host) -> None:
    await alias(host, "own", node=OWN)
    await alias(host, "others", node=OTHER)
    assert found(host, "own") == ("passing", "node node-1 is passing")
    assert found(host, "others") == ("passing", "node node-2 is passing")
    await put(other, "db")
    say(other, "db", "critical")  # a service on it, which is not the node
    for each, ident, name in ((host, "own", OWN), (other, "others", OTHER)):
        await put(each, node_record(name), NODE_SERVICE)
        say(each, node_record(name), "warning")
        assert found(host, ident) == ("warning", f"node {name} is warning")
        await each.engine.services.delete(node_record(name))
        assert found(host, ident) == ("passing", f"node {name} is passing")


async def test_a_node_that_is_no_host(host: Host) -> None:
    await alias(host, node="box")
    settle(host)
    assert found(host) == ("critical", "there is no node box")
    extra = {"consul": {"node": {"Node": "box", "Address": "192.0.2.7"}}}
    await put(host, node_record("box"), NODE_SERVICE, extra=extra)
    assert found(host) == ("passing", "node box is passing")
    say(host, node_record("box"), "critical")
    assert found(host) == ("critical", "node box is critical")


async def test_an_instance_on_another_host(host: Host, other: Host) -> None:
    await put(other, "db")
    await alias(host, node=OTHER, target="db")
    assert found(host) == ("passing", "db is passing")
    say(other, "db", "warning")
    assert found(host) == ("warning", "db is warning")
    await put(other, node_record(OTHER), NODE_SERVICE)
    say(other, node_record(OTHER), "critical")
    assert found(host) == ("critical", "db is critical")  # as its node is
    await other.engine.services.delete("db")
    settle(host)
    assert found(host) == ("critical", "there is no instance db on node node-2")


async def test_an_instance_that_is_on_another_node_than_is_said(host: Host, other: Host) -> None:
    await put(other, "db")
    await alias(host, node="node-3", target="db")
    settle(host)
    assert found(host) == ("critical", "there is no instance db on node node-3")


async def test_a_host_that_dies_and_comes_back(host: Host, other: Host) -> None:
    await put(other, "db")
    await alias(host, "node", node=OTHER)
    await alias(host, "db-too", node=OTHER, target="db")
    settle(host)
    host.mesh.cut(host.cluster, other.cluster)
    assert found(host, "node") == ("critical", "there is no node node-2")
    assert found(host, "db-too") == ("critical", "there is no instance db on node node-2")
    host.mesh.heal(host.cluster, other.cluster)
    assert found(host, "node")[0] == found(host, "db-too")[0] == "passing"


async def test_after_a_restart_it_is_as_it_was_until_others_are_heard(
    host: Host, other: Host
) -> None:
    await put(other, "db")
    await alias(host, "node", node=OTHER)
    await alias(host, "db-too", node=OTHER, target="db")
    await host.restart()  # alone, for now
    assert found(host, "node") == ("passing", "node node-2 is passing")
    assert found(host, "db-too") == ("passing", "db is passing")
    settle(host)
    assert found(host, "node") == ("critical", "there is no node node-2")
    assert found(host, "db-too")[0] == "critical"
    await host.cluster.join([other.cluster.address], None)
    assert found(host, "node")[0] == found(host, "db-too")[0] == "passing"


async def test_a_container_is_told_only_of_what_everybody_sees(host: Host, other: Host) -> None:
    await put(other, "open")
    await host.network("blue")
    await other.network("blue")
    theirs = await other.attach("blue", "c2")
    await put(other, "closed", endpoint=theirs.id)
    endpoint = await host.attach("blue", "c1")
    settle(host)
    for target, status in (("open", "passing"), ("closed", "critical")):
        check = CheckSpec(kind="alias", id="alias", node=OTHER, target=target)
        spec = ServiceSpec(name="web", endpoint=endpoint.id, checks=(check,))
        await host.engine.services.put("a", spec)
        assert found(host)[0] == status, target


async def test_a_node_whose_health_hangs_on_itself_is_refused(host: Host) -> None:
    await alias(host, node=OWN)
    check = CheckSpec(kind="alias", target="a")
    spec = ServiceSpec(name=NODE_SERVICE, checks=(check,))
    with pytest.raises(Invalid, match="leads back"):
        await host.engine.services.put(node_record(OWN), spec)
    with pytest.raises(Invalid):
        await alias(host, "b")
