"""Some real nodes in one process: UDP, TLS, state folders and all, as the daemon runs one.

Started by `gossip_netd.py`. The first line of its standard input is `Orders`, each later one a
`Write`; it ends with that input. On its standard output it tells what its nodes see, in JSON too.
"""

import asyncio
import logging
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec

from netd.cluster import identity, snapshot
from netd.cluster.addresses import PORT, Place
from netd.cluster.desk import Desk
from netd.cluster.gossip import gossip_core
from netd.cluster.identity import NodeKey
from netd.cluster.node import Node
from netd.cluster.outbox import News, Outbox
from netd.cluster.questions import Answers
from netd.cluster.secret import ClusterSecret
from netd.cluster.settings import ClusterSettings
from netd.cluster.sockets import Sockets
from netd.cluster.tokens import TokenBook
from netd.engine.interfaces import Record, RecordChange
from netd.gossip.ring import Ring
from netd.gossip.settings import Profile
from netd.model.views import Member
from netd.worker import Worker

TABLE: Final = "bench"


class Orders(msgspec.Struct):
    """`nodes` has the address of each by its name; `seeds` are joined."""

    secret: bytes
    directory: str
    profile: Profile
    nodes: dict[str, str]
    seeds: list[str]


class Write(msgspec.Struct):
    """A line of the input: `node` publishes a record with this value."""

    node: str
    value: str


class Sight(msgspec.Struct):
    """A line of the output: `node` sees a member's state, or else a record's value."""

    node: str
    at_s: float
    about: str = ""
    state: str = ""
    value: str = ""


class Teller(Outbox):
    """Tells at once what the engine would be told."""

    def __init__(self, node: str) -> None:
        super().__init__(lambda _: None)
        self._node = node

    def put(self, news: News) -> None:
        now_s = time.monotonic()
        if isinstance(news, Member):
            tell(Sight(self._node, now_s, about=news.name, state=news.state))
        elif isinstance(news, RecordChange) and news.table == TABLE and news.value is not None:
            tell(Sight(self._node, now_s, value=news.value.rstrip(b".").decode()))


def read_orders() -> Orders:
    """The first line of the input, and nothing of what follows it."""
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as unbuffered:
        return msgspec.json.decode(unbuffered.readline(), type=Orders)


def tell(sight: Sight) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(sight) + b"\n")
    sys.stdout.buffer.flush()


async def open_node(name: str, host: str, orders: Orders, worker: Worker) -> Node:
    """As `netd.cluster.running.Running` does, but for the thread."""
    secret = ClusterSecret(orders.secret)
    directory = Path(orders.directory) / name
    directory.mkdir(exist_ok=True)
    settings = ClusterSettings(
        directory=directory,
        name=name,
        seeds=tuple(Place(seed, PORT) for seed in orders.seeds),
        profile=orders.profile,
        version="bench",
    )
    key = NodeKey.open(directory)
    epoch = identity.next_epoch(directory)
    bound = (host, PORT)
    ring = Ring.first(secret.gossip_key)
    node = Node(
        directory=directory,
        sockets=Sockets(bound, Counter()),
        secret=secret,
        key=key,
        core=gossip_core(settings, key, secret, ring, epoch, bound),
        worker=worker,
        tokens=TokenBook(directory),
        advertised=bound,
        seeds=settings.seeds,
        peers=snapshot.load_peers(directory, secret.cluster_id),
        outbox=Teller(name),
        desk=Desk(Answers(), Counter()),
    )
    await node.start()
    return node


async def serve(orders: Orders) -> None:
    worker = Worker("files")
    nodes = {
        name: await open_node(name, host, orders, worker) for name, host in orders.nodes.items()
    }
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    decode = msgspec.json.Decoder(Write).decode
    while line := await reader.readline():
        write = decode(line)
        # The time before: whatever it takes to write belongs to it.
        tell(Sight(write.node, time.monotonic(), value=write.value))
        value = write.value.encode().ljust(100, b".")
        nodes[write.node].publish([Record(table=TABLE, key="changing", value=value)])


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(serve(read_orders()))
