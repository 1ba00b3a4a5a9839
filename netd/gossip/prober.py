"""The failure detector: one member after another is asked whether it lives (SWIM, DSN 2002)."""

from collections.abc import Callable

from netd.gossip.accusations import Accusations
from netd.gossip.member import Member
from netd.gossip.messages import Ack, Message, Nack, Ping, PingRequest
from netd.gossip.parts import Parts
from netd.gossip.pings import Digests, Pings
from netd.gossip.post import Post
from netd.gossip.streams import StreamPings
from netd.gossip.values import Address, NodeId, State

HELPING_MAX = 512  # requests for help under way


class _Probe:
    __slots__ = ("epoch", "helped", "member", "sequence", "silent", "succeeded")

    def __init__(self, member: Member) -> None:
        self.member = member
        self.epoch = member.epoch
        self.sequence = 0
        self.helped = False  # helpers were asked
        self.silent: set[NodeId] = set()  # helpers of which nothing came so far
        self.succeeded = False


class Prober:
    """Each interval: ping; again at half the timeout; then by helpers and by a stream.

    Members are asked in an order drawn anew after each round, so each is asked once in at most
    2n-1 intervals. Without any answer by the end of the interval the member is accused.
    """

    def __init__(
        self,
        parts: Parts,
        post: Post,
        pings: Pings,
        accusations: Accusations,
        streams: StreamPings,
        apart: Callable[[Member], None],
    ) -> None:
        """`apart` is called with members that only streams reach."""
        self._parts = parts
        self._post = post
        self._pings = pings
        self._accusations = accusations
        self._streams = streams
        self._apart = apart
        self._order: list[NodeId] = []
        self._probe: _Probe | None = None

    def start(self) -> None:
        """Begin within one interval, so that nodes started together do not ask together."""
        parts = self._parts
        parts.after(parts.settings.probe_interval_s * parts.random.random(), self._next)

    def nack(self, sequence: int, sender: Member | None) -> None:
        """A helper works, and the member does not answer it either."""
        probe = self._probe
        if probe is not None and probe.sequence == sequence and sender is not None:
            probe.silent.discard(sender.id)

    def _next(self) -> None:
        parts = self._parts
        if self._probe is not None:
            self._judge(self._probe)
        factor = parts.health.factor
        interval_s = parts.settings.probe_interval_s * factor
        member = self._target()
        self._probe = None
        if member is not None:
            self._begin(member, interval_s, parts.probe_timeout_s() * factor)
        parts.after(interval_s, self._next)

    def _target(self) -> Member | None:
        members = self._parts.members
        for _ in range(2):
            while self._order:
                member = members.get(self._order.pop())
                if member is not None and member.live and member.id != members.me.id:
                    return member
            self._order = list(members.live_ids())
            self._parts.random.shuffle(self._order)
        return None

    def _begin(self, member: Member, interval_s: float, timeout_s: float) -> None:
        parts = self._parts
        probe = self._probe = _Probe(member)

        def answered() -> None:
            probe.succeeded = True

        probe.sequence = self._pings.new(member, answered)
        parts.counters["probes"] += 1
        self._pings.send(probe.sequence, member)
        parts.after(timeout_s / 2, lambda: self._pings.send(probe.sequence, member))
        parts.after(timeout_s, lambda: self._ask_others(probe, interval_s - timeout_s))

    def _ask_others(self, probe: _Probe, left_s: float) -> None:
        """No answer in time: others may have the luck, or a stream."""
        if probe.succeeded:
            return
        parts, member = self._parts, probe.member
        helpers = parts.members.pick(parts.random, parts.settings.helpers, but=member.id)
        probe.helped = bool(helpers)
        probe.silent = {helper.id for helper in helpers}
        request = PingRequest(probe.sequence, member.id, int(left_s * 1000))
        messages: tuple[Message, ...] = (request,)
        accusation = member.statement()
        if member.state == State.SUSPECT and accusation is not None:
            messages = (accusation, request)
        for helper in helpers:
            self._post.send(helper.address, *messages)

        def answered() -> None:
            if not probe.succeeded:
                probe.succeeded = True
                if member.udp_ok is False:  # the last time too: that is not loss
                    self._apart(member)
                member.udp_ok = False  # the stream had an answer, packets had not

        self._streams.ping(member, answered, left_s)

    def _judge(self, probe: _Probe) -> None:
        parts = self._parts
        self._pings.end(probe.sequence)
        if probe.succeeded:
            parts.health.better()
            return
        member = probe.member
        if parts.members.get(member.id) is not member or not member.live:
            return
        if member.epoch != probe.epoch:
            return  # it has started anew meanwhile: that run was not asked
        parts.counters["probes_failed"] += 1
        # Helpers that answer nothing at all: rather this node does not hear them.
        parts.health.worse(len(probe.silent) if probe.helped else 1)
        self._accusations.accuse(member)


class Answerer:
    """Answers pings, and helps others to ping."""

    def __init__(self, parts: Parts, post: Post, pings: Pings, digests: Digests) -> None:
        self._parts = parts
        self._post = post
        self._pings = pings
        self._digests = digests
        self._helping = 0

    def ping(
        self, ping: Ping, sender: Member | None, source: Address, beside: list[Message]
    ) -> None:
        """Answer, with `beside` in the same packet. Pings for somebody else get no answer:
        whoever had this address before does not live here any more.
        """
        parts = self._parts
        if ping.target != parts.me.id:
            parts.counters["misdirected_pings"] += 1
            return
        ack = Ack(ping.sequence, ping.target, parts.wall_ms(), *self._digests(sender))
        self._post.send(source, *beside, ack)

    def help(self, request: PingRequest, sender: Member, source: Address) -> None:
        """Ping for another; say so in time when there is no answer."""
        parts = self._parts
        target = parts.members.get(request.target)
        if target is None or target.id == parts.me.id or self._helping >= HELPING_MAX:
            self._post.send(source, Nack(request.sequence))
            return
        answered = False

        def relay() -> None:
            nonlocal answered
            answered = True
            own = target.statement()
            ack = Ack(request.sequence, target.id, 0, *self._digests(sender))
            messages: tuple[Message, ...] = (ack,) if own is None else (own, ack)
            self._post.send(source, *messages)

        def say_no() -> None:
            if not answered:
                self._post.send(source, Nack(request.sequence))

        def end() -> None:
            self._helping -= 1
            self._pings.end(sequence)

        self._helping += 1
        sequence = self._pings.new(target, relay)
        self._pings.send(sequence, target)
        wait_s = request.wait_ms / 1000
        parts.after(wait_s * parts.settings.nack_share, say_no)
        parts.after(wait_s / 3, lambda: self._pings.send(sequence, target))
        parts.after(wait_s, end)
