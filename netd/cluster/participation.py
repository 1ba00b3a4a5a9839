"""Whether this node takes part in a cluster: how that begins, goes on elsewhere, and ends."""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Final

from netd.cluster import joining
from netd.cluster import secret as secrets
from netd.cluster.addresses import Place, has, is_loopback, is_wildcard
from netd.cluster.gossip import MakeCore
from netd.cluster.identity import NodeKey
from netd.cluster.mirror import Mirror
from netd.cluster.questions import Answers
from netd.cluster.running import Running, advertised_address
from netd.cluster.secret import ClusterSecret
from netd.cluster.settings import ANYWHERE, ClusterSettings
from netd.cluster.tokens import JoinToken, TokenBook
from netd.cluster.views import alone
from netd.gossip.settings import profile
from netd.model.errors import Conflict, NetdError, Unavailable
from netd.worker import Worker

ADDRESS_CHECK_S: Final = 30.0

NO_KEY: Final = (
    "this host has no key of a cluster: start netd with the same --cluster-key FILE as the other "
    "hosts (`netctl key generate` prints a new key), or join with a token (`netctl member token` "
    "on a member prints one)"
)

log = logging.getLogger(__name__)


class Participation:
    """`running` is the node that takes part, or will from `start` on; None on its own.

    What it is to say is in `mirror`, and is said anew each time that it begins.
    """

    def __init__(
        self,
        settings: ClusterSettings,
        key: NodeKey,
        known_secret: ClusterSecret | None,
        worker: Worker,
        tokens: TokenBook,
        make_core: MakeCore,
        mirror: Mirror,
        answers: Answers,
    ) -> None:
        self.running: Running | None = None
        self.secret = known_secret
        self.ended: Counter[str] = Counter()  # what earlier runs have counted
        self._settings = settings
        self._key = key
        self._worker = worker
        self._tokens = tokens
        self._make_core = make_core
        self._mirror = mirror
        self._answers = answers
        self._ended_to_move = False  # and not begun again yet
        self._changing = asyncio.Lock()  # held to begin or end taking part
        self._closed = False

    @property
    def started(self) -> Running | None:
        """The node, if it takes part by now."""
        return self.running if self.running is not None and self.running.started else None

    async def open(self) -> None:
        """Bind the sockets, if a key is known. Raises as `Running.open` does."""
        if self.secret is not None:
            await self._begin(self.secret)

    async def start(self) -> None:
        async with self._changing:
            if self.running is not None and not self.running.started:
                await self.running.start()

    async def close(self) -> None:
        """Stop without leaving, for good."""
        self._closed = True
        async with self._changing:
            running, self.running = self.running, None
            if running is not None:
                await running.close()

    async def leave(self) -> None:
        async with self._changing:
            self._ended_to_move = False
            running = self.started
            if running is None:
                return
            await running.run(running.node.leave(profile(self._settings.profile).leave_s))
            await self._end()
            log.info("this node has left the cluster")

    async def enter(self, token: JoinToken | None, also: Sequence[Place]) -> Running:
        """The running node, begun now if need be; by the token if it has no key.

        The token's issuer may be at `also` as well. Raises `Unavailable` without a key, `Conflict`
        for a token of another cluster, and as `joining.redeem` does.
        """
        async with self._changing:
            return await self._enter(token, also)

    async def _enter(self, token: JoinToken | None, also: Sequence[Place]) -> Running:
        if self._closed:
            raise Unavailable("netd is being stopped")
        known = self.secret
        if token is not None and (known is None or known.is_open):
            bound = (self._settings.bind or ANYWHERE)[0]
            known = await joining.redeem(token, also, bound, self.ended)
            await self._worker.call(partial(secrets.store, self._settings.directory, known))
            self.secret = known  # whatever fails from here on, the token is not needed again
            await self._end()
        elif token is not None and known is not None and known.cluster_id != token.cluster_id:
            raise Conflict("the token leads to another cluster than this host's key", field="token")
        if known is None:
            raise Unavailable(NO_KEY)
        running = self.running or await self._begin(known)
        if not running.started:
            await running.start()
        return running

    async def _begin(self, known: ClusterSecret) -> Running:
        running = await Running.open(
            self._settings,
            known,
            self._key,
            self._worker,
            self._tokens,
            self._make_core,
            self._mirror.take,
            self._answers,
        )
        self.secret = known
        self.running = running  # no `await` from here on: what is said now is said once
        self._ended_to_move = False
        for scope in self._mirror.scopes():
            running.subscribe(scope)
        running.publish(self._mirror.own_records())
        return running

    async def _end(self) -> None:
        running, self.running = self.running, None
        if running is not None:
            await running.close()
            self.ended.update(running.counters())
            self._mirror.end(alone(self._key.id, self._settings))

    async def follow_address(self) -> None:
        """Begin anew when the host has lost the address that the others know it by."""
        while True:
            await asyncio.sleep(ADDRESS_CHECK_S)
            async with self._changing:
                await self._check_address()

    async def _check_address(self) -> None:
        if self._ended_to_move:
            await self._enter_again()
            return
        running = self.running
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
        self._ended_to_move = True
        await self._enter_again()

    async def _enter_again(self) -> None:
        try:
            await self._enter(None, ())
        except NetdError as error:
            log.error("the cluster cannot be entered, which is tried again: %s", error.detail)
