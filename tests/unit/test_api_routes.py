"""Every call of the API, over a real socket with the real client."""

import asyncio
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import pytest

from netd.api.call import Call, Nothing, Reply
from netd.api.limits import Limits
from netd.api.routes import ROUTES
from netd.api.routing import Route, Router
from netd.client import ApiError
from netd.client.http import Connection
from netd.model.errors import Exhausted, KernelFailure, NetdError, Unavailable
from tests.unit.memory_engine import Served, served

P = ParamSpec("P")
T = TypeVar("T")


async def do(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.to_thread(call, *args, **kwargs)


async def refused(call: Callable[..., Any], *args: Any, **kwargs: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await do(call, *args, **kwargs)
    return caught.value


async def raw(
    world: Served, method: str, target: str, body: bytes | None = None
) -> tuple[int, dict[str, str], bytes]:
    def exchange() -> tuple[int, dict[str, str], bytes]:
        connection = Connection(str(world.path), 10)
        try:
            response = connection.request(method, target, body)
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    return await do(exchange)


async def test_networks_from_creation_to_deletion() -> None:
    async with served() as world:
        client = world.client
        made = await do(client.create_network, name="blue", driver="bridge", labels={"a": "b"})
        assert made["conditions"] == []
        assert made["created_at"]
        assert await do(client.networks) == [made]
        assert await do(client.network, "blue") == made
        assert await do(client.network, made["id"]) == made
        await do(client.delete_network, "blue")
        await do(client.delete_network, "blue")
        assert await do(client.networks) == []


async def test_created_is_201_and_there_already_is_200() -> None:
    async with served() as world:
        body = b'{"name":"blue","driver":"none"}'
        assert (await raw(world, "POST", "/v1/networks", body))[0] == 201
        assert (await raw(world, "POST", "/v1/networks", body))[0] == 200
        attach = b'{"container_id":"c","pid":3}'
        target = "/v1/networks/blue/endpoints"
        assert (await raw(world, "POST", target, attach))[0] == 201
        assert (await raw(world, "POST", target, attach))[0] == 200
        status, _, nothing = await raw(world, "DELETE", "/v1/containers/c")
        assert (status, nothing) == (204, b"")


async def test_endpoints_from_attach_to_detach() -> None:
    async with served() as world:
        client = world.client
        await do(client.create_network, name="blue", driver="bridge")
        await do(client.create_network, name="red", driver="bridge")
        web = await do(client.attach, "blue", container_id="c1", netns="/run/netns/x", name="web")
        db = await do(client.attach, "red", container_id="c2", pid=7, name="db")
        assert await do(client.endpoints) == [web, db]
        assert await do(client.endpoints, network="red") == [db]
        assert await do(client.endpoints, container_id="c1", node="here") == [web]
        assert await do(client.endpoints, node="elsewhere") == []
        ports = [{"host_port": 80, "container_port": 8080}]
        changed = await do(client.update_endpoint, web["id"], ports=ports, aliases=["www"])
        assert changed["ports"][0]["protocol"] == "tcp"
        assert await do(client.endpoint, web["id"]) == changed
        assert (await refused(client.delete_network, "blue")).detail.endswith("used by web")
        await do(client.detach, web["id"])
        await do(client.detach, web["id"])
        await do(client.detach_container, "c2")
        assert await do(client.endpoints) == []


async def test_the_host_as_a_whole() -> None:
    async with served() as world:
        client = world.client
        assert (await do(client.status))["node"] == "here"
        assert [member["state"] for member in await do(client.members)] == ["alive"]
        assert [operation["verb"] for operation in await do(client.plan)] == ["add"]
        assert (await do(client.reconcile))["duration_ms"] == 1.5
        assert world.engine.reconciled == 1
        assert [finding["level"] for finding in await do(client.doctor)] == ["ok"]
        assert (await do(client.openapi))["openapi"] == "3.1.0"


async def test_resolve_passes_name_type_and_source() -> None:
    async with served() as world:
        client = world.client
        assert await do(client.resolve, "web") == {"rcode": "NXDOMAIN", "records": []}
        await do(client.create_network, name="blue", driver="none")
        await do(client.attach, "blue", container_id="web", pid=3)
        found = await do(client.resolve, "web", "A", "10.9.9.9")
        assert found["records"][0]["data"] == "10.9.9.9"
        assert (await refused(client.resolve, "a b")).field == "name"
        assert (await refused(client.resolve, "web", "MX")).field == "type"
        status, _, problem = await raw(world, "GET", "/v1/resolve")
        assert (status, b'"field":"name"' in problem) == (400, True)


async def test_readiness_is_told_apart_from_being_alive() -> None:
    async with served() as world:
        assert (await raw(world, "GET", "/readyz"))[0] == 200
        world.engine.is_ready = False
        assert (await raw(world, "GET", "/healthz"))[0] == 200
        status, headers, body = await raw(world, "GET", "/readyz")
        assert status == 503
        assert headers["content-type"] == "application/problem+json"
        assert b"the kernel is being read" in body


async def test_paths_are_percent_decoded_segment_by_segment() -> None:
    async with served() as world:
        await do(world.client.create_network, name="a.b", driver="none")
        assert (await raw(world, "GET", "/v1/networks/a%2Eb"))[0] == 200
        problem = await refused(world.client.network, "a/b?c#d")
        assert problem.detail == "there is no network a/b?c#d"
        status, _, body = await raw(world, "GET", "/v1/networks/%ff")
        assert (status, b"UTF-8" in body) == (400, True)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v1/networks/",
        "/v1//networks",
        "/v1/service",
        "/v1/services/web/checks",
        "/v1/policies",
        "/v1/explain/web",
        "/v1/members/web",
    ],
)
async def test_unknown_paths_are_404(path: str) -> None:
    async with served() as world:
        for method in ("GET", "POST"):
            status, headers, body = await raw(world, method, path)
            assert status == 404
            assert headers["content-type"] == "application/problem+json"
            assert b'"code":"not-found"' in body


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/networks", "GET, POST"),
        ("POST", "/v1/status", "GET"),
        ("GET", "/v1/containers/c", "DELETE"),
        ("HEAD", "/healthz", "GET"),
        ("PROPFIND", "/v1/endpoints/1", "DELETE, GET, PATCH"),
    ],
)
async def test_a_wrong_method_is_405_with_allow(method: str, path: str, allow: str) -> None:
    async with served() as world:

        def exchange() -> tuple[int, str]:
            connection = Connection(str(world.path), 10)
            response = connection.request(method, path)
            connection.close()
            return response.status, response.headers["allow"]

        assert await do(exchange) == (405, allow)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Exhausted("the bridge is full", field="network"), 507, "exhausted"),
        (KernelFailure("EPERM"), 500, "kernel"),
        (Unavailable("the disk is full"), 503, "unavailable"),
    ],
)
async def test_errors_of_the_engine(error: NetdError, status: int, code: str) -> None:
    async with served() as world:
        world.engine.failure = error
        problem = await refused(world.client.reconcile)
        assert (problem.status, problem.code) == (status, code)
        assert (problem.detail, problem.field) == (error.detail, error.field)


