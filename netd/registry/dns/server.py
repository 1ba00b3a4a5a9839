"""DNS over UDP: as many answers as one core gives.

asyncio's own datagram transport costs several times what an answer does, so sockets are read here
as soon as they are readable, a batch at a time, and then it is the others' turn.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from netd.naming.values import Answer, Scope
from netd.registry.dns import records
from netd.registry.dns.batches import REPLY_BYTES_MAX, Answerer, Batch, Peer
from netd.registry.dns.counts import Counts
from netd.registry.dns.limits import Bucket
from netd.registry.dns.packets import Packet, Packets, replies, shuffled, size_of
from netd.registry.dns.shedding import Shedding
from netd.registry.dns.wire import RD, TCP_MAX_BYTES, NoQuery, Query, parse_query
from netd.registry.dns.wire_reply import encode_error, encode_reply
from netd.tasks import Tasks

log = logging.getLogger(__name__)

CLIENTS_MAX: Final = 16_384
PACKETS_MAX: Final = 200_000
UDP_LIMIT_MAX: Final = 8192  # of an answer: what resolvers ask for at most, in a few fragments
_IPV4_BYTES: Final = 4
_TRANSFERS: Final = (records.IXFR, records.AXFR)  # nobody gets a zone as a whole (RFC 5936)
_PLAIN_BYTES: Final = 12 + 11  # of a query, beside its question: header, OPT without options


class Names(Protocol):
    """What there is to know."""

    def drain(self) -> None:
        """Take over what the daemon has said by now."""
        ...

    def scope_of(self, source: str | None) -> Scope: ...

    def party_of(self, source: str) -> str:
        """Whom limits count for."""
        ...

    def look_up(self, name: str, kind: str, scope: Scope) -> Answer: ...


class Upstream(Protocol):
    """Who answers what is not known here, in at most `limit` bytes."""

    def cached(self, query: Query, limit: int) -> bytes | None:
        """The reply, if it is known."""
        ...

    async def answer(self, query: Query, limit: int, party: str) -> bytes:
        """The reply to send to a client whose limits are `party`'s, whatever happens."""
        ...


class Client:
    """Who asks from one address: what it may see, the replies kept for that, and how much yet."""

    __slots__ = ("bucket", "kept", "party", "scope", "source", "stamp")

    bucket: Bucket
    kept: dict[bytes, Packet]
    party: str
    scope: Scope
    stamp: int

    def __init__(self, address: bytes) -> None:
        family = socket.AF_INET if len(address) == _IPV4_BYTES else socket.AF_INET6
        self.source = socket.inet_ntop(family, address)

    @property
    def flood(self) -> str:
        """What is not listened to when it floods: where containers are, its address alone."""
        return self.source if self.scope.networks else self.party


