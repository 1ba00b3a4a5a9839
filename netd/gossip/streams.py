"""Pings over streams, for members that packets do not reach."""

from collections.abc import Callable

from netd.gossip.codec import Malformed, decode_reply
from netd.gossip.member import Member
from netd.gossip.membership import Membership
from netd.gossip.messages import Alive, Declined, Introduce, StreamAck, StreamPing, Suspect
from netd.gossip.parts import Parts

_CALL_MIN_S = 0.5


class StreamPings:
    """Asks and answers. Who answers by a stream only is alive, and something is in the way."""

    def __init__(self, parts: Parts, membership: Membership) -> None:
        self._parts = parts
        self._membership = membership

    def ping(self, member: Member, answered: Callable[[], None], wait_s: float) -> None:
        statement = member.statement()
        accusation = statement if isinstance(statement, Suspect) else None

        def replied(reply: bytes | None) -> None:
            member.tcp_ok = self._is_ack(reply, member)
            if member.tcp_ok:
                answered()

        self._parts.calls.make(
            member.address,
            member.id,
            StreamPing(member.id, accusation),
            replied,
            max(_CALL_MIN_S, wait_s),
        )

    def serve(self, request: StreamPing) -> StreamAck | Declined:
        me = self._parts.me
        if request.target != me.id:
            return Declined("another node has this address now")
        if request.accusation is not None:
            self._membership.hear(request.accusation, None)
        if not isinstance(me.proof, Introduce | Alive) or self._membership.leaving:
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