async def test_a_fault_is_answered_logged_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as world:
        world.engine.failure = ZeroDivisionError("secret inner detail")
        status, headers, body = await raw(world, "POST", "/v1/reconcile")
        assert status == 500
        assert b'"code":"internal"' in body
        assert b"secret" not in body
        assert headers["x-request-id"] in caplog.text
        assert "ZeroDivisionError" in caplog.text
        world.engine.failure = None
        await do(world.client.reconcile)


async def test_the_deadline_ends_the_wait_but_not_the_work() -> None:
    async with served(limits=Limits(deadline_s=0.05)) as world:
        world.engine.gate.clear()
        problem = await refused(world.client.reconcile)
        assert (problem.status, problem.code) == (503, "unavailable")
        assert world.engine.reconciled == 0
        world.engine.gate.set()
        while not world.engine.reconciled:
            await asyncio.sleep(0)
        world.engine.gate.clear()
        assert (await refused(world.client.plan)).code == "unavailable"


async def test_request_ids_are_unique_and_a_callers_own_is_kept() -> None:
    async with served() as world:
        first = (await raw(world, "GET", "/healthz"))[1]["x-request-id"]
        second = (await raw(world, "GET", "/nowhere"))[1]["x-request-id"]
        assert first != second
        reader, writer = await asyncio.open_unix_connection(str(world.path))
        for given, kept in ((b"abc-1", True), (b"a b", False), (b"x" * 65, False)):
            writer.write(
                b"GET /healthz HTTP/1.1\r\nHost: n\r\nX-Request-Id: " + given + b"\r\n\r\n"
            )
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(b'{"ok":true}'))
            assert (b"X-Request-Id: " + given + b"\r\n" in head) is kept
        writer.close()


async def test_metrics_count_by_pattern_not_by_path() -> None:
    async with served() as world:
        for name in ("a", "b"):
            await refused(world.client.network, name)
        await raw(world, "PROPFIND", "/nowhere/1")
        text = await do(world.client.metrics)
        pattern = 'method="GET",route="/v1/networks/{network}",status="404"'
        assert f"netd_api_requests_total{{{pattern}}} 2.0" in text
        unknown = 'method="other",route="unknown",status="404"'
        assert f"netd_api_requests_total{{{unknown}}} 1.0" in text
        assert "netd_api_request_duration_seconds_bucket" in text
        assert "PROPFIND" not in text


def test_the_router_refuses_tables_with_two_meanings() -> None:
    async def handler(call: Call[Nothing, Nothing]) -> Reply:
        return Reply(204)

    def route(path: str) -> Route[Nothing, Nothing]:
        return Route(
            method="GET", path=path, handler=handler, summary="", kind="none", statuses={204: ""}
        )

    with pytest.raises(ValueError, match="twice"):
        Router((route("/a"), route("/a")))
    with pytest.raises(ValueError, match="more than one"):
        Router((route("/{x}/b"), route("/a/{y}"), route("/a/b")))
    assert Router(ROUTES).find("/v1/endpoints/7")[1] == {"id": "7"}
