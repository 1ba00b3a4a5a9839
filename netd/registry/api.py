"""Calls of the daemon's API, for an event loop: the registry's way to change something."""

import asyncio
from contextlib import suppress
from typing import Final
from urllib.parse import quote

import msgspec

from netd.registry.http_answer import HttpAnswer

TIMEOUT_S: Final = 5.0
CONNECTIONS_MAX: Final = 4
_PROBLEM_MAX: Final = 64 * 1024
_PLAIN: Final = "-._~"


class Unreachable(Exception):
    """Nobody answers at the socket, or not in time."""


class Refused(Exception):
    """The daemon has answered, and will not do it. `status` is HTTP's, `field` the path of what is
    wrong, if it says so.
    """

    def __init__(self, status: int, detail: str, field: str = "") -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail
        self.field = field

    @property
    def is_passing(self) -> bool:
        """Whether the same call may succeed later."""
        return self.status >= 500 or self.status in {408, 429}


class _Problem(msgspec.Struct):
    detail: str = ""
    field: str | None = None


class Api:
    """The API at `socket_path`, by at most `CONNECTIONS_MAX` connections, which are kept open."""

    def __init__(self, socket_path: str, timeout_s: float = TIMEOUT_S) -> None:
        self.socket_path = socket_path
        self._timeout_s = timeout_s
        self._room = asyncio.Semaphore(CONNECTIONS_MAX)
        self._idle: list[_Connection] = []

    async def put(self, path: str, value: msgspec.Struct) -> None:
        """Send `value` to `path`, which `path_of` makes. Raises `Unreachable` and `Refused`."""
        await self._demand(_request("PUT", path, value))

    async def post(self, path: str, value: msgspec.Struct) -> None:
        """The same by POST, of what is never sent twice."""
        await self._demand(_request("POST", path, value), once=True)

    async def delete(self, path: str) -> None:
        """Have what is at `path` gone. Raises `Unreachable` and `Refused`."""
        await self._demand(f"DELETE {path} HTTP/1.1\r\nHost: netd\r\n\r\n".encode("ascii"))

    async def _demand(self, request: bytes, *, once: bool = False) -> None:
        try:
            async with asyncio.timeout(self._timeout_s), self._room:
                status, problem = await self._call(request, once=once)
        except TimeoutError:
            raise Unreachable(f"no answer within {self._timeout_s:g} s") from None
        except OSError as error:
            raise Unreachable(error.strerror or str(error) or type(error).__name__) from None
        except (EOFError, ValueError) as error:
            raise Unreachable(str(error) or type(error).__name__) from None
        if not 200 <= status < 300:
            raise refusal(status, problem)

    async def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _call(self, request: bytes, *, once: bool) -> tuple[int, bytes]:
        """Status and body of the answer. A kept connection may be one to a daemon that has ended:
        then the call is made again on a new one, unless it may be made `once` only.
        """
        while self._idle and not once:
            with suppress(OSError, EOFError):
                return await self._exchange(self._idle.pop(), request)
        return await self._exchange(_Connection(self.socket_path), request)

    async def _exchange(self, connection: "_Connection", request: bytes) -> tuple[int, bytes]:
        try:
            answer = await connection.exchange(request)
        except BaseException:  # what is in the way of this answer would be in the way of the next
            connection.close()
            raise
        if connection.open:
            self._idle.append(connection)
        return answer


class _Connection:
    """One call after the other."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @property
    def open(self) -> bool:
        return self._streams is not None

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Raises OSError, EOFError, and ValueError for what is no such answer."""
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(self._path)
        reader, writer = self._streams
        writer.write(request)
        await writer.drain()
        answer = HttpAnswer(request.partition(b" ")[0].decode("ascii"), _PROBLEM_MAX + 1)
        while not answer.complete:
            data = await reader.read(_PROBLEM_MAX)
            if not data:
                raise EOFError("the connection ended before the whole answer was there")
            answer.feed(data)
        if len(answer.body) > _PROBLEM_MAX:
            raise ValueError(f"an answer of more than {_PROBLEM_MAX} bytes is none of netd's")
        if answer.fields.get("connection", "").lower() == "close":
            self.close()
        return answer.status, answer.body


def path_of(*segments: str) -> str:
    """The path of these segments, whatever characters are in them."""
    return "".join(f"/{quote(segment, safe=_PLAIN)}" for segment in segments)


def _request(method: str, path: str, value: msgspec.Struct) -> bytes:
    body = msgspec.json.encode(value)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: netd\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def refusal(status: int, problem: bytes) -> Refused:
    """What an answer with this status and body says (RFC 9457)."""
    try:
        found = msgspec.json.decode(problem, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Refused(status, problem[:200].decode("utf-8", "replace"))
    return Refused(status, found.detail, found.field or "")
