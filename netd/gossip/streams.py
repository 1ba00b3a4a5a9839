"""Pings over streams, for members that packets do not reach."""

from collections.abc import Callable
from typing import Final

from netd.gossip.codec import Malformed, decode_reply
from netd.gossip.member import Member
from netd.gossip.membership import Membership
from netd.gossip.messages import Alive, Introduce, Suspect
from netd.gossip.oneself import Oneself
from netd.gossip.parts import Parts
from netd.gossip.requests import Declined, StreamAck, StreamPing
from netd.gossip.values import StreamsTried

_CALL_MIN_S = 0.5
TRIED_MAX: Final = 8  # half of the calls that may be made at once
_TRY_S: Final = 2.0


class StreamPings:
    """Asks and answers. Who answers by a stream only is alive, and something is in the way."""

    def __init__(self, parts: Parts, membership: Membership, oneself: Oneself) -> None:
        self._parts = parts
        self._membership = membership
        self._oneself = oneself

    def try_some(self) -> None:
        """Find out whether streams reach members, also those that packets reach.

        First those that they did not reach the last time, then others at random; a
        `StreamsTried` tells the end. It is done when somebody wants to know: a stream costs a
        hundred times as much as a packet.
        """
        parts = self._parts
        silent = [member for member in parts.members if member.live and member.tcp_ok is False]
        some = parts.members.pick(parts.random, TRIED_MAX, but=parts.me.id)
        chosen = list(dict.fromkeys(silent + some))[:TRIED_MAX]
        waiting = len(chosen)

        def one_less() -> None:
            nonlocal waiting
            waiting -= 1
            if waiting <= 0:
                parts.events.append(StreamsTried())

        for member in chosen:
            self._ask(member, lambda _works: one_less(), _TRY_S)
        if not chosen:
            one_less()

    def ping(self, member: Member, answered: Callable[[], None], wait_s: float) -> None:
        def ended(works: bool) -> None:
            if works:
                answered()

        self._ask(member, ended, max(_CALL_MIN_S, wait_s))

    def _ask(self, member: Member, ended: Callable[[bool], None], wait_s: float) -> None:
        statement = member.statement()
        accusation = statement if isinstance(statement, Suspect) else None

        def replied(reply: bytes | None) -> None:
            member.tcp_ok = reply is not None  # whatever it says, a stream has brought it
            ended(self._is_ack(reply, member))

        request = StreamPing(member.id, accusation)
        if not self._parts.calls.make(member.address, member.id, request, replied, wait_s):
            ended(False)

    def serve(self, request: StreamPing) -> StreamAck | Declined:
        me = self._parts.me
        if request.target != me.id:
            return Declined("another node has this address now")
        if request.accusation is not None:
            self._membership.hear(request.accusation, None)
        if not isinstance(me.proof, Introduce | Alive) or self._oneself.leaving:
            return Declined("the node is leaving")
        return StreamAck(me.proof)

    def _is_ack(self, reply: bytes | None, member: Member) -> bool:
        if reply is None:
            return False
        try:
            ack = decode_reply(reply)
        except Malformed:
            self._parts.counters["refused_malformed"] += 1
            return False
        if not isinstance(ack, StreamAck):
            return False
        self._membership.hear(ack.alive, None)
        return True
