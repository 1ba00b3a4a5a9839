"""The OpenAPI document: valid, complete, and true of what the API answers."""

import asyncio
import base64
import json
from typing import Any

import msgspec
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from openapi_spec_validator.validation import OpenAPIV31SpecValidator

from netd.api.openapi import document
from netd.api.problems import STATUS_OF_CODE
from netd.api.routes import ROUTES
from netd.client import Client
from netd.client.http import Connection
from tests.unit.memory_cluster import key_id
from tests.unit.memory_engine import SECRET, served

DOCUMENT = json.loads(msgspec.json.encode(document(ROUTES)))  # as it is served

NETWORK = {"name": "blue", "driver": "bridge", "labels": {"a": "b"}}
NEW_KEY = base64.b64encode(SECRET[::-1]).decode()
NEW_KEY_ID = key_id(SECRET[::-1])
PORTS = [{"host_port": 80, "container_port": 80}]
BANDWIDTH = {"egress_bps": 1_000_000}
READ = {"verb": "get", "key": "a/b"}
ATTACH = {"container_id": "c", "pid": 3, "ports": PORTS, "bandwidth": BANDWIDTH}

# In order, so that each finds what it needs: method, path, target, body, status.
EVENT = "b54fe110-7af5-cafc-d1fb-afc8ba432b1c"
CALLS: list[tuple[str, str, str, Any, int]] = [
    ("POST", "/v1/networks", "/v1/networks", NETWORK, 201),
    ("POST", "/v1/networks", "/v1/networks", NETWORK, 200),
    ("POST", "/v1/networks", "/v1/networks", {**NETWORK, "internal": True}, 409),
    ("POST", "/v1/networks", "/v1/networks", {"name": "x"}, 400),
    ("POST", "/v1/networks", "/v1/networks", {"name": "x" * 1_100_000}, 413),
    ("GET", "/v1/networks", "/v1/networks", None, 200),
    ("GET", "/v1/networks/{network}", "/v1/networks/blue", None, 200),
    ("GET", "/v1/networks/{network}", "/v1/networks/red", None, 404),
    (
        "POST",
        "/v1/networks/{network}/reclaim",
        "/v1/networks/blue/reclaim",
        {"members": ["host-3"]},
        200,
    ),
    (
        "POST",
        "/v1/networks/{network}/reclaim",
        "/v1/networks/blue/reclaim",
        {"members": ["alive"]},
        409,
    ),
    ("POST", "/v1/networks/{network}/reclaim", "/v1/networks/blue/reclaim", {"members": []}, 400),
    (
        "POST",
        "/v1/networks/{network}/endpoints",
        "/v1/networks/blue/endpoints",
        ATTACH,
        201,
    ),
    (
        "POST",
        "/v1/networks/{network}/endpoints",
        "/v1/networks/blue/endpoints",
        ATTACH,
        200,
    ),
    ("GET", "/v1/endpoints", "/v1/endpoints?network=blue", None, 200),
    ("GET", "/v1/endpoints", "/v1/endpoints?x=1", None, 400),
    ("GET", "/v1/endpoints/{id}", "/v1/endpoints/0000000000000002", None, 200),
    ("GET", "/v1/endpoints/{id}", "/v1/endpoints/7", None, 404),
    ("PATCH", "/v1/endpoints/{id}", "/v1/endpoints/0000000000000002", {"aliases": ["w"]}, 200),
    ("PATCH", "/v1/endpoints/{id}", "/v1/endpoints/7", {}, 404),
    ("GET", "/v1/names", "/v1/names", None, 200),
    ("GET", "/v1/resolve", "/v1/resolve?name=c", None, 200),
    ("GET", "/v1/resolve", "/v1/resolve", None, 400),
    ("GET", "/v1/resolve/trace", "/v1/resolve/trace?name=c&type=ANY", None, 200),
    ("GET", "/v1/resolve/trace", "/v1/resolve/trace?name=c&type=MX", None, 400),
    ("GET", "/v1/directory", "/v1/directory", None, 200),
    ("GET", "/v1/registry", "/v1/registry", None, 200),
    ("PUT", "/v1/registry", "/v1/registry", {"revision": 7, "pid": 3}, 204),
    ("PUT", "/v1/registry", "/v1/registry", {"revision": 7}, 400),
    ("POST", "/v1/user-events", "/v1/user-events", {"id": EVENT, "name": "deploy"}, 204),
    ("POST", "/v1/user-events", "/v1/user-events", {"id": EVENT, "nam": "deploy"}, 400),
    ("PUT", "/v1/services/{id}", "/v1/services/web-1", {"name": "web", "port": 80}, 201),
    ("PUT", "/v1/services/{id}", "/v1/services/web-1", {"name": "web", "port": 81}, 200),
    ("PUT", "/v1/services/{id}", "/v1/services/web-1", {"nam": "web"}, 400),
    ("PUT", "/v1/services/{id}", "/v1/services/theirs", {"name": "web"}, 409),
    ("POST", "/v1/services", "/v1/services", {"put": {"web-3": {"name": "web"}}}, 204),
    ("POST", "/v1/services", "/v1/services", {"delete": ["web-3"], "seen": {"web-3": 7}}, 204),
    ("POST", "/v1/services", "/v1/services", {"put": {"theirs": {"name": "web"}}}, 409),
    ("POST", "/v1/services", "/v1/services", {"put": ["web-3"]}, 400),
    ("GET", "/v1/services", "/v1/services?name=web&passing=1", None, 200),
    ("GET", "/v1/services", "/v1/services?passing=perhaps", None, 400),
    ("GET", "/v1/services/{id}", "/v1/services/web-1", None, 200),
    ("GET", "/v1/services/{id}", "/v1/services/web-2", None, 404),
    (
        "PUT",
        "/v1/services/{id}/checks/{check}",
        "/v1/services/web-1/checks/ttl",
        {"status": "passing"},
        204,
    ),
    (
        "PUT",
        "/v1/services/{id}/checks/{check}",
        "/v1/services/web-2/checks/ttl",
        {"status": "passing"},
        404,
    ),
    (
        "PUT",
        "/v1/checks",
        "/v1/checks",
        {
            "reports": [
                {"service": "web-1", "check": "ttl", "status": "passing"},
                {"service": "web-2", "check": "ttl", "status": "passing"},
            ]
        },
        200,
    ),
    ("PUT", "/v1/checks", "/v1/checks", {"reports": [{"service": "web-1"}]}, 400),
    (
        "PUT",
        "/v1/services/{id}/maintenance",
        "/v1/services/web-1/maintenance",
        {"enable": True},
        200,
    ),
    ("PUT", "/v1/services/{id}/maintenance", "/v1/services/web-1/maintenance", {}, 400),
    ("DELETE", "/v1/services/{id}", "/v1/services/web-1", None, 204),
    ("PUT", "/v1/virtuals/{service}", "/v1/virtuals/web", {"ports": [{"port": 80}]}, 201),
    ("PUT", "/v1/virtuals/{service}", "/v1/virtuals/web", {"ports": [{"port": 81}]}, 200),
    ("PUT", "/v1/virtuals/{service}", "/v1/virtuals/web", {"ports": []}, 400),
    ("GET", "/v1/virtuals", "/v1/virtuals", None, 200),
    ("GET", "/v1/virtuals/{service}", "/v1/virtuals/web", None, 200),
    ("GET", "/v1/virtuals/{service}", "/v1/virtuals/db", None, 404),
    ("DELETE", "/v1/virtuals/{service}", "/v1/virtuals/web", None, 204),
    ("GET", "/v1/explain", "/v1/explain?from=c&to=c&port=80", None, 200),
    ("GET", "/v1/explain", "/v1/explain?from=c&to=d&protocol=udp", None, 200),
    ("GET", "/v1/explain", "/v1/explain?from=c", None, 400),
    ("GET", "/v1/topology", "/v1/topology", None, 200),
    ("DELETE", "/v1/networks/{network}", "/v1/networks/blue", None, 409),
    ("DELETE", "/v1/endpoints/{id}", "/v1/endpoints/7", None, 204),
    ("DELETE", "/v1/containers/{container_id}", "/v1/containers/c", None, 204),
    ("DELETE", "/v1/networks/{network}", "/v1/networks/blue", None, 204),
    ("POST", "/v1/cni", "/v1/cni", {"socket": "", "environment": {}, "config": {}}, 503),
    ("POST", "/v1/netavark", "/v1/netavark", {"socket": "", "netns": "", "execution": {}}, 503),
    ("GET", "/v1/status", "/v1/status", None, 200),
    ("GET", "/v1/members", "/v1/members", None, 200),
    ("POST", "/v1/members/join", "/v1/members/join", {"addresses": ["10.9.9.9"]}, 503),
    ("POST", "/v1/members/join", "/v1/members/join", {"addresses": ["10.0.0.1"]}, 200),
    ("POST", "/v1/members/join", "/v1/members/join", {"addresses": [":x"]}, 400),
    ("POST", "/v1/members/join", "/v1/members/join", {"addresses": ["a"] * 65}, 400),
    ("POST", "/v1/members/leave", "/v1/members/leave", None, 204),
    ("GET", "/v1/keys", "/v1/keys", None, 200),
    ("POST", "/v1/keys", "/v1/keys", {"secret": "QUFB"}, 400),
    ("POST", "/v1/keys", "/v1/keys", {"secret": NEW_KEY}, 201),
    ("POST", "/v1/keys", "/v1/keys", {"secret": NEW_KEY}, 200),
    ("DELETE", "/v1/keys/{id}", f"/v1/keys/{key_id(SECRET)}", None, 409),
    ("PUT", "/v1/keys/{id}/primary", f"/v1/keys/{NEW_KEY_ID}/primary", None, 200),
    ("PUT", "/v1/keys/{id}/primary", "/v1/keys/7/primary", None, 404),
    ("DELETE", "/v1/keys/{id}", f"/v1/keys/{key_id(SECRET)}", None, 204),
    ("DELETE", "/v1/keys/{id}", "/v1/keys/7", None, 404),
    ("POST", "/v1/tokens", "/v1/tokens", {"expires_s": 60}, 201),
    ("POST", "/v1/tokens", "/v1/tokens", {"uses": 0}, 400),
    ("GET", "/v1/records", "/v1/records?table=node&owner=here", None, 200),
    ("GET", "/v1/records", "/v1/records?tabel=node", None, 400),
    ("PUT", "/v1/kv/{key}", "/v1/kv/a%2Fb", {"value": "eA==", "flags": 7}, 200),
    ("PUT", "/v1/kv/{key}", "/v1/kv/a%2Fb", {"value": "="}, 400),
    ("GET", "/v1/kv/{key}", "/v1/kv/a%2Fb", None, 200),
    ("GET", "/v1/kv", "/v1/kv?prefix=a", None, 200),
    ("DELETE", "/v1/kv/{key}", "/v1/kv/c", None, 200),
    ("DELETE", "/v1/kv", "/v1/kv?prefix=c", None, 200),
    ("GET", "/v1/kv-holder", "/v1/kv-holder", None, 200),
    ("POST", "/v1/kv-holder", "/v1/kv-holder", {"hosts": "b"}, 400),
    ("POST", "/v1/transactions", "/v1/transactions", {"operations": [READ]}, 200),
    ("POST", "/v1/transactions", "/v1/transactions", {"operations": []}, 400),
    ("POST", "/v1/sessions", "/v1/sessions", {"name": "leader"}, 201),
    ("POST", "/v1/sessions", "/v1/sessions", {"ttl_s": -1}, 400),
    ("GET", "/v1/sessions", "/v1/sessions", None, 200),
    ("GET", "/v1/sessions/{id}", "/v1/sessions/7", None, 404),
    ("POST", "/v1/sessions/{id}/renew", "/v1/sessions/7/renew", None, 404),
    ("DELETE", "/v1/sessions/{id}", "/v1/sessions/7", None, 204),
    ("GET", "/v1/plan", "/v1/plan", None, 200),
    ("GET", "/v1/plan", "/v1/plan?endpoint=7", None, 404),
    ("GET", "/v1/plan", "/v1/plan?endpiont=7", None, 400),
    ("POST", "/v1/reconcile", "/v1/reconcile", None, 200),
    ("GET", "/v1/doctor", "/v1/doctor", None, 200),
    ("GET", "/v1/openapi.json", "/v1/openapi.json", None, 200),
    ("GET", "/metrics", "/metrics", None, 200),
    ("GET", "/healthz", "/healthz", None, 200),
    ("GET", "/readyz", "/readyz", None, 200),
]


