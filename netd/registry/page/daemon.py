"""The daemon's answers to the page's questions, and its stream of what happens."""

from collections.abc import AsyncGenerator
from typing import Final, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from netd.model.network import Network
from netd.model.views import Finding, Member, PlannedOperation, Status
from netd.registry.api import Unreachable, refusal
from netd.registry.page.facts import OwnEndpoint, OwnService
from netd.registry.stream import LINE_BYTES_MAX

CONNECTIONS_MAX: Final = 4  # for calls; the stream has one of its own
TIMEOUT_S: Final = 5.0
ANSWER_MAX: Final = 16 * 1024 * 1024  # bytes; to read longer ones would keep all others waiting
SILENCE_S: Final = 60.0  # of the stream, which has an empty line every 15 s
_PROBLEM_MAX: Final = 64 * 1024

T = TypeVar("T")


class _Happening(msgspec.Struct, gc=False):
    type: str


class Daemon:
    """The API at `socket_path`. All calls raise `Unreachable` and `Refused`."""

    def __init__(self, socket_path: str, timeout_s: float = TIMEOUT_S) -> None:
        self._path = socket_path
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._http: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def status(self) -> Status:
        return await self._ask("/v1/status", Status)

    async def members(self) -> tuple[Member, ...]:
        return await self._ask("/v1/members", tuple[Member, ...])

    async def networks(self) -> tuple[Network, ...]:
        return await self._ask("/v1/networks", tuple[Network, ...])

    async def endpoints(self, node: str) -> dict[str, OwnEndpoint]:
        """Those of one host, by id."""
        found = await self._ask(
            f"/v1/endpoints?node={quote(node, safe='')}", tuple[OwnEndpoint, ...]
        )
        return {endpoint.id: endpoint for endpoint in found}

    async def services(self, node: str) -> tuple[OwnService, ...]:
        """Those of one host that have conditions."""
        found = await self._ask(f"/v1/services?node={quote(node, safe='')}", tuple[OwnService, ...])
        return tuple(service for service in found if service.conditions)

    async def plan(self) -> tuple[PlannedOperation, ...]:
        return await self._ask("/v1/plan", tuple[PlannedOperation, ...])

    async def findings(self) -> tuple[Finding, ...]:
        return await self._ask("/v1/doctor", tuple[Finding, ...])

    async def happenings(self) -> AsyncGenerator[str, None]:
        """The types of events as they happen; "" first, once the stream has begun."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=SILENCE_S)
        connector = aiohttp.UnixConnector(self._path, limit=1)
        decoder = msgspec.json.Decoder(_Happening)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, read_bufsize=LINE_BYTES_MAX
        ) as http:
            try:
                async with http.get(_url("/v1/events")) as answer:
                    if answer.status != 200:
                        raise refusal(answer.status, await _read(answer, _PROBLEM_MAX))
                    yield ""
                    async for line in answer.content:
                        if line.strip():
                            yield decoder.decode(line).type
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                raise _unreachable(error) from None

    async def _ask(self, target: str, kind: type[T]) -> T:
        if self._http is None:
            connector = aiohttp.UnixConnector(self._path, limit=CONNECTIONS_MAX)
            self._http = aiohttp.ClientSession(connector=connector, timeout=self._timeout)
        try:
            async with self._http.get(_url(target)) as answer:
                data = await _read(answer, ANSWER_MAX)
                status = answer.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _unreachable(error) from None
        if status != 200:
            raise refusal(status, data)
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unreachable(f"no answer of netd to {target}: {error}") from None


async def _read(answer: aiohttp.ClientResponse, most: int) -> bytes:
    data = bytearray()
    async for chunk in answer.content.iter_any():
        data += chunk
        if len(data) > most:
            raise Unreachable(f"an answer of more than {most} bytes")
    return bytes(data)


def _url(target: str) -> URL:
    return URL(f"http://netd{target}", encoded=True)


def _unreachable(error: Exception) -> Unreachable:
    return Unreachable(str(error) or type(error).__name__)
