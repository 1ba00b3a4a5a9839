"""http: a request that is answered with a status of 200 to 299.

A client of its own, for a check needs little of HTTP: a run costs a fifth of what it does with
aiohttp, whose session, connector and timers are for other purposes.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

from netd.model.service import CheckResult
from netd.registry.checks import connecting, http_request, tls
from netd.registry.checks.http_request import HttpRequest
from netd.registry.checks.names import Names
from netd.registry.checks.probe import (
    OUTPUT_MAX,
    Failed,
    Run,
    critical,
    passing,
    text_of,
    warning,
)
from netd.registry.checks.targets import url
from netd.registry.http_answer import HttpAnswer, NotHttp

REDIRECTS_MAX: Final = 10
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TOO_MANY_REQUESTS: Final = 429
_READ_BYTES: Final = 64 * 1024

Receive = Callable[[], Awaitable[bytes]]


async def run(run: Run, names: Names) -> CheckResult:
    """Each run has a connection of its own, so it sees whether new ones are accepted, and reads
    no more of an answer than is kept of it. Raises `Failed`.
    """
    spec = run.probe.spec
    if not isinstance(run.kept, HttpRequest):
        run.kept = http_request.first(spec, url(run.probe))
    request = run.kept
    origin = request.target
    for _ in range(REDIRECTS_MAX + 1):
        # A name that was given is that of the check's own target, not of where it sends us.
        name = spec.tls_server_name if request.target == origin else ""
        answer = await _answer(run, names, request, name or request.target.host)
        location = answer.fields.get("location")
        if not (spec.follow_redirects and answer.status in _REDIRECTS and location):
            return _verdict(answer)
        request = http_request.redirected(request, answer.status, location)
    raise Failed(f"{run.kept.shown}: more than {REDIRECTS_MAX} redirects")


async def _answer(run: Run, names: Names, request: HttpRequest, tls_name: str) -> HttpAnswer:
    answer = HttpAnswer(request.method, OUTPUT_MAX)
    context = None
    if request.secure:
        context = await tls.context(verify=not run.probe.spec.tls_skip_verify)
        tls.check_name(context, tls_name)
    connection = await connecting.connect(run, names, request.target)
    run.stage = f"{request.method} {request.shown}"
    try:
        if context is None:
            await _plain(run, connection, request.data, answer)
        else:
            await _secure(run, connection, context, tls_name, request.data, answer)
    except ssl.SSLError as error:
        raise Failed(f"{request.shown}: {tls.words(error)}") from None
    except OSError as error:
        raise Failed(f"{request.shown}: {connecting.words(error)}") from None
    except NotHttp as error:
        raise Failed(f"{request.shown}: not an answer of HTTP/1: {error}") from None
    return answer


async def _plain(run: Run, connection: socket.socket, data: bytes, answer: HttpAnswer) -> None:
    """Without a transport, which would cost as much as all the rest."""
    loop = asyncio.get_running_loop()
    with connection:
        await loop.sock_sendall(connection, data)
        await _read(run, lambda: loop.sock_recv(connection, _READ_BYTES), answer)


async def _secure(
    run: Run,
    connection: socket.socket,
    context: ssl.SSLContext,
    name: str,
    data: bytes,
    answer: HttpAnswer,
) -> None:
    try:
        reader, writer = await asyncio.open_connection(
            sock=connection,
            ssl=context,
            server_hostname=name,
            ssl_handshake_timeout=run.probe.timeout_s,
        )
    except BaseException:
        connecting.shut_down(connection)
        raise
    try:
        writer.write(data)
        await _read(run, lambda: reader.read(_READ_BYTES), answer)
    finally:
        writer.transport.abort()


async def _read(run: Run, receive: Receive, answer: HttpAnswer) -> None:
    while not answer.complete:
        part = await receive()
        if part:
            answer.feed(part)
        else:
            answer.end()
        if answer.status:
            run.stage = f"rest of the answer HTTP {answer.status}"


def _verdict(answer: HttpAnswer) -> CheckResult:
    output = f"HTTP {answer.status} {text_of(answer.reason.encode())}".rstrip()
    if text := text_of(answer.body):
        output += f": {text}"
    if answer.status < 300:
        return passing(output)
    return warning(output) if answer.status == _TOO_MANY_REQUESTS else critical(output)