def packed(source: str) -> bytes:
    """An address in bytes; a link that it is on is left out."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    return socket.inet_pton(family, source.partition("%")[0])


def _make_room(kept: dict[Any, Any]) -> None:
    """The oldest half goes when there are `CLIENTS_MAX`."""
    if len(kept) >= CLIENTS_MAX:
        for old in list(kept)[: CLIENTS_MAX // 2]:
            del kept[old]


class DnsServer:
    """Answers queries on the sockets that it is given."""

    def __init__(self, names: Names, upstream: Upstream, *, rate: float) -> None:
        self.counts = Counts()
        self.packets = Packets(PACKETS_MAX)
        self.shedding = Shedding()
        self._rate = rate
        self._names = names
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._clients: dict[bytes, Client] = {}
        self._buckets: dict[str, Bucket] = {}  # by party
        self._batches: dict[socket.AddressFamily, Batch] = {}
        self._tasks = Tasks()
        self._limited = self.counts.dropped("limited")
        self._unsent = self.counts.dropped("unsent")

    @property
    def clients(self) -> int:
        """How many clients are known, of at most `CLIENTS_MAX`."""
        return len(self._clients)

    def limit(self, rate: float) -> None:
        """How many queries a second each client may ask from now on."""
        if rate != self._rate:
            self._rate = rate
            self._clients.clear()
            self._buckets.clear()

    def rescope(self) -> None:
        """What clients may see may have changed."""
        self.packets.stamp[0] += 1

    def serve(self, sock: socket.socket) -> None:
        """Answer what comes on `sock`, until `release`."""
        self._loop.add_reader(sock.fileno(), self._reader(sock))

    def release(self, sock: socket.socket) -> None:
        self._loop.remove_reader(sock.fileno())
        self.shedding.forget(sock)

    async def close(self) -> None:
        await self._tasks.stop()

    def answer_tcp(self, data: bytes, source: str) -> bytes | Awaitable[bytes | None] | None:
        """The reply to a query that came by TCP from `source`; None: hang up."""
        address = packed(source)
        self._names.drain()
        client = self._clients.get(address) or self._meet(address)
        if client.stamp != self.packets.stamp[0]:
            self._look_at(client)
        bucket = client.bucket
        bucket.tokens -= 1
        if bucket.tokens < 0 and not bucket.fill(time.monotonic()):
            self.counts.dropped("limited", "tcp")[0] += 1
            return None
        try:
            query = parse_query(data)
            answer = self._look_up(query, self._names.scope_of(source))
        except NoQuery as refusal:
            return self._refuse(refusal, "tcp")
        if answer.rcode == "FORWARD":
            return self._forward(query, TCP_MAX_BYTES, "tcp", client.party)
        reply = encode_reply(query, shuffled(answer), TCP_MAX_BYTES)
        self._count("tcp", reply, query, "zone")[0] += 1
        return reply

    def _reader(self, sock: socket.socket) -> Callable[[], None]:
        """What is called when `sock` is readable. All that it needs is in local variables."""
        batch = self._batches.get(sock.family)
        if batch is None:
            batch = self._batches[sock.family] = Batch(sock.family, self._unsent)
        drain, take = self._names.drain, batch.answer
        descriptor = sock.fileno()
        answer = self._answerer(sock, batch)

        def read() -> None:
            drain()
            try:
                take(descriptor, answer)
            except OSError as error:
                log.warning("reading queries: %s", error)

        return read

    def _answerer(self, sock: socket.socket, batch: Batch) -> Answerer:
        clients, stamp = self._clients, self.packets.stamp
        limited = self._limited

        def answer(data: bytes, address: bytes, at: int) -> bytes | None:
            client = clients.get(address) or self._meet(address)
            if client.stamp != stamp[0]:
                self._look_at(client)
            bucket = client.bucket
            bucket.tokens -= 1
            if bucket.tokens < 0 and not bucket.fill(now_s := time.monotonic()):
                limited[0] += 1
                if bucket.floods(now_s):
                    self.shedding.shut_out(sock, client.flood)
                return None
            packet = client.kept.get(data[2:])
            if packet is None:
                packet = self._work_out(data, client, sock, batch.peer(at))
                if packet is None:
                    return None
            packet.count[0] += 1
            reply = data[:2] + packet.next()
            if len(reply) > REPLY_BYTES_MAX:
                self._send(sock, reply, batch.peer(at))
                return None
            return reply

        return answer

    def _meet(self, address: bytes) -> Client:
        """A client that is new, or has not been heard for long. Bounded: the oldest half goes.

        One of a party that asks too much is not kept: it may have a new address for each query.
        """
        client = Client(address)
        self._look_at(client)
        if client.bucket.tokens >= 1:
            _make_room(self._clients)
            self._clients[address] = client
        return client

    def _look_at(self, client: Client) -> None:
        """Find out what the client may see by now."""
        client.scope = self._names.scope_of(client.source)
        client.party = self._names.party_of(client.source)
        client.bucket = self._buckets.get(client.party) or self._new_bucket(client.party)
        client.kept = self.packets.of(client.scope)
        client.stamp = self.packets.stamp[0]

    def _new_bucket(self, party: str) -> Bucket:
        _make_room(self._buckets)
        bucket = self._buckets[party] = Bucket(self._rate, time.monotonic())
        return bucket

    def _work_out(
        self, data: bytes, client: Client, sock: socket.socket, peer: Peer
    ) -> Packet | None:
        """The reply to what was not kept. None: it is sent, or will be, or there is none."""
        try:
            query = parse_query(data)
            answer = self._look_up(query, client.scope)
        except NoQuery as refusal:
            self._send(sock, self._refuse(refusal, "udp"), peer)
            return None
        limit = min(query.udp_limit, UDP_LIMIT_MAX)
        if answer.rcode == "FORWARD":
            reply = self._upstream.cached(query, limit)
            if reply is None:
                self._tasks.start(
                    "forward", self._forward_udp(query, limit, sock, peer, client.party)
                )
            else:
                self._count("udp", reply, query, "cache")[0] += 1
                self._send(sock, reply, peer)
            return None
        orders = replies(query, answer, limit)
        first = next(orders)
        counter = self._count("udp", b"\0\0" + first, query, "zone")
        packet = Packet(orders.__next__, counter, answer.topics, size_of(answer, first))
        if len(data) <= _PLAIN_BYTES + len(query.question):  # other options never come again
            self.packets.keep(client.scope, data[2:], packet)
        return packet

    def _look_up(self, query: Query, scope: Scope) -> Answer:
        """Raises `NoQuery` for what is refused."""
        if query.klass not in (records.CLASS_IN, records.CLASS_ANY):
            raise NoQuery("another class", encode_error(query, records.REFUSED))
        if query.type in _TRANSFERS:
            raise NoQuery("a transfer of a zone", encode_error(query, records.REFUSED))
        kind = records.TYPE_NAMES.get(query.type, f"TYPE{query.type}")
        answer = self._names.look_up(query.name, kind, scope)
        if answer.rcode == "FORWARD" and not query.flags & RD:
            raise NoQuery("no recursion asked for", encode_error(query, records.REFUSED))
        return answer

    async def _forward_udp(
        self, query: Query, limit: int, sock: socket.socket, peer: Peer, party: str
    ) -> None:
        self._send(sock, await self._forward(query, limit, "udp", party), peer)

    async def _forward(self, query: Query, limit: int, transport: str, party: str) -> bytes:
        reply = await self._upstream.answer(query, limit, party)
        self._count(transport, reply, query, "upstream")[0] += 1
        return reply

    def _refuse(self, refusal: NoQuery, transport: str) -> bytes | None:
        if refusal.reply is None:
            self.counts.dropped("malformed", transport)[0] += 1
        else:
            self.counts.answers(transport, refusal.reply[3] & 0xF, 0, "none")[0] += 1
        return refusal.reply

    def _count(self, transport: str, reply: bytes, query: Query, source: str) -> list[int]:
        return self.counts.answers(transport, reply[3] & 0xF, query.type, source)

    def _send(self, sock: socket.socket, reply: bytes | None, peer: Peer) -> None:
        if reply is None:
            return
        try:
            sock.sendto(reply, peer)
        except OSError:  # also: the socket has been closed meanwhile
            self._unsent[0] += 1
