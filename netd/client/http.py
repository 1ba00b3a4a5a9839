"""HTTP/1.1 over a Unix socket, as much of it as the API needs (RFC 9112).

Made by hand because http.client takes longer to import than a call takes to answer.
"""

from __future__ import annotations

import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import BufferedReader

LINE_BYTES_MAX = 64 * 1024
HEADERS_MAX = 100

# Methods that may be sent again when nobody knows whether the first was heard (RFC 9110, 9.2.2).
# PATCH is one here: it sets values, it does not add to them.
REPEATABLE = frozenset({"GET", "PUT", "PATCH", "DELETE"})


class ProtocolError(OSError):
    """The peer does not speak HTTP/1.1, or stopped in the middle of an answer."""


class Response:
    """An answer whose body is yet to be read, whole or line by line."""

    def __init__(self, status: int, headers: dict[str, str], source: BufferedReader) -> None:
        self.status = status
        self.headers = headers
        self._source = source
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self._left = 0 if self._chunked else _number(headers.get("content-length", "0"), 10)
        self._ended = not self._chunked and self._left == 0
        self.reusable = headers.get("connection", "").lower() != "close"

    def read(self) -> bytes:
        """All that is left of the body."""
        parts = []
        while part := self._part():
            parts.append(part)
        return b"".join(parts)

    def line(self) -> bytes:
        """The next line with its end, whatever chunks it came in; b"" after the last."""
        line = b""
        while not line.endswith(b"\n"):
            if self._left == 0 and not self._begin_chunk():
                break
            piece = self._source.readline(self._left)
            line += self._taken(piece)
        return line

    def _part(self) -> bytes:
        if self._left == 0 and not self._begin_chunk():
            return b""
        return self._taken(self._source.read(self._left))

    def _taken(self, piece: bytes) -> bytes:
        if not piece:
            raise ProtocolError("the answer ended too early")
        self._left -= len(piece)
        if self._left == 0:
            if self._chunked:
                _read_line(self._source)
            else:
                self._ended = True
        return piece

    def _begin_chunk(self) -> bool:
        if self._ended:
            return False
        self._left = _number(_read_line(self._source).partition(";")[0], 16)
        if self._left == 0:
            _read_headers(self._source)
            self._ended = True
        return not self._ended


class Connection:
    """One connection at a time to the socket at `path`, kept open between requests.

    `timeout_s` bounds each wait for the peer, not a whole answer. Not to be used by two
    threads at once.
    """

    def __init__(self, path: str, timeout_s: float) -> None:
        self.path = path
        self.timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._source: BufferedReader | None = None

    def request(
        self, method: str, target: str, body: bytes | None = None, *, once: bool = False
    ) -> Response:
        """Send a request and read the head of its answer. `once`: never send it again.

        The body must be read, or the connection closed, before the next request. Raises
        OSError, of which `ProtocolError` is one. An idle connection that the peer has closed
        meanwhile is replaced by a new one.
        """
        kept = self._socket is not None
        if kept and self._is_stale():
            self.close()
            kept = False
        try:
            return self._exchange(method, target, body)
        except (ConnectionError, ProtocolError):
            self.close()
            if once or not kept or method not in REPEATABLE:
                raise
        except BaseException:
            self.close()
            raise
        return self._exchange(method, target, body)

    def close(self) -> None:
        if self._source is not None:
            self._source.close()
        if self._socket is not None:
            self._socket.close()
        self._source = self._socket = None

    def _exchange(self, method: str, target: str, body: bytes | None) -> Response:
        if self._socket is None:
            self._connect()
        sock, source = self._socket, self._source
        assert sock is not None
        assert source is not None
        head = f"{method} {target} HTTP/1.1\r\nHost: netd\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        unsent: OSError | None = None
        try:
            sock.sendall(head.encode("ascii") + b"\r\n" + (body or b""))
        except (BrokenPipeError, ConnectionResetError) as error:
            unsent = error  # a peer that refuses a body early has answered before it closed
        try:
            return _read_head(source)
        except OSError as error:
            raise unsent or error from None

    def _connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # A socket with Python's timeout does not wait for room in the daemon's queue.
            deadline = struct.pack("ll", int(self.timeout_s), int(self.timeout_s % 1 * 1_000_000))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, deadline)
            sock.connect(self.path)
            sock.settimeout(self.timeout_s)
        except BlockingIOError:
            sock.close()
            raise TimeoutError("the daemon takes no connections") from None
        except BaseException:
            sock.close()
            raise
        self._socket = sock
        self._source = sock.makefile("rb")

    def _is_stale(self) -> bool:
        """Whether there is something to read on an idle connection: its end, or nonsense."""
        assert self._socket is not None
        # With a timeout set, Python waits for data itself, whatever MSG_DONTWAIT says.
        self._socket.settimeout(0)
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            self._socket.settimeout(self.timeout_s)
            return False
        except OSError:
            return True
        return True


def _read_head(source: BufferedReader) -> Response:
    while True:
        version, _, rest = _read_line(source).partition(" ")
        if version not in {"HTTP/1.1", "HTTP/1.0"}:
            raise ProtocolError("the answer is not HTTP/1.1")
        status = _number(rest[:3], 10)
        headers = _read_headers(source)
        if version == "HTTP/1.0":  # what the daemon answers to what it could not parse
            headers["connection"] = "close"
        if status >= 200:  # 1xx answers only announce the real one
            return Response(status, headers, source)


def _read_headers(source: BufferedReader) -> dict[str, str]:
    headers: dict[str, str] = {}
    for _ in range(HEADERS_MAX):
        line = _read_line(source)
        if not line:
            return headers
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    raise ProtocolError(f"the answer has more than {HEADERS_MAX} headers")


def _read_line(source: BufferedReader) -> str:
    line = source.readline(LINE_BYTES_MAX)
    if not line.endswith(b"\n"):
        raise ProtocolError("the answer ended too early")
    return line.rstrip(b"\r\n").decode("latin-1")


def _number(text: str, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if number < 0:
        raise ProtocolError(f"the answer has {text[:20]!r} where a number belongs")
    return number
