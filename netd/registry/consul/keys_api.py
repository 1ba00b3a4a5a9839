"""The daemon's calls about keys, sessions and transactions, for the registry's event loop."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final, TypeVar

import aiohttp
import msgspec
from yarl import URL

from netd.model.kv import (
    KeyListing,
    KeyReading,
    Operation,
    Outcome,
    Session,
    SessionListing,
    SessionSpec,
    Transaction,
)
from netd.model.user_event import UserEventSpec
from netd.registry.api import Refused, Unreachable, refusal

CONNECTIONS_MAX: Final = 8  # for calls; the stream of changes has one of its own
TIMEOUT_S: Final = 22.0  # the daemon itself gives up after 20 s
ANSWER_MAX: Final = 64 * 1024 * 1024  # bytes; longer ones would keep all others waiting
SILENCE_S: Final = 60.0  # of the stream, which has an empty line every 15 s
_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_~")
_JSON: Final = {"Content-Type": "application/json"}

T = TypeVar("T")


class KeysApi:
    """The API at `socket_path`. All calls raise `Unreachable` and `Refused`.

    What writes is never made twice: an answer that was lost may be one to a write that was done.
    """

    def __init__(self, socket_path: str, timeout_s: float = TIMEOUT_S) -> None:
        self._path = socket_path
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._http: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    # Keys

    async def read(self, key: str) -> KeyReading:
        return await self._ask("GET", f"/v1/kv/{_quoted(key)}", KeyReading)

    async def entries(self, prefix: str) -> KeyListing:
        return await self._ask("GET", f"/v1/kv?prefix={_quoted(prefix)}", KeyListing)

    async def names(self, prefix: str, separator: str) -> KeyListing:
        asked = f"prefix={_quoted(prefix)}&names=1&separator={_quoted(separator)}"
        return await self._ask("GET", f"/v1/kv?{asked}", KeyListing)

    async def transact(self, *operations: Operation) -> Outcome:
        body = Transaction(operations=operations)
        return await self._ask("POST", "/v1/transactions", Outcome, body)

    # Sessions

    async def create_session(self, spec: SessionSpec) -> Session:
        return await self._ask("POST", "/v1/sessions", Session, spec)

    async def session(self, session_id: str) -> Session | None:
        """None: there is no such session."""
        return await self._session("GET", f"/v1/sessions/{_quoted(session_id)}")

    async def renew_session(self, session_id: str) -> Session | None:
        """None: there is no such session."""
        return await self._session("POST", f"/v1/sessions/{_quoted(session_id)}/renew")

    async def destroy_session(self, session_id: str) -> None:
        await self._exchange("DELETE", f"/v1/sessions/{_quoted(session_id)}", None)

    async def sessions(self, node: str = "") -> SessionListing:
        """Those of a node, "": all."""
        return await self._ask("GET", f"/v1/sessions?node={_quoted(node)}", SessionListing)

    # Events

    async def fire(self, event: UserEventSpec) -> None:
        await self._exchange("POST", "/v1/user-events", event)

    # Changes

    async def changes(self) -> AsyncGenerator[bytes, None]:
        """The stream of changes as it comes; something empty first, once it has begun."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=SILENCE_S)
        connector = aiohttp.UnixConnector(self._path, limit=1)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
            try:
                async with http.get(_url("/v1/kv-changes")) as answer:
                    if answer.status != 200:
                        raise refusal(answer.status, await answer.content.read(65_536))
                    yield b""
                    async for data in answer.content.iter_any():
                        yield data
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise _unreachable(error) from None

    async def _session(self, method: str, target: str) -> Session | None:
        try:
            return await self._ask(method, target, Session)
        except Refused as refused:
            if refused.status != 404:
                raise
            return None

    async def _ask(
        self, method: str, target: str, kind: type[T], body: msgspec.Struct | None = None
    ) -> T:
        data = await self._exchange(method, target, body)
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unreachable(f"an answer that is not the daemon's: {error}") from None

    async def _exchange(self, method: str, target: str, body: msgspec.Struct | None) -> bytes:
        data = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else _JSON
        try:
            async with self._client().request(
                method, _url(target), data=data, headers=headers
            ) as answer:
                found = await _whole(answer)
                status = answer.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _unreachable(error) from None
        if not 200 <= status < 300:
            raise refusal(status, found)
        return found

    def _client(self) -> aiohttp.ClientSession:
        if self._http is None:
            connector = aiohttp.UnixConnector(self._path, limit=CONNECTIONS_MAX)
            self._http = aiohttp.ClientSession(connector=connector, timeout=self._timeout)
        return self._http


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    found = bytearray()
    async for data in answer.content.iter_any():
        found += data
        if len(found) > ANSWER_MAX:
            answer.close()
            raise Refused(500, f"the answer has more than {ANSWER_MAX >> 20} MiB: ask for less")
        if len(found) > 1 << 20:
            await asyncio.sleep(0)  # others are asked for meanwhile
    return bytes(found)


def _unreachable(error: Exception) -> Unreachable:
    """Why, without the socket's place: callers may be containers."""
    why = error.strerror if isinstance(error, OSError) else None
    return Unreachable(f"netd cannot be reached: {why or str(error) or type(error).__name__}")


def _url(target: str) -> URL:
    return URL(f"http://netd{target}", encoded=True)


def _quoted(text: str) -> str:
    """Percent-encode all but RFC 3986's unreserved characters, and dots, of which some would be
    taken for steps in the path (RFC 3986, 5.2.4). Raises `Refused` for what has no UTF-8.
    """
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise Refused(400, f"{text!r} is not UTF-8") from None
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in raw)
