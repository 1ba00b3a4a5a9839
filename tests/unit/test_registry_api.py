"""Calls of the API, to daemons that answer, end, hang or talk nonsense."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from netd.registry.api import CONNECTIONS_MAX, Api, Refused, Unreachable


class Word(msgspec.Struct):
    text: str


class Daemon:
    """Answers each request with the next of `answers`; the last one stays."""

    def __init__(self) -> None:
        self.answers = [b"HTTP/1.1 204 No Content\r\n\r\n"]
        self.requests: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                writer.write(answer)

    def hang_up(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()


@asynccontextmanager
async def daemon(path: Path) -> AsyncIterator[tuple[Daemon, Api]]:
    made = Daemon()
    server = await asyncio.start_unix_server(made.serve, path)
    api = Api(str(path), timeout_s=0.5)
    try:
        yield made, api
    finally:
        await api.close()
        server.close()
        made.hang_up()
        await asyncio.sleep(0.01)  # so that what was aborted is closed


async def test_calls_are_made_on_one_connection(tmp_path: Path) -> None:
    async with daemon(tmp_path / "s") as (made, api):
        for _ in range(5):
            await api.put("/v1/registry", Word("one"))
        assert len(made.writers) == 1
        assert made.requests[0].startswith(b"PUT /v1/registry HTTP/1.1\r\n")
        assert made.requests[0].endswith(b'\r\n\r\n{"text":"one"}')


async def test_connections_are_so_many_at_the_most(tmp_path: Path) -> None:
    async with daemon(tmp_path / "s") as (made, api):
        await asyncio.gather(*[api.put("/v1/registry", Word("x")) for _ in range(50)])
        assert len(made.requests) == 50
        assert len(made.writers) <= CONNECTIONS_MAX


async def test_a_connection_that_has_ended_meanwhile_is_replaced(tmp_path: Path) -> None:
    async with daemon(tmp_path / "s") as (made, api):
        await asyncio.gather(*[api.put("/v1/registry", Word("x")) for _ in range(4)])
        made.hang_up()
        await api.put("/v1/registry", Word("again"))
        assert made.requests[-1].endswith(b'{"text":"again"}')


async def test_what_may_be_sent_once_goes_on_a_connection_of_its_own(tmp_path: Path) -> None:
    async with daemon(tmp_path / "s") as (made, api):
        await api.put("/v1/registry", Word("x"))
        made.hang_up()
        await api.post("/v1/services", Word("y"))
        assert made.requests[-1].startswith(b"POST /v1/services HTTP/1.1\r\n")
        made.answers = [b""]  # it has taken the request, and ends
        with pytest.raises(Unreachable):
            await api.post("/v1/services", Word("z"))
        assert [b'"z"' in request for request in made.requests] == [False, False, True]


async def test_what_is_refused_says_why(tmp_path: Path) -> None:
    async with daemon(tmp_path / "s") as (made, api):
        problem = b'{"title":"Conflict","detail":"it is of another host","field":"id"}'
        head = b"HTTP/1.1 409 Conflict\r\nContent-Length: %d\r\n\r\n" % len(problem)
        made.answers = [head + problem]
        with pytest.raises(Refused, match="409: it is of another host") as caught:
            await api.put("/v1/services/x", Word("x"))
        assert not caught.value.is_passing
        assert caught.value.field == "id"
        made.answers = [b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n"]
        with pytest.raises(Refused) as caught:
            await api.put("/v1/services/x", Word("x"))
        assert caught.value.is_passing
        assert len(made.writers) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n",
        b"HTTP/1.1 what\r\n\r\n",
        b"SSH-2.0\r\n\r\n",
        b"x" * 100_000,
    ],
    ids=["nothing", "short", "negative", "huge", "no status", "another protocol", "no end"],
)
async def test_nonsense_and_silence_are_no_answer(tmp_path: Path, answer: bytes) -> None:
    async with daemon(tmp_path / "s") as (made, api):
        made.answers = [answer, b"HTTP/1.1 204 No Content\r\n\r\n"]
        with pytest.raises(Unreachable):
            await api.put("/v1/registry", Word("x"))
        await api.put("/v1/registry", Word("x"))  # and nothing of it is left over


async def test_without_a_daemon(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        await Api(str(tmp_path / "none")).put("/v1/registry", Word("x"))
