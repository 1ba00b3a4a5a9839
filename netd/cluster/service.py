"""The engine's cluster: a member of one, or on its own until it joins.

All calls are made on the engine's loop. Reads answer from copies there; the rest is carried out
on the gossip thread.
"""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from netd.cluster import entry, joining
from netd.cluster import secret as secrets
from netd.cluster.addresses import Place, has, is_loopback, is_wildcard, parse, resolve
from netd.cluster.gossip import MakeCore, gossip_core
from netd.cluster.health import cluster_health
from netd.cluster.identity import NodeKey
from netd.cluster.mirror import Mirror, Notify
from netd.cluster.running import Running, advertised_address
from netd.cluster.secret import KEY_BYTES, ClusterSecret
from netd.cluster.settings import ANYWHERE, ClusterSettings
from netd.cluster.tokens import JoinToken, TokenBook
from netd.cluster.views import alone, check_record, rfc3339
from netd.engine.interfaces import ClusterHealth, Record
from netd.gossip.keys import RingConflict
from netd.gossip.settings import profile
from netd.gossip.values import T
from netd.model.errors import Conflict, Invalid, NetdError, NotFound, Unavailable
from netd.model.views import ClusterKey, JoinResult, Member, Token
from netd.tasks import Tasks
from netd.worker import Worker

JOIN_ADDRESSES_MAX: Final = 64
TOKEN_AGAIN_S: Final = 2.0  # at first; each time twice as long, up to a minute
TOKEN_AGAIN_MAX_S: Final = 60.0
ADDRESS_CHECK_S: Final = 30.0

_NO_KEY: Final = (
    "this host has no key of a cluster: start netd with the same --cluster-key FILE as the other "
    "hosts (`netctl key generate` prints a new key), or join with a token (`netctl member token` "
    "on a member prints one)"
)

