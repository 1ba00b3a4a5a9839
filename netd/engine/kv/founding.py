"""How a cluster without keys gets a host that holds them: once, and only one.

It is the host that the configuration names, else the member with the smallest id. It asks all
others first. Each of these has either heard of a holder, or agrees to one host at a time; so of
two that begin at once at most one gets the agreement of all. A member that cannot be asked
might know a holder: then nobody begins.
"""

import asyncio
from typing import Final

import msgspec

from netd.engine.interfaces import Clock, Cluster
from netd.engine.kv import messages
from netd.engine.kv.messages import Agree, Begin, Holding, Seen
from netd.engine.kv.place import Place
from netd.kv.space import NOTHING
from netd.model.errors import Conflict, NetdError, Unavailable
from netd.model.views import Member

AGREED_S: Final = 15.0  # longer than whoever was agreed to needs to ask all others
ASK_S: Final = 4.0
AT_ONCE: Final = 16
_GONE: Final = ("dead", "left")


class Founding:
    """`wanted` is the name of the host that is to hold the keys, "" for the cluster's first."""

    def __init__(
        self, cluster: Cluster, clock: Clock, place: Place, name: str, wanted: str
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._place = place
        self._name = name
        self._wanted = wanted
        self._lock = asyncio.Lock()
        self._agreed = ("", 0.0)  # to whom, and until when

    async def holding(self) -> Holding:
        """Who holds the keys; where nobody does, the one who does from now on.

        Raises `Unavailable` when that cannot be known.
        """
        known = self._place.holding
        if known is not None:
            return known
        async with self._lock:
            if self._known() is None:
                await self._found()
        found = self._known()
        assert found is not None
        return found

    def _known(self) -> Holding | None:
        return self._place.holding

    async def begin(self) -> Seen:
        """Another member wants this host to hold the keys."""
        async with self._lock:
            if self._place.holding is None:
                first = self._first()
                if first != self._cluster.id:
                    raise Unavailable("another host is to hold the keys, as it is seen from here")
                await self._begin_here()
        return Seen(self._place.holding)

    def agree(self, member: str) -> Seen:
        """Raises `Conflict` when another one was agreed to just now."""
        if self._place.holding is not None:
            return Seen(self._place.holding)
        now_s = self._clock.monotonic_s()
        to, until_s = self._agreed
        if to not in ("", member) and now_s < until_s:
            raise Conflict("another host is about to hold the keys")
        self._agreed = (member, now_s + AGREED_S)
        return Seen(None)

    async def _found(self) -> None:
        first = self._first()
        if first == self._cluster.id:
            await self._begin_here()
            return
        answer = await messages.put(self._cluster, first, Begin(), messages.ANSWER_S)
        if not isinstance(answer, Seen) or answer.holding is None:
            raise Unavailable("the host that is to hold the keys does not say that it does")
        await self._place.adopt(answer.holding)

    def _first(self) -> str:
        """The id of the host that is to hold the keys. Raises `Unavailable`."""
        members = [member for member in self._cluster.members() if member.state != "left"]
        if not self._wanted:
            return min(member.id for member in members)
        named = [member for member in members if member.name == self._wanted]
        living = [member for member in named if member.state not in _GONE]
        if len(living) != 1:
            how = "is down" if named else "is not a member"
            if living:
                how = "is the name of several members"
            raise Unavailable(
                f"{self._wanted} is to hold the keys (kv.holder), but {how}: nobody holds them"
            )
        return living[0].id

    async def _begin_here(self) -> None:
        unanswered = sorted(self._cluster.health().unanswered)
        if unanswered:
            raise Unavailable(
                f"this host has not reached {', '.join(unanswered)} yet, and there may be keys: "
                "nobody else is known to hold them"
            )
        began_s = self._clock.monotonic_s()
        self.agree(self._cluster.id)
        others = [
            member
            for member in self._cluster.members()
            if member.id != self._cluster.id and member.state != "left"
        ]
        if known := await self._ask_all(others):
            await self._place.adopt(known)
            return
        if self._clock.monotonic_s() - began_s > AGREED_S / 2:
            raise Unavailable("the others took too long to agree who is to hold the keys")
        holding = Holding(
            stamp_ms=int(self._clock.wall_s() * 1000),
            origin=self._cluster.id,
            term=1,
            holder=self._cluster.id,
            name=self._name,
        )
        standing = msgspec.structs.replace(self._place.standing, holding=holding, role="holder")
        await self._place.become(standing, NOTHING)

    async def _ask_all(self, others: list[Member]) -> Holding | None:
        """The holder that any of them knows; None: they all agree that it is this host."""
        places = asyncio.Semaphore(AT_ONCE)

        async def ask(member: Member) -> Seen | str:
            async with places:
                try:
                    answer = await messages.put(self._cluster, member.id, Agree(), ASK_S)
                except NetdError as error:
                    return f"{member.name}: {error.detail}"
                return answer if isinstance(answer, Seen) else f"{member.name}: no answer"

        answers = await asyncio.gather(*map(ask, others))
        best: Holding | None = None
        for answer in answers:
            if isinstance(answer, Seen) and answer.holding and answer.holding.beats(best):
                best = answer.holding
        # Where the host was named, one that is down and might know better is left out.
        counted = [
            answer
            for member, answer in zip(others, answers, strict=True)
            if not (self._wanted and member.state == "dead")
        ]
        refused = sorted(answer for answer in counted if isinstance(answer, str))
        if best is None and refused:
            raise Unavailable(
                "nobody holds the keys, and this host cannot begin to, as others may know more: "
                f"{'; '.join(refused)}. Make them reachable, or name the host that is to hold "
                "them, as kv.holder, on all hosts"
            )
        return best
