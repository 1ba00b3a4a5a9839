"""Transactions on nodes, services and checks, with the real daemons of two hosts on the kernel in
memory: all or none.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from netd.model.service import CheckResult, ServiceChanges, ServiceSpec
from netd.registry.consul.draft import Draft
from tests.unit.consul_keys_lab import Lab, consul_keys, web
from tests.unit.memory_cluster import Mesh
from tests.unit.test_consul_acl import ROOT, ask, switch_on, token
from tests.unit.test_consul_daemon import DEADLINE_S, Place, place, until

BOX = {"Node": "box", "Address": "192.0.2.7"}
ID = "11111111-2222-3333-4444-555555555555"


def node(verb: str, **fields: Any) -> dict[str, Any]:
    return {"Node": {"Verb": verb, "Node": BOX | fields}}


def service(verb: str, on: str = "box", **fields: Any) -> dict[str, Any]:
    given = {"Service": "lpr", "Port": 515, **fields}
    return {"Service": {"Verb": verb, "Node": on, "Service": given}}


def check(verb: str, on: str = "box", **fields: Any) -> dict[str, Any]:
    given = {"Node": on, "CheckID": "paper", "Status": "passing", **fields}
    return {"Check": {"Verb": verb, "Check": given}}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Place]:
    async with place(tmp_path, Mesh(), 1) as made:
        yield made


async def txn(where: Place, *steps: Any) -> list[dict[str, Any]]:
    async with where.http.put(f"{where.url}/v1/txn", json=steps) as answer:
        assert answer.status == 200, await answer.text()
        found = await answer.json()
    assert found["Errors"] is None
    results: list[dict[str, Any]] = found["Results"]
    return results


async def refused(where: Place, *steps: Any) -> list[tuple[int, str]]:
    async with where.http.put(f"{where.url}/v1/txn", json=steps) as answer:
        assert answer.status == 409, await answer.text()
        found = await answer.json()
    assert found["Results"] is None
    return [(error["OpIndex"], error["What"]) for error in found["Errors"]]


async def rows(where: Place, name: str = "box") -> tuple[list[str], list[tuple[str, str]]]:
    """The services of a node, and its checks with how they are."""
    found = await where.get(f"/v1/catalog/node/{name}")
    checks = await where.get(f"/v1/health/node/{name}")
    services = [] if found is None else sorted(found["Services"])
    return services, sorted((each["CheckID"], each["Status"]) for each in checks)


def everything(where: Place) -> dict[str, Any]:
    """What the daemon has, without when."""
    return {each.id: each for each in where.host.engine.services.all()}


async def test_a_node_with_what_is_on_it(here: Place) -> None:
    results = await txn(
        here,
        node("set", ID=ID, Meta={"floor": "2"}),
        service("set", ID="lpr-1", Tags=["a4"]),
        check("set", ServiceID="lpr-1", Status="warning", Output="low", Name="Paper"),
        check("set", CheckID="up", Notes="of the node"),
    )
    assert [list(each) for each in results] == [["Node"], ["Service"], ["Check"], ["Check"]]
    (of_node, of_service, paper, up) = [row for each in results for row in each.values()]
    assert of_node == (await here.get("/v1/catalog/node/box"))["Node"]
    assert (of_node["ID"], of_node["Meta"], of_node["Address"]) == (ID, {"floor": "2"}, "192.0.2.7")
    assert (of_service["ID"], of_service["Service"], of_service["Tags"]) == ("lpr-1", "lpr", ["a4"])
    assert (paper["ServiceID"], paper["ServiceName"]) == ("lpr-1", "lpr")
    assert (paper["Status"], paper["Output"], paper["Name"]) == ("warning", "low", "Paper")
    assert (up["ServiceID"], up["Notes"], up["Status"]) == ("", "of the node", "passing")
    assert [paper] == await here.get("/v1/health/checks/lpr")
    assert all(row["ModifyIndex"] > 0 for row in (of_node, of_service, paper, up))
    # What it has by now is what may be changed with these very indexes.
    again = await txn(
        here,
        check("cas", ServiceID="lpr-1", ModifyIndex=paper["ModifyIndex"]),
        service("cas", ID="lpr-1", Port=516, ModifyIndex=of_service["ModifyIndex"]),
        check("delete", CheckID="up"),
        node("get"),
    )
    assert [list(each) for each in again] == [["Check"], ["Service"], ["Node"]]
    assert again[1]["Service"]["Port"] == 516
    assert await rows(here) == (["lpr-1"], [("paper", "passing")])
    assert await txn(here, node("delete")) == []
    assert await here.get("/v1/catalog/node/box") is None
    assert everything(here) == {}


async def test_reads_show_what_there_is(here: Place) -> None:
    await txn(here, node("set", ID=ID), service("set"), check("set", ServiceID="lpr"))
    steps = [
        node("get"),
        {"Node": {"Verb": "get", "Node": {"ID": ID}}},
        service("get", "BOX"),
        check("get"),
        check("get", "node-1", CheckID="serfHealth"),
        service("get", "node-1", Service="consul"),
    ]
    async with here.http.put(f"{here.url}/v1/txn", json=steps) as answer:
        assert int(answer.headers["X-Consul-Index"]) > 0
        results = (await answer.json())["Results"]
    assert results[0] == results[1]
    names = [row.get("Node") or row["Service"] for each in results for row in each.values()]
    assert names == ["box", "box", "lpr", "box", "node-1", "consul"]
    faults = await refused(
        here,
        node("get", Node="none"),
        service("get", ID="none"),
        check("get", "node-1", CheckID="none"),
        service("get", "none"),
    )
    assert faults == [
        (0, 'node "none" doesn\'t exist'),
        (1, 'service "none" on node "box" doesn\'t exist'),
        (2, 'check "none" on node "node-1" doesn\'t exist'),
        (3, 'service "lpr" on node "none" doesn\'t exist'),
    ]


async def test_it_sees_what_it_has_done_itself(here: Place) -> None:
    results = await txn(
        here,
        node("set"),
        service("set", Port=1),
        service("get"),
        check("set", ServiceID="lpr"),
        check("get"),
        service("set", Port=2),
        node("get"),
        check("set", CheckID="short-lived"),
        check("delete", CheckID="short-lived"),
    )
    ports = [each["Service"]["Port"] for each in results if "Service" in each]
    assert ports == [2, 2, 2]
    assert await rows(here) == (["lpr"], [("paper", "passing")])
    faults = await refused(
        here, service("delete"), service("get"), check("get"), node("delete"), node("get")
    )
    assert [number for number, _ in faults] == [1, 4]
    faults = await refused(here, check("delete"), check("get"), service("delete"), check("set"))
    assert [number for number, _ in faults] == [1]
    # All of it goes and comes again in one.
    await txn(here, node("delete"), node("set"), service("set", Port=3), check("cas"))
    assert await rows(here) == (["lpr"], [("paper", "passing")])
    assert (await here.get("/v1/health/node/box"))[0]["ServiceID"] == ""


INDEXES = [
    (node("cas"), "node"),
    (node("cas", ModifyIndex=1), "node"),
    (node("delete-cas", ModifyIndex=1), "node"),
    (node("delete-cas", Node="none", ModifyIndex=1), "node"),
    (service("cas"), "service"),
    (service("cas", ModifyIndex=1), "service"),
    (service("cas", ID="none", ModifyIndex=1), "service"),
    (service("delete-cas", ModifyIndex=1), "service"),
    (service("delete-cas", ID="none"), "service"),
    (check("cas", ServiceID="lpr"), "check"),
    (check("cas", ServiceID="lpr", ModifyIndex=1), "check"),
    (check("delete-cas", ModifyIndex=1), "check"),
    (check("delete-cas", CheckID="none"), "check"),
]


@pytest.mark.parametrize(("step", "what"), INDEXES)
async def test_another_index_does_nothing_at_all(here: Place, step: Any, what: str) -> None:
    await txn(here, node("set"), service("set"), check("set", ServiceID="lpr"))
    before = everything(here)
    ((number, told),) = await refused(here, service("set", ID="new"), step, check("delete"))
    assert number == 1
    assert f" {what} " in told
    assert told.endswith(", index is stale")
    assert everything(here) == before


@pytest.mark.parametrize("verb", ["cas", "delete-cas"])
async def test_the_right_index_once(here: Place, verb: str) -> None:
    made = await txn(here, node("cas"), service("cas"), check("cas", ServiceID="lpr"))
    index = {kind: row["ModifyIndex"] for each in made for kind, row in each.items()}
    of_check = check(verb, ServiceID="lpr", Status="warning", ModifyIndex=index["Check"])
    of_service = service(verb, Port=1, ModifyIndex=index["Service"])
    of_node = node(verb, Meta={"floor": "3"}, ModifyIndex=index["Node"])
    # Twice in one transaction is once too often.
    assert [number for number, _ in await refused(here, of_check, of_check)] == [1]
    await txn(here, of_check, of_service, of_node)
    assert [number for number, _ in await refused(here, of_check, of_service, of_node)] == [0, 1, 2]


BAD = [
    ({"Node": {"Verb": "lock", "Node": BOX}}, 'unknown Node verb "lock"'),
    ({"Service": {"Node": "box", "Service": {"Service": "x"}}}, 'unknown Service verb ""'),
    (check("get-tree"), 'unknown Check verb "get-tree"'),
    (node("set", Node=""), "Must provide node"),
    (node("set", Node="other", Address=""), "Must provide address"),
    (node("set", ID="17"), "Bad node ID"),
    (node("set", Node="twin", ID=ID), "is that of node box"),
    (node("set", Datacenter="dc2"), "No path to datacenter"),
    (node("set", Node="node-1"), "its Address is not set here"),
    (node("delete", Node="node-1"), "is a host of the cluster"),
    (service("set", "none"), "Missing node registration"),
    (service("set", Service="", ID="x"), "Missing service name"),
    (service("set", Address="0.0.0.0"), "Invalid service address"),
    (service("set", ID="named", Address="printer.example"), "is not an IP address"),
    (check("set", ServiceID="none"), "Unknown service ID 'none'"),
    (check("set", Status="fine"), "Bad check status"),
    (check("set", "none"), "Missing node registration"),
    ({"Session": {"Verb": "delete"}}, "Session operations cannot be part"),
]


@pytest.mark.parametrize(("step", "told"), BAD)
async def test_what_cannot_be_done_leaves_all_as_it_was(here: Place, step: Any, told: str) -> None:
    await txn(here, node("set", ID=ID), service("set"))
    before = everything(here)
    faults = await refused(here, service("set", ID="new"), step, service("delete"))
    assert [number for number, _ in faults] == [1], faults
    assert told in faults[0][1]
    assert everything(here) == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ([{"Node": []}], 400),
        ([{"Node": {"Verb": "set", "Node": {"Node": 7}}}], 400),
        ([{"Check": {"Verb": "cas", "Check": {"ModifyIndex": "x"}}}], 400),
        ([node("get")] * 129, 413),
    ],
)
async def test_no_transaction(here: Place, body: Any, status: int) -> None:
    await here.put("/v1/txn", body, status)


async def test_keys_and_the_catalogue_do_not_mix(here: Place) -> None:
    set_key = {"KV": {"Verb": "set", "Key": "a", "Value": "MQ=="}}
    for steps in ((set_key, node("set")), (node("set"), set_key), (node("get"), set_key)):
        ((number, told),) = await refused(here, *steps)
        assert number == 1
        assert "cannot be in one transaction" in told
    assert everything(here) == {}
    async with here.http.get(f"{here.url}/v1/kv/a") as answer:
        assert answer.status == 404


async def test_services_and_checks_of_this_host(here: Place) -> None:
    await here.put("/v1/agent/check/register", {"Name": "disk", "TTL": "1h"})
    node_1 = (await here.get("/v1/catalog/node/node-1"))["Node"]
    await txn(
        here,
        # What a host is may be said, if it is so.
        node("set", Node="NODE-1", Address=node_1["Address"], ID=node_1["ID"]),
        service("set", "node-1"),
        check("set", "node-1", ServiceID="lpr"),
        check("set", "node-1", CheckID="load", Status="warning"),
    )
    assert set(await here.get("/v1/agent/services")) == {"lpr"}
    (row,) = await here.get("/v1/health/service/lpr")
    assert row["Service"]["Address"] == ""
    assert set(await here.get("/v1/agent/checks")) == {"disk", "load", "paper"}
    # A check has one owner on a node: it moves.
    await txn(here, check("set", "node-1"), check("set", "node-1", CheckID="load", ServiceID="lpr"))
    found = await here.get("/v1/agent/checks")
    assert {ident: each["ServiceID"] for ident, each in found.items()} == {
        "disk": "",
        "load": "lpr",
        "paper": "",
    }
    await txn(here, *(check("delete", "node-1", CheckID=each) for each in ("disk", "paper")))
    assert list(everything(here)) == ["lpr@node-1"]
    await txn(here, service("delete", "node-1"), service("delete", "node-1", ID="none"))
    assert everything(here) == {}


async def test_what_follows_its_host_goes_on_to_do_so(here: Place) -> None:
    await here.host.engine.services.put("mail-1", ServiceSpec(name="mail"))
    await txn(here, service("get", "node-1", ID="mail-1"), node("set"))
    assert here.host.engine.services._own.records["mail-1"].spec == ServiceSpec(name="mail")


async def test_what_another_host_keeps(tmp_path: Path) -> None:
    mesh = Mesh()
    async with place(tmp_path, mesh, 1) as first, place(tmp_path, mesh, 2) as second:
        await second.host.cluster.join([first.host.cluster.address], None)
        await txn(first, node("set"), service("set"), check("set", ServiceID="lpr"))
        await until(second, "/v1/health/service/lpr", lambda found: len(found) == 1)
        await until(second, "/v1/catalog/nodes", lambda found: len(found) == 3)
        assert len(await txn(second, node("get"), service("get"), check("get"))) == 3
        before = everything(first)
        for step in (
            node("set", Address="192.0.2.8"),
            node("delete"),
            service("set", ID="new"),
            service("delete"),
            check("set", CheckID="new"),
            check("delete"),
            service("set", "node-1"),
            check("set", "node-1"),
        ):
            ((number, told),) = await refused(second, node("set", Node="mine"), step)
            assert number == 1
            assert "node-1" in told
        assert everything(first) == before
        assert second.host.engine.services._own.records == {}


async def test_a_node_goes_with_all_that_is_on_it(here: Place) -> None:
    await txn(here, node("set"))
    extra = {"consul": {"node": {"Node": "box"}}}
    spec = ServiceSpec(name="lpr", address="192.0.2.7", extra=extra)
    many = {f"lpr-{number}": spec for number in range(1200)}
    await here.host.engine.services.change(ServiceChanges(put=many))
    await until(here, "/v1/catalog/service/lpr", lambda found: len(found) == 1200)
    await here.put("/v1/catalog/deregister", {"Node": "box"})
    assert everything(here) == {}


async def test_a_daemon_that_cannot_store_it_has_nothing_done(here: Place) -> None:
    here.host.store.full = True
    await here.put("/v1/txn", [node("set"), service("set")], 503)
    assert everything(here) == {}
    assert await here.get("/v1/catalog/node/box") is None


async def test_what_changes_meanwhile(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A draft that is made of what is so no more is made again, of what is so by then."""
    made = await txn(here, node("set"), service("set"), check("set", ServiceID="lpr"))
    index = made[1]["Service"]["ModifyIndex"]
    changes = Draft.changes
    drafts = 0

    def changed(draft: Draft) -> Any:
        nonlocal drafts
        drafts += 1
        if drafts == 1:
            services = here.host.engine.services
            services.report("lpr@box", "paper", CheckResult(status="critical"))
        return changes(draft)

    monkeypatch.setattr(Draft, "changes", changed)
    await txn(here, service("set", Port=1), check("delete", CheckID="none"))
    assert drafts == 2
    assert await rows(here) == (["lpr"], [("paper", "critical")])
    drafts = 0
    # One that asked for the index is refused then, however late that is found.
    (row,) = await txn(here, service("get"))
    drafts = 0
    assert row["Service"]["ModifyIndex"] > index
    services = here.host.engine.services
    services.report("lpr@box", "paper", CheckResult(status="passing"))
    step = service("cas", Port=2, ModifyIndex=row["Service"]["ModifyIndex"])
    assert [number for number, _ in await refused(here, step)] == [0]
    assert (await here.get("/v1/catalog/service/lpr"))[0]["ServicePort"] == 1


