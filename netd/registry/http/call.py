"""A call, taken apart; and what is raised when there is no better answer than a line of text."""

import asyncio
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from netd.registry.dns.limits import Bucket
from netd.registry.http.caller import Caller, Callers

BODY_MAX: Final = 1024 * 1024  # bytes, unless a call asks for another limit
PARAMETERS_MAX: Final = 256
STALL_S: Final = 30.0  # in which something must come of a body, and go of an answer
PROGRESS_MIN: Final = 1024  # bytes; less is nothing
_REMEMBERED: Final = 4096  # targets that need not be taken apart again
_REMEMBERED_BYTES: Final = 512  # of one of them
_REMEMBERED_PARAMETERS: Final = 16

Parameters = Mapping[str, tuple[str, ...]]


class Failure(Exception):
    """The answer is `status` with `text` as it is, in plain text."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status
        self.text = text
        self.headers = headers or {}


class Target:
    """What is asked for. `path` is decoded; `parameters` have all values of each key, in order."""

    __slots__ = ("parameters", "path", "raw")

    def __init__(self, raw: str) -> None:
        """Raises `Failure` for what is no target."""
        self.raw = raw
        path, _, query = raw.partition("?")
        self.path = unquote(path, errors="replace")
        if not self.path.startswith("/") or not self.path.isprintable():
            raise Failure(400, "Invalid request path: it has characters that cannot be printed")
        self.parameters: Parameters = _parameters(query)

    def first(self, name: str, default: str = "") -> str:
        """The first value of a parameter."""
        values = self.parameters.get(name)
        return values[0] if values else default

    def has(self, name: str) -> bool:
        return name in self.parameters

    @property
    def may_be_remembered(self) -> bool:
        """Whether it is small, and has no secret in it."""
        return (
            len(self.raw) <= _REMEMBERED_BYTES
            and self.raw.count("&") < _REMEMBERED_PARAMETERS
            and "token" not in self.parameters
        )


class Call:
    """One request. `rest` is what follows in the path after the route's own. `bucket` is what it
    is taken from, if somebody counts; a body must go on within `stall_s`. `callers` know who the
    caller is after a wait.
    """

    __slots__ = ("_callers", "_stall_s", "bucket", "caller", "request", "rest", "target")

    def __init__(
        self,
        request: web.BaseRequest,
        target: Target,
        caller: Caller,
        *,
        bucket: Bucket | None = None,
        stall_s: float = STALL_S,
        callers: Callers | None = None,
    ) -> None:
        self.request = request
        self.target = target
        self.caller = caller
        self.bucket = bucket
        self.rest = ""
        self._callers = callers
        self._stall_s = stall_s

    def renew(self) -> None:
        """Go on after a wait, as who the caller is now: what it may see, speak for and do may be
        otherwise. Raises `Failure`, also when it has used more time meanwhile than it may.
        """
        bucket = self.bucket
        if bucket is not None and bucket.tokens < 0:
            bucket.tokens -= 1
            if not bucket.fill(asyncio.get_running_loop().time()):
                raise too_many()
        caller = self.caller
        rights = caller.rights.renewed()
        if self._callers is not None:
            caller = self._callers.of(caller.address)
        self.caller = caller._replace(rights=rights)

    @property
    def method(self) -> str:
        return self.request.method

    def header(self, name: str) -> str:
        return self.request.headers.get(name, "")

    @property
    def takes_gzip(self) -> bool:
        """RFC 9110, 12.5.3, but for weights: a weight of 0 alone forbids it."""
        accepted = self.request.headers.get("Accept-Encoding")
        if accepted is None or "gzip" not in accepted:
            return False
        for part in accepted.split(","):
            coding, _, weight = part.partition(";")
            if coding.strip() == "gzip":
                return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
        return False

    async def body(self, most: int = BODY_MAX) -> bytes:
        """The body. Raises `Failure` 413 for one of more than `most` bytes, and 408 for one that
        does not go on.
        """
        length = self.request.content_length
        if length is not None and length > most:
            raise _too_large(most)
        if self.request.headers.get("Expect", "").lower() == "100-continue":
            # RFC 9110, 10.1.1. The answer itself has not begun with it.
            await self.request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.request.writer.output_size = 0
        try:
            return await self._read(most)
        except TimeoutError:
            raise Failure(408, "Request body does not go on", {"Connection": "close"}) from None

    async def _read(self, most: int) -> bytes:
        found = bytearray()
        wanted = PROGRESS_MIN  # by the deadline
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._stall_s) as deadline:
            async for chunk in self.request.content.iter_any():
                found += chunk
                if len(found) > most:
                    raise _too_large(most)
                if len(found) >= wanted:
                    wanted = len(found) + PROGRESS_MIN
                    deadline.reschedule(loop.time() + self._stall_s)
        return bytes(found)


class Targets:
    """Targets by what came. The same come again and again."""

    def __init__(self) -> None:
        self._known: dict[str, Target] = {}

    def of(self, raw: str) -> Target:
        """Raises `Failure` for what is no target."""
        target = self._known.get(raw)
        if target is None:
            target = Target(raw)
            if target.may_be_remembered:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[raw] = target
        return target


def _parameters(query: str) -> Parameters:
    if not query:
        return {}
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, max_num_fields=PARAMETERS_MAX, errors="replace"
        )
    except ValueError:
        raise Failure(400, f"Invalid query: at most {PARAMETERS_MAX} parameters") from None
    found: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        found[name] = (*found.get(name, ()), value)
    return found


def too_many() -> Failure:
    return Failure(429, "Too many calls: this address has made more than it may")


def _too_large(most: int) -> Failure:
    return Failure(413, f"Request body too large, max size: {most} bytes.")