log = logging.getLogger(__name__)


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
        self._key = key
        self._secret = known_secret
        self._token = token  # of the configuration, to be redeemed
        self._worker = worker
        self._tokens = TokenBook(settings.directory)
        self._make_core = make_core
        self._mirror = Mirror(alone(key.id, settings))
        self._ended: Counter[str] = Counter()  # what earlier runs have counted
        self._running: Running | None = None
        self._seen: object = None  # the report whose measures the mirror has
        self._token_problem = ""
        self._changing = asyncio.Lock()  # held to begin or end taking part
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
            if known is not None:
                await service._begin(known)
        except BaseException:
            worker.close()
            raise
        return service

    async def start(self) -> None:
        """Begin to take part: join the configured addresses and the peers known before."""
        async with self._changing:
            if self._running is not None and not self._running.started:
                await self._running.start()
        if self._token is not None and self._secret is None:
            self._tasks.start("join by token", self._join_by_token(self._token))
        self._tasks.start("own address", self._follow_address())

    async def close(self) -> None:
        """Stop taking part, without leaving. Doing it again does nothing."""
        if self._closed:
            return
        self._closed = True
        await self._tasks.stop()
        async with self._changing:
            running, self._running = self._running, None
            if running is not None:
                await running.close()
        self._worker.close()

    # Members

    def members(self) -> tuple[Member, ...]:
        if self._running is not None and self._running.report is not self._seen:
            self._seen = self._running.report
            self._mirror.refresh(self._running.report.members)
        return self._mirror.members()

    async def join(self, addresses: Sequence[str], token: str | None) -> tuple[JoinResult, ...]:
        if len(addresses) > JOIN_ADDRESSES_MAX:
            raise Invalid(f"more than {JOIN_ADDRESSES_MAX} addresses", field="addresses")
        places = [parse(written, f"addresses[{n}]") for n, written in enumerate(addresses)]
        parsed = JoinToken.parse(token) if token is not None else None
        async with self._changing:
            running = await self._ready(parsed, places)
        if parsed is not None and not places:
            places = [Place(*address) for address in parsed.addresses]
            addresses = list(map(str, places))
        answers = await asyncio.gather(*(self._ask(running, place) for place in places))
        return tuple(
            JoinResult(address=address, error=error)
            for address, error in zip(addresses, answers, strict=True)
        )

    async def leave(self) -> None:
        async with self._changing:
            running = self._running
            if running is None or not running.started:
                return
            await running.run(running.node.leave(profile(self._settings.profile).leave_s))
            await self._end()
            log.info("this node has left the cluster")

    # Keys and tokens

    def keys(self) -> tuple[ClusterKey, ...]:
        return self._running.report.keys if self._running is not None else ()

    async def install_key(self, secret: bytes | None) -> ClusterKey:
        if secret is not None and len(secret) != KEY_BYTES:
            raise Invalid(f"a key has {KEY_BYTES} bytes, not {len(secret)}", field="secret")
        running = self._keyed()
        key_id = await self._change_ring(
            running.run(running.node.install_key(secret or os.urandom(KEY_BYTES)))
        )
        return self._shown_key(key_id.hex())

    async def use_key(self, key_id: str) -> ClusterKey:
        running = self._keyed()
        await self._change_ring(running.run(running.node.use_key(self._known_key(key_id))))
        return self._shown_key(key_id)

    async def remove_key(self, key_id: str) -> None:
        running = self._keyed()
        await self._change_ring(running.run(running.node.remove_key(self._known_key(key_id))))

    async def issue_token(self, expires_s: int, uses: int) -> Token:
        running = self._keyed()
        issued, expires_at_s = await self._worker.call(partial(self._tokens.issue, expires_s, uses))
        token = JoinToken(
            cluster_id=running.secret.cluster_id,
            authority_public_key=running.secret.authority_public_key,
            secret=issued,
            expires_s=int(expires_at_s),
            addresses=(running.advertised,),
        )
        return Token(token=token.text(), expires_at=rfc3339(expires_at_s), uses=uses)

    # Records, and what there is to see

    def publish(self, records: Sequence[Record]) -> None:
        for record in records:
            check_record(record)
        changed = self._mirror.publish(records)
        if self._running is not None:
            self._running.publish(changed)

    def watch(self, notify: Notify) -> Callable[[], None]:
        return self._mirror.watch(notify)

    async def look(self) -> None:
        running = self._running
        if running is not None and running.started:
            with suppress(Unavailable):  # it has just stopped taking part
                await running.run(running.node.look())

    def health(self) -> ClusterHealth:
        unanswered = {}
        if self._token_problem and self._settings.token_file is not None:
            unanswered[str(self._settings.token_file)] = self._token_problem
        return cluster_health(self._running, self._mirror.problems(), unanswered)

    def counters(self) -> dict[str, int]:
        running = self._running.counters() if self._running is not None else {}
        return dict(self._ended + Counter(running))

    def levels(self) -> dict[str, int]:
        if self._running is None:
            return {}
        return {**self._running.report.levels, "news": self._running.outbox.waiting}

    # Taking part

    async def _ready(self, token: JoinToken | None, also: Sequence[Place]) -> Running:
        """The running node, begun now if need be; by the token if it has no key."""
        if self._closed:
            raise Unavailable("netd is being stopped")
        known = self._secret
        if token is not None and (known is None or known.is_open):
            bound = (self._settings.bind or ANYWHERE)[0]
            known = await joining.redeem(token, also, bound, self._ended)
            await self._worker.call(partial(secrets.store, self._settings.directory, known))
            await self._end()
        elif token is not None and known is not None and known.cluster_id != token.cluster_id:
            raise Conflict("the token leads to another cluster than this host's key", field="token")
        if known is None:
            raise Unavailable(_NO_KEY)
        if self._running is None:
            await self._begin(known)
        assert self._running is not None
        if not self._running.started:
            await self._running.start()
        return self._running

    async def _begin(self, known: ClusterSecret) -> None:
        running = await Running.open(
            self._settings,
            known,
            self._key,
            self._worker,
            self._tokens,
            self._make_core,
            self._mirror.take,
        )
        self._secret = known
        self._running = running
        running.publish(self._mirror.own_records())  # no `await` since it can be published to

    async def _end(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            await running.close()
            self._ended.update(running.counters())
            self._mirror.end(alone(self._key.id, self._settings))

    async def _ask(self, running: Running, place: Place) -> str:
        """Join one place, by any of its addresses: "" or why nobody has answered."""
        try:
            addresses = await resolve(place, running.bound[0])
            answers = await running.run(running.node.join(addresses))
        except NetdError as error:
            return error.detail
        return "" if "" in answers.values() else "; ".join(dict.fromkeys(answers.values()))

    async def _join_by_token(self, token: JoinToken) -> None:
        """Try until the issuer is there: hosts may start in any order."""
        pause_s = TOKEN_AGAIN_S
        while self._secret is None:
            try:
                async with self._changing:
                    running = await self._ready(token, self._settings.seeds)
            except Unavailable as error:
                self._note_token_problem(f"{error.detail}; it is tried again")
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, TOKEN_AGAIN_MAX_S)
            except NetdError as error:
                self._note_token_problem(error.detail)
                return
            else:
                self._note_token_problem("")
                issuer = [Place(*address) for address in token.addresses]
                await asyncio.gather(*(self._ask(running, place) for place in issuer))

    def _note_token_problem(self, detail: str) -> None:
        if detail and detail != self._token_problem:
            log.warning("this host is on its own: %s", detail)
        self._token_problem = detail

    async def _follow_address(self) -> None:
        """Begin anew when the host has lost the address that the others know it by."""
        while True:
            await asyncio.sleep(ADDRESS_CHECK_S)
            async with self._changing:
                await self._check_address()

    async def _check_address(self) -> None:
        running = self._running
        chosen = self._settings.advertise is None and is_wildcard(
            (self._settings.bind or ANYWHERE)[0]
        )
        if running is None or not chosen:
            return
        host, now = running.advertised[0], advertised_address(self._settings, running.bound)[0]
        if host == now or (has(host) and not is_loopback(host)):
            return
        log.warning("the address of this host is %s now: the cluster is entered again", now)
        await self._end()
        try:
            await self._ready(None, ())
        except NetdError as error:
            log.error("the cluster cannot be entered again: %s", error.detail)

    # Keys

    def _keyed(self) -> Running:
        if self._running is None or self._running.secret.is_open:
            raise Unavailable(_NO_KEY)
        return self._running

    def _known_key(self, key_id: str) -> bytes:
        if all(key.id != key_id for key in self.keys()):
            known = ", ".join(key.id for key in self.keys())
            raise NotFound(f"there is no key {key_id!r}; known are {known}")
        return bytes.fromhex(key_id)

    async def _change_ring(self, change: Coroutine[Any, Any, T]) -> T:
        try:
            return await change
        except RingConflict as error:
            names = {member.id: member.name for member in self._mirror.members()}
            who = [names.get(node.hex(), node.hex()) for node in error.nodes]
            raise Conflict(": ".join(filter(None, [str(error), ", ".join(who)]))) from None

    def _shown_key(self, key_id: str) -> ClusterKey:
        found = next((key for key in self.keys() if key.id == key_id), None)
        if found is None:
            raise Unavailable(f"key {key_id} was removed meanwhile")
        return found
