"""http checks of real servers on loopback, well-behaved ones and others."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from netd.model.service import CheckResult, CheckSpec
from netd.registry.checks import http, tls
from netd.registry.checks.names import Names
from netd.registry.checks.probe import Run, critical
from tests.unit.checks_lab import Certificates, closed_port, outcome, probe, serving

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def site(handler: Handler) -> AsyncIterator[int]:
    """A web server that answers everything by `handler`; its port."""
    runner = web.ServerRunner(web.Server(handler))  # type: ignore[arg-type]
    await runner.setup()
    place = web.TCPSite(runner, "127.0.0.1", 0)
    await place.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def found(
    target: str = "", *, names: Names | None = None, timeout_s: float = 10, **more: object
) -> CheckResult:
    service = {key: more.pop(key) for key in ("address", "port", "network") if key in more}
    spec = CheckSpec(kind="http", target=target, timeout_s=timeout_s, **more)  # type: ignore[arg-type]
    run = Run(probe(spec, **service))  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(timeout_s):
            return await outcome(http.run(run, names or Names()))
    except TimeoutError:
        return critical(f"late: {run.stage}")


def says(data: bytes, *, then_waits: bool = False) -> "Callable[..., Awaitable[None]]":
    """A server that answers any request with these bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()
        if then_waits:
            await reader.read()

    return serve


def status(code: int, text: str = "") -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=code, text=text)

    return answer


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        *((200, "passing"), (204, "passing"), (299, "passing"), (429, "warning")),
        *((304, "critical"), (404, "critical"), (500, "critical"), (503, "critical")),
    ],
)
async def test_the_status_is_the_verdict(code: int, expected: str) -> None:
    async with site(status(code)) as port:
        result = await found(port=port)
    assert result.status == expected
    assert result.output.startswith(f"HTTP {code}")


async def test_the_request_is_as_it_was_asked_for() -> None:
    seen: list[tuple[str, str, str, list[str], str]] = []

    async def answer(request: web.Request) -> web.Response:
        body = await request.text()
        values = request.headers.getall("X-Token", [])
        seen.append((request.method, request.path_qs, request.headers["Host"], values, body))
        return web.Response(text="well")

    async with site(answer) as port:
        result = await found(
            "/health?full=1",
            port=port,
            method="POST",
            body="how are you?",
            headers={"X-Token": ("a", "b"), "Host": ("web.test",)},
        )
    assert result == CheckResult(status="passing", output="HTTP 200 OK: well")
    assert seen == [("POST", "/health?full=1", "web.test", ["a", "b"], "how are you?")]


async def test_each_run_has_a_connection_of_its_own() -> None:
    peers = set()

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response()

    async with site(answer) as port:
        for _ in range(3):
            await http.run(Run(probe(CheckSpec(kind="http"), port=port)), Names())
    assert len(peers) == 3


# Failures


async def test_a_closed_port() -> None:
    port = closed_port()
    assert await found(port=port) == critical(f"127.0.0.1:{port}: connection refused")


async def test_a_server_that_says_nothing() -> None:
    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(serve) as port:
        result = await found(port=port, timeout_s=0.5)
    assert result == critical(f"late: GET http://127.0.0.1:{port}/")


async def test_a_server_that_resets_the_connection() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async with serving(serve) as port:
        result = await found(port=port)
    assert result == critical(f"http://127.0.0.1:{port}/: connection reset by peer")


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nbroken"),
        *(b"\0" * 1000, b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n"),
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
    ],
    ids=lambda answer: repr(answer[:30]),
)
async def test_what_is_not_a_whole_answer_is_critical(answer: bytes) -> None:
    async with serving(says(answer)) as port:
        result = await found(port=port)
    assert result.status == "critical"
    assert result.output.startswith(f"http://127.0.0.1:{port}/: ")
    assert len(result.output) < 1000


async def test_a_body_that_does_not_end_is_late() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx"
    async with serving(says(head, then_waits=True)) as port:
        result = await found(port=port, timeout_s=0.5)
    assert result == critical("late: rest of the answer HTTP 200")


async def test_of_a_huge_body_the_beginning_is_read_and_kept() -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"y" * 65536)
            await writer.drain()
            sent += 65536

    async with serving(serve) as port:
        result = await found(port=port)
    assert result.status == "passing"
    assert len(result.output) == 4096
    assert sent < 64 * 1024 * 1024


