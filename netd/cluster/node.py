"""A member of a cluster: sockets, protocol core and state files, all on the gossip loop."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from netd.cluster import identity, snapshot, tls, views
from netd.cluster.addresses import Place, is_wildcard
from netd.cluster.asker import Asker
from netd.cluster.attempts import Attempts
from netd.cluster.client import StreamClient
from netd.cluster.core import Core
from netd.cluster.desk import Desk
from netd.cluster.driver import Driver
from netd.cluster.identity import NodeKey
from netd.cluster.keeper import Keeper
from netd.cluster.keyring import Keyring
from netd.cluster.outbox import Outbox
from netd.cluster.questions import Question, Reply
from netd.cluster.rejoin import Rejoin
from netd.cluster.secret import ClusterSecret
from netd.cluster.server import StreamServer
from netd.cluster.sockets import Sockets
from netd.cluster.teller import Teller
from netd.cluster.tokens import TokenBook
from netd.engine.interfaces import Record
from netd.gossip.values import (
    Address,
    EpochWanted,
    Event,
    JoinEnded,
    MemberChanged,
    NodeId,
    ProblemChanged,
    RecordChanged,
    RingChanged,
    Scope,
    State,
    StreamsTried,
)
from netd.model.errors import Unavailable
from netd.tasks import Tasks
from netd.worker import Worker

REPORT_S: Final = 1.0
REPORT_MEMBER_S: Final = 0.002  # a report of n members is made after n times this at the earliest
RENEW_S: Final = 1.0

log = logging.getLogger(__name__)


class Node:
    """Made on the gossip loop, and all calls are made there."""

    def __init__(
        self,
        *,
        directory: Path,
        sockets: Sockets,
        secret: ClusterSecret,
        key: NodeKey,
        core: Core,
        worker: Worker,
        tokens: TokenBook,
        advertised: Address,
        seeds: Sequence[Place],
        peers: Sequence[snapshot.Peer],
        outbox: Outbox,
        desk: Desk,
    ) -> None:
        self.core = core
        self.latest = views.Report()  # read by other threads
        self._directory = directory
        self._sockets = sockets
        self._secret = secret
        self._worker = worker
        self._tokens = tokens
        self._teller = Teller(core, outbox)
        self._desk = desk
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        self._keeper = Keeper(directory, secret.cluster_id, core, worker, peers)
        self._renewing = False
        bound = sockets.address
        counters = sockets.udp.counters
        client = StreamClient(
            tls.client_context(secret, key),
            secret.authority_public_key,
            counters,
            None if is_wildcard(bound[0]) else bound[0],
        )
        self._asker = Asker(core, client)
        self._driver = Driver(core, sockets.udp, client, self._notice)
        self.keyring = Keyring(self._driver, self._keeper, self.report)
        self._attempts = Attempts(self._driver)
        self._server = StreamServer(
            sockets.listening,
            tls.server_context(secret, key),
            secret.authority_public_key,
            self._driver.serve,
            desk.serve,
            self._redeem,
            counters,
        )
        self._rejoin = Rejoin(
            seeds,
            [peer.address for peer in peers],
            bound[0],
            {bound, advertised},
            self.join,
            self._others,
        )
        self.report()

    async def start(self) -> None:
        self._teller.show(self.core.id)
        self._server.start()
        self._driver.start()
        self._tasks.start("rejoin", self._rejoin.run())
        self._tasks.start("report", self._reporting())

    async def close(self) -> None:
        """Stop at once. The others will find this node dead, unless it has left."""
        await self._tasks.stop()
        self._asker.close()
        await self._server.close()
        await self._driver.close()
        await self._keeper.close()
        self._attempts.close()

    async def join(self, addresses: Sequence[Address]) -> Mapping[Address, str]:
        """Ask the addresses; for each "" or why it has not answered."""
        return await self._attempts.join(addresses)

    async def look(self) -> None:
        """Find out whether streams reach the others, for the report."""
        await self._attempts.look()
        self.report()

    async def leave(self, leave_s: float) -> None:
        """Tell the others, and go on for so long that they pass it on. Forgets the peers."""
        await self._tasks.stop()
        self.core.leave(self._loop.time())
        self._driver.carry_out()
        await asyncio.sleep(leave_s)
        await self._keeper.forget_peers()

    def publish(self, records: Sequence[Record]) -> None:
        now_s = self._loop.time()
        for record in records:
            self.core.publish(record.scope, record.table, record.key, record.value, now_s)
        self._driver.carry_out()

    def subscribe(self, scope: Scope) -> None:
        self.core.subscribe(scope, self._loop.time())
        self._driver.carry_out()

    def unsubscribe(self, scope: Scope) -> None:
        self.core.unsubscribe(scope, self._loop.time())
        self._driver.carry_out()

    async def ask(self, node: NodeId, asked: Question) -> Reply:
        return await self._asker.ask(node, asked)

    # What the core says

    def _notice(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case MemberChanged():
                    self._teller.show(event.id)
                    if event.id != self.core.id:
                        self._keeper.peers_changed()
                case RecordChanged():
                    self._teller.record_changed(event)
                case ProblemChanged():
                    self._teller.problem_changed(event)
                case JoinEnded():
                    self._attempts.join_ended(event)
                case StreamsTried():
                    self._attempts.streams_tried()
                case RingChanged():
                    self._tasks.start("keyring", self.keyring.keep())
                case EpochWanted():
                    self._renew(event.above)
        if any(isinstance(event, MemberChanged) for event in events):
            self._teller.show_unreachable()

    def _renew(self, above: int) -> None:
        if not self._renewing:
            self._renewing = True
            self._tasks.start("epoch", self._renew_above(above))

    async def _renew_above(self, above: int) -> None:
        """Become the newer one of two that run under this identity."""
        try:
            epoch = await self._worker.call(partial(identity.next_epoch, self._directory, above))
            self.core.renew(epoch, self._loop.time())
            self._driver.carry_out()
            await asyncio.sleep(RENEW_S)  # two that contend must not do so without pause
        except Unavailable as error:
            log.error("this node stays with an epoch that another one has: %s", error)
        finally:
            self._renewing = False

    # For others

    async def _redeem(self, secret: bytes) -> bytes:
        if self._secret.is_open:
            raise Unavailable("this cluster has no key that a token could bring")
        await self._worker.call(partial(self._tokens.redeem, secret))
        return self._secret.secret

    def _others(self) -> set[Address]:
        """The addresses of the other members that are there."""
        return {
            member.address
            for member in self.core.members()
            if member.id != self.core.id and member.state in (State.ALIVE, State.SUSPECT)
        }

    async def _reporting(self) -> None:
        while True:
            count = self.report()
            await asyncio.sleep(max(REPORT_S, count * REPORT_MEMBER_S))

    def report(self) -> int:
        """Note how things are; returns how many members there are."""
        known = list(self.core.members())
        self._teller.forget_all_but([member.id for member in known])
        self.latest = views.report(
            self.core,
            known,
            secured=not self._secret.is_open,
            levels={
                "calls_made": self._driver.calls,
                "questions_asking": self._asker.asking,
                "questions_answering": self._desk.answering,
                "stream_strangers": self._server.admission.strangers,
                "stream_members": self._server.admission.members,
            },
            unanswered=self._rejoin.unanswered,
            udp_dropped=self._sockets.udp.dropped(),
        )
        return len(known)
