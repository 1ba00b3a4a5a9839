"""grpc: a server says SERVING when it is asked by grpc.health.v1.Health/Check.

The protocol: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from typing import Final
from urllib.parse import unquote

from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, TrailersReceived

from netd import __version__
from netd.model.service import CheckResult
from netd.registry.checks import grpc_messages
from netd.registry.checks.http2 import PROTOCOL, Http2
from netd.registry.checks.names import Names
from netd.registry.checks.probe import Failed, Probe, Run, critical, passing, text_of
from netd.registry.checks.targets import Target, grpc_service
from netd.registry.checks.transports import speaking

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
    target, service = grpc_service(run.probe)

    def make() -> _Call:
        return _Call(_request_headers(run.probe, target), grpc_messages.request(service))

    async with speaking(run, names, target, make, PROTOCOL) as call:
        await call.ended
    return _verdict(call, target)


class _Call(Http2):
    """One request on one connection."""

    def __init__(self, headers: list[tuple[str, str]], message: bytes) -> None:
        super().__init__()
        self.headers: Headers = {}
        self.trailers: Headers = {}
        self.body = b""
        self._request = (headers, message)

    def send(self) -> None:
        headers, message = self._request
        self.http.send_headers(1, headers)
        self.http.send_data(1, message, end_stream=True)

    def take(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            self.headers = _fields(event.headers)
        elif isinstance(event, TrailersReceived):
            self.trailers = _fields(event.headers)
        elif isinstance(event, DataReceived):
            self.body += event.data
            if len(self.body) > _ANSWER_MAX:
                self.fail(Failed(f"an answer of more than {_ANSWER_MAX} bytes"))
            self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self.done()


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
