"""What programs register with the agent, and what is answered about it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.unit.consul_lab import HOST, WEB, WEB_ADDRESS, Lab, consul
from tests.unit.registry_lab import free_port


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with consul(tmp_path, free_port()) as running:
        yield running


async def names(lab: Lab, path: str, **more: Any) -> list[str]:
    return [row["Service"]["ID"] for row in await lab.get(path, **more)]


async def test_a_service_without_options_is_shown_exactly_so(lab: Lab) -> None:
    assert await lab.put("/v1/agent/service/register", {"name": "foo"}) == b""
    assert await lab.get("/v1/agent/services") == {
        "foo": {
            "ID": "foo",
            "Service": "foo",
            "Tags": [],
            "Meta": {},
            "Port": 0,
            "Address": "",
            "Weights": {"Passing": 1, "Warning": 1},
            "EnableTagOverride": False,
            "Datacenter": "dc1",
        }
    }
    (row,) = await lab.get("/v1/catalog/service/foo")
    assert (row["Node"], row["Address"], row["ServiceAddress"]) == ("host-1", HOST, "")


async def test_a_service_goes_where_it_is_put(lab: Lab) -> None:
    body = {
        "ID": "web/1",
        "Name": "Web.App",
        "Port": 80,
        "Address": "10.9.9.9",
        "Tags": ["v1"],
        "Meta": {"version": "2"},
        "tagged_addresses": {"lan": {"address": "10.1.1.1", "port": 8}},
        "Weights": {"Passing": 3, "Warning": 0},
        "Check": {"TTL": "10s"},
    }
    await lab.put("/v1/agent/service/register", body)
    (row,) = await lab.get("/v1/health/service/web.app")
    service = row["Service"]
    assert (service["ID"], service["Service"]) == ("web/1", "Web.App")
    assert (service["Address"], service["Port"]) == ("10.9.9.9", 80)
    assert service["TaggedAddresses"] == {"lan": {"Address": "10.1.1.1", "Port": 8}}
    assert service["Weights"] == {"Passing": 3, "Warning": 0}
    assert [(check["CheckID"], check["Status"]) for check in row["Checks"]] == [
        ("serfHealth", "passing"),
        ("service:web/1", "critical"),
    ]
    (kept,) = lab.daemon.services.values()
    assert kept.name.startswith("web-app-")  # what netd calls it is a label of DNS
    assert await lab.put("/v1/agent/service/deregister/web%2F1") == b""
    assert await lab.get("/v1/agent/services") == {}
    assert lab.daemon.services == {}


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "Missing service name"),
        ({"name": ""}, "Missing service name"),
        ({"name": "a", "address": "0.0.0.0"}, "Invalid service address"),
        ({"name": "a", "address": "::"}, "Invalid service address"),
        ({"name": "a", "weights": {"passing": 0}}, "Invalid Weights"),
        ({"name": "a", "weights": {"passing": 70000}}, "Invalid Weights"),
        ({"name": "a", "meta": {"": "x"}}, "Invalid Service Meta"),
        ({"name": "a", "meta": {"k": "x" * 513}}, "Invalid Service Meta"),
        ({"name": "a", "port": "80"}, "port is not a number"),
        ({"name": "a", "port": 65536}, "Invalid service port"),
        ({"name": "a", "tags": "v1"}, "tags is not a list"),
        ({"name": "a", "check": {"http": "http://x/"}}, "Interval must be > 0"),
        ({"name": "a", "check": {"ttl": "x"}}, "invalid duration"),
        ({"name": "a", "check": {"ttl": "1s", "status": "fine"}}, "Bad check status"),
        ({"name": "a", "check": {"name": "nothing"}}, "a check needs one of"),
        ({"name": "a", "check": {"args": ["true"], "interval": "1s"}}, "scripts are disabled"),
        ({"name": "a", "checks": [{"checkid": "c", "ttl": "1s"}] * 2}, "one CheckID"),
        ([], "body is not an object"),
        (b"{", "Request decode failed"),
        (b"\xff", "Request decode failed"),
        (b"", "Request decode failed"),
    ],
)
async def test_what_is_no_service_is_refused(lab: Lab, body: Any, word: str) -> None:
    answer = await lab.ask("PUT", "/v1/agent/service/register", body)
    assert answer.status == 400
    assert word in answer.text
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert lab.daemon.services == {}


async def test_checks_have_the_ids_that_consul_gives_them(lab: Lab) -> None:
    several = [{"ttl": "1m"}, {"ttl": "1m", "CheckID": "own"}, {"ttl": 60_000_000_000}]
    await lab.put("/v1/agent/service/register", {"name": "a", "checks": several})
    checks = await lab.get("/v1/agent/checks")
    assert list(checks) == ["service:a:1", "own", "service:a:3"]
    assert checks["service:a:1"]["Name"] == "Service 'a' check"
    assert {check["ServiceName"] for check in checks.values()} == {"a"}
    assert checks["service:a:3"]["Status"] == "critical"


async def test_a_ttl_check_expires(lab: Lab) -> None:
    body = {"name": "a", "check": {"ttl": "100ms", "status": "passing"}}
    await lab.put("/v1/agent/service/register", body)
    first = await lab.ask("GET", "/v1/health/service/a?passing=1")
    if first.json:  # it may be late already
        path = f"/v1/health/service/a?passing=1&index={first.index}&wait=4s"
        assert await lab.get(path) == []


async def test_a_ttl_check_is_told(lab: Lab) -> None:
    await lab.put("/v1/agent/service/register", {"name": "a", "check": {"ttl": "1m"}})
    assert await lab.put("/v1/agent/check/pass/service:a?note=well") == b""
    (row,) = await lab.get("/v1/health/service/a?passing")
    assert row["Checks"][1]["Output"] == "well"
    await lab.put("/v1/agent/check/warn/service:a")
    assert await names(lab, "/v1/health/service/a") == ["a"]
    assert await names(lab, "/v1/health/service/a?passing") == []
    assert [row["Status"] for row in await lab.get("/v1/health/checks/a")] == ["warning"]
    body = {"Status": "passing", "Output": "again"}
    assert await lab.put("/v1/agent/check/update/service:a", body) == b""
    assert "again" in [row["Output"] for row in await lab.get("/v1/health/state/passing")]
    await lab.put("/v1/agent/check/fail/service:a")
    assert len(await lab.get("/v1/health/state/critical")) == 1


async def test_what_is_no_ttl_check_cannot_be_told(lab: Lab) -> None:
    check = {"tcp": "10.0.0.1:80", "interval": "10s"}
    await lab.put("/v1/agent/service/register", {"name": "a", "check": check})
    answer = await lab.ask("PUT", "/v1/agent/check/pass/service:a")
    assert (answer.status, answer.text) == (
        500,
        'CheckID "service:a" does not have associated TTL',
    )
    answer = await lab.ask("PUT", "/v1/agent/check/pass/nobody")
    assert answer.status == 404
    assert 'Unknown check ID "nobody"' in answer.text
    bad = await lab.ask("PUT", "/v1/agent/check/update/service:a", {"Status": "fine"})
    assert bad.status == 400


async def test_checks_come_and_go(lab: Lab) -> None:
    await lab.put("/v1/agent/service/register", {"name": "a"})
    assert (await lab.ask("PUT", "/v1/agent/check/register", {"ttl": "1m"})).status == 400
    lost = {"name": "c", "ttl": "1m", "service_id": "b"}
    assert (await lab.ask("PUT", "/v1/agent/check/register", lost)).status == 404
    await lab.put("/v1/agent/check/register", {**lost, "service_id": "a"})
    await lab.put("/v1/agent/check/register", {"name": "disk", "ttl": "1m", "status": "passing"})
    assert set(await lab.get("/v1/agent/checks")) == {"c", "disk"}
    node = await lab.get("/v1/health/node/host-1")
    assert [check["CheckID"] for check in node] == ["serfHealth", "disk", "c"]
    (row,) = await lab.get("/v1/health/service/a")
    assert [check["CheckID"] for check in row["Checks"]] == ["serfHealth", "disk", "c"]
    assert "_node" not in await lab.get("/v1/catalog/services")
    for _ in range(2):
        assert await lab.put("/v1/agent/check/deregister/c") == b""
        assert await lab.put("/v1/agent/check/deregister/disk") == b""
    assert await lab.get("/v1/agent/checks") == {}
    assert list(lab.daemon.services) == ["a@host-1"]


async def test_checks_stay_unless_they_are_to_be_replaced(lab: Lab) -> None:
    await lab.put("/v1/agent/service/register", {"name": "a", "check": {"ttl": "1m"}})
    await lab.put("/v1/agent/check/pass/service:a")
    await lab.put("/v1/agent/check/register", {"name": "more", "ttl": "1m", "serviceid": "a"})
    again = {"name": "a", "port": 9, "check": {"ttl": "1m"}}
    await lab.put("/v1/agent/service/register", again)
    checks = await lab.get("/v1/agent/checks")
    assert {name: check["Status"] for name, check in checks.items()} == {
        "service:a": "passing",
        "more": "critical",
    }
    await lab.put("/v1/agent/service/register?replace-existing-checks=true", again)
    assert set(await lab.get("/v1/agent/checks")) == {"service:a"}


async def test_registering_at_the_same_time_loses_nothing(lab: Lab) -> None:
    await lab.put("/v1/agent/service/register", {"name": "a"})
    bodies = [{"name": f"c{n}", "ttl": "1m", "serviceid": "a"} for n in range(20)]
    await asyncio.gather(*(lab.put("/v1/agent/check/register", body) for body in bodies))
    assert len(await lab.get("/v1/agent/checks")) == 20


async def test_maintenance(lab: Lab) -> None:
    await lab.put("/v1/agent/service/register", {"name": "a"})
    assert (await lab.ask("PUT", "/v1/agent/service/maintenance/a")).status == 400
    assert (await lab.ask("PUT", "/v1/agent/service/maintenance/a?enable=maybe")).status == 400
    assert (await lab.ask("PUT", "/v1/agent/service/maintenance/b?enable=true")).status == 404
    await lab.put("/v1/agent/service/maintenance/a?enable=true&reason=new%20disk")
    (check,) = await lab.get("/v1/health/checks/a")
    assert check["CheckID"] == "_service_maintenance:a"
    assert (check["Status"], check["Notes"]) == ("critical", "new disk")
    assert (await lab.ask("GET", "/v1/agent/health/service/id/a")).status == 503
    await lab.put("/v1/agent/service/maintenance/a?enable=false")
    assert await lab.get("/v1/health/checks/a") == []
    await lab.put("/v1/agent/maintenance?enable=true&reason=move")
    checks = await lab.get("/v1/agent/checks")
    assert checks["_node_maintenance"]["Notes"] == "move"
    assert await names(lab, "/v1/health/service/a?passing") == []
    await lab.put("/v1/agent/maintenance?enable=false")
    assert await names(lab, "/v1/health/service/a?passing") == ["a"]
    assert list(lab.daemon.services) == ["a@host-1"]


async def test_the_code_says_how_a_service_is(lab: Lab) -> None:
    await lab.put("/v1/agent/service/register", {"name": "a", "check": {"ttl": "1m"}})
    for word, status, code in [
        ("pass", "passing", 200),
        ("warn", "warning", 429),
        ("fail", "critical", 503),
    ]:
        await lab.put(f"/v1/agent/check/{word}/service:a")
        for path in ("/v1/agent/health/service/id/a", "/v1/agent/health/service/name/a"):
            answer = await lab.ask("GET", path)
            assert answer.status == code
            short = await lab.ask("GET", path + "?format=text")
            assert (short.status, short.text) == (code, status)
    assert (await lab.ask("GET", "/v1/agent/health/service/id/b")).status == 404
    assert (await lab.ask("GET", "/v1/agent/health/service/name/b")).status == 404


async def test_one_service_with_its_hash(lab: Lab) -> None:
    missing = await lab.ask("GET", "/v1/agent/service/a")
    assert (missing.status, missing.text) == (404, "unknown service ID: a")
    await lab.put("/v1/agent/service/register", {"name": "a", "port": 1})
    first = await lab.ask("GET", "/v1/agent/service/a")
    known = first.json["ContentHash"]
    assert first.headers["X-Consul-ContentHash"] == known
    waiting = asyncio.ensure_future(lab.ask("GET", f"/v1/agent/service/a?hash={known}&wait=5s"))
    while not lab.catalog.indexes.waiting:
        await asyncio.sleep(0.001)
    await lab.put("/v1/agent/service/register", {"name": "b"})  # of the same host
    await lab.put("/v1/agent/service/register", {"name": "a", "port": 2})
    second = await waiting
    assert second.json["Port"] == 2
    assert second.json["ContentHash"] != known
    same = await lab.ask("GET", f"/v1/agent/service/a?hash={second.json['ContentHash']}&wait=20ms")
    assert same.json == second.json


async def test_a_sidecar_comes_and_goes_with_its_service(lab: Lab) -> None:
    body = {"name": "a", "port": 80, "connect": {"sidecar_service": {}}}
    await lab.put("/v1/agent/service/register", body)
    services = await lab.get("/v1/agent/services")
    assert set(services) == {"a", "a-sidecar-proxy"}
    proxy = services["a-sidecar-proxy"]
    assert (proxy["Kind"], proxy["Port"]) == ("connect-proxy", 21000)
    assert proxy["Proxy"]["DestinationServiceID"] == "a"
    await lab.put("/v1/agent/service/deregister/a")
    assert await lab.get("/v1/agent/services") == {}


async def test_what_is_not_registered_cannot_be_removed(lab: Lab) -> None:
    answer = await lab.ask("PUT", "/v1/agent/service/deregister/a")
    assert answer.status == 404
    assert 'Unknown service ID "a"' in answer.text
    lab.daemon.service("there", "a", node="host-2")
    answer = await lab.ask("PUT", "/v1/agent/service/deregister/there")
    assert answer.status == 404  # of another agent's


async def test_netds_own_services_are_the_same_ones(lab: Lab) -> None:
    lab.daemon.service("db-1", "db", port=5432)
    assert set(await lab.get("/v1/agent/services")) == {"db-1"}
    lab.daemon.services["db-1"] = lab.daemon.service("db-1", "db", port=5432)
    await lab.put("/v1/agent/service/register", {"id": "db-1", "name": "db", "port": 5433})
    assert list(lab.daemon.services) == ["db-1"]
    assert [row["ServicePort"] for row in await lab.get("/v1/catalog/service/db")] == [5433]


async def test_what_the_daemon_refuses_is_told(lab: Lab) -> None:
    lab.daemon.answers = [409]
    answer = await lab.ask("PUT", "/v1/agent/service/register", {"name": "a"})
    assert (answer.status, answer.text) == (409, "because the test wants it")
    await lab.daemon.stop()
    answer = await lab.ask("PUT", "/v1/agent/service/register", {"name": "a"})
    assert answer.status == 500
    assert "netd cannot be reached" in answer.text


async def test_a_container_speaks_for_its_own_addresses_only(lab: Lab) -> None:
    at = {"source": WEB}
    await lab.put("/v1/agent/service/register", {"name": "web", "port": 80}, **at)
    (row,) = await lab.get("/v1/catalog/service/web", **at)
    assert row["ServiceAddress"] == WEB_ADDRESS
    assert lab.daemon.services["web@host-1"].endpoint == "blue-web"
    for address in ("10.20.0.9", "10.0.0.1", "example.org"):
        body = {"name": "other", "address": address}
        answer = await lab.ask("PUT", "/v1/agent/service/register", body, **at)
        assert answer.status == 403
    await lab.put("/v1/agent/service/register", {"name": "hosts", "check": {"ttl": "1m"}})
    for path in (
        "/v1/agent/service/deregister/hosts",
        "/v1/agent/service/maintenance/hosts?enable=true",
        "/v1/agent/check/pass/service:hosts",
        "/v1/agent/check/deregister/service:hosts",
        "/v1/agent/maintenance?enable=true",
        "/v1/agent/reload",
    ):
        assert (await lab.ask("PUT", path, **at)).status == 403, path
    for path, body in (
        ("/v1/agent/service/register", {"name": "hosts"}),
        ("/v1/agent/check/register", {"name": "c", "ttl": "1m"}),
        ("/v1/catalog/register", {"node": "x", "address": "10.0.0.9"}),
        ("/v1/catalog/deregister", {"node": "host-1", "serviceid": "hosts"}),
    ):
        assert (await lab.ask("PUT", path, body, **at)).status == 403, path
    await lab.put("/v1/agent/service/deregister/web", **at)


async def test_somebody_unknown_registers_nothing(lab: Lab) -> None:
    answer = await lab.ask("PUT", "/v1/agent/service/register", {"name": "x"}, source="127.0.2.99")
    assert answer.status == 403


async def test_a_container_sees_what_its_networks_have(lab: Lab) -> None:
    lab.daemon.service("a", "shown", network="blue", address="10.20.0.8")
    lab.daemon.service("b", "hidden", network="red", address="10.3.0.1")
    lab.daemon.service("c", "hidden", network="", address="10.0.0.3")
    assert set(await lab.get("/v1/catalog/services")) == {"consul", "shown", "hidden"}
    assert await names(lab, "/v1/health/service/hidden", source=WEB) == ["c"]
    assert set(await lab.get("/v1/agent/services", source=WEB)) == {"a", "c"}
    assert await names(lab, "/v1/health/service/hidden") == ["b", "c"]


async def test_scripts_are_for_the_host_where_they_are_allowed(lab: Lab) -> None:
    zone = lab.daemon.table["zone", ""].zone
    assert zone is not None
    lab.daemon.put("zone", "", replace(zone, settings=replace(zone.settings, script_checks=True)))
    body = {"name": "a", "check": {"args": ["true"], "interval": 10}}
    await lab.put("/v1/agent/service/register", body)
    (check,) = lab.daemon.services["a@host-1"].checks
    assert check.spec is not None
    assert (check.spec.args, check.spec.interval_s) == (("true",), 1.0)
    answer = await lab.ask("PUT", "/v1/agent/service/register", body, source=WEB)
    assert answer.status in (400, 403)
