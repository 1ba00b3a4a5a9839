"""HTTP/2 (RFC 9113) as a client of checks speaks it, and checks that ask for no more than that."""

from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, Event, PingAckReceived, StreamReset
from h2.exceptions import H2Error
from hyperframe.exceptions import HyperframeError

from netd.model.service import CheckResult
from netd.registry.checks.names import Names
from netd.registry.checks.probe import Failed, Run, passing, text_of
from netd.registry.checks.targets import host_port
from netd.registry.checks.transports import Speaker, speaking

PROTOCOL: Final = "h2"  # as TLS names it (RFC 9113, 3.2)
_PING: Final = b"netdping"  # 8 bytes of anything (RFC 9113, 6.7)


async def ping(run: Run, names: Names) -> CheckResult:
    """Whether the target answers a PING. Raises `Failed`."""
    target = host_port(run.probe, run.probe.spec.target)
    async with speaking(run, names, target, _Ping, PROTOCOL) as pinging:
        await pinging.ended
    return passing(f"{target}: HTTP/2 ping answered")


class Http2(Speaker):
    """One client's side of a connection: `send` begins, `take` gets the events."""

    def __init__(self) -> None:
        super().__init__()
        self.http = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))

    def send(self) -> None:
        """Say what is to be said first."""

    def take(self, event: Event) -> None:
        """What the other side says, but for the end of the connection or of a stream."""

    def begin(self) -> None:
        try:
            self.http.initiate_connection()
            self.send()
        except H2Error as error:
            self.fail(Failed(f"the request cannot be sent: {error}"))
        self._flush()

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1."):  # as a frame it would be one of 4 MB, to be waited for
            self.fail(Failed("not HTTP/2: it speaks HTTP/1"))
        try:
            for event in self.http.receive_data(data):
                if isinstance(event, StreamReset | ConnectionTerminated):
                    code = getattr(event.error_code, "name", event.error_code)
                    self.fail(Failed(f"it ended the request: HTTP/2 error {code}"))
                else:
                    self.take(event)
        except (H2Error, HyperframeError, ValueError, UnicodeError) as error:
            self.fail(Failed(f"not HTTP/2: {text_of(str(error).encode()) or type(error).__name__}"))
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        self.fail(error or Failed("it closed the connection before it answered"))

    def _flush(self) -> None:
        assert self.transport is not None
        if not self.transport.is_closing():
            self.transport.write(self.http.data_to_send())


class _Ping(Http2):
    def send(self) -> None:
        self.http.ping(_PING)

    def take(self, event: Event) -> None:
        if isinstance(event, PingAckReceived) and event.ping_data == _PING:
            self.done()
