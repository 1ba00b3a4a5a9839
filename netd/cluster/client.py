"""The TLS client: a connection for each call, ended with its reply unless it is to be kept."""

import asyncio
import ipaddress
import socket
import ssl
from collections import Counter
from typing import Final

from netd.cluster import frames, tls
from netd.cluster.certificates import Unproven, proven_id
from netd.cluster.lines import Line, Lines
from netd.gossip.values import Address, NodeId

CONNECT_S: Final = 5.0


class CallFailed(Exception):
    """There is no reply; the text says why. `refused`: the other side has said so."""

    def __init__(self, detail: str, *, refused: bool = False) -> None:
        super().__init__(detail)
        self.refused = refused


class StreamClient:
    """Calls nodes of one cluster. `source` is the address to call from, None for any."""

    def __init__(
        self,
        context: ssl.SSLContext,
        authority_public_key: bytes,
        counters: Counter[str],
        source: str | None = None,
    ) -> None:
        self._context = context
        self._authority = authority_public_key
        self._counters = counters
        self._source = source

    async def call(
        self,
        to: Address,
        node: NodeId | None,
        request: bytes,
        timeout_s: float,
        kind: frames.Request = frames.Request.CORE,
        lines: Lines | None = None,
    ) -> bytes:
        """The reply of `node`, or of any node of the cluster, that answers there.

        With `lines` the connection is one of these, or kept there. Nothing is sent before the
        other side has proved that it is one. Raises `CallFailed`.
        """
        try:
            async with asyncio.timeout(timeout_s):
                if lines is not None and node is not None:
                    line = lines.take(node, to, timeout_s)
                    answer = await self._call_on(lines, line, to, node, kind, request)
                else:
                    answer = await self._call(to, node, kind, request)
        except TimeoutError:
            raise self._failed("deadline", f"no answer within {timeout_s:g} s") from None
        except Unproven as error:
            detail = f"not a member of this cluster: {error}"
            raise self._failed("unproven", detail) from None
        except ssl.SSLCertVerificationError as error:
            detail = f"not a member of this cluster: {error.verify_message}"
            raise self._failed("unproven", detail) from None
        except (frames.WrongFrame, ssl.SSLError) as error:
            detail = f"what answers there does not speak netd's protocol: {error}"
            raise self._failed("protocol", detail) from None
        except EOFError:
            raise self._failed("ended", "the other side has ended the connection") from None
        except OSError as error:
            raise self._failed("connection", error.strerror or str(error)) from None
        self._counters["calls_answered"] += 1
        return answer

    async def _call(
        self, to: Address, node: NodeId | None, kind: frames.Request, request: bytes
    ) -> bytes:
        reader, transport = await self._open(to, node)
        try:
            return await self._exchange(reader, transport, kind, request)
        finally:
            transport.abort()

    async def _call_on(
        self,
        lines: Lines,
        line: Line | None,
        to: Address,
        node: NodeId,
        kind: frames.Request,
        request: bytes,
    ) -> bytes:
        """What was sent on a line that breaks is not sent again: it may have been heard."""
        if line is None:
            line = Line(node, to, *await self._open(to, node))
        try:
            body = await self._exchange(line.reader, line.transport, kind, request)
        except BaseException:
            line.transport.abort()
            raise
        lines.put(line)
        return body

    async def _open(
        self, to: Address, node: NodeId | None
    ) -> tuple[asyncio.StreamReader, asyncio.Transport]:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport = await self._connect(to, protocol)
        try:
            tls: ssl.SSLObject = transport.get_extra_info("ssl_object")
            peer = proven_id(tls.getpeercert(binary_form=True), self._authority)
            if node is not None and peer != node:
                detail = f"node {peer.hex()} answers there, not {node.hex()}"
                raise self._failed("unproven", detail)
        except BaseException:
            transport.abort()
            raise
        return reader, transport

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        transport: asyncio.Transport,
        kind: frames.Request,
        request: bytes,
    ) -> bytes:
        transport.write(frames.frame(kind, request))
        answer, body = await frames.read(reader, frames.REPLY_BOUNDS[kind])
        if answer == frames.Reply.REFUSED:
            raise self._failed("refused", body.decode(errors="replace"))
        return body

    async def _connect(self, to: Address, protocol: asyncio.Protocol) -> asyncio.Transport:
        host, port = to
        try:
            # A name from another node would have this one ask its DNS server.
            ipaddress.ip_address(host)
        except ValueError:
            raise self._failed("address", f"{host!r} is not an IP address") from None
        if not 0 < port < 65536:
            raise self._failed("address", f"there is no port {port}")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            async with asyncio.timeout(CONNECT_S):
                connection = await self._reach(family, host, port)
                return await tls.shake_hands(
                    connection, protocol, self._context, server=False, timeout_s=CONNECT_S
                )
        except TimeoutError:
            detail = f"no connection within {CONNECT_S:g} s"
            raise self._failed("connection", detail) from None

    async def _reach(self, family: socket.AddressFamily, host: str, port: int) -> socket.socket:
        connection = socket.socket(
            family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            if self._source is not None and (":" in self._source) == (":" in host):
                connection.bind((self._source, 0))
            await asyncio.get_running_loop().sock_connect(connection, (host, port))
        except BaseException:
            connection.close()
            raise
        return connection

    def _failed(self, reason: str, detail: str) -> CallFailed:
        self._counters[f"calls_{reason}"] += 1
        return CallFailed(detail, refused=reason == "refused")
