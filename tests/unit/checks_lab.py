"""Checks of instances on loopback, and an event loop whose clock stands still."""

import asyncio
import selectors
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from netd.model.service import Check, CheckResult, CheckSpec, Service
from netd.registry.checks.names import Names
from netd.registry.checks.probe import Failed, Probe, Run, critical, probe_of

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def service(*specs: CheckSpec, address: str = "127.0.0.1", port: int = 80, **more: Any) -> Service:
    """An instance as the directory has it when it was registered a moment ago."""
    checks = tuple(
        Check(id=spec.id, name=spec.id, kind=spec.kind, status=spec.status, spec=spec)
        for spec in specs
    )
    values: dict[str, Any] = {"id": "web-1", "name": "web", "node": "host-1"}
    return Service(**(values | more), address=address, port=port, checks=checks)


def probe(spec: CheckSpec, *, addresses: tuple[str, ...] = (), **more: Any) -> Probe:
    made = service(spec, **more)
    found = probe_of(made, made.checks[0], addresses)
    assert found is not None
    return found


async def outcome(work: Coroutine[Any, Any, CheckResult]) -> CheckResult:
    """What a kind of check makes of it, as the runner takes it."""
    try:
        async with asyncio.timeout(10):
            return await work
    except Failed as failure:
        return critical(str(failure))


@asynccontextmanager
async def serving(
    serve: Serve, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """A TCP server; its port. Connections that are still open at the end are cut."""
    writers: set[asyncio.StreamWriter] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            await serve(reader, writer)
        except OSError:
            pass  # the client has hung up
        finally:
            writer.transport.abort()
            writers.discard(writer)

    server = await asyncio.start_server(accept, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in tuple(writers):
            writer.transport.abort()
        await server.wait_closed()


def closed_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def run_of(made: Probe) -> Run:
    return Run(made)


def no_names() -> Names:
    return Names()


class Certificates:
    """An authority of a test's own and a server's certificate for `name`."""

    def __init__(self, folder: Path, name: str = "web.test") -> None:
        authority_key, authority = _issue("authority", None, None)
        key, certificate = _issue(name, authority_key, authority)
        self.authority = folder / "authority.pem"
        self.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
        chain = folder / "server.pem"
        chain.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        self._chain = chain

    def server(self, *protocols: str) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._chain)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context


def _issue(
    name: str, issuer_key: ec.EllipticCurvePrivateKey | None, issuer: x509.Certificate | None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    )
    return key, builder.sign(issuer_key or key, hashes.SHA256())


class _Still(selectors.SelectSelector):
    """Does not wait for a time: it is that time at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is not None:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which time passes only when there is nothing to do until then."""

    def __init__(self) -> None:
        self._still = _Still()
        super().__init__(self._still)

    def time(self) -> float:
        return self._still.now


def on_virtual_time(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work())
