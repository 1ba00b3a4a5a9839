"""Bad input: each fault gets the right problem, and the daemon goes on."""

import asyncio
import json
from typing import Any

import pytest

from netd.api.limits import Limits
from tests.unit.memory_engine import Served, served

NETWORK = {"name": "blue", "driver": "none"}
ATTACH = {"container_id": "c", "pid": 3}


async def exchange(world: Served, request: bytes, *, eof: bool = False) -> tuple[int, Any]:
    """Send bytes as they are; return the status and the problem of the first answer."""
    reader, writer = await asyncio.open_unix_connection(str(world.path))
    try:
        writer.write(request)
        if eof:
            writer.write_eof()
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        if b" 4" in head[:12] or b" 5" in head[:12]:
            assert b"content-type: application/problem+json" in head.lower()
        return int(head.split()[1]), json.loads(body)
    finally:
        writer.close()


def post(target: str, body: bytes, extra: bytes = b"") -> bytes:
    head = f"POST {target} HTTP/1.1\r\nHost: n\r\nContent-Length: {len(body)}\r\n".encode()
    return head + extra + b"\r\n" + body


@pytest.mark.parametrize(
    ("target", "value", "field", "says"),
    [
        ("/v1/networks", {"name": "x"}, "driver", "is required"),
        ("/v1/networks", {"name": "x", "driver": "brige"}, "driver", "one of bridge, host"),
        ("/v1/networks", {**NETWORK, "subnet": "x"}, "subnet", "did you mean subnets?"),
        ("/v1/networks", {**NETWORK, "zzzz": 1}, "zzzz", "known are name, driver"),
        ("/v1/networks", {**NETWORK, "subnets": "x"}, "subnets", "expected array, got str"),
        ("/v1/networks", {**NETWORK, "subnets": ["x", 1]}, "subnets[1]", "expected str"),
        ("/v1/networks", {**NETWORK, "mtu": 1.5}, "mtu", "expected int"),
        ("/v1/networks", {**NETWORK, "options": {"a": []}}, "options", "got array"),
        ("/v1/networks", {**NETWORK, "options": {"a": 1e400}}, None, "not JSON"),
        ("/v1/networks", [], None, "the body: expected object, got array"),
        ("/v1/networks", None, None, "the body: expected object, got null"),
        ("/v1/networks", {"name": "A B", "driver": "none"}, "name", "lower-case"),
        ("/v1/networks/b/endpoints", {}, "container_id", "is required"),
        (
            "/v1/networks/b/endpoints",
            {**ATTACH, "ports": [{"host_port": "80", "container_port": 80}]},
            "ports[0].host_port",
            "expected int, got str",
        ),
        (
            "/v1/networks/b/endpoints",
            {**ATTACH, "ports": [{"host_port": 80, "container_port": 65536}]},
            "ports[0].container_port",
            "<= 65535",
        ),
        (
            "/v1/networks/b/endpoints",
            {**ATTACH, "ports": [{"host_port": 80, "container_port": 80, "protocol": "icmp"}]},
            "ports[0].protocol",
            "one of sctp, tcp, udp",
        ),
        (
            "/v1/networks/b/endpoints",
            {**ATTACH, "ports": [{"host_port": 80, "container_port": 80, "host": ""}]},
            "ports[0].host",
            "did you mean host_ip?",
        ),
        ("/v1/networks/b/endpoints", {**ATTACH, "bandwidth": {"x": 1}}, "bandwidth.x", "known are"),
        ("/v1/reconcile", {"now": True}, "now", "none is known here"),
    ],
)
async def test_values_that_are_wrong(target: str, value: Any, field: str | None, says: str) -> None:
    async with served() as world:
        status, problem = await exchange(world, post(target, json.dumps(value).encode()))
        assert (status, problem["code"]) == (400, "invalid")
        assert problem["type"] == "urn:netd:problem:invalid"
        assert problem.get("field") == field
        assert says in problem["detail"]
        assert world.engine.networks() == ()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b'{"name":', "ends too early, after byte 8"),
        (b'{"name":"x",}', "byte 12"),
        (b'{"name":NaN}', "byte 8"),
        (b'{"name":"x","driver":"none"} x', "trailing characters (byte "),
        (b'\xef\xbb\xbf{"name":"x","driver":"none"}', "byte 0"),
        (b'{"name":"\xff","driver":"none"}', "not UTF-8"),
        (b'{"name":"\\ud800","driver":"none"}', "surrogate"),
        (b"[" * 200_000, "expected object"),
        (b'{"name":' + b"[" * 200_000, "expected str"),
        (b'{"name":"x","driver":"none","options":{"a":' + b"[" * 200_000, "got array"),
        (b'{"name":"x","driver":"none","mtu":' + b"9" * 5000 + b"}", "out of range"),
        (b'{"name":"x","driver":"none","name":"y"}', "name twice"),
        (b'{"name":"x","driver":"none","labels":{"a":"1","a":"2"}}', "a twice"),
        (b'{"' + b"n" * 500_000 + b'":1}', "not a known field"),
    ],
)
async def test_text_that_is_wrong(body: bytes, says: str) -> None:
    async with served() as world:
        status, problem = await exchange(world, post("/v1/networks", body))
        assert (status, problem["code"]) == (400, "invalid")
        assert says in problem["detail"]
        assert len(problem["detail"]) < 1000
        assert world.engine.networks() == ()


