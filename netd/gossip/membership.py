"""What is said about members, and what follows: merging, refuting, suspecting, forgetting."""

from collections.abc import Iterable
from typing import Protocol

from netd.gossip.codec import Malformed, address_of
from netd.gossip.member import Member
from netd.gossip.messages import (
    Alive,
    Dead,
    Introduce,
    Left,
    MemberRow,
    Query,
    Statement,
    Suspect,
)
from netd.gossip.news import News
from netd.gossip.parts import Parts
from netd.gossip.pings import Pings
from netd.gossip.post import Post
from netd.gossip.problems import Problems
from netd.gossip.spreading import Spreading
from netd.gossip.suspicions import Suspicions
from netd.gossip.values import Address, EpochWanted, MemberChanged, NodeId, State, node_id_of

INCARNATIONS_AHEAD_MAX = 1_000  # that an accusation may run ahead of what is known
RENEW_S = 60.0
_QUERY_S = 1.0
_LATE_S = 1.0


class Follower(Protocol):
    """Who keeps something for each member."""

    def member_changed(self, member: Member) -> None:
        """Its records may be visible now, or no more."""
        ...

    def member_forgotten(self, member: Member) -> None:
        """What is kept of it goes."""
        ...


class Membership:
    """Merges statements into the table.

    For one member they are ordered by epoch, then departure, then incarnation, then state, and
    the larger one wins everywhere, in whatever order they come. The exception is a death of a
    member that is alive here: it is taken as a suspicion and confirmed first.
    """

    def __init__(
        self,
        parts: Parts,
        post: Post,
        pings: Pings,
        news: News,
        spreading: Spreading,
        problems: Problems,
        follower: Follower,
    ) -> None:
        self._parts = parts
        self._follower = follower
        self._post = post
        self._news = news
        self._spreading = spreading
        self._problems = problems
        self.suspicions = Suspicions(parts, pings, post, self.confirmed)
        self._queried: dict[NodeId, float] = {}
        self._forgetting: set[NodeId] = set()  # for whom a timer runs
        self._renewed_s = parts.now_s - RENEW_S
        self._late_s = parts.now_s - _LATE_S
        self._quiet = False
        self.leaving = False
        self._later_epoch = -1  # the latest that this node was met in and is not in itself
        self._taken_in = False
        self.yielded = False  # somebody else runs under this identity, with a higher epoch

    # What comes from others

    def hear(self, statement: Statement, source: Address | None) -> bool:
        """Merge a statement; whether it is news here. `source` is asked about strangers."""
        if isinstance(statement, Introduce):
            return self._hear_introduction(statement)
        if statement.id == self._parts.me.id:
            self._hear_of_me(statement)
            return False
        member = self._parts.members.get(statement.id)
        if member is None or statement.epoch > member.epoch:
            if not self._parts.members.is_forgotten(statement.id, statement.epoch):
                self.ask_about(statement.id, source)
            return False
        if statement.epoch < member.epoch or member.state == State.LEFT:
            return False
        if isinstance(statement, Alive):
            return self._hear_alive(member, statement)
        if isinstance(statement, Left):
            return self._hear_left(member, statement)
        return self._hear_accusation(member, statement)

    def hear_quietly(self, statements: Iterable[Statement]) -> None:
        """Merge what everybody else knows already: it is not passed on."""
        self._quiet = True
        try:
            for statement in statements:
                self.hear(statement, None)
        finally:
            self._quiet = False

    def ask_about(self, node: NodeId, source: Address | None) -> None:
        """Ask at `source` who that is, at most once a second for each node."""
        parts = self._parts
        if source is None or parts.now_s - self._queried.get(node, -_QUERY_S) < _QUERY_S:
            return
        if len(self._queried) >= parts.settings.members_max:
            self._queried.clear()
        self._queried[node] = parts.now_s
        self._post.send(source, Query((node,)))

    def answer_late_run(self, node: NodeId, source: Address) -> None:
        """A packet of an earlier run of a member: tell whoever sent it that there is a later one.

        It may be a copy, or a machine that was set back, and nobody else answers it. The packet
        proves nothing, so this is done once in `_LATE_S`, whoever it is.
        """
        parts = self._parts
        member = parts.members.get(node)
        if member is not None and parts.now_s - self._late_s >= _LATE_S:
            self._late_s = parts.now_s
            self._post.send(source, member.introduction)

    def hear_row(self, row: MemberRow, source: Address) -> Member | None:
        """Compare with another's view of a member; return ours if it should be told."""
        parts = self._parts
        if row.id == parts.me.id:
            if row.epoch == parts.me.epoch and row.state == State.LEFT and not self.leaving:
                self.ask_about(row.id, source)  # a copy of this node may have signed that
            elif row.epoch == parts.me.epoch and row.state != State.ALIVE:
                self._hear_of_me(Suspect(row.id, row.epoch, row.incarnation, row.accusers))
            mine, theirs = parts.me.incarnation, row.incarnation
            return parts.me if (parts.me.epoch, mine) > (row.epoch, theirs) else None
        member = parts.members.get(row.id)
        if member is None:
            if not parts.members.is_forgotten(row.id, row.epoch):
                self.ask_about(row.id, source)
            return None
        if member.state == State.SUSPECT and row.state == State.SUSPECT and _same_run(member, row):
            self.hear(Suspect(row.id, row.epoch, row.incarnation, row.accusers), source)
            return member if member.accusers - set(row.accusers) else None
        mine_rank = _rank(member.epoch, member.state, member.incarnation)
        their_rank = _rank(row.epoch, row.state, row.incarnation)
        if mine_rank > their_rank:
            return member
        if mine_rank < their_rank:
            if row.state == State.SUSPECT:
                self.hear(Suspect(row.id, row.epoch, row.incarnation, row.accusers), source)
            elif row.state == State.DEAD:
                self.hear(Dead(row.id, row.epoch, row.incarnation, row.accusers), source)
            else:
                self.ask_about(row.id, source)  # what it says itself has to be signed
        return None

    def known(self, node: NodeId) -> list[Statement]:
        """All that convinces a stranger of what is known of a member; [] if nothing is."""
        member = self._parts.members.get(node)
        if member is None:
            return []
        statement = member.statement()
        if statement is None or statement is member.introduction:
            return [member.introduction]
        return [member.introduction, statement]

    def _hear_introduction(self, said: Introduce) -> bool:
        parts = self._parts
        node = node_id_of(said.public_key)
        if node == parts.me.id:
            self._hear_introduction_of_me(said)
            return False
        member = parts.members.get(node)
        if member is not None:
            return self._hear_again(member, said)
        if parts.members.is_forgotten(node, said.epoch):
            return False
        if not self._acceptable(said):
            return False
        if len(parts.members) >= parts.settings.members_max and not self._make_room():
            self._problems.set(
                "members-exceeded",
                parts.me.id,
                f"there are more than {parts.settings.members_max} members; others are ignored",
            )
            return False
        try:
            member = parts.members.add(node, said, parts.now_s)
        except Malformed:
            return False
        self._queried.pop(node, None)
        self._announce(member, None)
        return True

    def _hear_again(self, member: Member, said: Introduce) -> bool:
        """An introduction of a member that is known."""
        parts = self._parts
        before = member.introduction
        if (said.epoch, said.incarnation) <= (before.epoch, before.incarnation):
            if (
                (said.epoch, said.incarnation) == (before.epoch, before.incarnation)
                and said.signature != before.signature
                and parts.checker.introduction(said)
            ):
                self._problems.set(
                    "cloned-identity",
                    member.id,
                    f"{said.name} and {before.name} run under one identity: "
                    f"{_place(said)} and {_place(before)}",
                )
            return False
        restarted = said.epoch > before.epoch
        if (not restarted and member.state == State.LEFT) or not self._acceptable(said):
            return False
        state = member.state
        try:
            parts.members.present(member, said)
        except Malformed:
            return False
        if before.name != said.name:
            self._problems.clear("duplicate-name", member.id)
            self._problems.check_name(before.name)
        if restarted:
            self._problems.clear("cloned-identity", member.id)
            member.incarnation = said.incarnation
            member.proof = said
            member.heard_s = float("-inf")
            member.udp_ok = member.tcp_ok = None
            self._settle(member, State.ALIVE)
        elif said.incarnation > member.incarnation:
            member.incarnation = said.incarnation
            member.proof = said
            self._settle(member, State.ALIVE)
        self._announce(member, state)
        return True

    def _acceptable(self, said: Introduce) -> bool:
        settings = self._parts.settings
        if not self._parts.checker.introduction(said):
            self._parts.counters["refused_signature"] += 1
            return False
        if said.protocol_min > settings.protocol_max or said.protocol_max < settings.protocol_min:
            self._problems.set(
                "protocol-version",
                node_id_of(said.public_key),
                f"{said.name} speaks protocol {said.protocol_min} to {said.protocol_max}, this "
                f"node {settings.protocol_min} to {settings.protocol_max}: it is ignored",
            )
            return False
        self._problems.clear("protocol-version", node_id_of(said.public_key))
        return True

    def _announce(self, member: Member, before: State | None) -> None:
        """A member is new or has presented itself anew: tell everybody, and who listens here."""
        if not self._quiet:
            self._news.drop(member.id)
            self._news.introduce(member.id, member.introduction)
            statement = member.statement()
            if statement is not None and statement is not member.introduction:
                self._news.put(member.id, statement)
            self._spreading.kick()
        self._changed(member, before)

    def _hear_alive(self, member: Member, said: Alive) -> bool:
        if said.incarnation <= member.incarnation:
            return False
        if not self._parts.checker.alive(member.public_key, said):
            self._parts.counters["refused_signature"] += 1
            return False
        before = member.state
        member.incarnation = said.incarnation
        member.proof = said
        self._settle(member, State.ALIVE)
        self._tell(member)
        self._changed(member, before)
        return True

    def _hear_left(self, member: Member, said: Left) -> bool:
        if not self._parts.checker.left(member.public_key, said):
            self._parts.counters["refused_signature"] += 1
            return False
        before = member.state
        member.incarnation = max(member.incarnation, said.incarnation)
        member.proof = said
        self._settle(member, State.LEFT)
        self._tell(member)
        self._changed(member, before)
        return True

    def _hear_accusation(self, member: Member, said: Suspect | Dead) -> bool:
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
        proved = isinstance(said, Dead) and len(accusers) >= self._parts.settings.accusers_min
        if ahead == 0 and member.state == State.SUSPECT:
            return self._add_accusers(member, accusers, proved=proved)
        before = member.state
        member.accusers = _least(accusers)
        self._settle(member, State.SUSPECT)
        self.suspicions.begin(member)
        if proved:
            self.suspicions.hasten(member)
        self._tell(member)
        self._changed(member, before)
        return True

    def _add_accusers(self, member: Member, accusers: frozenset[NodeId], *, proved: bool) -> bool:
        more = _least(member.accusers | accusers)
        news = more != member.accusers
        if news:
            member.accusers = more
            self._parts.members.changed(member)
            self.suspicions.accused(member)
        enough = len(more) >= self._parts.settings.accusers_min
        if enough and (member.unreachable or (proved and not self.suspicions.hasten_again(member))):
            self._condemn(member)
        elif news:
            self._tell(member)
        return news or proved

    # What this node finds out itself

    def heard_from(self, member: Member) -> None:
        """A packet of the member's current run came."""
        member.heard_s = self._parts.now_s
        if member.unreachable:
            member.unreachable = False
            self._parts.members.changed(member)
            self._changed(member, member.state)

    def accuse(self, member: Member) -> None:
        """The member has not answered a probe, or the confirmation of a suspicion."""
        parts = self._parts
        if member.state == State.ALIVE:
            member.accusers = frozenset({parts.me.id})
            self._settle(member, State.SUSPECT)
            self.suspicions.begin(member)
            self._tell(member)
            self._changed(member, State.ALIVE)
        elif member.state == State.SUSPECT:
            self._add_accusers(member, frozenset({parts.me.id}), proved=False)

    def confirmed(self, member: Member) -> None:
        """The suspicion has run out and the member has not answered this node's own pings."""
        if member.state != State.SUSPECT:
            return
        known = member.unreachable
        member.unreachable = True
        self.accuse(member)  # condemns it where there is another accuser
        if member.live and not known:
            self._parts.members.changed(member)
            self._changed(member, State.SUSPECT)

    def _condemn(self, member: Member) -> None:
        before = member.state
        self._settle(member, State.DEAD)
        self._parts.counters["deaths"] += 1
        self._tell(member)
        self._changed(member, before)

    # This node itself

    def leave(self) -> None:
        """Say goodbye."""
        parts, me = self._parts, self._parts.me
        self.leaving = True
        left = parts.signer.left(me.epoch, me.incarnation)
        self._news.drop(me.id)
        self._news.put(me.id, left)
        for member in parts.members.pick(parts.random, parts.settings.health_max):
            self._post.send(member.address, left)
        self._spreading.kick()

    def renew(self, epoch: int) -> None:
        """Go on as a new run of the same node."""
        parts, me = self._parts, self._parts.me
        parts.identity = parts.identity._replace(epoch=epoch)
        protocols = (parts.settings.protocol_min, parts.settings.protocol_max)
        introduction = parts.signer.introduction(parts.identity, 0, protocols)
        parts.members.present(me, introduction)
        me.incarnation = 0
        me.proof = introduction
        parts.members.changed(me)
        self._announce(me, State.ALIVE)

    def _hear_introduction_of_me(self, said: Introduce) -> None:
        me = self._parts.me
        newer = (said.epoch, said.incarnation) > (me.epoch, me.incarnation)
        same = (said.epoch, said.incarnation) == (
            me.introduction.epoch,
            me.introduction.incarnation,
        )
        other = same and said.signature != me.introduction.signature
        if (newer or other) and self._parts.checker.introduction(said):
            self.meet_clone(said.epoch, f"{said.name} at {_place(said)}")

    def _hear_of_me(self, said: Alive | Suspect | Dead | Left) -> None:
        parts, me = self._parts, self._parts.me
        if isinstance(said, Alive | Left):
            if (said.epoch, said.incarnation) > (me.epoch, me.incarnation) or (
                isinstance(said, Left) and said.epoch == me.epoch and not self.leaving
            ):
                check = parts.checker.alive if isinstance(said, Alive) else parts.checker.left
                if check(me.public_key, said):  # type: ignore[arg-type]
                    self.meet_clone(said.epoch, "another process")
            return
        if said.epoch != me.epoch or said.incarnation < me.incarnation or self.leaving:
            return
        if said.incarnation - me.incarnation > INCARNATIONS_AHEAD_MAX:
            return
        me.incarnation = said.incarnation + 1
        me.proof = parts.signer.alive(me.epoch, me.incarnation)
        parts.health.worse()
        parts.counters["refutations"] += 1
        parts.members.changed(me)
        self._tell(me)
        self._changed(me, State.ALIVE)

    def meet_clone(self, epoch: int, who: str) -> None:
        """Somebody has this node's key: its state folder was copied, or a machine's image.

        A higher epoch wins and this node falls silent; with the same one, both ask for a new
        epoch, once a minute at most, and the higher of those wins. A run that has only begun is
        the latest, whatever its epoch says: the machine was set back, and its clock perhaps too.
        """
        parts = self._parts
        self._later_epoch = max(self._later_epoch, epoch)
        if epoch > parts.me.epoch and not self._taken_in:
            self._want_epoch(epoch)
            return
        self._problems.set(
            "cloned-identity",
            parts.me.id,
            f"{who} runs under this node's identity: its state folder is a copy",
        )
        if epoch > parts.me.epoch:
            self.yielded = True
        else:
            self._want_epoch(epoch)

    def _want_epoch(self, above: int) -> None:
        parts = self._parts
        if parts.now_s - self._renewed_s >= RENEW_S:
            self._renewed_s = parts.now_s
            parts.events.append(EpochWanted(above=above))

    def welcomed(self) -> None:
        """A member has taken this node in, and told all that it knows."""
        self._taken_in |= self._later_epoch <= self._parts.me.epoch

    # What follows

    def _settle(self, member: Member, state: State) -> None:
        """Give the member its state, and end what belongs to the one before."""
        parts = self._parts
        if state != member.state:
            member.state_since_s = parts.now_s
        member.state = state
        if state != State.SUSPECT:
            self.suspicions.end(member.id)
            member.unreachable = False
        if state in (State.ALIVE, State.LEFT):
            member.accusers = frozenset()
        parts.members.changed(member)
        if state >= State.DEAD and member.id not in self._forgetting:
            self._forgetting.add(member.id)
            parts.after(parts.settings.left_kept_s, lambda: self._forget_in_time(member))

    def _forget_in_time(self, member: Member) -> None:
        """Forget a member that has been gone long enough, or look again later."""
        parts, settings = self._parts, self._parts.settings
        if member.live or parts.members.get(member.id) is not member:
            self._forgetting.discard(member.id)
            return
        replaced = any(other.live for other in parts.members.named(member.name))
        away_for_good = member.state == State.LEFT or replaced
        kept_s = settings.left_kept_s if away_for_good else settings.dead_kept_s
        remaining_s = member.state_since_s + kept_s - parts.now_s
        if remaining_s > 0:
            again_s = min(remaining_s, settings.left_kept_s)
            parts.after(again_s, lambda: self._forget_in_time(member))
        else:
            self._forget(member)

    def _make_room(self) -> bool:
        """Forget whoever has been gone longest; False if all members are there."""
        gone = [member for member in self._parts.members if not member.live]
        if gone:
            self._forget(min(gone, key=lambda member: (member.state_since_s, member.id)))
        return bool(gone)

    def _forget(self, member: Member) -> None:
        parts = self._parts
        self._forgetting.discard(member.id)
        parts.members.forget(member)
        self._news.drop(member.id)
        self._problems.drop(member.id)
        self._problems.clear("members-exceeded", parts.me.id)
        self._follower.member_forgotten(member)

    def _tell(self, member: Member) -> None:
        statement = member.statement()
        about_me = member.id == self._parts.me.id
        if statement is not None and (about_me or not self._quiet):
            self._news.put(member.id, statement)
            self._spreading.kick()

    def _changed(self, member: Member, before: State | None) -> None:
        self._parts.events.append(MemberChanged(member.id, before, member.state))
        self._follower.member_changed(member)
        self._problems.check_name(member.name)


def _same_run(member: Member, row: MemberRow) -> bool:
    return (member.epoch, member.incarnation) == (row.epoch, row.incarnation)


def _rank(epoch: int, state: int, incarnation: int) -> tuple[int, bool, int, int]:
    left = state == State.LEFT
    return epoch, left, 0 if left else incarnation, state


def _place(said: Introduce) -> str:
    try:
        host, port = address_of(said.host, said.port)
    except Malformed:
        return "an impossible address"
    return f"{host} port {port}"


def _least(accusers: frozenset[NodeId]) -> frozenset[NodeId]:
    """At most four, the same ones in whatever order they became known."""
    return frozenset(sorted(accusers)[:4])