async def test_many_at_once_are_one_after_the_other(here: Place) -> None:
    await txn(here, node("set"))
    asked = [
        refused_or_done(here, service("cas", ID="one"), check("set", CheckID=f"c{number}"))
        for number in range(10)
    ]
    async with asyncio.timeout(DEADLINE_S):
        done = await asyncio.gather(*asked)
    assert sorted(done) == [200] + [409] * 9
    services, checks = await rows(here)
    assert services == ["one"]
    assert len(checks) == 1


async def refused_or_done(where: Place, *steps: Any) -> int:
    async with where.http.put(f"{where.url}/v1/txn", json=steps) as answer:
        return answer.status


# Rights, and who is not the host


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with consul_keys() as made:
        yield made


async def faults(lab: Lab, *steps: Any, secret: str = "") -> list[tuple[int, str]]:
    answer = await ask(lab, "PUT", "/v1/txn", steps, token=secret)
    assert answer.status == 409, answer.text
    return [(error["OpIndex"], error["What"]) for error in answer.any_json()["Errors"]]


async def test_containers_read_what_they_see_and_change_nothing(lab: Lab) -> None:
    lab.put_entries(web("a"), web("b", network="blue"))
    lab.guests.add("127.0.0.1")
    lab.put_entries(web("a"), web("b", network="blue"))
    steps = [service("get", "here", ID="a"), check("get", "here", CheckID="service:a:c")]
    answer = await ask(lab, "PUT", "/v1/txn", steps)
    assert [list(each) for each in answer.json()["Results"]] == [["Service"], ["Check"]]
    found = await faults(
        lab, service("get", "here", ID="b"), check("get", "here", CheckID="service:b:c")
    )
    assert [told.endswith("doesn't exist") for _, told in found] == [True, True]
    for step in (node("set"), service("delete", "here", ID="a"), check("set", "here")):
        ((_, told),) = await faults(lab, step)
        assert told == "Permission denied: this is for the host itself"