@pytest.mark.parametrize(
    ("target", "field", "says"),
    [
        ("/v1/endpoints?netwrk=x", "netwrk", "did you mean network?"),
        ("/v1/endpoints?network=a&network=b", "network", "twice"),
        ("/v1/status?x=1", "x", "none is known here"),
        ("/v1/events?since=soon", "since", "expected int"),
        ("/v1/events?since=-1", "since", ">= 0"),
        ("/v1/events?since=9223372036854775808", "since", "<= 9223372036854775807"),
        ("/v1/names?watch=perhaps", "watch", "expected bool"),
        ("/v1/resolve?name=", "name", "length >= 1"),
        ("/v1/endpoints?network=%ff", None, "not UTF-8"),
        ("/v1/endpoints?network", None, "malformed"),
        ("/v1/endpoints?" + "&".join(f"a{n}=1" for n in range(20)), None, "malformed"),
    ],
)
async def test_queries_that_are_wrong(target: str, field: str | None, says: str) -> None:
    async with served() as world:
        request = f"GET {target} HTTP/1.1\r\nHost: n\r\n\r\n".encode()
        status, problem = await exchange(world, request)
        assert (status, problem.get("field")) == (400, field)
        assert says in problem["detail"]


async def test_a_parameter_named_null_is_a_name_like_any_other() -> None:
    async with served() as world:
        await asyncio.to_thread(world.client.create_network, name="blue", driver="none")
        await asyncio.to_thread(world.client.attach, "blue", container_id="c", pid=3)
        assert await asyncio.to_thread(world.client.endpoints, network="null") == []


@pytest.mark.parametrize("media_type", [b"", b"Content-Type: text/html\r\n"])
async def test_the_content_type_of_json_does_not_matter(media_type: bytes) -> None:
    async with served() as world:
        request = post("/v1/networks", json.dumps(NETWORK).encode(), media_type)
        assert (await exchange(world, request))[0] == 201


async def test_a_body_of_the_largest_size_is_read() -> None:
    async with served(limits=Limits(body_bytes=1000)) as world:
        body = json.dumps(NETWORK).encode()
        assert (await exchange(world, post("/v1/networks", body.ljust(1000))))[0] == 201
        status, problem = await exchange(world, post("/v1/networks", body.ljust(1001)))
        assert (status, problem["code"]) == (413, "invalid")


@pytest.mark.parametrize("chunked", [False, True])
async def test_ten_megabytes_are_refused(chunked: bool) -> None:
    async with served() as world:
        body = b"x" * 10_000_000
        if chunked:
            coding = b"POST /v1/networks HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\n"
            request = coding + b"989680\r\n" + body + b"\r\n0\r\n\r\n"
        else:
            request = post("/v1/networks", body)
        status, problem = await exchange(world, request)
        assert (status, problem["code"]) == (413, "invalid")


async def test_expect_is_answered_before_the_body_is_sent() -> None:
    async with served() as world:
        reader, writer = await asyncio.open_unix_connection(str(world.path))
        body = json.dumps(NETWORK).encode()
        head = post("/v1/networks", body, b"Expect: 100-continue\r\n")[: -len(body)]
        writer.write(head)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 201 ")
        writer.close()
        large = post("/v1/networks", b"", b"Expect: 100-continue\r\n")
        large = large.replace(b"Content-Length: 0", b"Content-Length: 10000000")
        assert (await exchange(world, large))[0] == 413


async def test_a_body_that_does_not_arrive_in_time_is_408() -> None:
    async with served(limits=Limits(deadline_s=0.05, grace_s=0.1)) as world:
        status, problem = await exchange(world, post("/v1/networks", b"{" * 9)[:-5])
        assert (status, problem["code"]) == (408, "invalid")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"hello\r\n\r\n",
        b"BREW /healthz HTTP/1.1\r\nHost: n\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: n\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/networks HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_400_and_the_end(request_bytes: bytes) -> None:
    async with served() as world:
        status, problem = await exchange(world, request_bytes)
        assert (status, problem["code"]) == (400, "invalid")
        assert (await exchange(world, b"GET /healthz HTTP/1.1\r\nHost: n\r\n\r\n"))[0] == 200
