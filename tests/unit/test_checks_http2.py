"""h2ping checks of real HTTP/2 servers on loopback, well-behaved ones and others."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection

from netd.model.service import CheckResult, CheckSpec
from netd.registry.checks import http2, tls
from netd.registry.checks.names import Names
from netd.registry.checks.probe import Run, critical, passing
from netd.registry.checks.running import Runner
from tests.unit.checks_lab import Certificates, Serve, closed_port, outcome, probe, serving


@pytest.fixture(autouse=True)
def _forget() -> None:
    tls.forget()


async def found(target: str = "", *, timeout_s: float = 10, **more: Any) -> CheckResult:
    given = {each: more.pop(each) for each in ("port", "network", "address") if each in more}
    run = Run(probe(CheckSpec(kind="h2ping", id="c", target=target, **more), **given))
    try:
        async with asyncio.timeout(timeout_s):
            return await outcome(http2.ping(run, Names()))
    except TimeoutError:
        return critical(f"late: {run.stage}")


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What answers pings by itself."""
    http = H2Connection(H2Configuration(client_side=False))
    http.initiate_connection()
    writer.write(http.data_to_send())
    while data := await reader.read(65536):
        http.receive_data(data)
        writer.write(http.data_to_send())


@asynccontextmanager
async def answering(serve: Serve = serve, **more: Any) -> AsyncIterator[int]:
    async with serving(serve, **more) as port:
        yield port


async def test_who_answers_a_ping_is_passing() -> None:
    async with answering() as port:
        assert await found(port=port) == passing(f"127.0.0.1:{port}: HTTP/2 ping answered")
        assert (await found(f"127.0.0.1:{port}", port=1)).status == "passing"


async def test_over_tls_http_2_is_offered_and_the_name_has_to_be_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = Certificates(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    chosen: list[str | None] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("ssl_object")
        assert isinstance(connection, ssl.SSLObject)
        chosen.append(connection.selected_alpn_protocol())
        await serve(reader, writer)

    async with answering(note, tls=certificates.server("h2")) as port:
        assert (await found(port=port, tls=True, tls_server_name="web.test")).status == "passing"
        assert chosen == ["h2"]
        assert "certificate: " in (await found(port=port, tls=True)).output
        assert (await found(port=port, tls=True, tls_skip_verify=True)).status == "passing"


async def test_others_do_not_pass() -> None:
    async def http_1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async def hangs_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async def goes_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = H2Connection(H2Configuration(client_side=False))
        http.initiate_connection()
        http.receive_data(await reader.read(65536))
        http.data_to_send()  # with the answer to the ping
        http.close_connection(11)
        writer.write(http.data_to_send())
        await reader.read()

    for serves, why in (
        (http_1, "not HTTP/2: it speaks HTTP/1"),
        (hangs_up, ""),
        (goes_away, "HTTP/2 error"),
    ):
        async with answering(serves) as port:
            result = await found(port=port)
        assert result.status == "critical"
        assert why in result.output, result
    async with answering(silent) as port:
        late = await found(port=port, timeout_s=0.3)
    assert late == critical(f"late: answer of 127.0.0.1:{port}")
    assert "refused" in (await found(port=closed_port())).output


async def test_an_address_of_somebody_else_is_not_asked() -> None:
    async with answering() as port:
        result = await found(f"127.0.0.1:{port}", port=80, address="10.0.0.9", network="blue")
    assert "is not an address of this instance" in result.output


async def test_it_is_run_as_other_checks_are() -> None:
    results: asyncio.Queue[CheckResult] = asyncio.Queue()
    runner = Runner(Names(), lambda _, result: results.put_nowait(result), scripts=False)
    async with answering() as port:
        spec = CheckSpec(kind="h2ping", id="c", interval_s=60)
        runner.put(("web-1", "c"), probe(spec, port=port), 0)
        async with asyncio.timeout(10):
            assert (await results.get()).status == "passing"
    await runner.stop()
