"""Members that send one daemon more packets than members ever would: pings, sealed as theirs.

Started by `gossip_flood.py`. The first line of the input is `Orders`, each later one a number of
packets a second and for how many seconds; then a line tells how many were sent. Ends with the
input.
"""

import asyncio
import logging
import socket
import sys
import time
from typing import Final

from netd.cluster.node import Node
from netd.gossip.codec import encode, join_parts
from netd.gossip.core import Gossip
from netd.gossip.messages import Ping
from netd.gossip.values import Address, NodeId
from netd.worker import Worker
from tests.bench.gossip_process import Orders, open_node, read_orders

BATCH_S: Final = 0.002
BATCH_MAX: Final = 256
READY: Final = "ready"


class Flooder:
    """Sends as one member, with its sealer, from a socket whose answers nobody reads."""

    def __init__(self, node: Node, target: Address) -> None:
        assert isinstance(node.core, Gossip)
        self._core = node.core
        self._target = target
        self._sequence = 0
        own = self._core.member(self._core.id)
        assert own is not None
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self._socket.bind((own.address[0], 0))

    def knows(self) -> NodeId | None:
        """The id of the target once it is a member."""
        found = (m.id for m in self._core.members() if m.address == self._target)
        return next(found, None)

    def send(self, count: int) -> int:
        """Send so many pings, each with digests that agree; how many the socket took."""
        node = self.knows()
        assert node is not None
        member = self._core.member(node)
        digests = self._core._digests(member)
        seal, send, target = self._core._sealer.seal, self._socket.sendto, self._target
        for sent in range(count):
            self._sequence += 1
            ping = Ping(self._sequence & 0xFFFFFFFF, node, *digests)
            try:
                send(seal(join_parts([encode(ping)])), target)
            except BlockingIOError:
                return sent
        return count


async def flood(flooders: list[Flooder], per_s: float, seconds: float) -> int:
    began_s = time.monotonic()
    asked = sent = 0
    while (now_s := time.monotonic()) < began_s + seconds:
        each = (int((now_s - began_s) * per_s) - asked) // len(flooders)
        asked += each * len(flooders)
        for flooder in flooders:
            sent += flooder.send(min(BATCH_MAX, each))
        await asyncio.sleep(BATCH_S)
    return sent


async def serve(orders: Orders) -> None:
    worker = Worker("files")
    nodes = [await open_node(name, host, orders, worker) for name, host in orders.nodes.items()]
    flooders = [Flooder(node, (orders.seeds[0], 7940)) for node in nodes]
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while not all(flooder.knows() for flooder in flooders):
        await asyncio.sleep(0.1)  # members are told to others, not here
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    while line := await reader.readline():
        per_s, seconds = map(float, line.split())
        sys.stdout.write(f"{await flood(flooders, per_s, seconds)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(serve(read_orders()))
