"""Comparing what two members have, and telling each other the difference.

Every ping and every answer carries digests of both trees. A difference that stays leads to a
comparison by packets: leaves, then rows of the leaves that differ, then what is missing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from netd.gossip.codec import encode
from netd.gossip.inquiries import Inquiries
from netd.gossip.logs import is_ahead, row_of
from netd.gossip.member import Member
from netd.gossip.membership import Membership
from netd.gossip.messages import (
    LEAVES,
    Compare,
    LogRow,
    LogRows,
    MemberRow,
    MemberRows,
    Message,
    TooDifferent,
)
from netd.gossip.parts import Parts
from netd.gossip.post import Post
from netd.gossip.replica import Replica
from netd.gossip.replication import Replication, may_show
from netd.gossip.syncing import Syncing
from netd.gossip.tree import differing, packed
from netd.gossip.values import Address, NodeId

MEMBERS, RECORDS = 0, 1
_VAIN_MAX = 8  # comparisons in a row, with whomever, that have not led to equality with anybody
_PERSISTENT = 3  # differences in a row that no recent change explains
_LEAVES_MAX = 64
_ROWS_MAX = 1_024
_PACKET_ROWS_MAX = 64
_MEMBERS_TOLD_MAX = 96  # in answer to one packet, which makes 20 to 40 packets
_MEMBER_ROW_BYTES, _LOG_ROW_BYTES = 110, 57  # at the most, encoded
Row = TypeVar("Row")


class Repair:
    """One tree is compared at most once in its interval, whoever the peer."""

    def __init__(
        self,
        parts: Parts,
        post: Post,
        membership: Membership,
        inquiries: Inquiries,
        replica: Replica,
        replication: Replication,
        syncing: Syncing,
    ) -> None:
        self._parts = parts
        self._post = post
        self._membership = membership
        self._inquiries = inquiries
        self._replica = replica
        self._replication = replication
        self._syncing = syncing
        settings = parts.settings
        self._interval_s = (settings.members_repair_s, settings.logs_repair_s)
        self._compared_s = [parts.now_s, parts.now_s - settings.logs_repair_s]
        self._differences = [0, 0]
        self._in_vain = [0, 0]
        self._members_root = parts.members.tree.root
        self._members_since_s = parts.now_s

    def digests(self, peer: Member | None) -> tuple[int, int]:
        """What a ping to `peer`, or the answer to it, says of both trees."""
        if peer is None:
            return 0, 0
        records = self._replica.root(self._replication.common_scopes(peer))
        return self._parts.members.tree.root, records

    def notice(self, peer: Member, members: int, records: int) -> None:
        """Look at the digests that came from `peer`."""
        parts = self._parts
        root = parts.members.tree.root
        if root != self._members_root:
            self._members_root = root
            self._members_since_s = parts.now_s
        mine = self.digests(peer)
        self._notice(peer, MEMBERS, mine[MEMBERS] != members, self._members_since_s)
        self._notice(peer, RECORDS, mine[RECORDS] != records, self._replication.learned_s)

    def _notice(self, peer: Member, tree: int, differs: bool, changed_s: float) -> None:
        parts = self._parts
        if not differs:
            self._differences[tree] = 0
            self._in_vain[tree] = 0
            return
        self._differences[tree] += 1
        settled = parts.now_s - changed_s >= parts.settings.settle_s
        if not settled and self._differences[tree] < _PERSISTENT:
            return
        if parts.now_s - self._compared_s[tree] < self._interval_s[tree]:
            return
        self._compared_s[tree] = parts.now_s
        parts.counters["comparisons"] += 1
        self._in_vain[tree] += 1
        if tree == RECORDS and self._in_vain[tree] % _VAIN_MAX == 0:
            # Small packets get through, the large ones that would bring the rest do not.
            self._syncing.fetch_all(peer)
            return
        self._post.send(peer.address, Compare(tree, self._leaves(tree, peer)))

    def _leaves(self, tree: int, peer: Member) -> bytes:
        if tree == MEMBERS:
            return packed([self._parts.members.tree])
        return packed(self._replica.trees(self._replication.common_scopes(peer)))

    def compare(self, compare: Compare, sender: Member, source: Address) -> None:
        """Answer with rows of the leaves that differ."""
        leaves = differing(self._leaves(compare.tree, sender), compare.leaves)
        if not leaves:
            return
        chosen = self._parts.random.sample(leaves, min(len(leaves), _LEAVES_MAX))
        wanted = frozenset(chosen)
        if compare.tree == MEMBERS:
            members: dict[int, list[MemberRow]] = {leaf: [] for leaf in sorted(wanted)}
            for member in self._parts.members:
                if member.id[0] in wanted:
                    members[member.id[0]].append(member.row())
            self._send_rows(source, members, MemberRows, _MEMBER_ROW_BYTES)
            return
        scopes = self._replication.common_scopes(sender)
        rows = self._replica.rows(scopes, wanted)
        if len(leaves) > _LEAVES_MAX or len(rows) > _ROWS_MAX:
            self._post.send(source, TooDifferent(RECORDS))
        else:
            logs: dict[int, list[LogRow]] = {leaf: [] for leaf in sorted(wanted)}
            for row in rows:
                logs[row.owner[1]].append(row)
            self._send_rows(source, logs, LogRows, _LOG_ROW_BYTES)

    def _send_rows(
        self,
        source: Address,
        by_leaf: Mapping[int, Sequence[Row]],
        make: Callable[[bytes, tuple[Row, ...]], Message],
        row_bytes: int,
    ) -> None:
        """In packets of whole leaves, so that each tells all there is in the leaves it names."""
        room = min(_PACKET_ROWS_MAX, (self._post.room_bytes - LEAVES) // row_bytes)
        leaves: list[int] = []
        rows: list[Row] = []

        def send(numbers: Iterable[int], some: Sequence[Row]) -> None:
            self._post.send_encoded(source, [encode(make(bytes(numbers), tuple(some)))])

        for leaf, found in by_leaf.items():
            if leaves and len(rows) + len(found) > room:
                send(leaves, rows)
                leaves, rows = [], []
            if len(found) > room:
                # More in one leaf than a packet holds: its number is not named, so nothing is
                # concluded from what is not there.
                for index in range(0, len(found), room):
                    send((), found[index : index + room])
            else:
                leaves.append(leaf)
                rows += found
        if leaves:
            send(leaves, rows)

    def member_rows(self, message: MemberRows, sender: Member, source: Address) -> None:
        """Merge what the other knows better, tell what it does not know."""
        better: list[NodeId] = []
        named = set()
        for row in message.rows:
            named.add(row.id)
            mine = self._membership.hear_row(row, source)
            if mine is not None:
                better.append(mine.id)
        leaves = frozenset(message.leaves)
        better += [
            member.id
            for member in self._parts.members
            if member.id[0] in leaves and member.id not in named
        ]
        if len(better) > _MEMBERS_TOLD_MAX:
            better = self._parts.random.sample(better, _MEMBERS_TOLD_MAX)
        told: list[Message] = [said for node in better for said in self._membership.known(node)]
        self._post.send_many(source, told)

    def log_rows(self, message: LogRows, sender: Member, source: Address) -> None:
        """Ask for what the other has more of, send what this node has more of."""
        theirs = {(row.owner, row.scope): row for row in message.rows}
        scopes = self._replication.common_scopes(sender)
        wanted = []
        for log_id, row in theirs.items():
            if not may_show(row.scope, self._parts.me):
                continue
            if self._parts.members.get(row.owner) is None:
                self._inquiries.ask_about(row.owner, source)
            elif is_ahead(row, row_of(log_id, self._replica.get(log_id))):
                wanted.append(log_id)
        self._replication.want(wanted, sender)
        mine = self._replica.rows(scopes, frozenset(message.leaves))
        lacking = [
            theirs.get((row.owner, row.scope), LogRow(row.owner, row.scope, 0, 0)) for row in mine
        ]
        # Rows outside of the named leaves are compared as well.
        lacking += [row for row in message.rows if row.owner[1] not in message.leaves]
        if not self._replication.answer(lacking, sender, source):
            self._post.send(source, TooDifferent(RECORDS))

    def too_different(self, sender: Member) -> None:
        self._syncing.fetch_all(sender)
