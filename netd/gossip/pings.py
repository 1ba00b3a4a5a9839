"""Pings that wait for their answer."""

from collections.abc import Callable

from netd.gossip.member import Member
from netd.gossip.messages import Ack, Message, Ping
from netd.gossip.parts import Parts
from netd.gossip.post import Post
from netd.gossip.values import NodeId, State

Answered = Callable[[], None]
Digests = Callable[[Member | None], tuple[int, int]]
_SEQUENCES = 1 << 32
WAITING_MAX = 4_096


class _Ping:
    __slots__ = ("again", "answered", "last_s", "member", "sent_s")

    def __init__(self, member: NodeId, sent_s: float, answered: Answered) -> None:
        self.member = member
        self.sent_s = self.last_s = sent_s
        self.answered = answered
        self.again = False  # sent twice: its answer does not tell the round trip


class Pings:
    """Sends pings and finds whom an answer is for."""

    def __init__(self, parts: Parts, post: Post, digests: Digests) -> None:
        self._parts = parts
        self._post = post
        self._digests = digests
        self._sequence = parts.random.randrange(_SEQUENCES)
        self._waiting: dict[int, _Ping] = {}

    def new(self, member: Member, answered: Answered) -> int:
        """A number for a ping; `answered` is called once, when an answer comes."""
        self._sequence = (self._sequence + 1) % _SEQUENCES
        if len(self._waiting) >= WAITING_MAX:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[self._sequence] = _Ping(member.id, self._parts.now_s, answered)
        return self._sequence

    def send(self, sequence: int, member: Member) -> None:
        """Send the ping, or send it again, with what is said against the member: it may answer."""
        ping = self._waiting.get(sequence)
        if ping is None:
            return
        ping.again = ping.sent_s < self._parts.now_s
        ping.last_s = self._parts.now_s
        messages: list[Message] = []
        if member.state != State.ALIVE:
            accusation = member.statement()
            if accusation is not None:
                messages.append(accusation)
        messages.append(Ping(sequence, member.id, *self._digests(member)))
        self._post.send(member.address, *messages)

    def end(self, sequence: int) -> None:
        """Stop waiting."""
        self._waiting.pop(sequence, None)

    def answer(self, ack: Ack, sender: Member | None) -> None:
        """An answer came, from the target itself or from a helper."""
        ping = self._waiting.get(ack.sequence)
        if ping is None or ping.member != ack.target:
            return
        del self._waiting[ack.sequence]
        if sender is not None and sender.id == ack.target:
            sender.udp_ok = True
            if not ping.again:
                self._measure(sender, ack, self._parts.now_s - ping.sent_s)
            else:
                self._parts.measured_at_least(self._parts.now_s - ping.last_s)
        ping.answered()

    def _measure(self, member: Member, ack: Ack, round_trip_s: float) -> None:
        parts = self._parts
        parts.measured(round_trip_s)
        smooth = member.rtt_s
        # As TCP does (RFC 6298): an eighth of the new value.
        member.rtt_s = round_trip_s if smooth is None else smooth + (round_trip_s - smooth) / 8
        offset_s = (ack.wall_ms - parts.wall_ms()) / 1000 + round_trip_s / 2
        member.clock_offset_s = offset_s
