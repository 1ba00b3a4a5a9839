"""HTTP/1.1 answers (RFC 9112), without I/O: their heads, and as much of a body as is wanted."""

import re
from typing import Final, NamedTuple

HEAD_MAX: Final = 64 * 1024
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-9][0-9][0-9])(?: (.*))?\Z", re.DOTALL)
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*\Z", re.DOTALL)
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;.*)?\Z", re.DOTALL)
_CHUNK_LINE_MAX: Final = 256
_WITHOUT_BODY: Final = frozenset({204, 304})


class NotHttp(ValueError):
    """The bytes are no answer of HTTP/1; the text says why."""


class Head(NamedTuple):
    """The head of an answer, and the bytes that it has with the empty line after it. Names of
    fields are in lower case, and of several of one name the last one counts.
    """

    status: int
    reason: str
    fields: dict[str, str]
    size: int


def head_of(data: bytes | bytearray) -> Head | None:
    """The head that `data` begins with; None: the rest of it is still to come. Raises `NotHttp`."""
    if not data.startswith(b"HTTP/1."[: len(data)]):
        raise NotHttp("it does not begin with HTTP/1")
    end = data.find(b"\r\n\r\n")
    if max(end, len(data) if end < 0 else 0) > HEAD_MAX:
        raise NotHttp(f"a head of more than {HEAD_MAX} bytes")
    if end < 0:
        return None
    first, *lines = bytes(data[:end]).split(b"\r\n")
    found = _STATUS_LINE.match(first)
    if found is None:
        raise NotHttp(f"its first line is {first[:80].decode('latin-1')!r}")
    reason = (found[2] or b"").decode("utf-8", "replace")
    return Head(int(found[1]), reason, _fields(lines), end + 4)


class HttpAnswer:
    """Takes bytes until it is `complete`: the body has ended, or `body_max` bytes of it are there.

    `status` is 0 and `fields` empty until the head is there, see `Head`.
    """

    def __init__(self, method: str, body_max: int) -> None:
        self.status = 0
        self.reason = ""
        self.fields: dict[str, str] = {}
        self.body = b""
        self.complete = False
        self._method = method
        self._body_max = body_max
        self._rest = b""
        self._chunked = False
        self._left: int | None = (
            None  # bytes of the body or chunk; None: until the connection's end
        )

    def feed(self, data: bytes) -> None:
        """Raises `NotHttp`."""
        self._rest += data
        while not self.status and self._rest:
            if not self._take_head():
                return
        if self.status and not self.complete:
            if self._chunked:
                self._take_chunks()
            else:
                self._take_body()

    def end(self) -> None:
        """The connection has ended. Raises `NotHttp` if that is too early."""
        if self.complete:
            return
        if not self.status:
            raise NotHttp("the connection ended before an answer")
        if self._chunked or self._left is not None:
            raise NotHttp(f"HTTP {self.status}, and the connection ended within its body")
        self.complete = True

    def _take_head(self) -> bool:
        """Whether there was a whole one. Those of status 1xx only announce another."""
        head = head_of(self._rest)
        if head is None:
            return False
        self._rest = self._rest[head.size :]
        if head.status >= 200:
            self.status, self.reason, self.fields = head.status, head.reason, head.fields
            self._begin_body()
        return True

    def _begin_body(self) -> None:
        if self._method == "HEAD" or self.status in _WITHOUT_BODY:
            self.complete = True
        elif "transfer-encoding" in self.fields:
            self._chunked = self.fields["transfer-encoding"].lower().endswith("chunked")
            self._left = 0 if self._chunked else None
        elif "content-length" in self.fields:
            length = self.fields["content-length"]
            if not (length.isascii() and length.isdigit()) or len(length) > 18:
                raise NotHttp(f"Content-Length is {length[:40]!r}")
            self._left = int(length)

    def _take_body(self) -> None:
        self._keep(self._rest if self._left is None else self._rest[: self._left])
        if self._left is not None:
            self._left -= min(self._left, len(self._rest))
            self.complete = self.complete or self._left == 0
        self._rest = b""

    def _take_chunks(self) -> None:
        while self._rest and not self.complete:
            if self._left == 0:
                line, end, rest = self._rest.partition(b"\r\n")
                if len(line) > _CHUNK_LINE_MAX:
                    raise NotHttp(f"HTTP {self.status}, and a chunk without a size")
                if not end:
                    return
                found = _CHUNK_SIZE.match(line)
                if found is None:
                    raise NotHttp(f"HTTP {self.status}, and a chunk without a size")
                self._rest = rest
                self._left = int(found[1], 16) + 2  # its end of line counts
                if self._left == 2:
                    self.complete = True  # trailers do not matter
            else:
                assert self._left is not None
                piece = self._rest[: self._left]
                self._rest = self._rest[self._left :]
                self._keep(piece[: max(0, self._left - 2)])
                self._left -= len(piece)

    def _keep(self, data: bytes) -> None:
        self.body += data[: self._body_max - len(self.body)]
        self.complete = self.complete or len(self.body) >= self._body_max


def _fields(lines: list[bytes]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        found = _FIELD.match(line)
        if found is None:
            raise NotHttp(f"its head has a line {line[:80].decode('latin-1')!r}")
        fields[found[1].decode("ascii").lower()] = found[2].decode("utf-8", "replace")
    return fields
