"""Keys, servers and sockets of clusters, on loopback."""

import asyncio
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from netd.cluster import tls
from netd.cluster.client import StreamClient
from netd.cluster.identity import NodeKey
from netd.cluster.secret import ClusterSecret
from netd.cluster.server import StreamServer
from netd.cluster.sockets import Sockets
from netd.gossip.values import Address, NodeId


def new_secret() -> ClusterSecret:
    return ClusterSecret(os.urandom(32))


def new_key() -> NodeKey:
    return NodeKey(Ed25519PrivateKey.generate())


class Serving:
    """A server and what it was asked. `answer`, `ask` and `redeem` may be replaced."""

    def __init__(self, secret: ClusterSecret, key: NodeKey, host: str = "127.0.0.1") -> None:
        self.secret = secret
        self.key = key
        self.counters: Counter[str] = Counter()
        self.asked: list[tuple[bytes, NodeId]] = []
        self.redeemed: list[bytes] = []
        self.answer: Callable[[bytes], bytes] = lambda request: b"re:" + request
        self.redeem: Callable[[bytes], Awaitable[bytes]] = self._redeem
        self.ask: Callable[[bytes, NodeId], Awaitable[bytes]] = self._asked
        sockets = Sockets((host, 0), Counter())
        sockets.udp.close()
        self.address: Address = sockets.address
        self.server = StreamServer(
            sockets.listening,
            tls.server_context(secret, key),
            secret.authority_public_key,
            self._serve,
            lambda body, node: self.ask(body, node),
            lambda body: self.redeem(body),
            self.counters,
        )

    def _serve(self, request: bytes, peer: NodeId) -> bytes:
        self.asked.append((request, peer))
        return self.answer(request)

    async def _asked(self, body: bytes, node: NodeId) -> bytes:
        self.asked.append((body, node))
        return b"to you:" + body

    async def _redeem(self, body: bytes) -> bytes:
        self.redeemed.append(body)
        return b"key"

    def client(self, key: NodeKey | None = None) -> StreamClient:
        """Of another member of the cluster."""
        return client_of(self.secret, key or new_key())

    async def counted(self, name: str, count: int = 1) -> None:
        """Wait until the server has counted so many."""
        async with asyncio.timeout(10):
            while self.counters[name] < count:  # nothing tells of a count
                await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(
    secret: ClusterSecret | None = None, key: NodeKey | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Serving]:
    made = Serving(secret or new_secret(), key or new_key(), host)
    made.server.start()
    try:
        yield made
    finally:
        await made.server.close()


def client_of(secret: ClusterSecret, key: NodeKey) -> StreamClient:
    return StreamClient(
        tls.client_context(secret, key), secret.authority_public_key, Counter(), "127.0.0.1"
    )


def joiner_of(authority_public_key: bytes) -> StreamClient:
    return StreamClient(tls.joiner_context(), authority_public_key, Counter())


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
