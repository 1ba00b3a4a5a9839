"""Asks other members over streams. On the gossip loop."""

import asyncio
from typing import Final
from weakref import WeakValueDictionary

from netd.cluster import frames, questions
from netd.cluster.client import CallFailed, StreamClient
from netd.cluster.core import Core
from netd.cluster.lines import Lines
from netd.cluster.questions import Question, Reply
from netd.cluster.views import STATES
from netd.gossip.member import Member
from netd.gossip.settings import PROTOCOL_QUESTIONS
from netd.gossip.values import NodeId, State
from netd.model.errors import Unavailable

AT_ONCE: Final = 32
OF_MEMBER_AT_ONCE: Final = 4  # who is slow does not keep this node from asking others


class Asker:
    """So many questions are under way at once; others wait, as long as whoever asks does."""

    def __init__(self, core: Core, client: StreamClient) -> None:
        self._core = core
        self._client = client
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._slots_of: WeakValueDictionary[NodeId, asyncio.Semaphore] = WeakValueDictionary()
        self._lines = Lines()
        self.asking = 0

    def close(self) -> None:
        self._lines.close()

    async def ask(self, node: NodeId, asked: Question) -> Reply:
        """Raises `Unavailable` when the member cannot be asked, or does not answer."""
        self._there(node)
        slots = self._slots_of.setdefault(node, asyncio.Semaphore(OF_MEMBER_AT_ONCE))
        self.asking += 1
        try:
            async with slots, self._slots:
                return await self._call(self._there(node), asked)
        finally:
            self.asking -= 1

    async def _call(self, member: Member, asked: Question) -> Reply:
        try:
            data = await self._client.call(
                member.address,
                member.id,
                questions.encode(asked),
                asked.wait_ms / 1000,
                frames.Request.ASK,
                self._lines,
            )
            return questions.decode_reply(data)
        except (CallFailed, questions.Malformed) as error:
            raise Unavailable(f"{member.name} does not answer: {error}") from None

    def _there(self, node: NodeId) -> Member:
        """The member, if it can be asked."""
        member = self._core.member(node)
        if member is None:
            raise Unavailable(f"{node.hex()} is not a member of the cluster")
        state = self._core.shown(member)
        if state in (State.DEAD, State.LEFT):
            raise Unavailable(f"{member.name} cannot be asked: it is {STATES[state]}")
        if member.protocol_max < PROTOCOL_QUESTIONS:
            raise Unavailable(
                f"{member.name} runs an older netd ({member.version or 'unknown'}), which answers "
                "no questions: upgrade it"
            )
        return member
