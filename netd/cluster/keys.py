"""The cluster's keys as operators see them, and tokens that bring new hosts a key."""

import os
from collections.abc import Coroutine
from functools import partial
from typing import Any

from netd.cluster.mirror import Mirror
from netd.cluster.participation import NO_KEY, Participation
from netd.cluster.running import Running
from netd.cluster.secret import KEY_BYTES
from netd.cluster.tokens import JoinToken, TokenBook
from netd.cluster.views import rfc3339
from netd.gossip.keys import RingConflict
from netd.gossip.values import T
from netd.model.errors import Conflict, Invalid, NotFound, Unavailable
from netd.model.views import ClusterKey, Token
from netd.worker import Worker


class Keys:
    """On the engine's loop. All but `all` raise `Unavailable` on a host without a key."""

    def __init__(
        self, participation: Participation, mirror: Mirror, worker: Worker, tokens: TokenBook
    ) -> None:
        self._participation = participation
        self._mirror = mirror
        self._worker = worker
        self._tokens = tokens

    def all(self) -> tuple[ClusterKey, ...]:
        running = self._participation.running
        return running.report.keys if running is not None else ()

    async def install(self, secret: bytes | None) -> ClusterKey:
        if secret is not None and len(secret) != KEY_BYTES:
            raise Invalid(f"a key has {KEY_BYTES} bytes, not {len(secret)}", field="secret")
        running = self._keyed()
        key_id = await self._change(
            running.run(running.node.keyring.install(secret or os.urandom(KEY_BYTES)))
        )
        return self._shown(key_id.hex())

    async def use(self, key_id: str) -> ClusterKey:
        running = self._keyed()
        await self._change(running.run(running.node.keyring.use(self._known(key_id))))
        return self._shown(key_id)

    async def remove(self, key_id: str) -> None:
        running = self._keyed()
        await self._change(running.run(running.node.keyring.remove(self._known(key_id))))

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

    def _keyed(self) -> Running:
        running = self._participation.running
        if running is None or running.secret.is_open:
            raise Unavailable(NO_KEY)
        return running

    def _known(self, key_id: str) -> bytes:
        if all(key.id != key_id for key in self.all()):
            known = ", ".join(key.id for key in self.all())
            raise NotFound(f"there is no key {key_id!r}; known are {known}")
        return bytes.fromhex(key_id)

    async def _change(self, change: Coroutine[Any, Any, T]) -> T:
        try:
            return await change
        except RingConflict as error:
            names = {member.id: member.name for member in self._mirror.members()}
            who = [names.get(node.hex(), node.hex()) for node in error.nodes]
            raise Conflict(": ".join(filter(None, [str(error), ", ".join(who)]))) from None

    def _shown(self, key_id: str) -> ClusterKey:
        found = next((key for key in self.all() if key.id == key_id), None)
        if found is None:
            raise Unavailable(f"key {key_id} was removed meanwhile")
        return found
