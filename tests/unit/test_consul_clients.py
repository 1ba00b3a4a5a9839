"""The short programs that people write with a Consul client, unchanged.

They run with whichever library is installed as `consul`: py-consul, python-consul2 or
python-consul.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import consul as library
import pytest

from tests.unit.consul_lab import HOST, Lab, consul
from tests.unit.registry_lab import free_port

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

T = TypeVar("T")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with consul(tmp_path, free_port()) as running:
        yield running


async def run(lab: Lab, program: Callable[[Any], T]) -> T:
    """A program with a client of its own, beside the server."""
    client = library.Consul(host=HOST, port=lab.port)
    return await asyncio.to_thread(program, client)


async def test_register_a_service_with_a_check_find_it_and_remove_it(lab: Lab) -> None:
    def program(c: Any) -> None:
        check = library.Check.ttl("10s")
        assert c.agent.service.register(
            "web", service_id="web-1", address="10.0.0.7", port=80, tags=["v1"], check=check
        )
        assert c.agent.check.ttl_pass("service:web-1", notes="well")
        index, nodes = c.health.service("web", passing=True)
        assert int(index) > 0
        (node,) = nodes
        assert node["Service"]["Address"] == "10.0.0.7"
        assert node["Service"]["Port"] == 80
        assert [check["CheckID"] for check in node["Checks"]] == ["serfHealth", "service:web-1"]
        _, (row,) = c.catalog.service("web", tag="v1")
        assert row["ServiceID"] == "web-1"
        assert c.catalog.service("web", tag="v2")[1] == []
        assert c.catalog.services()[1] == {"consul": [], "web": ["v1"]}
        assert set(c.agent.services()) == {"web-1"}
        assert c.agent.service.deregister("web-1")
        assert c.health.service("web")[1] == []
        assert c.agent.checks() == {}

    await run(lab, program)


async def test_watch_a_service(lab: Lab) -> None:
    def program(c: Any) -> list[int]:
        index, nodes = c.health.service("web")
        assert nodes == []
        started.set()
        index, nodes = c.health.service("web", index=index, wait="4s")
        seen.set()
        return [node["Service"]["Port"] for node in nodes]

    started, seen = threading.Event(), threading.Event()
    watching = asyncio.ensure_future(run(lab, program))
    async with asyncio.timeout(4):
        while not (started.is_set() and lab.catalog.indexes.waiting):
            await asyncio.sleep(0.001)
    await lab.put("/v1/agent/service/register", {"name": "other"})
    assert not seen.is_set()
    await run(lab, lambda c: c.agent.service.register("web", port=81))
    assert await watching == [81]


async def test_a_wait_ends(lab: Lab) -> None:
    def program(c: Any) -> float:
        index, _ = c.health.service("web")
        began = time.monotonic()
        again, _ = c.health.service("web", index=index, wait="50ms")
        assert again == index
        return time.monotonic() - began

    assert await run(lab, program) >= 0.05


async def test_maintenance_and_checks(lab: Lab) -> None:
    def program(c: Any) -> None:
        c.agent.service.register("foo")
        assert c.agent.service.maintenance("foo", "true", "test")
        checks = c.agent.checks()
        assert checks["_service_maintenance:foo"]["Notes"] == "test"
        assert c.agent.service.maintenance("foo", "false")
        assert c.agent.maintenance("true", "all of it")
        assert c.agent.checks()["_node_maintenance"]["Notes"] == "all of it"
        assert c.agent.maintenance("false")
        assert c.agent.check.register("ttl", check=library.Check.ttl("10s"), service_id="foo")
        assert c.agent.check.ttl_warn("ttl")
        assert [row["Status"] for row in c.health.checks("foo")[1]] == ["warning"]
        assert c.agent.check.ttl_fail("ttl")
        assert c.health.state("critical")[1][0]["CheckID"] == "ttl"
        assert c.agent.check.deregister("ttl")
        assert c.agent.checks() == {}

    await run(lab, program)


async def test_the_host_and_the_cluster(lab: Lab) -> None:
    def program(c: Any) -> None:
        own = c.agent.self()
        assert own["Member"] in c.agent.members()
        assert c.agent.members(wan=True)[0]["Name"] == "host-1.dc1"
        leader = c.status.leader()
        assert leader in c.status.peers()
        assert own["Stats"]["consul"]["leader_addr"] == leader
        assert c.catalog.datacenters() == ["dc1"]
        assert [node["Node"] for node in c.catalog.nodes()[1]] == ["host-1", "host-2"]
        assert c.catalog.node("host-1")[1]["Node"]["Address"] == HOST
        assert c.catalog.node("nobody")[1] is None
        assert [row["CheckID"] for row in c.health.node("host-1")[1]] == ["serfHealth"]

    await run(lab, program)


async def test_the_catalogue_past_the_agent(lab: Lab) -> None:
    def program(c: Any) -> None:
        assert c.catalog.register("n1", "10.1.10.11") is True
        assert c.catalog.register("n2", "10.1.10.12", service={"service": "s1"}) is True
        nodes = {node["Node"]: node["Address"] for node in c.catalog.nodes()[1]}
        assert nodes["n1"] == "10.1.10.11"
        assert [row["Node"] for row in c.catalog.service("s1")[1]] == ["n2"]
        check = {"node": "n2", "name": "up", "service_id": "s1", "status": "passing"}
        assert c.catalog.register("n2", "10.1.10.12", check=check)
        _, (node,) = c.health.service("s1", passing=True)
        assert node["Checks"][0]["Name"] == "up"
        assert c.catalog.deregister("n1")
        assert c.catalog.deregister("n2", check_id="up")
        assert c.health.checks("s1")[1] == []
        assert c.catalog.deregister("n2", service_id="s1")
        assert c.catalog.deregister("n2")
        assert [node["Node"] for node in c.catalog.nodes()[1]] == ["host-1", "host-2"]

    await run(lab, program)


async def test_errors_are_the_librarys_own(lab: Lab) -> None:
    def program(c: Any) -> None:
        with pytest.raises(library.ConsulException):
            c.catalog.nodes(dc="elsewhere")
        with pytest.raises(library.ConsulException):
            c.health.service("web", index="junk")
        with pytest.raises(library.ConsulException):
            c.agent.service.register("web", address="0.0.0.0")
        with pytest.raises(library.ACLDisabled):
            c.acl.list() if not hasattr(c.acl, "token") else c.acl.token.list()

    await run(lab, program)
