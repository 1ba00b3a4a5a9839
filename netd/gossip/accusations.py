"""That a member does not answer: who says so, how long that is a suspicion, when it is a death."""

from typing import Final

from netd.gossip.member import Member
from netd.gossip.messages import Dead, Suspect
from netd.gossip.parts import Parts
from netd.gossip.standing import Standing
from netd.gossip.suspicions import Suspicions
from netd.gossip.values import NodeId, State

# That an accusation may run ahead of what is known of a member: one of the highest there is would
# otherwise have all members begin anew whom it is told of.
INCARNATIONS_AHEAD_MAX: Final = 1_000
_ACCUSERS_KEPT: Final = 4


class Accusations:
    """This node's own and those it hears of. Two accusers are needed for a death, and a
    suspicion that has run out.
    """

    def __init__(self, parts: Parts, standing: Standing, suspicions: Suspicions) -> None:
        self._parts = parts
        self._standing = standing
        self._suspicions = suspicions

    def hear(self, member: Member, said: Suspect | Dead) -> bool:
        """Merge what is said of the member's current run; whether it is news here.

        A death of a member that is alive here is taken as a suspicion and confirmed first.
        """
        ahead = said.incarnation - member.incarnation
        accusers = frozenset(said.accusers) - {member.id}
        if ahead < 0 or ahead > INCARNATIONS_AHEAD_MAX or not accusers:
            return False
        if ahead > 0:
            # Somebody has seen a newer life sign, and no answer since.
            member.incarnation = said.incarnation
            member.proof = None
            member.unreachable = False
        elif member.state == State.DEAD:
            return False
        if isinstance(said, Dead):
            member.gone_s = max(member.gone_s, said.gone_s)
        proved = isinstance(said, Dead) and len(accusers) >= self._parts.settings.accusers_min
        if ahead == 0 and member.state == State.SUSPECT:
            return self._add(member, accusers, proved=proved)
        self._suspect(member, accusers)
        if proved:
            self._suspicions.hasten(member)
        return True

    def accuse(self, member: Member) -> None:
        """The member has not answered a probe, or the confirmation of a suspicion."""
        mine = frozenset({self._parts.me.id})
        if member.state == State.ALIVE:
            self._suspect(member, mine)
        elif member.state == State.SUSPECT:
            self._add(member, mine, proved=False)

    def heard_from(self, member: Member) -> None:
        """A packet of the member's current run came."""
        member.heard_s = self._parts.now_s
        if member.unreachable:
            member.unreachable = False
            self._parts.members.changed(member)
            self._standing.changed(member, member.state)

    def _suspect(self, member: Member, accusers: frozenset[NodeId]) -> None:
        before = member.state
        member.accusers = _least(accusers)
        self._standing.settle(member, State.SUSPECT)
        self._suspicions.begin(member, self._unanswered)
        self._standing.tell(member)
        self._standing.changed(member, before)

    def _add(self, member: Member, accusers: frozenset[NodeId], *, proved: bool) -> bool:
        more = _least(member.accusers | accusers)
        news = more != member.accusers
        if news:
            member.accusers = more
            self._parts.members.changed(member)
            self._suspicions.accused(member)
        enough = len(more) >= self._parts.settings.accusers_min
        if enough and (
            member.unreachable or (proved and not self._suspicions.hasten_again(member))
        ):
            self._condemn(member)
        elif news:
            self._standing.tell(member)
        return news or proved

    def _unanswered(self, member: Member) -> None:
        """The suspicion has run out and the member has not answered this node's own pings."""
        if member.state != State.SUSPECT:
            return
        known = member.unreachable
        member.unreachable = True
        self.accuse(member)  # condemns it where there is another accuser
        if member.live and not known:
            self._parts.members.changed(member)
            self._standing.changed(member, State.SUSPECT)

    def _condemn(self, member: Member) -> None:
        before = member.state
        self._standing.settle(member, State.DEAD)
        self._parts.counters["deaths"] += 1
        self._standing.tell(member)
        self._standing.changed(member, before)


def _least(accusers: frozenset[NodeId]) -> frozenset[NodeId]:
    """As many as are kept, the same ones in whatever order they became known."""
    return frozenset(sorted(accusers)[:_ACCUSERS_KEPT])
