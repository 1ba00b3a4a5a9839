"""A member of a cluster: sockets, protocol core and state files, all on the gossip loop."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from netd.cluster import identity, snapshot, tls, views
from netd.cluster.addresses import Place, is_wildcard
from netd.cluster.client import StreamClient
from netd.cluster.core import Core
from netd.cluster.driver import Driver
from netd.cluster.identity import NodeKey
from netd.cluster.outbox import Forgotten, Outbox
from netd.cluster.rejoin import Rejoin
from netd.cluster.secret import ClusterSecret
from netd.cluster.server import StreamServer
from netd.cluster.sockets import Sockets
from netd.cluster.tokens import TokenBook
from netd.engine.interfaces import Record
from netd.gossip.keys import TABLE as KEYRING
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
    State,
    StreamsTried,
)
from netd.model.errors import Unavailable
from netd.tasks import Tasks
from netd.worker import Worker

JOIN_S: Final = 15.0
LOOK_S: Final = 4.0
PEERS_FLUSH_S: Final = 0.5
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
    ) -> None:
        self.core = core
        self.latest = views.Report()  # read by other threads
        self._directory = directory
        self._sockets = sockets
        self._secret = secret
        self._worker = worker
        self._tokens = tokens
        self._outbox = outbox
        self._views = views.MemberViews(core.id)
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        self._joins: dict[Address, list[asyncio.Future[str]]] = {}
        self._looks: list[asyncio.Future[None]] = []
        self._peers_flush: asyncio.TimerHandle | None = None
        self._peers_stored = tuple(peers)
        self._peers_failed = False
        self._renewing = False
        bound = sockets.address
        counters = sockets.udp.counters
        client = StreamClient(
            tls.client_context(secret, key),
            secret.authority_public_key,
            counters,
            None if is_wildcard(bound[0]) else bound[0],
        )
        self._driver = Driver(core, sockets.udp, client, self._notice)
        self._server = StreamServer(
            sockets.listening,
            tls.server_context(secret, key),
            secret.authority_public_key,
            self._driver.serve,
            self._redeem,
            counters,
        )
        self._rejoin = Rejoin(
            seeds,
            [peer.address for peer in self._peers_stored],
            bound[0],
            {bound, advertised},
            self.join,
            self._others,
        )
        self.report()

    async def start(self) -> None:
        self._show(self.core.id)
        self._server.start()
        self._driver.start()
        self._tasks.start("rejoin", self._rejoin.run())
        self._tasks.start("report", self._reporting())

    async def close(self) -> None:
        """Stop at once. The others will find this node dead, unless it has left."""
        await self._tasks.stop()
        await self._server.close()
        await self._driver.close()
        if self._peers_flush is not None:
            self._peers_flush.cancel()
            await self._write_peers()
        for waiting in self._joins.values():
            for future in waiting:
                if not future.done():
                    future.set_result("this host has stopped taking part")

    async def join(self, addresses: Sequence[Address]) -> Mapping[Address, str]:
        """Ask the addresses; for each "" or why it has not answered."""
        futures: dict[Address, asyncio.Future[str]] = {}
        for address in dict.fromkeys(addresses):
            futures[address] = self._loop.create_future()
            self._joins.setdefault(address, []).append(futures[address])
        self.core.join(list(futures), self._loop.time())
        self._driver.carry_out()
        await asyncio.wait(futures.values(), timeout=JOIN_S)
        answers: dict[Address, str] = {}
        for address, future in futures.items():
            if future.done():
                answers[address] = future.result()
            else:
                answers[address] = f"no answer within {JOIN_S:g} s"
                self._joins[address].remove(future)
        return answers

    async def look(self) -> None:
        """Find out whether streams reach the others, for the report. Takes `LOOK_S` at most."""
        tried: asyncio.Future[None] = self._loop.create_future()
        self._looks.append(tried)
        self.core.try_streams(self._loop.time())
        self._driver.carry_out()
        await asyncio.wait([tried], timeout=LOOK_S)
        self.report()

    async def leave(self, leave_s: float) -> None:
        """Tell the others, and go on for so long that they pass it on. Forgets the peers."""
        await self._tasks.stop()
        self.core.leave(self._loop.time())
        self._driver.carry_out()
        await asyncio.sleep(leave_s)
        if self._peers_flush is not None:
            self._peers_flush.cancel()
            self._peers_flush = None
        try:
            await self._worker.call(partial(snapshot.forget_peers, self._directory))
        except OSError as error:
            log.warning("the peers of the cluster that was left stay on disk: %s", error)

    def publish(self, records: Sequence[Record]) -> None:
        now_s = self._loop.time()
        for record in records:
            self.core.publish(record.scope, record.table, record.key, record.value, now_s)
        self._driver.carry_out()

    async def install_key(self, secret: bytes) -> bytes:
        """The key's id. Raises `Unavailable` when the ring cannot be stored: then it is gone."""
        before = self.core.ring
        key_id = self.core.install_key(secret, self._loop.time())
        try:
            await self._store_ring()
        except Unavailable:
            if key_id not in before.ids:
                self.core.remove_key(key_id, self._loop.time())
            raise
        finally:
            self._driver.carry_out()
            self.report()
        return key_id

    async def use_key(self, key_id: bytes) -> None:
        self.core.use_key(key_id, self._loop.time())
        self._driver.carry_out()
        self.report()
        await self._store_ring()

    async def remove_key(self, key_id: bytes) -> None:
        self.core.remove_key(key_id, self._loop.time())
        self._driver.carry_out()
        self.report()
        await self._store_ring()

    # What the core says

    def _notice(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case MemberChanged():
                    self._member_changed(event)
                case RecordChanged():
                    # What this node publishes, it knows; keyrings are seen by `keys`.
                    if event.owner != self.core.id and event.table != KEYRING:
                        self._outbox.put(views.record(event))
                case ProblemChanged():
                    self._outbox.put(views.problem(event))
                case JoinEnded():
                    self._join_ended(event)
                case StreamsTried():
                    self._looked()
                case RingChanged():
                    self._tasks.start("keyring", self._keep_ring())
                case EpochWanted():
                    self._renew(event.above)
        if any(isinstance(event, MemberChanged) for event in events):
            self._show_unreachable()

    def _member_changed(self, event: MemberChanged) -> None:
        self._show(event.id)
        if self._peers_flush is None and event.id != self.core.id:
            self._peers_flush = self._loop.call_later(PEERS_FLUSH_S, self._flush_peers)

    def _show_unreachable(self) -> None:
        """How they are shown depends on whether this node reaches anybody at all."""
        for member in self.core.members():
            if member.unreachable:
                self._show(member.id)

    def _show(self, node: NodeId) -> None:
        known = self.core.member(node)
        if known is not None:
            self._outbox.put(self._views.member(known, self.core.shown(known)))
        else:
            self._outbox.put(Forgotten(node.hex()))

    def _join_ended(self, event: JoinEnded) -> None:
        error = event.error
        if error:
            error = self._driver.failures.get(event.address, error)
        for future in self._joins.pop(event.address, ()):
            if not future.done():
                future.set_result(error)

    def _looked(self) -> None:
        for tried in self._looks:
            if not tried.done():
                tried.set_result(None)
        self._looks.clear()

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

    # State files

    async def _keep_ring(self) -> None:
        try:
            await self._store_ring()
        except Unavailable as error:
            log.warning("the keyring is kept in memory only: %s", error)

    async def _store_ring(self) -> None:
        store = partial(
            snapshot.store_ring, self._directory, self._secret.cluster_id, self.core.ring
        )
        await self._worker.call(store)

    def _flush_peers(self) -> None:
        self._peers_flush = None
        self._tasks.start("peers", self._write_peers())

    async def _write_peers(self) -> None:
        """Keep the peers that are known now. A full disk does not stop anything."""
        peers = tuple(
            snapshot.Peer(member.id.hex(), *member.address)
            for member in sorted(self.core.members(), key=lambda member: member.state)
            if member.id != self.core.id and member.state != State.LEFT
        )
        if peers == self._peers_stored:
            return
        store = partial(snapshot.store_peers, self._directory, self._secret.cluster_id, peers)
        try:
            await self._worker.call(store)
        except OSError as error:
            if not self._peers_failed:
                log.warning("peers are not kept for the next start: %s", error)
            self._peers_failed = True
        else:
            self._peers_failed = False
            self._peers_stored = peers

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
        core = self.core
        known = list(core.members())
        notices = core.rings()
        self._views.forget_all_but([member.id for member in known])
        self.latest = views.Report(
            members={member.id.hex(): views.measures(member) for member in known},
            peers=tuple(
                views.peer(member, core.shown(member), core.ring, notices.get(member.id))
                for member in known
                if member.id != core.id
            ),
            keys=()
            if self._secret.is_open
            else views.keys(
                core.ring,
                notices,
                {member.id: member.name for member in known if member.live},
            ),
            levels={
                **core.levels(),
                "calls_made": self._driver.calls,
                "stream_strangers": self._server.admission.strangers,
                "stream_members": self._server.admission.members,
            },
            unanswered=dict(self._rejoin.unanswered),
            udp_dropped=self._sockets.udp.dropped(),
        )
        return len(known)
