"""grpc checks of real HTTP/2 servers on loopback, well-behaved ones and others."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from hypothesis import given, settings
from hypothesis import strategies as st

from netd.model.service import CheckResult, CheckSpec
from netd.registry.checks import grpc, grpc_messages, tls
from netd.registry.checks.names import Names
from netd.registry.checks.probe import Run, critical
from tests.unit.checks_lab import Certificates, closed_port, outcome, probe, serving

Headers = list[tuple[str, str]]
OK: Headers = [(":status", "200"), ("content-type", "application/grpc")]
SERVING = b"\0\0\0\0\x02\x08\x01"


class Server:
    """One HTTP/2 server; `answer` is called with its connection when a request is complete."""

    def __init__(self, answer: Callable[[H2Connection, int], None]) -> None:
        self.answer = answer
        self.headers: Headers = []
        self.body = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        http.initiate_connection()
        writer.write(http.data_to_send())
        while data := await reader.read(65536):
            for event in http.receive_data(data):
                if isinstance(event, RequestReceived):
                    self.headers = [(str(name), str(value)) for name, value in event.headers]
                elif isinstance(event, DataReceived):
                    self.body += event.data
                elif isinstance(event, StreamEnded):
                    self.answer(http, event.stream_id)
            writer.write(http.data_to_send())


def says(
    message: bytes, status: str = "0", *, headers: Headers = OK, text: str = ""
) -> Callable[[H2Connection, int], None]:
    def answer(http: H2Connection, stream: int) -> None:
        http.send_headers(stream, headers)
        http.send_data(stream, message)
        trailers = [("grpc-status", status), *([("grpc-message", text)] if text else [])]
        http.send_headers(stream, trailers, end_stream=True)

    return answer


async def found(
    target: str = "", *, port: int, timeout_s: float = 10, **more: object
) -> CheckResult:
    spec = CheckSpec(kind="grpc", target=target, timeout_s=timeout_s, **more)  # type: ignore[arg-type]
    run = Run(probe(spec, port=port))
    try:
        async with asyncio.timeout(timeout_s):
            return await outcome(grpc.run(run, Names()))
    except TimeoutError:
        return critical(f"late: {run.stage}")


@asynccontextmanager
async def answering(
    answer: Callable[[H2Connection, int], None], tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Server, int]]:
    server = Server(answer)
    async with serving(server.serve, tls=tls) as port:
        yield server, port


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (SERVING, "passing SERVING"),
        (b"\0\0\0\0\0", "critical UNKNOWN"),
        (b"\0\0\0\0\x02\x08\x02", "critical NOT_SERVING"),
        (b"\0\0\0\0\x02\x08\x03", "critical SERVICE_UNKNOWN"),
        (b"\0\0\0\0\x02\x08\x63", "critical status 99"),
    ],
)
async def test_what_the_server_says_is_the_verdict(message: bytes, expected: str) -> None:
    async with answering(says(message)) as (_, port):
        result = await found(port=port)
    status, _, word = expected.partition(" ")
    assert result == CheckResult(
        status="passing" if status == "passing" else "critical", output=f"127.0.0.1:{port}: {word}"
    )


async def test_the_request_is_that_of_the_health_protocol() -> None:
    async with answering(says(SERVING)) as (server, port):
        await found("/shop.Cart", port=port, headers={"X-Token": ("secret",)}, timeout_s=2)
    assert server.body == b"\0\0\0\0\x0b\x0a\x09shop.Cart"
    assert dict(server.headers) == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": f"127.0.0.1:{port}",
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": dict(server.headers)["user-agent"],
        "grpc-timeout": "2000m",
        "x-token": "secret",
    }


def trailers_only(http: H2Connection, stream: int) -> None:
    headers = [*OK, ("grpc-status", "12"), ("grpc-message", "no%20health%20here")]
    http.send_headers(stream, headers, end_stream=True)


async def test_a_server_without_the_health_service() -> None:
    async with answering(trailers_only) as (_, port):
        result = await found(port=port)
    assert result == critical(f"127.0.0.1:{port}: gRPC status 12 UNIMPLEMENTED: no health here")


@pytest.mark.parametrize("status", ["99", "x", "", "1" * 100])
async def test_a_status_that_nobody_knows(status: str) -> None:
    async with answering(says(b"", status)) as (_, port):
        result = await found(port=port)
    assert result.status == "critical"
    assert "gRPC status" in result.output
    assert len(result.output) < 100


async def test_a_server_of_something_else_than_grpc() -> None:
    async with answering(says(b"<html>", headers=[(":status", "404")])) as (_, port):
        assert await found(port=port) == critical(f"127.0.0.1:{port}: HTTP 404")


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"", "there is no message"),
        (b"\0\0\0\0\x05\x08\x01", "a message of 5 bytes has 2"),
        (b"\1\0\0\0\x02\x08\x01", "compressed"),
        (b"\0\0\0\0\x01\x08", "ends within a number"),
        (b"\0\0\0\0\x02\x12\x05", "ends within a field"),
        (b"\0\0\0\0\x02\x0b\x01", "wire type 3"),
    ],
)
async def test_a_message_that_is_not_that_of_the_health_protocol(message: bytes, why: str) -> None:
    async with answering(says(message)) as (_, port):
        result = await found(port=port)
    assert result.status == "critical"
    assert why in result.output


async def test_too_many_messages_are_not_kept() -> None:
    def flood(http: H2Connection, stream: int) -> None:
        http.send_headers(stream, OK)
        for _ in range(4):
            http.send_data(stream, b"x" * 16_000)
        http.end_stream(stream)

    async with answering(flood) as (_, port):
        # The flow control window is not any larger: what is more than it never comes.
        result = await found(port=port)
    assert result.status == "critical"
    assert "gRPC status missing" in result.output


def reset(http: H2Connection, stream: int) -> None:
    http.reset_stream(stream, 7)


def go_away(http: H2Connection, _stream: int) -> None:
    http.close_connection(11)


@pytest.mark.parametrize(
    ("how", "code"), [(reset, "REFUSED_STREAM"), (go_away, "ENHANCE_YOUR_CALM")]
)
async def test_a_server_that_ends_the_request(
    how: Callable[[H2Connection, int], None], code: str
) -> None:
    async with answering(how) as (_, port):
        result = await found(port=port)
    assert result == critical(f"127.0.0.1:{port}: it ended the request: HTTP/2 error {code}")


async def test_a_closed_port() -> None:
    port = closed_port()
    assert await found(port=port) == critical(f"127.0.0.1:{port}: connection refused")


async def test_a_server_that_closes_the_connection() -> None:
    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async with serving(serve) as port:
        result = await found(port=port)
    assert result.status == "critical"


async def test_a_server_that_says_nothing() -> None:
    async with answering(lambda _http, _stream: None) as (_, port):
        result = await found(port=port, timeout_s=0.5)
    assert result == critical(f"late: answer of 127.0.0.1:{port}")


async def test_a_server_of_http_1() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with serving(serve) as port:
        result = await found(port=port)
    assert result.status == "critical"
    assert result.output.startswith(f"127.0.0.1:{port}: not HTTP/2: ")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_of_a_server_are_more_than_a_failure(data: bytes, begins_well: bool) -> None:
    async def check() -> None:
        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((b"\0\0\0\4\0\0\0\0\0" if begins_well else b"") + data)
            await writer.drain()

        async with serving(serve) as port:
            assert (await found(port=port, timeout_s=5)).status == "critical"

    asyncio.run(check())


# Messages


@given(st.binary(max_size=50))
def test_any_bytes_are_a_status_or_no_message(data: bytes) -> None:
    framed = b"\0" + len(data).to_bytes(4, "big") + data
    with suppress(ValueError):
        assert grpc_messages.status_of(framed) >= 0


@given(st.integers(0, 2**31 - 1), st.binary(max_size=300))
def test_fields_of_a_newer_protocol_are_passed_over(status: int, more: bytes) -> None:
    number = grpc_messages.varint(status)
    size = grpc_messages.varint(len(more))
    message = b"\x12" + size + more + b"\x19" + b"8bytes!!" + b"\x25" + b"four" + b"\x08" + number
    framed = b"\0" + len(message).to_bytes(4, "big") + message
    assert grpc_messages.status_of(framed) == status


@given(st.text(max_size=300))
def test_a_request_has_its_length_before_it(service: str) -> None:
    framed = grpc_messages.request(service)
    assert int.from_bytes(framed[1:5], "big") == len(framed) - 5
    assert framed.endswith(service.encode())


# TLS


@pytest.fixture(autouse=True)
def _forget() -> None:
    tls.forget()


async def test_over_tls_the_name_has_to_be_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = Certificates(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    async with answering(says(SERVING), certificates.server("h2")) as (server, port):
        named = await found(port=port, tls=True, tls_server_name="web.test")
        assert named.status == "passing"
        assert dict(server.headers)[":authority"] == f"web.test:{port}"
        unnamed = await found(port=port, tls=True)
        assert unnamed.status == "critical"
        assert "certificate: " in unnamed.output
        assert (await found(port=port, tls=True, tls_skip_verify=True)).status == "passing"


async def test_tls_with_a_server_that_has_none() -> None:
    async with answering(says(SERVING)) as (_, port):
        result = await found(port=port, tls=True, timeout_s=5)
    assert result.status == "critical"


async def test_a_server_name_that_is_none(tmp_path: Path) -> None:
    async with answering(says(SERVING), Certificates(tmp_path).server("h2")) as (_, port):
        result = await found(port=port, tls=True, tls_server_name=".")
    assert result.status == "critical"
