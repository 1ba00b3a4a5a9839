"""grpc: a server says SERVING when it is asked by grpc.health.v1.Health/Check.

The protocol: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

import asyncio
import ssl
from typing import Final
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import H2Error
from hyperframe.exceptions import HyperframeError

from netd import __version__
from netd.model.service import CheckResult
from netd.registry.checks import connecting, grpc_messages, tls
from netd.registry.checks.names import Names
from netd.registry.checks.probe import Failed, Probe, Run, critical, passing, text_of
from netd.registry.checks.targets import Target, grpc_service

_ANSWER_MAX: Final = 64 * 1024  # bytes of messages; a health answer has 7
_PATH: Final = "/grpc.health.v1.Health/Check"
# https://github.com/grpc/grpc/blob/master/doc/statuscodes.md
_CODES: Final = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"),
    *("ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"),
    *("ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
    "UNAUTHENTICATED",
)

Headers = dict[str, str]


async def run(run: Run, names: Names) -> CheckResult:
    """Raises `Failed`."""
    spec = run.probe.spec
    target, service = grpc_service(run.probe)
    context, name = None, None
    if spec.tls:
        context = await tls.context(verify=not spec.tls_skip_verify, protocols=("h2",))
        name = spec.tls_server_name or target.host
        tls.check_name(context, name)
    connection = await connecting.connect(run, names, target)
    run.stage = f"answer of {target}"
    loop = asyncio.get_running_loop()
    call = _Call(_request_headers(run.probe, target), grpc_messages.request(service))
    try:
        transport, _ = await loop.create_connection(
            lambda: call,
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
        if call.transport is None:
            connecting.shut_down(connection)
    try:
        await call.ended
    except Failed as failure:
        raise Failed(f"{target}: {failure}") from None
    except OSError as error:
        raise Failed(f"{target}: {connecting.words(error)}") from None
    finally:
        transport.abort()
    return _verdict(call, target)


class _Call(asyncio.Protocol):
    """One request on one connection. `ended` is done when the answer is there, or fails."""

    def __init__(self, headers: list[tuple[str, str]], message: bytes) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.transport: asyncio.Transport | None = None
        self.headers: Headers = {}
        self.trailers: Headers = {}
        self.body = b""
        self._request = (headers, message)
        self._http = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        headers, message = self._request
        try:
            self._http.initiate_connection()
            self._http.send_headers(1, headers)
            self._http.send_data(1, message, end_stream=True)
        except H2Error as error:
            self._fail(Failed(f"the request cannot be sent: {error}"))
        self._flush()

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1."):  # as a frame it would be one of 4 MB, to be waited for
            self._fail(Failed("not HTTP/2: it speaks HTTP/1"))
        try:
            for event in self._http.receive_data(data):
                self._take(event)
        except (H2Error, HyperframeError, ValueError, UnicodeError) as error:
            self._fail(
                Failed(f"not HTTP/2: {text_of(str(error).encode()) or type(error).__name__}")
            )
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(error or Failed("it closed the connection before it answered"))

    def _take(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            self.headers = _fields(event.headers)
        elif isinstance(event, TrailersReceived):
            self.trailers = _fields(event.headers)
        elif isinstance(event, DataReceived):
            self.body += event.data
            if len(self.body) > _ANSWER_MAX:
                self._fail(Failed(f"an answer of more than {_ANSWER_MAX} bytes"))
            self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded) and not self.ended.done():
            self.ended.set_result(None)
        elif isinstance(event, StreamReset | ConnectionTerminated):
            code = getattr(event.error_code, "name", event.error_code)
            self._fail(Failed(f"it ended the request: HTTP/2 error {code}"))

    def _fail(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)

    def _flush(self) -> None:
        assert self.transport is not None
        if not self.transport.is_closing():
            self.transport.write(self._http.data_to_send())


def _request_headers(probe: Probe, target: Target) -> list[tuple[str, str]]:
    name = probe.spec.tls_server_name
    return [
        (":method", "POST"),
        (":scheme", "https" if probe.spec.tls else "http"),
        (":path", _PATH),
        (":authority", f"{name}:{target.port}" if name else str(target)),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", f"netd-registry/{__version__}"),
        ("grpc-timeout", f"{max(1, int(probe.timeout_s * 1000))}m"),
        *((key.lower(), value) for key, values in probe.spec.headers.items() for value in values),
    ]


def _fields(headers: object) -> Headers:
    assert isinstance(headers, list)
    return {str(name): str(value) for name, value in headers}


def _verdict(call: _Call, target: Target) -> CheckResult:
    if (http := call.headers.get(":status")) != "200":
        return critical(f"{target}: HTTP {text_of((http or '').encode())}")
    ends = call.headers | call.trailers  # an answer without messages has both in one
    code = ends.get("grpc-status", "")
    if code != "0":
        known = code.isascii() and code.isdigit() and len(code) < 3 and int(code) < len(_CODES)
        said = text_of(unquote(ends.get("grpc-message", "")).encode())
        name = f"{code} {_CODES[int(code)]}" if known else code[:20] or "missing"
        return critical(f"{target}: gRPC status {name}" + (f": {said}" if said else ""))
    try:
        status = grpc_messages.status_of(call.body)
    except ValueError as error:
        return critical(f"{target}: not an answer of grpc.health.v1: {error}")
    known_as = grpc_messages.STATUSES
    output = f"{target}: {known_as[status] if status < len(known_as) else f'status {status}'}"
    return passing(output) if status == grpc_messages.SERVING else critical(output)
