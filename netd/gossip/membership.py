"""What is said about members, merged: the larger statement wins."""

from collections.abc import Iterable

from netd.gossip.accusations import Accusations
from netd.gossip.codec import Malformed, place_of
from netd.gossip.inquiries import Inquiries
from netd.gossip.member import Member
from netd.gossip.messages import (
    Alive,
    Dead,
    Introduce,
    Left,
    MemberRow,
    Statement,
    Suspect,
)
from netd.gossip.oneself import Oneself
from netd.gossip.parts import Parts
from netd.gossip.problems import Problems
from netd.gossip.standing import Standing
from netd.gossip.values import Address, NodeId, State, node_id_of


class Membership:
    """Merges statements into the table.

    For one member they are ordered by epoch, then departure, then incarnation, then state, and
    the larger one wins everywhere, in whatever order they come. The exception is a death of a
    member that is alive here, see `Accusations.hear`.
    """

    def __init__(
        self,
        parts: Parts,
        problems: Problems,
        standing: Standing,
        accusations: Accusations,
        inquiries: Inquiries,
        oneself: Oneself,
    ) -> None:
        self._parts = parts
        self._problems = problems
        self._standing = standing
        self._accusations = accusations
        self._inquiries = inquiries
        self._oneself = oneself

    def hear(self, statement: Statement, source: Address | None) -> bool:
        """Merge a statement; whether it is news here. `source` is asked about strangers."""
        if isinstance(statement, Introduce):
            return self._hear_introduction(statement)
        if statement.id == self._parts.me.id:
            self._oneself.hear(statement)
            return False
        member = self._parts.members.get(statement.id)
        if member is None or statement.epoch > member.epoch:
            if not self._parts.members.is_forgotten(statement.id, statement.epoch):
                self._inquiries.ask_about(statement.id, source)
            return False
        if statement.epoch < member.epoch or member.state == State.LEFT:
            return False
        if isinstance(statement, Alive):
            return self._hear_alive(member, statement)
        if isinstance(statement, Left):
            return self._hear_left(member, statement)
        return self._accusations.hear(member, statement)

    def hear_quietly(self, statements: Iterable[Statement]) -> None:
        """Merge what everybody else knows already: it is not passed on."""
        self._standing.quiet = True
        try:
            for statement in statements:
                self.hear(statement, None)
        finally:
            self._standing.quiet = False

    def hear_row(self, row: MemberRow, source: Address) -> Member | None:
        """Compare with another's view of a member; return ours if it should be told."""
        parts = self._parts
        if row.id == parts.me.id:
            if self._oneself.hear_row(row):
                self._inquiries.ask_about(row.id, source)
            mine, theirs = parts.me.incarnation, row.incarnation
            return parts.me if (parts.me.epoch, mine) > (row.epoch, theirs) else None
        member = parts.members.get(row.id)
        if member is None:
            if not parts.members.is_forgotten(row.id, row.epoch):
                self._inquiries.ask_about(row.id, source)
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
                self._inquiries.ask_about(row.id, source)  # what it says itself has to be signed
        return None

    def known(self, node: NodeId) -> list[Statement]:
        """All that convinces a stranger of what is known of a member; [] if nothing is."""
        member = self._parts.members.get(node)
        if member is None:
            return []
        statement = member.aged_statement(self._parts.monotonic_s)
        if statement is None or statement is member.introduction:
            return [member.introduction]
        return [member.introduction, statement]

    def _hear_introduction(self, said: Introduce) -> bool:
        parts = self._parts
        node = node_id_of(said.public_key)
        if node == parts.me.id:
            self._oneself.hear_introduction(said)
            return False
        member = parts.members.get(node)
        if member is not None:
            return self._hear_again(member, said)
        if parts.members.is_forgotten(node, said.epoch):
            return False
        if not self._acceptable(said):
            return False
        if len(parts.members) >= parts.settings.members_max and not self._standing.make_room():
            self._problems.set(
                "members-exceeded",
                parts.me.id,
                f"there are more than {parts.settings.members_max} members; others are ignored",
            )
            return False
        try:
            member = parts.members.add(node, said, parts.monotonic_s)
        except Malformed:
            return False
        self._inquiries.answered(node)
        self._standing.announce(member, None)
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
                    f"{place_of(said)} and {place_of(before)}",
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
            self._standing.settle(member, State.ALIVE)
        elif said.incarnation > member.incarnation:
            member.incarnation = said.incarnation
            member.proof = said
            self._standing.settle(member, State.ALIVE)
        self._standing.announce(member, state)
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

    def _hear_alive(self, member: Member, said: Alive) -> bool:
        if said.incarnation <= member.incarnation:
            return False
        if not self._parts.checker.alive(member.public_key, said):
            self._parts.counters["refused_signature"] += 1
            return False
        before = member.state
        member.incarnation = said.incarnation
        member.proof = said
        self._standing.settle(member, State.ALIVE)
        self._standing.tell(member)
        self._standing.changed(member, before)
        return True

    def _hear_left(self, member: Member, said: Left) -> bool:
        if not self._parts.checker.left(member.public_key, said):
            self._parts.counters["refused_signature"] += 1
            return False
        before = member.state
        member.incarnation = max(member.incarnation, said.incarnation)
        member.proof = said
        member.gone_s = said.gone_s
        self._standing.settle(member, State.LEFT)
        self._standing.tell(member)
        self._standing.changed(member, before)
        return True


def _same_run(member: Member, row: MemberRow) -> bool:
    return (member.epoch, member.incarnation) == (row.epoch, row.incarnation)


def _rank(epoch: int, state: int, incarnation: int) -> tuple[int, bool, int, int]:
    left = state == State.LEFT
    return epoch, left, 0 if left else incarnation, state