WRITES = [
    (node("set"), "'node:write' on \"box\""),
    (node("delete", Node="here"), "'node:write' on \"here\""),
    (service("set", "here", Service="web"), "'service:write' on \"web\""),
    (service("set", "here", Service="api", ID="a"), "'service:write' on \"web\""),
    (service("delete", "here", Service="", ID="a"), "'service:write' on \"web\""),
    (service("delete", "here", Service="", ID="none"), "'node:write' on \"here\""),
    (service("delete", "here", Service="web", ID="none"), "'service:write' on \"web\""),
    (check("set", "here", ServiceID="a"), "'service:write' on \"web\""),
    (check("set", "here", ServiceID="none"), "'node:write' on \"here\""),
    (check("set", "here"), "'node:write' on \"here\""),
    (check("set", "here", CheckID="service:a:c", ServiceID="api"), "'service:write' on \"web\""),
    (check("delete", "here", CheckID="service:a:c"), "'service:write' on \"web\""),
    (check("delete", "here", CheckID="none"), "'node:write' on \"here\""),
]


@pytest.mark.parametrize(("step", "told"), WRITES)
async def test_a_token_without_the_right_changes_nothing(lab: Lab, step: Any, told: str) -> None:
    switch_on(lab, token=ROOT)
    lab.put_entries(web("a"), web("api"))
    mine = (await token(lab, 'service "api" { policy = "write" }'))["SecretID"]
    ((number, found),) = await faults(lab, service("get", "here", ID="a"), step, secret=mine)
    assert number == 1
    assert found.startswith("Permission denied: token with AccessorID")
    assert found.endswith(told)
    assert lab.daemon.engine.services.by_id == {}


async def test_results_are_those_that_may_be_seen(lab: Lab) -> None:
    switch_on(lab, token=ROOT)
    lab.put_entries(web("a"))
    steps = [
        node("get", Node="here"),
        service("get", "here", ID="a"),
        check("get", "here", CheckID="service:a:c"),
        check("get", "here", CheckID="serfHealth"),
    ]
    for rules, kinds in (
        ('service "web" { policy = "read" }', ["Service", "Check"]),
        ('node "here" { policy = "read" }', ["Node", "Check"]),
    ):
        mine = (await token(lab, rules))["SecretID"]
        answer = await ask(lab, "PUT", "/v1/txn", steps, token=mine)
        assert [key for each in answer.json()["Results"] for key in each] == kinds
        assert answer.headers["X-Consul-Results-Filtered-By-ACLs"] == "true"
