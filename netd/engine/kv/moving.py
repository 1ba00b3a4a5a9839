"""How the keys go from one host to another, while both are up.

The giving host stops serving, on the disk, before it sends anything, and forgets the keys only
when it knows that the other one holds them. The taking host has taken them in one commit. If
the giving host does not hear whether that was done, it asks until it is told, or has told the other
one never to take them; meanwhile nobody serves them.
"""

import asyncio
import logging
from typing import Final

import msgspec

from netd.engine.interfaces import Cluster
from netd.engine.kv import messages
from netd.engine.kv.messages import PART_MAX_BYTES, Cancel, Holding, Question, Seen, Stage, Take
from netd.engine.kv.place import Place, Standing
from netd.kv.space import NOTHING, Stored
from netd.model.errors import Conflict, Invalid, NetdError, Unavailable
from netd.model.views import Member
from netd.tasks import Tasks

RETRY_S: Final = 2.0
STAGED_MAX_BYTES: Final = 1 << 30
_GONE: Final = ("dead", "left")

log = logging.getLogger(__name__)
_stored = msgspec.msgpack.Decoder(Stored)


class Moving:
    """`node` is this host's name."""

    def __init__(self, cluster: Cluster, place: Place, tasks: Tasks, node: str) -> None:
        self._cluster = cluster
        self._place = place
        self._tasks = tasks
        self._node = node
        self._staged: tuple[str, bytearray] = ("", bytearray())
        self._taking = asyncio.Lock()

    def start(self) -> None:
        """Bring a move to its end that this host was stopped at."""
        if self._place.standing.role == "moving":
            self._tasks.start("settle a move of keys", self._settle_until_known())

    # The giving host

    async def give(self, to: Member, stored: Stored) -> None:
        """Raises `Unavailable` when the keys are still here, or nobody knows yet where.

        `stored` are all keys as they are once this host has stopped serving them.
        """
        holding = self._place.standing.holding
        assert holding is not None
        try:
            await self._send(to.id, stored)
            await self._put(to.id, Take(self._next(to.id, to.name), len(_encode(stored))))
        except NetdError as error:
            log.warning("moving keys to %s: %s", to.name, error.detail)
            failure = error.detail
        else:
            failure = ""
        if not await self._settle():
            self._tasks.start("settle a move of keys", self._settle_until_known())
            raise Unavailable(
                f"{to.name} does not say whether it holds the keys now ({failure}); until it does, "
                "nobody serves them"
            )
        if self._place.standing.role == "holder":
            raise Unavailable(f"the keys are still here: {failure or 'it was cancelled'}")

    def offer(self, to: Member) -> Standing:
        """The standing of a host that stops serving the keys and gives them away."""
        standing = self._place.standing
        assert standing.holding is not None
        term = max(standing.holding.term, standing.burnt) + 1
        return msgspec.structs.replace(standing, role="moving", to=to.id, burnt=term)

    def _next(self, member: str, name: str) -> Holding:
        holding = self._place.standing.holding
        assert holding is not None
        return msgspec.structs.replace(
            holding, term=self._place.standing.burnt, holder=member, name=name
        )

    async def _send(self, member: str, stored: Stored) -> None:
        data = _encode(stored)
        for offset in range(0, len(data), PART_MAX_BYTES):
            await self._put(member, Stage(offset, data[offset : offset + PART_MAX_BYTES]))

    async def _settle_until_known(self) -> None:
        while True:
            if await self._settle():
                return
            await asyncio.sleep(RETRY_S)

    async def _settle(self) -> bool:
        """Find out who holds the keys; False: it cannot be known yet."""
        standing = self._place.standing
        if standing.role != "moving":
            return True
        offered = self._next(standing.to, self._name_of(standing.to))
        try:
            answer = await self._put(standing.to, Cancel(offered))
            holding = answer.holding
            if holding is not None and holding.continues(offered) and holding.term >= offered.term:
                gone = msgspec.structs.replace(standing, holding=holding, role="none", to="")
                await self._place.become(gone, NOTHING)
            else:
                kept = msgspec.structs.replace(standing, role="holder", to="")
                await self._place.become(kept)
        except NetdError as error:
            log.warning("where the keys are is not known yet: %s", error.detail)
            return False
        return True

    def _name_of(self, member_id: str) -> str:
        names = (member.name for member in self._cluster.members() if member.id == member_id)
        return next(names, member_id)

    async def _put(self, member: str, question: Question) -> Seen:
        answer = await messages.put(self._cluster, member, question)
        if not isinstance(answer, Seen):
            raise Unavailable("it answers something else")
        return answer

    # The taking host

    def stage(self, member: str, asked: Stage) -> Seen:
        """Raises `Invalid`."""
        if asked.offset == 0:
            self._staged = (member, bytearray())
        whose, data = self._staged
        if whose != member or len(data) != asked.offset:
            raise Invalid("this part does not follow the last one")
        if len(data) + len(asked.part) > STAGED_MAX_BYTES:
            raise Invalid(f"more than {STAGED_MAX_BYTES} bytes of keys")
        data += asked.part
        return Seen(self._place.holding)

    async def take(self, member: str, asked: Take) -> Seen:
        """Hold from now on what was staged. Raises `Conflict`, `Invalid`, `Unavailable`."""
        async with self._taking:
            standing = self._place.standing
            offered = asked.holding
            if offered == standing.holding and standing.role == "holder":
                return Seen(offered)
            if offered.holder != self._cluster.id:
                raise Invalid("these keys are another host's to hold")
            if standing.cancelled is not None and not offered.beats(standing.cancelled):
                raise Conflict("this move was cancelled")
            if not offered.beats(standing.holding):
                raise Conflict("another host holds the keys, as this one knows")
            stored = NOTHING if asked.empty else self._whole(member, asked.size)
            self._staged = ("", bytearray())
            became = Standing(holding=offered, role="holder", cancelled=standing.cancelled)
            await self._place.become(became, stored)
            return Seen(offered)

    async def cancel(self, asked: Cancel) -> Seen:
        """Never take this over, unless it was already."""
        async with self._taking:
            standing = self._place.standing
            if not asked.holding.beats(standing.holding):
                return Seen(standing.holding)
            if standing.cancelled is None or asked.holding.beats(standing.cancelled):
                await self._place.become(msgspec.structs.replace(standing, cancelled=asked.holding))
            return Seen(standing.holding)

    def _whole(self, member: str, size: int) -> Stored:
        whose, data = self._staged
        if whose != member or len(data) != size:
            raise Invalid(f"of {size} bytes of keys {len(data)} have come")
        try:
            return _stored.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Invalid(f"the keys cannot be understood: {error}") from None

    # A holder that is lost

    async def begin_anew(self, to: Member) -> None:
        """Have a host hold keys in place of one that is lost with them; there are none at first.

        Raises `Conflict` while the holder is not known to be gone.
        """
        holding = self._place.holding
        if holding is None:
            raise Conflict("nobody has held keys yet: there is nothing to abandon")
        states = {member.id: member.state for member in self._cluster.members()}
        if states.get(holding.holder, "dead") not in _GONE:
            raise Conflict(f"{holding.name} holds the keys and is not gone: move them from it")
        offered = msgspec.structs.replace(
            holding, term=holding.term + 1000, holder=to.id, name=to.name
        )
        answer = await self._put(to.id, Take(offered, empty=True))
        if answer.holding != offered:
            raise Unavailable(f"{to.name} does not hold the keys")
        await self._place.adopt(offered)


def _encode(stored: Stored) -> bytes:
    return msgspec.msgpack.encode(stored)
