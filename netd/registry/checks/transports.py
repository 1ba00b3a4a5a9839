"""Connections of checks with a protocol upon them, and TLS between where the check wants it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from netd.registry.checks import connecting, tls
from netd.registry.checks.names import Names
from netd.registry.checks.probe import Failed, Run
from netd.registry.checks.targets import Target

P = TypeVar("P", bound="Speaker")


class Speaker(asyncio.Protocol):
    """What speaks on a connection. `ended` is done when it knows, or fails."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.begin()

    def begin(self) -> None:
        """The connection is there."""

    def done(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)


@asynccontextmanager
async def speaking(
    run: Run, names: Names, target: Target, make: Callable[[], P], *protocols: str
) -> AsyncIterator[P]:
    """What `make` makes, on a connection that ends with this. `protocols` are offered with TLS.

    Raises `Failed`, also in the place of what the speaker fails with.
    """
    spec = run.probe.spec
    context, name = None, None
    if spec.tls:
        context = await tls.context(verify=not spec.tls_skip_verify, protocols=protocols)
        name = spec.tls_server_name or target.host
        tls.check_name(context, name)
    connection = await connecting.connect(run, names, target)
    run.stage = f"answer of {target}"
    speaker = make()
    try:
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: speaker,
            sock=connection,
            ssl=context,
            server_hostname=name,
            ssl_handshake_timeout=run.probe.timeout_s if spec.tls else None,
        )
    except ssl.SSLError as error:
        raise Failed(f"{target}: {tls.words(error)}") from None
    except OSError as error:
        raise Failed(f"{target}: {connecting.words(error)}") from None
    finally:
        if speaker.transport is None:
            connecting.shut_down(connection)
    try:
        yield speaker
    except Failed as failure:
        raise Failed(f"{target}: {failure}") from None
    except OSError as error:
        raise Failed(f"{target}: {connecting.words(error)}") from None
    finally:
        transport.abort()
