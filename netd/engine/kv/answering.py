"""What this host answers others about keys."""

import asyncio
from collections.abc import Callable
from typing import Final

from netd.engine.kv import messages
from netd.engine.kv.founding import Founding
from netd.engine.kv.keeper import Keeper
from netd.engine.kv.messages import (
    Agree,
    Answer,
    Batch,
    Begin,
    Cancel,
    Changed,
    Counts,
    Follow,
    More,
    Part,
    Results,
    Seen,
    Stage,
    Take,
    Who,
)
from netd.engine.kv.moving import Moving
from netd.engine.kv.parts import LongAnswers
from netd.engine.kv.place import Place
from netd.kv.commands import Command, Failed, Settled
from netd.model.errors import NetdError, Unavailable
from netd.model.kv import KeyChange

FOLLOW_MAX_S: Final = 20.0


class Answering:
    """`keeper` is what this host holds, None: it holds no keys."""

    def __init__(
        self,
        place: Place,
        founding: Founding,
        moving: Moving,
        keeper: Callable[[], Keeper | None],
        long: LongAnswers,
    ) -> None:
        self._place = place
        self._founding = founding
        self._moving = moving
        self._keeper = keeper
        self._long = long

    async def answer(self, member: str, body: bytes) -> bytes:
        """Raises `NetdError`, which the member gets."""
        question = messages.decode_question(body)
        answer = messages.encode(await self._reply(member, question))
        if len(answer) > messages.PART_MAX_BYTES and not isinstance(question, More):
            return messages.encode(self._long.begin(answer))
        return answer

    async def _reply(self, member: str, question: messages.Question) -> Answer:
        match question:
            case Batch():
                return await self._perform(question)
            case More():
                return self._part(question)
            case Follow():
                return await self._follow(question)
            case Begin():
                return await self._founding.begin()
            case Agree():
                return self._founding.agree(member)
            case Stage():
                return self._moving.stage(member, question)
            case Take():
                return await self._moving.take(member, question)
            case Cancel():
                return await self._moving.cancel(question)
            case Who():
                return self._counts()

    async def _perform(self, batch: Batch) -> Answer:
        keeper = self._keeper()
        if keeper is None:
            return self._elsewhere()
        return Results(
            tuple(await asyncio.gather(*(_settled(keeper, step) for step in batch.commands)))
        )

    def _part(self, question: More) -> Part:
        return self._long.part(question.token, question.offset)

    async def _follow(self, question: Follow) -> Answer:
        keeper = self._keeper()
        if keeper is None:
            return self._elsewhere()
        if question.since is None:
            return Changed(KeyChange(index=keeper.recent.index))
        wait_s = min(question.wait_s, FOLLOW_MAX_S)
        change = await keeper.recent.since(question.since, wait_s)
        if self._keeper() is not keeper:
            return self._elsewhere()
        return Changed(change)

    def _counts(self) -> Answer:
        keeper = self._keeper()
        holding = self._place.holding
        if keeper is None or holding is None:
            return Seen(holding, elsewhere=True)
        space = keeper.space
        return Counts(
            holding=holding,
            index=space.numbers.index,
            keys=space.count,
            bytes=space.size,
            sessions=space.session_count,
        )

    def _elsewhere(self) -> Seen:
        """Raises `Unavailable` while nobody serves the keys."""
        if self._place.standing.role != "none":
            raise Unavailable("the keys are being moved to another host")
        return Seen(self._place.holding, elsewhere=True)


async def _settled(keeper: Keeper, command: Command) -> Settled:
    try:
        return await keeper.perform(command)
    except NetdError as error:
        return Failed.of(error)
