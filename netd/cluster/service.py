"""The engine's cluster: a member of one, or on its own until it joins.

All calls are made on the engine's loop. Reads answer from copies there; the rest is carried out
on the gossip thread.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from netd.cluster import entry, questions
from netd.cluster.addresses import Place, parse
from netd.cluster.by_token import JoinByToken
from netd.cluster.gossip import MakeCore, gossip_core
from netd.cluster.health import cluster_health
from netd.cluster.identity import NodeKey
from netd.cluster.keys import Keys
from netd.cluster.mirror import Mirror, Notify
from netd.cluster.participation import Participation
from netd.cluster.presence import host_answers
from netd.cluster.questions import Answers
from netd.cluster.secret import ClusterSecret
from netd.cluster.settings import ClusterSettings
from netd.cluster.tokens import JoinToken, TokenBook
from netd.cluster.views import alone, check_record, check_scope, member_id
from netd.engine.interfaces import Answer, ClusterHealth, Record, RecordChange
from netd.model.errors import Exhausted, Invalid, Unavailable
from netd.model.views import ClusterKey, JoinResult, Member, Token
from netd.tasks import Tasks
from netd.worker import Worker

JOIN_ADDRESSES_MAX: Final = 64
SCOPES_MAX: Final = 4096  # a request for records names them all


class ClusterService:
    """Implements `netd.engine.interfaces.Cluster`. Made by `open`; `start` begins to take part.

    What is published between the two is there from the first moment, so the others do not see
    this node without its records when it is restarted.

    A node leaves the way Consul's and Serf's agents do. `leave` makes it forget its peers, so no
    later start brings it back by itself; the addresses to join in the configuration are an
    order, though, which the next start follows. The cluster's key stays: `join` with any
    member's address is enough to come back. Stopping the daemon (`close`) is not leaving: the
    node's records are hidden as those of a dead node until it is back.
    """

    def __init__(
        self,
        settings: ClusterSettings,
        key: NodeKey,
        known_secret: ClusterSecret | None,
        token: JoinToken | None,
        worker: Worker,
        make_core: MakeCore,
    ) -> None:
        self.id = key.id.hex()
        self._settings = settings
        self._worker = worker
        self._mirror = Mirror(alone(key.id, settings))
        self._answers = Answers()
        tokens = TokenBook(settings.directory)
        self._participation = Participation(
            settings, key, known_secret, worker, tokens, make_core, self._mirror, self._answers
        )
        self._keys = Keys(self._participation, self._mirror, worker, tokens)
        self._by_token = (
            JoinByToken(self._participation, token, settings.seeds) if token is not None else None
        )
        self._seen: object = None  # the report whose measures the mirror has
        self._tasks = Tasks()
        self._closed = False

    @classmethod
    async def open(
        cls, settings: ClusterSettings, make_core: MakeCore = gossip_core
    ) -> "ClusterService":
        """Read the state folder and bind the sockets.

        Raises `Invalid` for a wrong configuration, e.g. no key and an address that others
        reach, and `Unavailable` when a file is damaged or the port is taken.
        """
        worker = Worker("cluster files")
        try:
            known, token = await worker.call(partial(entry.find, settings))
            key = await worker.call(partial(NodeKey.open, settings.directory))
            service = cls(settings, key, known, token, worker, make_core)
            await service._participation.open()
        except BaseException:
            worker.close()
            raise
        return service

    async def start(self) -> None:
        """Begin to take part: join the configured addresses and the peers known before."""
        await self._participation.start()
        if self._by_token is not None:
            self._tasks.start("join by token", self._by_token.run())
        self._tasks.start("own address", self._participation.follow_address())

    async def close(self) -> None:
        """Stop taking part, without leaving. Doing it again does nothing."""
        if self._closed:
            return
        self._closed = True
        await self._tasks.stop()
        await self._participation.close()
        self._worker.close()

    # Members

    def members(self) -> tuple[Member, ...]:
        running = self._participation.running
        if running is not None and running.report is not self._seen:
            self._seen = running.report
            self._mirror.refresh(running.report.members)
        return self._mirror.members()

    async def join(self, addresses: Sequence[str], token: str | None) -> tuple[JoinResult, ...]:
        if len(addresses) > JOIN_ADDRESSES_MAX:
            raise Invalid(f"more than {JOIN_ADDRESSES_MAX} addresses", field="addresses")
        places = [parse(written, f"addresses[{n}]") for n, written in enumerate(addresses)]
        parsed = JoinToken.parse(token) if token is not None else None
        running = await self._participation.enter(parsed, places)
        if parsed is not None and not places:
            places = [Place(*address) for address in parsed.addresses]
            addresses = list(map(str, places))
        answers = await asyncio.gather(*(running.join(place) for place in places))
        return tuple(
            JoinResult(address=address, error=error)
            for address, error in zip(addresses, answers, strict=True)
        )

    async def leave(self) -> None:
        await self._participation.leave()

    # Keys and tokens

    def keys(self) -> tuple[ClusterKey, ...]:
        return self._keys.all()

    async def install_key(self, secret: bytes | None) -> ClusterKey:
        return await self._keys.install(secret)

    async def use_key(self, key_id: str) -> ClusterKey:
        return await self._keys.use(key_id)

    async def remove_key(self, key_id: str) -> None:
        await self._keys.remove(key_id)

    async def issue_token(self, expires_s: int, uses: int) -> Token:
        return await self._keys.issue_token(expires_s, uses)

    # Records, and what there is to see

    def publish(self, records: Sequence[Record]) -> None:
        for record in records:
            check_record(record)
        self._send(self._mirror.publish(records))

    def subscribe(self, scope: bytes) -> None:
        check_scope(scope)
        known = self._mirror.scopes()
        if scope in known:
            return
        if len(known) >= SCOPES_MAX:
            raise Exhausted(f"this host is in {SCOPES_MAX} scopes already")
        self._mirror.subscribe(scope)
        running = self._participation.running
        if running is not None:
            running.subscribe(scope)
            running.publish(self._mirror.own_records(scope))

    def unsubscribe(self, scope: bytes) -> None:
        check_scope(scope)
        running = self._participation.running
        if self._mirror.unsubscribe(scope) and running is not None:
            running.unsubscribe(scope)

    def claim(
        self, table: str, key: str, body: bytes, *, stamp_ms: int | None = None, origin: str = ""
    ) -> None:
        wall_ms = int(time.time() * 1000)
        self._send(self._mirror.claim(table, key, body, stamp_ms, origin, wall_ms))

    def withdraw(self, table: str, key: str) -> None:
        self._send(self._mirror.withdraw(table, key))

    def _send(self, records: Sequence[Record]) -> None:
        if self._participation.running is not None:
            self._participation.running.publish(records)

    def records(self) -> tuple[RecordChange, ...]:
        return self._mirror.records()

    async def ask(self, member: str, topic: str, body: bytes, timeout_s: float) -> bytes:
        asked = questions.question(topic, body, timeout_s)
        if member == self.id:
            return questions.body_of(await self._answers.reply(member, asked))
        node = member_id(member, "member")
        running = self._participation.started
        if running is None:
            raise Unavailable("this host is on its own: there is nobody to ask")
        try:
            async with asyncio.timeout(asked.wait_ms / 1000):
                reply = await running.run(running.node.ask(node, asked))
        except TimeoutError:
            raise Unavailable(f"{member} has not answered within {timeout_s:g} s") from None
        return questions.body_of(reply)

    async def host_answers(self, member: str) -> bool:
        known = self._mirror.member(member)
        return known is not None and await host_answers(parse(known.address, "member"))

    def answer(self, topic: str, answer: Answer) -> None:
        self._answers.put(topic, answer)

    def watch(self, notify: Notify) -> Callable[[], None]:
        return self._mirror.watch(notify)

    async def look(self) -> None:
        running = self._participation.started
        if running is not None:
            with suppress(Unavailable):  # it has just stopped taking part
                await running.run(running.node.look())

    def health(self) -> ClusterHealth:
        unanswered = {}
        if self._by_token is not None and self._by_token.problem:
            unanswered[str(self._settings.token_file)] = self._by_token.problem
        return cluster_health(self._participation.running, self._mirror.problems(), unanswered)

    def counters(self) -> dict[str, int]:
        running = self._participation.running
        counted = Counter(running.counters() if running is not None else {})
        own = Counter(claims_ignored=self._mirror.claims_ignored)
        return dict(self._participation.ended + counted + own)

    def levels(self) -> dict[str, int]:
        running = self._participation.running
        if running is None:
            return {}
        return {**running.report.levels, "news": running.outbox.waiting}
