"""Where members' questions come in: on the gossip loop, to be answered on the engine's."""

import asyncio
from collections import Counter
from typing import Final

from netd.cluster import questions
from netd.cluster.questions import Answers, Refused, Reply
from netd.gossip.values import NodeId
from netd.model.errors import Invalid, Unavailable

AT_ONCE: Final = 64
# More than a member asks at once: of those that it has given up some are still being answered.
OF_MEMBER_AT_ONCE: Final = 8


class Desk:
    """Made on the engine's loop. Bounded: who asks too much is refused at once."""

    def __init__(self, answers: Answers, counters: Counter[str]) -> None:
        self._answers = answers
        self._counters = counters
        self._engine = asyncio.get_running_loop()
        self._of_member: Counter[NodeId] = Counter()

    @property
    def answering(self) -> int:
        return self._of_member.total()

    async def serve(self, data: bytes, node: NodeId) -> bytes:
        """The reply to a question of the member. Takes as long as that one waits at most."""
        self._counters["questions_received"] += 1
        reply = await self._reply(data, node)
        if isinstance(reply, Refused):
            self._counters["questions_refused"] += 1
        return questions.encode(reply)

    async def _reply(self, data: bytes, node: NodeId) -> Reply:
        try:
            asked = questions.decode_question(data)
        except questions.Malformed as error:
            return Refused.of(Invalid(f"the question cannot be read: {error}"))
        if self._of_member[node] >= OF_MEMBER_AT_ONCE or self.answering >= AT_ONCE:
            return Refused.of(Unavailable("there are too many questions to it just now"))
        self._of_member[node] += 1
        try:
            work = self._answers.reply(node.hex(), asked)
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._engine))
        finally:
            self._of_member[node] -= 1
            if not self._of_member[node]:
                del self._of_member[node]
