"""What is read of the catalogue: its forms, its indexes, waiting, and what is refused."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from netd.model.directory import EndpointEntry, NodeEntry
from netd.model.service import Check
from netd.registry.consul import reads
from netd.registry.consul.reads import LARGE_MIN, gather_s
from tests.unit.consul_lab import HOST, WEB, Answer, Lab, consul
from tests.unit.registry_lab import free_port


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with consul(tmp_path, free_port()) as running:
        yield running


async def watch(
    lab: Lab, path: str, index: int, source: str = "127.0.0.1"
) -> "asyncio.Future[Answer]":
    """A call that waits by now."""
    before = lab.catalog.indexes.waiting
    mark = "&" if "?" in path else "?"
    target = f"{path}{mark}index={index}&wait=4s"
    call = asyncio.ensure_future(lab.ask("GET", target, source=source))
    async with asyncio.timeout(4):
        while lab.catalog.indexes.waiting == before:
            await asyncio.sleep(0.001)
    return call


@pytest.mark.parametrize(
    "path",
    [
        "/v1/health/service/hidden",
        "/v1/health/checks/hidden",
        "/v1/health/state/passing?filter=ServiceName==hidden",
        "/v1/health/node/host-1?filter=ServiceName==hidden",
        "/v1/catalog/service/hidden",
        "/v1/catalog/services?filter=ServiceName==hidden",
    ],
)
async def test_a_wait_ends_with_what_its_caller_sees_then(lab: Lab, path: str) -> None:
    red = EndpointEntry(
        network="red", container_id="c-web", name="web", node="host-1", addresses=("10.9.0.7",)
    )
    lab.daemon.put("endpoint", "e-red", red)
    check = Check(id="up", name="up", kind="ttl", status="passing")
    lab.daemon.service("r-1", "hidden", network="red", checks=(check,))
    first = await lab.ask("GET", path, source=WEB)
    assert first.json
    call = await watch(lab, path, first.index, WEB)
    lab.daemon.put("endpoint", "e-red")
    lab.daemon.service("r-1", "hidden", network="red", checks=(check,), port=81)
    assert not (await call).json
    # Who sees it still has lost nothing by that.
    assert await lab.get(path)


async def test_every_read_has_its_headers(lab: Lab) -> None:
    for path, consistency in (
        ("/v1/health/service/none", "leader"),
        ("/v1/catalog/services?stale", "stale"),
        ("/v1/catalog/nodes?consistent=", "consistent"),
    ):
        answer = await lab.ask("GET", path)
        assert answer.status == 200
        assert answer.index >= 1
        assert answer.headers["X-Consul-KnownLeader"] == "true"
        assert answer.headers["X-Consul-LastContact"] == "0"
        assert answer.headers["X-Consul-Effective-Consistency"] == consistency
        assert answer.headers["X-Consul-Default-ACL-Policy"] == "allow"
        assert answer.headers["Content-Type"] == "application/json"


async def test_a_change_wakes_those_only_whom_it_concerns(lab: Lab) -> None:
    lab.daemon.service("a-1", "a")
    lab.daemon.service("b-1", "b")
    first = await lab.ask("GET", "/v1/health/service/a")
    a = await watch(lab, "/v1/health/service/a", first.index)
    b = await watch(
        lab, "/v1/health/service/b", (await lab.ask("GET", "/v1/health/service/b")).index
    )
    listed = await watch(lab, "/v1/catalog/services", lab.catalog.indexes.of("services"))
    lab.daemon.service("a-1", "a", port=81)
    answer = await a
    assert answer.index > first.index
    assert answer.json[0]["Service"]["Port"] == 81
    assert lab.catalog.indexes.waiting == 2  # the names are the same ones
    lab.daemon.service("b-1", "b", tags=("new",))
    assert (await listed).json["b"] == ["new"]
    assert (await b).json[0]["Service"]["Tags"] == ["new"]


async def test_what_has_gone_wakes_too(lab: Lab) -> None:
    lab.daemon.service("a-1", "a")
    first = await lab.ask("GET", "/v1/catalog/service/a")
    waiting = await watch(lab, "/v1/catalog/service/a", first.index)
    lab.daemon.put("service", "a-1")
    answer = await waiting
    assert answer.json == []
    assert answer.index > first.index
    again = await lab.ask("GET", "/v1/catalog/service/a")
    assert again.index == answer.index


async def test_a_wait_that_nothing_ends_has_the_same_index(lab: Lab) -> None:
    first = await lab.ask("GET", "/v1/health/service/a")
    path = f"/v1/health/service/a?index={first.index}&wait=20ms"
    assert (await lab.ask("GET", path)).index == first.index


async def test_an_index_of_another_life_is_answered_at_once(lab: Lab) -> None:
    answer = await lab.ask("GET", f"/v1/health/service/a?index={2**63}&wait=4s")
    assert 1 <= answer.index < 2**63


async def test_how_a_service_is_does_not_change_where_it_is(lab: Lab) -> None:
    def with_check(status: str) -> None:
        check = Check(id="c", name="c", kind="tcp", status=status)  # type: ignore[arg-type]
        lab.daemon.service("a-1", "a", checks=(check,))

    with_check("passing")
    place = (await lab.ask("GET", "/v1/catalog/service/a")).index
    health = (await lab.ask("GET", "/v1/health/service/a")).index
    with_check("critical")
    assert (await lab.ask("GET", "/v1/catalog/service/a")).index == place
    assert (await lab.ask("GET", "/v1/health/service/a")).index > health


async def test_a_node_is_part_of_its_services(lab: Lab) -> None:
    lab.daemon.service("a-1", "a", node="host-2", address="10.0.0.2")
    first = await lab.ask("GET", "/v1/health/service/a")
    waiting = await watch(lab, "/v1/health/service/a", first.index)
    moved = NodeEntry(node_id="fedcba9876543210", addresses=("10.0.0.22",), tags={})
    lab.daemon.put("node", "host-2", moved)
    assert (await waiting).json[0]["Node"]["Address"] == "10.0.0.22"


async def test_another_table_keeps_the_indexes_of_what_is_the_same(lab: Lab) -> None:
    lab.daemon.service("a-1", "a")
    lab.daemon.service("b-1", "b")
    a = (await lab.ask("GET", "/v1/health/service/a")).index
    b = (await lab.ask("GET", "/v1/health/service/b")).index
    table = dict(lab.daemon.table)
    del table["service", "b-1"]
    lab.catalog.begin()
    lab.catalog.replace(table)
    assert (await lab.ask("GET", "/v1/health/service/a")).index == a
    gone = await lab.ask("GET", "/v1/health/service/b")
    assert gone.json == []
    assert gone.index > b


async def test_an_answer_is_made_once(lab: Lab) -> None:
    lab.daemon.service("a-1", "a")
    counts = {count.name: count for count in lab.api.counts()}
    before = counts["consul_made_answers_total"].value
    for _ in range(5):
        await lab.get("/v1/health/service/a")
        await lab.get("/v1/health/service/a?stale&index=1")
    counts = {count.name: count for count in lab.api.counts()}
    assert counts["consul_made_answers_total"].value == before + 1


async def test_changes_of_a_large_answer_are_gathered_for_who_waits(lab: Lab) -> None:
    for number in range(8):
        lab.daemon.service(f"a-{number}", "a", meta={"filler": "x" * (LARGE_MIN // 4)})
    first = await lab.ask("GET", "/v1/health/service/a")
    assert len(first.body) > LARGE_MIN
    made = {count.name: count.value for count in lab.api.counts()}["consul_made_answers_total"]
    calls = [await watch(lab, "/v1/health/service/a", first.index) for _ in range(3)]
    for port in (81, 82, 83):
        lab.daemon.service("a-0", "a", port=port)
        await asyncio.sleep(0)
    for call in calls:
        assert (await call).json[0]["Service"]["Port"] == 83
    counts = {count.name: count.value for count in lab.api.counts()}
    assert counts["consul_made_answers_total"] == made + 1


async def test_who_waits_for_a_small_answer_has_it_at_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.daemon.service("a-1", "a")
    for number in range(8):  # another one is large
        lab.daemon.service(f"b-{number}", "b", meta={"filler": "x" * (LARGE_MIN // 4)})
    await lab.get("/v1/health/state/any")
    await lab.get("/v1/health/service/b")
    first = await lab.ask("GET", "/v1/health/service/a")
    call = await watch(lab, "/v1/health/service/a", first.index)
    monkeypatch.setattr(reads, "gather_s", None)
    lab.daemon.service("a-1", "a", port=81)
    assert (await call).json[0]["Service"]["Port"] == 81


def test_the_larger_the_answer_the_longer_but_never_long() -> None:
    assert gather_s(LARGE_MIN) == pytest.approx(0.05)
    assert gather_s(3 * 2**20) == pytest.approx(0.2)
    assert gather_s(100 * 2**20) == pytest.approx(0.3)


async def test_what_nobody_looks_at_makes_no_other_answer(lab: Lab) -> None:
    lab.daemon.service("a-1", "a")
    await lab.get("/v1/health/service/a")
    before = {count.name: count.value for count in lab.api.counts()}["consul_made_answers_total"]
    for number in range(5):
        await lab.get(f"/v1/health/service/a?x={number}&{number}=y&ns=default&hash={number}")
    counts = {count.name: count.value for count in lab.api.counts()}
    assert counts["consul_made_answers_total"] == before
    assert len(await lab.get("/v1/health/service/a?x=1&tag=none")) == 0


async def test_secrets_and_what_is_long_are_not_remembered(lab: Lab) -> None:
    options = lab.api.parts.reads
    await lab.get("/v1/health/service/a?stale")
    known = set(options._known)
    assert known == {"/v1/health/service/a?stale"}
    for query in ("token=secret", "x=" + "y" * 600, "&".join("abcdefghijklmnopqrst"), "to%6ben=s"):
        await lab.get(f"/v1/health/service/a?{query}")
    assert set(options._known) == known
    assert set(lab.api.server._targets._known) == known


async def test_many_wait_and_all_are_told(lab: Lab) -> None:
    lab.daemon.service("a-1", "a")
    index = lab.catalog.indexes.of("health/a")
    path = f"/v1/health/service/a?index={index}&wait=4s"
    calls = [asyncio.ensure_future(lab.ask("GET", path)) for _ in range(200)]
    async with asyncio.timeout(4):
        while lab.catalog.indexes.waiting < 200:
            await asyncio.sleep(0.005)
    lab.daemon.service("a-1", "a", port=1)
    answers = await asyncio.gather(*calls)
    assert {answer.body for answer in answers} == {answers[0].body}
    assert lab.catalog.indexes.waiting == 0


async def test_who_leaves_waits_no_more(lab: Lab) -> None:
    call = await watch(lab, "/v1/health/service/a", lab.catalog.indexes.of("health/a"))
    call.cancel()
    async with asyncio.timeout(4):
        while lab.catalog.indexes.waiting:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/v1/health/service/a?index=x", 400, "Invalid index"),
        ("/v1/health/service/a?index=1&wait=soon", 400, "Invalid wait time"),
        ("/v1/health/service/a?stale&consistent", 400, "conflicting semantics"),
        ("/v1/health/service/a?cached&consistent", 400, "conflicting semantics"),
        ("/v1/health/service/a?passing=perhaps", 400, "Invalid value for ?passing"),
        ("/v1/health/service/a?dc=dc2", 500, "No path to datacenter"),
        ("/v1/health/service/a?filter=Nothing+==+1", 400, "is not valid"),
        ("/v1/health/state/fine", 400, "Invalid health state"),
        ("/v1/nothing", 404, "Invalid URL path"),
        ("/v1/health/service/", 400, "Missing service name"),
        ("/v1/health/checks/", 400, "Missing service name"),
        ("/v1/health/state/", 400, "Missing check state"),
        ("/v1/health/node/", 400, "Missing node name"),
        ("/v1/catalog/service/", 400, "Missing service name"),
        ("/v1/catalog/node/", 400, "Missing node name"),
        ("/v1/catalog/node-services/", 400, "Missing node name"),
        ("/v1/health/connect/", 404, "Invalid URL path"),
        ("/v1/health/service/%00", 400, "cannot be printed"),
        ("/v1/acl/tokens", 401, "ACL support disabled"),
        ("/v1/operator/keyring", 500, "Keyring"),
    ],
)
async def test_errors_are_text(lab: Lab, path: str, status: int, word: str) -> None:
    answer = await lab.ask("GET", path)
    assert answer.status == status
    assert word in answer.text
    assert answer.headers["Content-Type"].startswith("text/plain")


async def test_methods(lab: Lab) -> None:
    answer = await lab.ask("POST", "/v1/health/service/a")
    assert (answer.status, answer.headers["Allow"]) == (405, "OPTIONS,GET")
    answer = await lab.ask("OPTIONS", "/v1/agent/service/register")
    assert (answer.status, answer.headers["Allow"]) == (200, "OPTIONS,PUT")
    answer = await lab.ask("HEAD", "/v1/catalog/nodes")
    assert (answer.status, answer.body) == (200, b"")
    assert (await lab.ask("GET", "/")).status == 200


async def test_negative_indexes_and_empty_values_are_none(lab: Lab) -> None:
    assert await lab.get("/v1/health/service/a?index=-1&wait=10s&stale=&near=&filter=") == []
    assert await lab.get("/v1/health/service/a?token=anything&ns=default&dc=DC1") == []


async def test_pretty_and_packed(lab: Lab) -> None:
    for number in range(30):
        lab.daemon.service(f"a-{number:02}", "a", address="10.0.0.1", port=number)
    shown = await lab.ask("GET", "/v1/catalog/service/a?pretty")
    assert shown.body.startswith(b"[\n    {\n")
    assert shown.body.endswith(b"]\n")
    plain = await lab.ask("GET", "/v1/catalog/service/a", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    packed = await lab.ask("GET", "/v1/catalog/service/a", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.body == plain.body  # unpacked by the client


async def test_near_sorts_what_is_near_first(lab: Lab) -> None:
    for node in ("host-1", "host-2"):
        lab.daemon.service(f"a-{node}", "a", node=node, address="10.0.0.1")

    async def order(path: str) -> list[str]:
        return [row["Node"]["Node"] for row in await lab.get(path)]

    assert await order("/v1/health/service/a") == ["host-1", "host-2"]
    assert await order("/v1/health/service/a?near=host-2") == ["host-2", "host-1"]
    assert await order("/v1/health/service/a?near=_agent") == ["host-1", "host-2"]
    assert await order("/v1/health/service/a?near=nowhere") == ["host-1", "host-2"]
    nodes = await lab.get("/v1/catalog/nodes?near=host-2")
    assert [row["Node"] for row in nodes] == ["host-2", "host-1"]


async def test_tags_and_meta_of_nodes(lab: Lab) -> None:
    lab.daemon.service("a-1", "a", tags=("V1", "eu"))
    lab.daemon.service("a-2", "a", tags=("v1",), node="host-2", address="10.0.0.2")

    async def found(query: str) -> list[str]:
        rows = await lab.get(f"/v1/catalog/service/a?{query}")
        health = await lab.get(f"/v1/health/service/a?{query}")
        assert [row["Service"]["ID"] for row in health] == [row["ServiceID"] for row in rows]
        return [row["ServiceID"] for row in rows]

    assert await found("tag=v1") == ["a-1", "a-2"]
    assert await found("tag=v1&tag=EU") == ["a-1"]
    assert await found("node-meta=rack:b") == ["a-2"]
    assert await found("node-meta=rack:b&node-meta=x:y") == []
    assert await lab.get("/v1/catalog/services?node-meta=rack:b") == {"a": ["v1"], "consul": []}
    assert [row["Node"] for row in await lab.get("/v1/catalog/nodes?node-meta=rack:a")] == [
        "host-1"
    ]


async def test_filters_of_each_list(lab: Lab) -> None:
    lab.daemon.service("a-1", "a", tags=("v1",), meta={"shard": "3"}, port=80)
    lab.daemon.service("b-1", "b", port=81)
    for path, expression, count in (
        ("/v1/health/service/a", 'Service.Meta.shard == "3" and Node.Node == "host-1"', 1),
        ("/v1/health/service/a", "Service.Port != 80", 0),
        ("/v1/catalog/service/a", '"v1" in ServiceTags', 1),
        ("/v1/catalog/nodes", "Meta.rack == b", 1),
        ("/v1/health/node/host-1", "CheckID == serfHealth", 1),
        ("/v1/health/state/any", "Status == passing", 2),
        ("/v1/agent/services", "Service matches `^[ab]$`", 2),
        ("/v1/agent/checks", "Status == critical", 0),
        ("/v1/catalog/services", '"v1" in ServiceTags', 1),
    ):
        answer = await lab.ask("GET", path, params={"filter": expression})
        assert answer.status == 200, (path, answer.text)
        assert len(answer.json) == count, (path, expression)
    node = await lab.ask("GET", "/v1/catalog/node/host-1", params={"filter": "Port == 81"})
    assert set(node.json["Services"]) == {"b-1"}


async def test_nodes(lab: Lab) -> None:
    lab.daemon.service("a-1", "a")
    nodes = await lab.get("/v1/catalog/nodes")
    assert [(row["Node"], row["Address"], row["Datacenter"]) for row in nodes] == [
        ("host-1", HOST, "dc1"),
        ("host-2", "10.0.0.2", "dc1"),
    ]
    assert nodes[0]["TaggedAddresses"]["lan"] == HOST
    assert len(nodes[0]["ID"]) == 36
    one = await lab.get("/v1/catalog/node/host-1")
    assert one["Node"] == nodes[0]
    assert set(one["Services"]) == {"consul", "a-1"}
    assert await lab.get("/v1/catalog/node/nobody") is None
    listed = await lab.get("/v1/catalog/node-services/host-1")
    assert [row["ID"] for row in listed["Services"]] == ["consul", "a-1"]
    assert await lab.get("/v1/catalog/datacenters") == ["dc1"]
    assert await lab.get("/v1/health/connect/a") == []
    assert await lab.get("/v1/catalog/service/a?peer=elsewhere") == []


async def test_the_host_itself(lab: Lab) -> None:
    own = await lab.get("/v1/agent/self")
    assert set(own) == {"Config", "DebugConfig", "Coord", "Member", "Stats", "Meta", "xDS"}
    assert own["Config"]["Datacenter"] == "dc1"
    members = await lab.get("/v1/agent/members")
    assert own["Member"] in members
    assert [member["Name"] for member in await lab.get("/v1/agent/members?wan=1")] == [
        "host-1.dc1",
        "host-2.dc1",
    ]
    leader = await lab.get("/v1/status/leader")
    assert leader == f"{HOST}:8300"
    assert leader in await lab.get("/v1/status/peers")
    assert own["Stats"]["consul"]["leader_addr"] == leader
    (area,) = await lab.get("/v1/coordinate/datacenters")
    assert (area["Datacenter"], area["AreaID"], area["Coordinates"]) == ("dc1", "WAN", [])
    assert set(await lab.get("/v1/agent/metrics")) == {
        "Timestamp",
        "Gauges",
        "Points",
        "Counters",
        "Samples",
    }
    assert (await lab.ask("PUT", "/v1/agent/reload")).status == 200
    assert (await lab.ask("PUT", "/v1/agent/leave")).status == 403
    assert (await lab.ask("PUT", "/v1/agent/join/10.0.0.2")).status == 200
    assert (await lab.ask("PUT", "/v1/agent/join/10.9.9.9")).status == 500
    assert len((await lab.get("/v1/operator/raft/configuration"))["Servers"]) == 2
    assert (await lab.get("/v1/operator/usage"))["Usage"]["dc1"]["Nodes"] == 2


async def test_the_log_is_told_as_it_comes(lab: Lab) -> None:
    assert (await lab.ask("GET", "/v1/agent/monitor?loglevel=loud")).status == 400
    async with lab.http().get(lab.url + "/v1/agent/monitor?loglevel=warn") as response:
        logging.getLogger("netd.registry.somewhere").warning("news")
        async with asyncio.timeout(4):
            assert b"[WARNING] netd.registry.somewhere: news" in await response.content.readline()


async def test_nodes_that_are_no_hosts(lab: Lab) -> None:
    body = {
        "node": "printer",
        "Address": "10.7.0.1",
        "NodeMeta": {"floor": "2"},
        "service": {"Service": "lpr", "Port": 515},
        "check": {"Name": "paper", "ServiceID": "lpr", "Status": "warning", "Output": "low"},
    }
    assert await lab.put("/v1/catalog/register", body) == b"true"
    nodes = {row["Node"]: row for row in await lab.get("/v1/catalog/nodes")}
    assert nodes["printer"]["Meta"] == {"floor": "2"}
    (row,) = await lab.get("/v1/health/service/lpr")
    assert (row["Node"]["Address"], row["Service"]["Port"]) == ("10.7.0.1", 515)
    assert [(check["CheckID"], check["Status"], check["Output"]) for check in row["Checks"]] == [
        ("paper", "warning", "low")
    ]
    told = next(each for each in lab.daemon.services.values() if each.name == "lpr").checks[0]
    assert (told.kind, told.spec and told.spec.ttl_s) == ("told", None)
    again = {"node": "printer", "check": {"Name": "paper", "ServiceID": "lpr", "Status": "passing"}}
    assert await lab.put("/v1/catalog/register", again | {"SkipNodeUpdate": True}) == b"true"
    (row,) = await lab.get("/v1/health/service/lpr")
    assert [(check["Status"], check["Type"]) for check in row["Checks"]] == [("passing", "")]
    now = next(each for each in lab.daemon.services.values() if each.name == "lpr").checks[0]
    assert now.spec == told.spec  # it is the same check
    assert await lab.get("/v1/agent/services") == {}  # of this host
    assert await lab.get("/v1/agent/checks") == {}
    more = {
        "Node": "printer",
        "SkipNodeUpdate": True,
        "Check": {"CheckID": "up", "Status": "passing"},
    }
    assert await lab.put("/v1/catalog/register", more) == b"true"
    assert [c["CheckID"] for c in await lab.get("/v1/health/node/printer")] == ["up", "paper"]
    gone = {"Node": "printer", "CheckID": "paper"}
    assert await lab.put("/v1/catalog/deregister", gone) == b"true"
    assert [c["CheckID"] for c in await lab.get("/v1/health/node/printer")] == ["up"]
    await lab.put("/v1/catalog/deregister", {"Node": "printer", "ServiceID": "lpr"})
    assert await lab.get("/v1/catalog/service/lpr") == []
    await lab.put("/v1/catalog/deregister", {"Node": "printer"})
    assert await lab.get("/v1/catalog/node/printer") is None
    assert lab.daemon.services == {}


async def test_what_the_catalogue_does_not_take(lab: Lab) -> None:
    for body, status in (
        ({}, 400),
        ({"Node": "printer"}, 400),
        ({"Node": "host-2", "Address": "10.0.0.2"}, 500),
        ({"Node": "x", "Address": "10.7.0.1", "Datacenter": "dc2"}, 500),
    ):
        answer = await lab.ask("PUT", "/v1/catalog/register", body)
        assert answer.status == status, body
    assert (await lab.ask("PUT", "/v1/catalog/deregister", {"Node": "host-1"})).status == 400


async def test_the_catalogue_takes_services_of_its_own_host(lab: Lab) -> None:
    body = {
        "Node": "host-1",
        "Address": HOST,
        "Service": {"Service": "a", "Port": 1},
        "Check": {"CheckID": "c", "Name": "c", "ServiceID": "a", "Status": "passing"},
    }
    assert await lab.put("/v1/catalog/register", body) == b"true"
    assert set(await lab.get("/v1/agent/services")) == {"a"}
    (check,) = await lab.get("/v1/health/checks/a")
    assert (check["CheckID"], check["Status"]) == ("c", "passing")
    (service,) = lab.daemon.services.values()
    assert [each.kind for each in service.checks] == ["told"]
    # Who runs it registers it again; it has no ttl that a service could renew.
    assert (await lab.ask("PUT", "/v1/agent/check/pass/c")).status == 500
    body = {"Node": "host-1", "Check": {"CheckID": "c", "ServiceID": "a", "Output": "off"}}
    assert await lab.put("/v1/catalog/register", body) == b"true"
    (check,) = await lab.get("/v1/health/checks/a")
    assert (check["Status"], check["Output"]) == ("critical", "off")
    bad = {"Node": "host-1", "Check": {"ServiceID": "a"}}
    assert (await lab.ask("PUT", "/v1/catalog/register", bad)).status == 400
    await lab.put("/v1/catalog/deregister", {"Node": "host-1", "ServiceID": "a"})
    assert await lab.get("/v1/agent/services") == {}
