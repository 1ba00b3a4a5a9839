"""A node that takes part: the gossip thread and what runs on it, as the engine's loop sees it."""

from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from netd.cluster import identity, snapshot
from netd.cluster.addresses import Place, advertised, is_address, resolve
from netd.cluster.desk import Desk
from netd.cluster.gossip import MakeCore
from netd.cluster.identity import NodeKey
from netd.cluster.node import Node
from netd.cluster.outbox import News, Outbox
from netd.cluster.questions import Answers
from netd.cluster.secret import ClusterSecret
from netd.cluster.settings import ANYWHERE, ClusterSettings
from netd.cluster.sockets import Sockets
from netd.cluster.thread import LoopThread
from netd.cluster.tokens import TokenBook
from netd.cluster.views import Report
from netd.engine.interfaces import Record
from netd.gossip.ring import Ring
from netd.gossip.values import Address, Scope
from netd.model.errors import NetdError
from netd.worker import Worker

T = TypeVar("T")


class Running:
    """Made by `open`, which has bound the sockets; takes part from `start` until `close`."""

    def __init__(
        self,
        thread: LoopThread,
        node: Node,
        outbox: Outbox,
        secret: ClusterSecret,
        bound: Address,
        own: Address,
        counters: Counter[str],
    ) -> None:
        self.secret = secret
        self.bound = bound
        self.advertised = own
        self.node = node
        self.started = False
        self.outbox = outbox
        self._thread = thread
        self._counters = counters

    @classmethod
    async def open(
        cls,
        settings: ClusterSettings,
        secret: ClusterSecret,
        key: NodeKey,
        worker: Worker,
        tokens: TokenBook,
        make_core: MakeCore,
        deliver: Callable[[list[News]], None],
        answers: Answers,
    ) -> "Running":
        """Raises `Unavailable` when the port cannot be bound or the epoch not be stored."""
        counters: Counter[str] = Counter()
        sockets = Sockets(settings.bind or ANYWHERE, counters)
        thread = None
        try:
            own = advertised_address(settings, sockets.address)
            epoch = await worker.call(partial(identity.next_epoch, settings.directory))
            ring = await worker.call(
                partial(snapshot.load_ring, settings.directory, secret.cluster_id)
            )
            peers = await worker.call(
                partial(snapshot.load_peers, settings.directory, secret.cluster_id)
            )
            known_ring = ring or Ring.first(secret.gossip_key)
            outbox = Outbox(deliver)
            desk = Desk(answers, counters)
            thread = LoopThread("gossip")

            async def make() -> Node:
                return Node(
                    directory=settings.directory,
                    sockets=sockets,
                    secret=secret,
                    key=key,
                    core=make_core(settings, key, secret, known_ring, epoch, own),
                    worker=worker,
                    tokens=tokens,
                    advertised=own,
                    seeds=settings.seeds,
                    peers=peers,
                    outbox=outbox,
                    desk=desk,
                )

            node = await thread.run(make())
        except BaseException:
            sockets.close()
            if thread is not None:
                await thread.close()
            raise
        return cls(thread, node, outbox, secret, sockets.address, own, counters)

    async def start(self) -> None:
        """Take part. Records that are published before are there from the first moment."""
        self.started = True
        await self.run(self.node.start())

    async def close(self) -> None:
        self.outbox.close()
        await self.run(self.node.close())
        await self._thread.close()

    def publish(self, records: Sequence[Record]) -> None:
        if records:
            self._thread.post(self.node.publish, records)

    def subscribe(self, scope: Scope) -> None:
        self._thread.post(self.node.subscribe, scope)

    def unsubscribe(self, scope: Scope) -> None:
        self._thread.post(self.node.unsubscribe, scope)

    async def join(self, place: Place) -> str:
        """Ask one place, at any of its addresses, to join: "" or why nobody has answered."""
        try:
            addresses = await resolve(place, self.bound[0])
            answers = await self.run(self.node.join(addresses))
        except NetdError as error:
            return error.detail
        return "" if "" in answers.values() else "; ".join(dict.fromkeys(answers.values()))

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of `node` on its thread."""
        return await self._thread.run(work)

    def counters(self) -> dict[str, int]:
        # Copies of dicts of integers: the interpreter makes them in one step.
        return {**self.node.core.counters, **self._counters}

    @property
    def report(self) -> Report:
        """All that can be read, as it was at most a second ago (longer with many members)."""
        return self.node.latest


def advertised_address(settings: ClusterSettings, bound: Address) -> Address:
    """Where the others reach this node."""
    if settings.advertise is not None:
        host, port = settings.advertise
        return host, port or bound[1]
    seeds = [seed.host for seed in settings.seeds if is_address(seed.host)]
    return advertised(bound[0], seeds), bound[1]