def check(method: str, path: str, status: int, media_type: str, body: bytes) -> None:
    """Fail unless the document foresees this answer."""
    foreseen = DOCUMENT["paths"][path][method.lower()]["responses"][str(status)]
    if "content" not in foreseen:
        assert body == b""
        return
    schema = {**foreseen["content"][media_type]["schema"], "components": DOCUMENT["components"]}
    if media_type == "application/x-ndjson":
        values = [json.loads(line) for line in body.splitlines() if line]
        assert values
    elif media_type.startswith("text/"):
        values = [body.decode()]
    else:
        values = [json.loads(body)]
    for value in values:
        OAS31Validator(schema).validate(value)


def test_the_document_is_valid() -> None:
    validate(DOCUMENT, cls=OpenAPIV31SpecValidator)


def test_the_document_has_all_routes_and_nothing_else() -> None:
    described = {
        (method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item
    }
    assert described == {(route.method, route.path) for route in ROUTES}
    operations = [op["operationId"] for item in DOCUMENT["paths"].values() for op in item.values()]
    assert len(set(operations)) == len(ROUTES)


def test_every_problem_has_its_status_and_schema() -> None:
    codes = DOCUMENT["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    assert set(codes) == set(STATUS_OF_CODE)
    for item in DOCUMENT["paths"].values():
        for operation in item.values():
            assert {"400", "403", "500", "503"} <= set(operation["responses"])
            assert ("413" in operation["responses"]) is ("requestBody" in operation)


def test_answers_leave_nothing_out_and_requests_may() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert "conditions" in schemas["Endpoint"]["required"]
    assert schemas["AttachRequest"]["required"] == ["container_id"]
    assert schemas["AttachRequest"]["additionalProperties"] is False


def test_query_parameters_are_described() -> None:
    parameters = DOCUMENT["paths"]["/v1/resolve"]["get"]["parameters"]
    assert [(p["name"], p["required"]) for p in parameters] == [
        ("name", True),
        ("type", False),
        ("from", False),
    ]
    (since,) = DOCUMENT["paths"]["/v1/events"]["get"]["parameters"]
    assert since["schema"]["type"] == "integer"


async def test_answers_are_as_described() -> None:
    async with served() as world:

        def exchange() -> None:
            connection = Connection(str(world.path), 10)
            for method, path, target, body, status in CALLS:
                encoded = None if body is None else json.dumps(body).encode()
                response = connection.request(method, target, encoded)
                answer = response.read()
                assert response.status == status, (method, target, answer[:500])
                check(method, path, status, response.headers.get("content-type", ""), answer)
            connection.close()

        await asyncio.to_thread(exchange)


async def test_events_are_as_described() -> None:
    async with served() as world:
        world.engine.emit("network.created", "blue")

        def first() -> dict[str, Any]:
            with Client(str(world.path)) as client, client.events(0) as lines:
                return next(lines)

        line = json.dumps(await asyncio.to_thread(first)).encode()
        check("GET", "/v1/events", 200, "application/x-ndjson", line)


async def test_changes_of_keys_are_as_described() -> None:
    async with served() as world:

        def first() -> dict[str, Any]:
            path = str(world.path)
            with Client(path) as client, Client(path) as writer, client.kv.changes() as lines:
                writer.kv.put("a", b"x")
                return next(lines)

        line = json.dumps(await asyncio.to_thread(first)).encode()
        check("GET", "/v1/kv-changes", 200, "application/x-ndjson", line)


def test_every_route_was_called() -> None:
    streams = {("GET", "/v1/events"), ("GET", "/v1/kv-changes")}
    called = {(method, path) for method, path, *_ in CALLS} | streams
    assert called == {(route.method, route.path) for route in ROUTES}


def test_the_check_itself_notices_what_is_wrong() -> None:
    with pytest.raises(Exception, match="'node' is a required property"):
        check("GET", "/v1/status", 200, "application/json", b"{}")
    with pytest.raises(KeyError):
        check("GET", "/v1/status", 418, "application/json", b"{}")
