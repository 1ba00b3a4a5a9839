"""The TLS server: answers requests of members, and redeems tokens for who is not one yet.

Everything has a deadline, a connection as a whole too; memory is bounded by the number of
connections, of requests that are being answered at once, and by the room for questions. Refusals
are counted, not logged: anybody could fill the log.
"""

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from netd.cluster import frames, tls
from netd.cluster.admission import Admission, Place
from netd.cluster.certificates import Unproven, proven_id
from netd.cluster.room import Room
from netd.gossip.values import NodeId
from netd.model.errors import NetdError
from netd.tasks import Tasks

HANDSHAKE_S: Final = 5.0
IDLE_S: Final = 10.0  # until the next request begins
REQUEST_S: Final = 10.0  # from its first byte until its reply is sent; of a question, each step
ASK_S: Final = 35.0  # for an answer of the engine, which has a deadline of its own
CONNECTION_S: Final = 60.0
STRANGER_S: Final = 15.0
ANSWERING_MAX: Final = 16  # so many requests of members and their replies are in memory
_ACCEPTED_AT_ONCE: Final = 16
_OUT_OF_DESCRIPTORS_S: Final = 0.2  # nothing tells when there is one again

Serve = Callable[[bytes, NodeId], bytes]
Ask = Callable[[bytes, NodeId], Awaitable[bytes]]
Redeem = Callable[[bytes], Awaitable[bytes]]

log = logging.getLogger(__name__)


class StreamServer:
    """Serves a listening socket, on the loop that it is started on.

    `serve` answers a member's request, `ask` its question to the engine, in `ASK_S`; `redeem` a
    token's secret, or raises `NetdError`.
    """

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        authority_public_key: bytes,
        serve: Serve,
        ask: Ask,
        redeem: Redeem,
        counters: Counter[str],
    ) -> None:
        self._listening = listening
        self._context = context
        self._authority = authority_public_key
        self._serve = serve
        self._ask = ask
        self._redeem = redeem
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._answering = asyncio.Semaphore(ANSWERING_MAX)
        self._room = Room()
        self._tasks = Tasks()
        self.admission = Admission(counters)

    def start(self) -> None:
        self._loop.add_reader(self._listening, self._accept)

    async def close(self) -> None:
        """End all connections and stop listening."""
        self._loop.remove_reader(self._listening)
        if self._pause is not None:
            self._pause.cancel()
        await self._tasks.stop()
        self._listening.close()

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, address = self._listening.accept()
            except (BlockingIOError, ConnectionError):
                return  # there is none, or it was reset while it waited
            except OSError as error:
                if not self._counters["stream_refused_descriptors"]:
                    log.warning("no connection can be accepted: %s", error.strerror)
                self._counters["stream_refused_descriptors"] += 1
                self._loop.remove_reader(self._listening)
                self._pause = self._loop.call_later(_OUT_OF_DESCRIPTORS_S, self.start)
                return
            connection.setblocking(False)
            self._admit(connection, address[0])

    def _admit(self, connection: socket.socket, host: str) -> None:
        self._counters["stream_connections"] += 1
        if not self.admission.admits(host):
            connection.close()
            return
        place = Place(host, partial(tls.shut_down, connection))
        self.admission.enter(place)
        task = self._tasks.start("stream", self._hold(connection, place))
        task.add_done_callback(lambda _: self._part(connection, place))

    def _part(self, connection: socket.socket, place: Place) -> None:
        self.admission.leave(place)
        if not place.begun:  # cancelled before its first step: nobody else has the socket
            connection.close()

    async def _hold(self, connection: socket.socket, place: Place) -> None:
        """One connection from its handshake to its end."""
        place.begun = True
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport = await tls.shake_hands(
                connection, protocol, self._context, server=True, timeout_s=HANDSHAKE_S
            )
        except OSError as error:
            late = isinstance(error, ConnectionAbortedError)
            self._counters[f"stream_refused_{'deadline' if late else 'handshake'}"] += 1
            log.debug("handshake with %s failed: %s", place.host, error)
            return
        try:
            node = self._proven(transport)
            if node is not None and not self.admission.prove(place, node):
                return
            writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
            async with asyncio.timeout(STRANGER_S if node is None else CONNECTION_S):
                while True:
                    await self._answer(reader, writer, node)
        except Unproven as error:
            self._counters["stream_refused_certificate"] += 1
            log.debug("connection of %s refused: %s", place.host, error)
        except frames.WrongFrame as error:
            self._counters["stream_refused_frame"] += 1
            log.debug("connection of %s ended: %s", place.host, error)
        except TimeoutError:
            self._counters["stream_refused_deadline"] += 1
        except (EOFError, OSError):
            pass  # the other side has ended it, as it does after its last reply
        finally:
            transport.abort()

    def _proven(self, transport: asyncio.Transport) -> NodeId | None:
        """The node that the peer has proved to be; None when it shows no certificate."""
        tls: ssl.SSLObject = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True)
        return None if certificate is None else proven_id(certificate, self._authority)

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, node: NodeId | None
    ) -> None:
        """Read one request and send its reply."""
        async with asyncio.timeout(IDLE_S):
            kind, length = await frames.read_header(reader, frames.REQUEST_BOUNDS)
        if kind != frames.Request.REDEEM and node is None:
            self._counters["stream_refused_stranger"] += 1
            writer.write(frames.frame(frames.Reply.REFUSED, b"a certificate is needed"))
            raise Unproven("it asks as a member does, without a certificate")
        if kind == frames.Request.ASK and node is not None:
            await self._answer_question(reader, writer, node, length)
            return
        if node is None or kind == frames.Request.REDEEM:
            await self._answer_stranger(reader, writer, length)
            return
        async with asyncio.timeout(REQUEST_S), self._answering:
            body = await reader.readexactly(length)
            self._counters["stream_requests"] += 1
            writer.write(frames.frame(frames.Reply.ANSWER, self._serve(body, node)))
            await writer.drain()

    async def _answer_stranger(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, length: int
    ) -> None:
        """Takes none of the members' turns: who has proved nothing could hold them all, with
        requests that never end. These are small, and their number is that of the connections.
        """
        async with asyncio.timeout(REQUEST_S):
            writer.write(await self._redeemed(await reader.readexactly(length)))
            await writer.drain()

    async def _answer_question(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        node: NodeId,
        length: int,
    ) -> None:
        """Keeps no request waiting: the answer may take long, and ask others itself."""
        async with asyncio.timeout(REQUEST_S):
            held = await self._room.take(node, length)
        with held:
            async with asyncio.timeout(REQUEST_S):
                question = await reader.readexactly(length)
            async with asyncio.timeout(ASK_S):
                answer = await self._ask(question, node)
            held.become(len(answer))
            del question
            async with asyncio.timeout(REQUEST_S):
                writer.write(frames.frame(frames.Reply.ANSWER, answer))
                await writer.drain()

    async def _redeemed(self, secret: bytes) -> bytes:
        try:
            answer = await self._redeem(secret)
        except NetdError as error:
            self._counters["token_refused"] += 1
            return frames.frame(frames.Reply.REFUSED, error.detail.encode()[:1024])
        self._counters["token_redeemed"] += 1
        return frames.frame(frames.Reply.ANSWER, answer)
