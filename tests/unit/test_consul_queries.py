"""Prepared queries: made, kept, found by name, and what they find."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from netd.model.kv import Operation
from netd.model.service import Check, Service
from netd.registry.consul.fields import Fields
from netd.registry.consul.query_names import check, find
from netd.registry.consul.query_spec import Query, query_of
from netd.registry.consul.reserved import QUERIES
from netd.registry.http.call import Failure
from tests.unit.consul_keys_lab import Lab, consul_keys, web


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with consul_keys() as made:
        yield made


def query(name: str = "q", service: str = "web", **more: Any) -> dict[str, Any]:
    return {"Name": name, "Service": {"Service": service, **more.pop("wanted", {})}, **more}


async def create(lab: Lab, asked: dict[str, Any]) -> str:
    answer = await lab.call("POST", "/v1/query", json.dumps(asked))
    made: str = answer.json()["ID"]
    return made


async def test_a_query(lab: Lab) -> None:
    made = await create(lab, query(wanted={"OnlyPassing": True, "Tags": ["a", "!b"]}))
    shown = await lab.get(f"/v1/query/{made}")
    assert shown.json() == [
        {
            "ID": made,
            "Name": "q",
            "Session": "",
            "Token": "",
            "Template": {"Type": "", "Regexp": "", "RemoveEmptyTags": False},
            "Service": {
                "Service": "web",
                "Failover": {"NearestN": 0, "Datacenters": [], "Targets": []},
                "OnlyPassing": True,
                "IgnoreCheckIDs": [],
                "Near": "",
                "Tags": ["a", "!b"],
                "NodeMeta": {},
                "ServiceMeta": {},
                "Connect": False,
            },
            "DNS": {"TTL": ""},
            "CreateIndex": 2,
            "ModifyIndex": 2,
        }
    ]
    assert (await lab.get("/v1/query")).json() == shown.json()
    changed = await lab.call("PUT", f"/v1/query/{made}", json.dumps(query("r", DNS={"TTL": "5s"})))
    assert (changed.status, changed.body) == (200, b"")
    (row,) = (await lab.get(f"/v1/query/{made}")).json()
    assert (row["Name"], row["DNS"]["TTL"], row["Service"]["Tags"]) == ("r", "5s", [])
    assert (row["CreateIndex"], row["ModifyIndex"]) == (2, 3)
    deleted = await lab.call("DELETE", f"/v1/query/{made}")
    assert (deleted.status, deleted.body) == (200, b"")
    gone = await lab.get(f"/v1/query/{made}")
    assert (gone.status, gone.text) == (404, "Query not found")
    assert (await lab.get("/v1/query")).json() == []


async def test_indexes_are_those_of_each_query(lab: Lab) -> None:
    one = await create(lab, query("one"))
    await lab.put("/v1/kv/a", b"1")
    await create(lab, query("two"))
    rows = {row["Name"]: row for row in (await lab.get("/v1/query")).json()}
    assert [rows[name]["ModifyIndex"] for name in ("one", "two")] == [2, 4]
    await lab.call("PUT", f"/v1/query/{one}", json.dumps(query("one")))
    assert (await lab.get("/v1/query")).index == 4  # nothing has changed


async def test_names_are_unique(lab: Lab) -> None:
    made = await create(lab, query("q"))
    await create(lab, query(""))
    await create(lab, query(""))
    for asked in (query("Q"), query("q", Template={"Type": "name_prefix_match"})):
        refused = await lab.call("POST", "/v1/query", json.dumps(asked))
        assert (refused.status, "aliases" in refused.text) == (500, True)
    refused = await lab.call("POST", "/v1/query", json.dumps(query(made)))
    assert refused.status == 500
    other = await create(lab, query("r"))
    refused = await lab.call("PUT", f"/v1/query/{other}", json.dumps(query("q")))
    assert refused.status == 500


async def test_many_are_made_at_once(lab: Lab) -> None:
    await asyncio.gather(*(create(lab, query(f"q{number}")) for number in range(8)))
    rows = (await lab.get("/v1/query")).json()
    assert {row["Name"] for row in rows} == {f"q{number}" for number in range(8)}
    clashes = await asyncio.gather(
        *(lab.call("POST", "/v1/query", json.dumps(query("same"))) for _ in range(6))
    )
    assert sorted(answer.status for answer in clashes) == [200, *[500] * 5]


async def test_a_query_ends_with_its_session(lab: Lab) -> None:
    session = await lab.session()
    refused = await lab.call("POST", "/v1/query", json.dumps(query(Session="nobody")))
    assert (refused.status, "invalid session" in refused.text) == (500, True)
    made = await create(lab, query(Session=session))
    await create(lab, query("stays"))
    assert len((await lab.get("/v1/query")).json()) == 2
    await lab.put(f"/v1/session/destroy/{session}")
    assert [row["Name"] for row in (await lab.get("/v1/query")).json()] == ["stays"]
    assert (await lab.get(f"/v1/query/{made}")).status == 404
    await create(lab, query("q"))  # its name is free


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("POST", "", "", 400),
        ("POST", "", "{}", 400),
        ("POST", "", '{"Service": {"Service": ""}}', 400),
        ("POST", "", '{"Service": {"Service": "s", "Failover": {"NearestN": -1}}}', 400),
        ("POST", "", '{"Service": {"Service": "s"}, "DNS": {"TTL": "x"}}', 400),
        ("POST", "", '{"Service": {"Service": "s"}, "DNS": {"TTL": "-1s"}}', 400),
        ("POST", "", '{"Service": {"Service": "s"}, "Template": {"Type": "x"}}', 400),
        ("POST", "", '{"Service": {"Service": "s"}, "Template": {"Regexp": "x"}}', 400),
        ("POST", "", json.dumps(query(wanted={"Tags": ["t"] * 65})), 400),
        ("POST", "", json.dumps(query("n" * 254)), 400),
        ("PUT", "/none", json.dumps(query()), 500),
        ("DELETE", "/none", "", 500),
        ("GET", "/none", None, 404),
        ("GET", "/none/execute", None, 404),
        ("GET", "/none/explain", None, 404),
    ],
)
async def test_no_query(lab: Lab, method: str, target: str, body: str, status: int) -> None:
    answer = await lab.call(method, f"/v1/query{target}", body)
    assert answer.status == status, answer.text
    assert (await lab.get("/v1/query")).json() == []


async def test_what_is_no_document_is_not_written_over(lab: Lab) -> None:
    await lab.api.transact(Operation(verb="set", key=QUERIES, value=b"{"))
    assert (await lab.get("/v1/query")).status == 500
    assert (await lab.call("POST", "/v1/query", json.dumps(query()))).status == 500
    entry = (await lab.api.read(QUERIES)).entry
    assert entry is not None
    assert entry.value == b"{"


# What they find


async def found(lab: Lab, target: str) -> list[str]:
    answer = (await lab.get(f"/v1/query/{target}")).json()
    return [row["Service"]["ID"] for row in answer["Nodes"]]


async def test_an_answer(lab: Lab) -> None:
    lab.put_entries(web("web-1", tags=("a",)))
    made = await create(lab, query(DNS={"TTL": "7s"}))
    for target in (made, "q", "Q"):
        answer = (await lab.get(f"/v1/query/{target}/execute")).json()
        (row,) = answer.pop("Nodes")
        assert answer == {
            "Service": "web",
            "DNS": {"TTL": "7s"},
            "Datacenter": "dc1",
            "Failovers": 0,
        }
        assert (row["Node"]["Node"], row["Service"]["ID"]) == ("here", "web-1")
        assert [each["CheckID"] for each in row["Checks"]] == ["serfHealth", "service:web-1:c"]


WELL = [web("p1"), web("p2", "there"), web("w", status="warning"), web("c", status="critical")]


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({}, {"p1", "p2", "w"}),
        ({"OnlyPassing": True}, {"p1", "p2"}),
        ({"IgnoreCheckIDs": ["service:c:c"]}, {"p1", "p2", "w", "c"}),
        ({"Service": "none"}, set()),
        ({"Connect": True}, set()),
    ],
)
async def test_only_what_is_well(lab: Lab, wanted: dict[str, Any], ids: set[str]) -> None:
    lab.put_entries(*WELL, nodes=("here", "there"))
    await create(lab, query(wanted=wanted))
    assert set(await found(lab, "q/execute")) == ids


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({"Tags": ["a"]}, {"1", "2"}),
        ({"Tags": ["A", "b"]}, {"2"}),
        ({"Tags": ["a", "!B"]}, {"1"}),
        ({"ServiceMeta": {"v": "1"}}, {"1"}),
        ({"NodeMeta": {"rack": "r"}}, set()),
    ],
)
async def test_only_what_is_wanted(lab: Lab, wanted: dict[str, Any], ids: set[str]) -> None:
    one, two = web("1", tags=("a",), meta={"v": "1"}), web("2", tags=("a", "b"))
    lab.put_entries(one, two, web("3"))
    await create(lab, query(wanted=wanted))
    assert set(await found(lab, "q/execute")) == ids


async def test_order(lab: Lab) -> None:
    nodes = ("here", *(f"n{number}" for number in range(9)))
    lab.put_entries(*(web(f"on-{node}", node) for node in nodes), nodes=nodes)
    lab.distances |= {f"n{number}": 0.1 * (10 - number) for number in range(9)}
    await create(lab, query())
    await create(lab, query("near", wanted={"Near": "_agent"}))
    orders = {tuple(await found(lab, "q/execute")) for _ in range(5)}
    assert len(orders) > 1
    nearest = ["on-here", *(f"on-n{number}" for number in range(8, -1, -1))]
    assert await found(lab, "near/execute") == nearest
    assert await found(lab, "q/execute?near=here&limit=2") == nearest[:2]
    assert len(await found(lab, "q/execute?limit=3")) == 3
    assert (await lab.get("/v1/query/q/execute?limit=x")).status == 400


async def test_a_check_of_the_node_counts(lab: Lab) -> None:
    sick = Check(id="disk", name="disk", kind="script", status="critical")
    node = Service(id="_node-here", name="_node", node="here", address="", checks=(sick,))
    lab.put_entries(web("web-1"), node)
    await create(lab, query())
    assert await found(lab, "q/execute") == []


# Templates


TEMPLATE = {"Type": "name_prefix_match"}


def spec(name: str, service: str = "web", regexp: str = "", **wanted: Any) -> Query:
    asked = query(name, service, Template={**TEMPLATE, "Regexp": regexp}, wanted=wanted)
    return query_of(Fields(asked), "0" * 8)


async def test_a_template(lab: Lab) -> None:
    lab.put_entries(web("web-1", tags=("blue",)), web("web-2"))
    asked = query(
        "geo-",
        "${name.suffix}",
        Template={**TEMPLATE, "Regexp": "^geo-(.*)$"},
        wanted={"Tags": [""]},
    )
    asked["Service"]["Tags"] = ["${match(2)}"]
    asked["Template"]["RemoveEmptyTags"] = True
    await create(lab, asked)
    explained = (await lab.get("/v1/query/geo-web/explain")).json()["Query"]
    assert (explained["Name"], explained["Service"]["Service"]) == ("geo-", "web")
    assert explained["Service"]["Tags"] == []
    assert set(await found(lab, "geo-web/execute")) == {"web-1", "web-2"}
    (row,) = (await lab.get("/v1/query")).json()
    assert (await lab.get(f"/v1/query/{row['ID']}/execute")).status == 500


@pytest.mark.parametrize(
    ("asked", "service"),
    [
        ("a-", "first a-  a-"),
        ("a-x", "first a- x a-x"),
        ("A-X", "first a- X A-X"),
        ("a-b-x", "second ${x} b"),
        ("zzz", "all zzz"),
    ],
)
def test_the_longest_name_that_fits(asked: str, service: str) -> None:
    queries = [
        spec("", "all ${name.full}"),
        spec("a-", "first ${name.prefix} ${ name.suffix } ${name.full}"),
        spec("a-b-", "second $${x} ${match(1)}", "^a-(.)-"),
    ]
    found = find(queries, asked)
    assert found is not None
    assert found.service.service == service


def test_a_name_comes_before_a_template() -> None:
    plain = query_of(Fields(query("a-b", "plain")), "0" * 8)
    found = find([spec("a-"), plain], "a-b")
    assert found is plain
    assert find([plain], "a-c") is None


@pytest.mark.parametrize(
    "query",
    [
        spec("a", "${name}"),
        spec("a", "${match(x)}"),
        spec("a", "x", tags=["${}"]),
        spec("a", "x", "("),
        spec("a", "x", "a{1000}{1000}"),
        spec("a", "x", "(?P<a>x)(?P=a)"),
    ],
)
def test_no_template(query: Query) -> None:
    with pytest.raises(Failure) as caught:
        check(query)
    assert caught.value.status == 400


async def test_a_table_for_who_cannot_wait(lab: Lab) -> None:
    assert lab.table.look() == ()
    async with asyncio.timeout(10):
        await lab.table.known.wait()
    session = await lab.session()
    await create(lab, query("q", Session=session))
    await names_are(lab, {"q"})
    await create(lab, query("r"))
    await names_are(lab, {"q", "r"})
    await lab.put(f"/v1/session/destroy/{session}")
    await names_are(lab, {"r"})


async def names_are(lab: Lab, names: set[str]) -> None:
    async with asyncio.timeout(10):
        while {each.name for each in lab.table.look()} != names:
            await asyncio.sleep(0.005)
