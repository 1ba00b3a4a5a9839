"""etcd's JSON gateway (its API v3 over HTTP): calls, and which member they go to.

Bytes are base64 in it, 64-bit integers are text
(https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/).
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import aiohttp

from netd.model.errors import Exhausted, Unavailable

CALL_S: Final = 4.0  # a member without the others does not answer in that time
CONNECT_S: Final = 2.0
LINE_MAX_BYTES: Final = 8 << 20
_TOO_LARGE: Final = ("request is too large", "too many operations", "database space exceeded")

Json = dict[str, Any]


class Gateway:
    """`urls` are those of the members, of which one is asked at a time.

    `cluster` is the id of their cluster, "" before the first answer; members of another one are
    refused from then on.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = [url.rstrip("/") for url in urls]
        self._session: aiohttp.ClientSession | None = None
        self.calls = 0
        self.cluster = ""

    @property
    def name(self) -> str:
        return ",".join(self._urls)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def read(self, path: str, body: Json) -> Json:
        """Ask until a member answers. Raises `Unavailable`."""
        failures = []
        for url in tuple(self._urls):
            try:
                return await self._call(url, path, body)
            except Unavailable as error:
                failures.append(error.detail)
                self._pass_over(url)
        raise Unavailable("; ".join(dict.fromkeys(failures)))

    async def write(self, path: str, body: Json) -> Json:
        """Ask a member once; another one only where nothing was sent to the first.

        Raises `Unavailable`: it may have been done all the same.
        """
        failures = []
        for url in tuple(self._urls):
            try:
                return await self._call(url, path, body)
            except NotSent as error:
                failures.append(error.detail)
                self._pass_over(url)
            except Unavailable:
                self._pass_over(url)
                raise
        raise Unavailable("; ".join(failures))

    async def stream(self, path: str, body: Json) -> AsyncIterator[Json]:
        """What a member says, line by line. Raises `Unavailable` when it ends."""
        url = self._urls[0]
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
        try:
            async with self._http().post(
                url + path, data=json.dumps(body), timeout=timeout
            ) as response:
                if response.status != 200:
                    raise Unavailable(f"{url}: {response.status} {response.reason}")
                async for line in response.content:
                    yield _result(url, json.loads(line))
        except (aiohttp.ClientError, ValueError, TimeoutError) as error:
            self._pass_over(url)
            raise Unavailable(f"{url}: {_text(error)}") from None
        self._pass_over(url)
        raise Unavailable(f"{url} has ended the stream")

    async def _call(self, url: str, path: str, body: Json) -> Json:
        self.calls += 1
        try:
            async with (
                asyncio.timeout(CALL_S),
                self._http().post(url + path, data=json.dumps(body)) as response,
            ):
                answer: Json = json.loads(await response.read())
        except aiohttp.ClientConnectorError as error:
            raise NotSent(f"{url}: {_text(error)}") from None
        except TimeoutError:
            raise Unavailable(f"{url} does not answer within {CALL_S:g} s") from None
        except (aiohttp.ClientError, ValueError) as error:
            raise Unavailable(f"{url}: {_text(error)}") from None
        if response.status != 200:
            said = str(answer.get("error") or answer.get("message") or response.status)
            if any(words in said for words in _TOO_LARGE):
                raise Exhausted(f"etcd refuses it: {said}")
            raise Unavailable(f"{url}: {said}")
        self._check_cluster(url, answer)
        return answer

    def _check_cluster(self, url: str, answer: Json) -> None:
        cluster = str(answer.get("header", {}).get("cluster_id", self.cluster))
        if self.cluster and cluster != self.cluster:
            raise Unavailable(
                f"{url} is a member of another cluster of etcd, {cluster}, than was known before, "
                f"{self.cluster}"
            )
        self.cluster = cluster

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=64),
                timeout=aiohttp.ClientTimeout(total=CALL_S, sock_connect=CONNECT_S),
                read_bufsize=LINE_MAX_BYTES,
            )
        return self._session

    def _pass_over(self, url: str) -> None:
        """Ask the other members first from now on."""
        self._urls.sort(key=lambda other: other == url)


class NotSent(Unavailable):
    """There is no connection: nothing was done."""

    code = "unavailable"


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def decode(text: str) -> bytes:
    return base64.b64decode(text)


def after(prefix: bytes) -> bytes:
    """The first key that is larger than all with that prefix: the end of their range."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,))


def _result(url: str, line: Json) -> Json:
    if "error" in line:
        raise Unavailable(f"{url}: {line['error'].get('message', 'it has failed')}")
    result: Json = line.get("result", {})
    return result


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