async def test_a_compressed_body_is_not_unpacked() -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(body=b"\x1f\x8b" + b"z" * 10, headers={"Content-Encoding": "gzip"})

    async with site(answer) as port:
        result = await found(port=port)
    assert result.status == "passing"
    assert result.output.endswith("zzz")


@pytest.mark.parametrize(
    "target", ["http://", "http://a b/", "http://[::1/", "http:///x", "http://a:b/"]
)
async def test_what_is_no_url(target: str) -> None:
    result = await found(target)
    assert result.status == "critical"


async def test_a_name_that_does_not_exist() -> None:
    result = await found("http://nobody.invalid/")
    assert result.status == "critical"
    assert result.output.startswith("name 'nobody.invalid': ")


# Redirects


def redirect(place: str) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/end":
            return web.Response(text="the end")
        return web.Response(status=302, headers={"Location": place})

    return answer


async def test_a_redirect_is_followed() -> None:
    async with site(redirect("/end")) as port:
        assert (await found(port=port)).output == "HTTP 200 OK: the end"


async def test_a_redirect_is_not_followed_when_that_is_not_wanted() -> None:
    async with site(redirect("/end")) as port:
        result = await found(port=port, follow_redirects=False)
    assert result == critical("HTTP 302 Found")


async def test_redirects_in_a_circle_end() -> None:
    async with site(redirect("/again")) as port:
        result = await found(port=port)
    assert result == critical(f"http://127.0.0.1:{port}/: more than 10 redirects")


@pytest.mark.parametrize("place", ["ftp://127.0.0.1/", "file:///etc/passwd", "http://", "gopher:x"])
async def test_a_redirect_to_what_is_not_http_is_critical(place: str) -> None:
    async with site(redirect(place)) as port:
        assert (await found(port=port)).status == "critical"


@pytest.mark.parametrize("host", ["127.0.0.2", "hidden.test", "[::ffff:127.0.0.2]"])
async def test_no_redirect_leads_to_an_address_that_is_not_the_instances(host: str) -> None:
    reached = asyncio.Event()

    async def hidden(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        reached.set()

    names = Names(own=lambda _: ("127.0.0.2",))
    async with (
        serving(hidden, host="127.0.0.2") as other,
        site(redirect(f"http://{host}:{other}/")) as port,
    ):
        result = await found(port=port, network="blue", names=names)
        assert result.status == "critical"
        assert "not an address of this instance" in result.output
        assert not reached.is_set()
        # Where nothing is confined, it does lead there.
        await found(port=port, names=names, timeout_s=2)
        assert reached.is_set()


# TLS


@pytest.fixture
def certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Certificates:
    """Those of an authority that the host trusts, while the test runs."""
    made = Certificates(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.authority))
    tls.forget()
    return made


@pytest.fixture(autouse=True)
def _forget() -> None:
    tls.forget()


WELL = says(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell")


async def test_a_certificate_has_to_be_for_the_name(certificates: Certificates) -> None:
    async with serving(WELL, tls=certificates.server()) as port:
        named = await found(port=port, tls=True, tls_server_name="web.test")
        assert named == CheckResult(status="passing", output="HTTP 200 OK: well")
        unnamed = await found(port=port, tls=True)
    assert unnamed.status == "critical"
    assert "certificate: IP address mismatch" in unnamed.output


async def test_a_certificate_has_to_be_of_a_trusted_authority(tmp_path: Path) -> None:
    stranger = Certificates(tmp_path)
    async with serving(WELL, tls=stranger.server()) as port:
        strict = await found(port=port, tls=True, tls_server_name="web.test")
        lax = await found(port=port, tls=True, tls_skip_verify=True)
    assert strict.status == "critical"
    assert "certificate: unable to get local issuer certificate" in strict.output
    assert lax.status == "passing"


async def test_a_server_without_tls_is_critical() -> None:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with serving(serve) as port:
        result = await found(port=port, tls=True)
    assert result.status == "critical"
    assert "TLS: " in result.output


async def test_a_handshake_that_hangs_is_late() -> None:
    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass

    async with serving(serve) as port:
        result = await found(port=port, tls=True, timeout_s=2)
    assert result == critical(f"late: GET https://127.0.0.1:{port}/")
