"""From a suspicion to a verdict: time to answer, a confirmation of one's own, two accusers."""

from collections.abc import Callable

from netd.gossip.member import Member
from netd.gossip.messages import PingRequest
from netd.gossip.parts import Parts
from netd.gossip.pings import Pings
from netd.gossip.post import Post
from netd.gossip.timers import Timer
from netd.gossip.values import NodeId, State

Verdict = Callable[[Member], None]


class _Suspicion:
    """`first` are the accusers it began with, `since_s` is when; `hastened`: with a death.

    `failed` is called when the member has not answered.
    """

    __slots__ = (
        "answered",
        "confirming_s",
        "failed",
        "first",
        "hastened",
        "sequences",
        "since_s",
        "timer",
    )

    def __init__(self, since_s: float, first: int, failed: Verdict) -> None:
        self.failed = failed
        self.since_s = since_s
        self.first = first
        self.timer: Timer | None = None
        self.confirming_s: float | None = None
        self.answered = False  # by a helper, to the confirmation that runs
        self.hastened = False
        self.sequences: list[int] = []


class Suspicions:
    """One for each member in suspicion."""

    def __init__(self, parts: Parts, pings: Pings, post: Post) -> None:
        self._parts = parts
        self._pings = pings
        self._post = post
        self._running: dict[NodeId, _Suspicion] = {}

    def __len__(self) -> int:
        return len(self._running)

    def begin(self, member: Member, failed: Verdict) -> None:
        """The member is suspected from now on, in this incarnation. `failed` is called when it
        has not answered by the end, and again whenever it has not answered since.
        """
        self.end(member.id)
        first = max(1, len(member.accusers))
        self._running[member.id] = _Suspicion(self._parts.now_s, first, failed)
        self._plan(member)

    def accused(self, member: Member) -> None:
        """There are more accusers: the time to answer becomes shorter."""
        suspicion = self._running.get(member.id)
        if suspicion is not None and suspicion.confirming_s is None and not member.unreachable:
            self._plan(member)

    def hasten(self, member: Member) -> None:
        """Others have ended this suspicion already: go and see."""
        suspicion = self._running.get(member.id)
        if suspicion is not None and suspicion.confirming_s is None:
            suspicion.hastened = True
            self._confirm(member, suspicion)

    def hasten_again(self, member: Member) -> bool:
        """The same is said once more; False if this suspicion did not begin with it, and has
        lasted: the member had its time to answer, here too.
        """
        suspicion = self._running.get(member.id)
        if suspicion is None:
            return False
        lasted_s = self._parts.now_s - suspicion.since_s
        if not suspicion.hastened and lasted_s >= self._parts.settings.confirm_s:
            return False
        self.hasten(member)
        return True

    def end(self, node: NodeId) -> None:
        suspicion = self._running.pop(node, None)
        if suspicion is not None:
            if suspicion.timer is not None:
                suspicion.timer.cancel()
            for sequence in suspicion.sequences:
                self._pings.end(sequence)

    def _plan(self, member: Member) -> None:
        suspicion = self._running[member.id]
        if suspicion.timer is not None:
            suspicion.timer.cancel()
        confirmed = len(member.accusers) - suspicion.first
        lasts_s = self._parts.settings.suspicion_s(
            self._parts.members.live_count, max(0, confirmed)
        )
        # The confirmation is the last part of it, so that it costs no time.
        asks_s = suspicion.since_s + lasts_s - self._parts.settings.confirm_s
        at_s = max(self._parts.now_s, asks_s)
        suspicion.timer = self._parts.timers.at(at_s, lambda: self._confirm(member, suspicion))

    def _confirm(self, member: Member, suspicion: _Suspicion) -> None:
        """Ask the member itself, several times, and through helpers."""
        parts, settings = self._parts, self._parts.settings
        if suspicion.timer is not None:
            suspicion.timer.cancel()
        suspicion.confirming_s = parts.now_s
        suspicion.answered = False

        def answered() -> None:
            suspicion.answered = True

        sequence = self._pings.new(member, answered)
        suspicion.sequences = [sequence]
        self._pings.send(sequence, member)
        for number in range(1, settings.confirm_pings):
            delay_s = settings.confirm_s / 2 * number / (settings.confirm_pings - 1)
            parts.after(delay_s, lambda: self._pings.send(sequence, member))
        accusation = member.statement()
        wait_ms = int(settings.confirm_s * 1000)
        for helper in parts.members.pick(parts.random, settings.helpers, but=member.id):
            request = PingRequest(sequence, member.id, wait_ms)
            messages = (request,) if accusation is None else (accusation, request)
            self._post.send(helper.address, *messages)
        suspicion.timer = parts.timers.at(
            parts.now_s + settings.confirm_s, lambda: self._judge(member, suspicion)
        )

    def _judge(self, member: Member, suspicion: _Suspicion) -> None:
        if member.state != State.SUSPECT:
            return
        parts = self._parts
        began_s, suspicion.confirming_s = suspicion.confirming_s, None
        heard = began_s is not None and member.heard_s >= began_s
        for sequence in suspicion.sequences:
            self._pings.end(sequence)
        suspicion.sequences = []
        # What was left of it: again in the shortest time. A verdict ends it.
        suspicion.since_s = parts.now_s
        again_s = parts.settings.suspicion_s(2, 0)
        suspicion.timer = parts.timers.at(
            parts.now_s + again_s, lambda: self._confirm(member, suspicion)
        )
        if not heard and not suspicion.answered:
            suspicion.failed(member)
