"""Name servers on loopback that do what a test wants of them."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from netd.registry.dns.wire import Query, parse_query

Asked = dns.message.Message
Answers = Sequence[bytes | Asked]
Behaviour = Callable[[Asked, bool], Answers]  # a query, and whether it came by TCP

SOA = "mail.example. root.example. 1 7200 900 1209600"


def reply(
    asked: Asked,
    *texts: str,
    ttl_s: int = 60,
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR,
    minimum_s: int | None = None,
) -> Asked:
    """An answer with records of the question's type, and SOA in the authority section."""
    answer = dns.message.make_response(asked, recursion_available=True)
    answer.set_rcode(rcode)
    [question] = asked.question
    if texts:
        answer.answer.append(
            dns.rrset.from_text(question.name, ttl_s, "IN", question.rdtype, *texts)
        )
    if minimum_s is not None:
        answer.authority.append(
            dns.rrset.from_text("example.", ttl_s, "IN", "SOA", f"{SOA} {minimum_s}")
        )
    return answer


def truncated(asked: Asked) -> Asked:
    answer = dns.message.make_response(asked)
    answer.flags |= dns.flags.TC
    return answer


def question(name: str, kind: str = "A", **options: object) -> Query:
    return parse_query(dns.message.make_query(name, kind, **options).to_wire())  # type: ignore[arg-type]


class Server:
    """A name server. `asked` are the queries that came, `ports` where from by UDP."""

    def __init__(self, behave: Behaviour, sock: socket.socket) -> None:
        self.behave = behave
        self.asked: list[Asked] = []
        self.ports: list[int] = []
        host, port = sock.getsockname()
        self.address = f"{host}:{port}"
        self._sock = sock

    def send(self, message: Asked, port: int) -> None:
        self._sock.sendto(message.to_wire(max_size=65535), ("127.0.0.1", port))

    def read(self) -> None:
        data, (host, port) = self._sock.recvfrom(65535)
        self.ports.append(port)
        for each in self._answers(data, False):
            self._sock.sendto(each, (host, port))

    async def serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            for each in self._answers(await reader.readexactly(length), True):
                writer.write(len(each).to_bytes(2, "big") + each)
            await writer.drain()
        finally:
            writer.close()

    def _answers(self, data: bytes, tcp: bool) -> list[bytes]:
        asked = dns.message.from_wire(data)
        self.asked.append(asked)
        found = self.behave(asked, tcp)
        return [each if isinstance(each, bytes) else each.to_wire(max_size=65535) for each in found]


@asynccontextmanager
async def serving(behave: Behaviour, *, tcp: bool = True) -> AsyncIterator[Server]:
    """A server on 127.0.0.1, by TCP too unless not `tcp`."""
    loop = asyncio.get_running_loop()
    with ExitStack() as sockets:
        udp, listener = _sockets(sockets)
        server = Server(behave, udp)
        loop.add_reader(udp, server.read)
        stream = await asyncio.start_server(server.serve_tcp, sock=listener) if tcp else None
        if stream is None:
            listener.close()
        try:
            yield server
        finally:
            loop.remove_reader(udp)
            if stream is not None:
                stream.close()
                await stream.wait_closed()


def _sockets(sockets: ExitStack) -> tuple[socket.socket, socket.socket]:
    """For UDP and TCP, on the same port."""
    for _ in range(100):
        udp = sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.setblocking(False)
        udp.bind(("127.0.0.1", 0))
        tcp = sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        try:
            tcp.bind(udp.getsockname())
        except OSError:
            continue
        return udp, tcp
    raise AssertionError("there is no port that is free for UDP and TCP")
