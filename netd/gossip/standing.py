"""What follows from a member's state: a suspicion ends, all are told, some day it is forgotten."""

from typing import Protocol

from netd.gossip.member import Member
from netd.gossip.news import News
from netd.gossip.parts import Parts
from netd.gossip.problems import Problems
from netd.gossip.spreading import Spreading
from netd.gossip.suspicions import Suspicions
from netd.gossip.values import MemberChanged, NodeId, State


class Follower(Protocol):
    """Who keeps something for each member."""

    def member_changed(self, member: Member) -> None:
        """Its records may be visible now, or no more."""
        ...

    def member_forgotten(self, member: Member) -> None:
        """What is kept of it goes."""
        ...


class Standing:
    """Where each member stands. While it is `quiet`, what is learned is not passed on."""

    def __init__(
        self,
        parts: Parts,
        news: News,
        spreading: Spreading,
        problems: Problems,
        suspicions: Suspicions,
        follower: Follower,
    ) -> None:
        self.quiet = False
        self._parts = parts
        self._news = news
        self._spreading = spreading
        self._problems = problems
        self._suspicions = suspicions
        self._follower = follower
        self._forgetting: set[NodeId] = set()  # for whom a timer runs

    def settle(self, member: Member, state: State) -> None:
        """Give the member its state, and end what belongs to the one before."""
        parts = self._parts
        if state == State.ALIVE:
            member.gone_s = 0
        if state != member.state:
            # From when on others have known that it is gone, or who starts anew would remember
            # it for as long again, and be asked about it by those who start after him.
            gone_s = member.gone_s if state >= State.DEAD else 0
            member.state_since_s = parts.monotonic_s - gone_s
        member.state = state
        if state != State.SUSPECT:
            self._suspicions.end(member.id)
            member.unreachable = False
        if state in (State.ALIVE, State.LEFT):
            member.accusers = frozenset()
        parts.members.changed(member)
        if state >= State.DEAD and member.id not in self._forgetting:
            self._forgetting.add(member.id)
            kept_s = max(0.0, parts.settings.left_kept_s - member.gone_s)
            parts.after(kept_s, lambda: self._forget_in_time(member))

    def announce(self, member: Member, before: State | None) -> None:
        """It is new or has presented itself anew: tell everybody, and who listens here."""
        if not self.quiet:
            self._news.drop(member.id)
            self._news.introduce(member.id, member.introduction)
            statement = member.statement()
            if statement is not None and statement is not member.introduction:
                self._news.put(member.id, statement)
            self._spreading.kick()
        self.changed(member, before)

    def tell(self, member: Member) -> None:
        """Tell everybody what is newest of it."""
        statement = member.statement()
        about_me = member.id == self._parts.me.id
        if statement is not None and (about_me or not self.quiet):
            self._news.put(member.id, statement)
            self._spreading.kick()

    def changed(self, member: Member, before: State | None) -> None:
        """Tell who listens here."""
        self._parts.events.append(MemberChanged(member.id, before, member.state))
        self._follower.member_changed(member)
        self._problems.check_name(member.name)

    # The end

    def make_room(self) -> bool:
        """Forget whoever has been gone longest; False if all members are there."""
        gone = [member for member in self._parts.members if not member.live]
        if gone:
            self._forget(min(gone, key=lambda member: (member.state_since_s, member.id)))
        return bool(gone)

    def _forget_in_time(self, member: Member) -> None:
        """Forget a member that has been gone long enough, or look again later."""
        parts, settings = self._parts, self._parts.settings
        if member.live or parts.members.get(member.id) is not member:
            self._forgetting.discard(member.id)
            return
        replaced = any(other.live for other in parts.members.named(member.name))
        away_for_good = member.state == State.LEFT or replaced
        kept_s = settings.left_kept_s if away_for_good else settings.dead_kept_s
        remaining_s = member.state_since_s + kept_s - parts.monotonic_s
        if remaining_s > 0:
            again_s = min(remaining_s, settings.left_kept_s)
            parts.after(again_s, lambda: self._forget_in_time(member))
        else:
            self._forget(member)

    def _forget(self, member: Member) -> None:
        parts = self._parts
        self._forgetting.discard(member.id)
        parts.members.forget(member)
        self._news.drop(member.id)
        self._problems.drop(member.id)
        self._problems.clear("members-exceeded", parts.me.id)
        self._follower.member_forgotten(member)
        parts.events.append(MemberChanged(member.id, member.state, None))
