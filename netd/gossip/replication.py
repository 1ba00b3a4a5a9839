"""Records: written here, learned from others, passed on, and asked for where one is missing."""

from collections.abc import Iterable
from typing import Final

from netd.gossip.changes import Changes, head_of
from netd.gossip.codec import encode
from netd.gossip.log import ATTACHMENT, LogId
from netd.gossip.logs import is_ahead, row_of
from netd.gossip.member import Member
from netd.gossip.messages import Delta, Head, LogRow, Want
from netd.gossip.parts import Parts
from netd.gossip.post import Post
from netd.gossip.problems import Problems
from netd.gossip.replica import Replica
from netd.gossip.spreading import Spreading
from netd.gossip.values import GLOBAL, Address, NodeId, Scope
from netd.gossip.view import View

_WANT_S = 0.2  # between two requests for one log
_SEEK_S = 10.0  # between two times that an owner is asked for what all others withhold
_WANTS_MAX = 4_096
RECORDS_EXCEEDED: Final = "records-exceeded"
DELTAS_PER_ANSWER = 16
_ANSWER_PACKETS_MAX = 16  # more is better fetched over a stream


class Replication:
    """Who learns of a change by gossip passes it on; who gets it by asking does not."""

    def __init__(
        self,
        parts: Parts,
        post: Post,
        replica: Replica,
        view: View,
        changes: Changes,
        spreading: Spreading,
        problems: Problems,
    ) -> None:
        self._parts = parts
        self._post = post
        self._problems = problems
        self._replica = replica
        self._view = view
        self._changes = changes
        self._spreading = spreading
        self._wanted: dict[LogId, float] = {}
        self._sought: dict[LogId, float] = {}
        self.learned_s = parts.now_s  # when something was learned last
        self._started = False

    # Own records

    def write(self, scope: Scope, table: str, key: str, value: bytes | None) -> None:
        """Set an own record, or delete it with None."""
        parts = self._parts
        entry = self._replica.write(scope, table, key, value)
        if entry is None:
            return
        self._view.update(parts.me, scope, [(table, key)])
        self._changes.put((parts.me.id, scope), [entry.version])
        self.learned_s = parts.now_s
        self._spreading.kick()
        if value is None:
            version = entry.version
            parts.after(
                parts.settings.tombstone_kept_s, lambda: self._drop_tombstones(scope, version)
            )

    def _drop_tombstones(self, scope: Scope, version: int) -> None:
        self._replica.drop_tombstones(scope, version)
        self._release(scope)

    def _release(self, scope: Scope) -> None:
        if scope != GLOBAL and scope not in self._parts.me.scopes:
            self._replica.release(scope)

    def begin(self) -> None:
        """What was written so far is the whole state that this run begins with."""
        if not self._started:
            self._started = True
            for scope in list(self._replica.own):
                self._replica.set_baseline(scope)

    def subscribe(self, scope: Scope) -> None:
        """Take part in a scope: have its records, and show own ones to those in it."""
        if scope not in self._parts.me.scopes:
            # The log begins now, also if nothing is ever written: it replaces an earlier run's.
            version = self._replica.own_log(scope).version
            self.write(GLOBAL, ATTACHMENT, scope.hex(), b"%d" % version)

    def tell(self, member: Member) -> None:
        """Have a member know of the last change of this node's own global records right now."""
        log = self._replica.own_log(GLOBAL)
        start, room = log.version - 1, self._post.room_bytes
        delta = log.delta(self._parts.me.id, GLOBAL, start, room, news=True)
        if delta is not None:
            self._post.send(member.address, delta)

    def unsubscribe(self, scope: Scope) -> None:
        """Own records are deleted, and their log goes on when this node comes back."""
        for entry in list(self._replica.own_log(scope).above(0)):
            self.write(scope, entry.table, entry.key, None)
        self._replica.drop_scope(scope)
        for code, owner in list(self._problems.open):
            member = self._parts.members.get(owner)
            if code == RECORDS_EXCEEDED and member is not None and member is not self._parts.me:
                self._judge(member)
        self.write(GLOBAL, ATTACHMENT, scope.hex(), None)
        self._changes.drop((self._parts.me.id, scope))
        self._release(scope)

    # Others' records

    def hear_delta(self, delta: Delta, sender: Member | None) -> None:
        """A delta came in a packet, as news or because it was asked for."""
        if not self._may_have(delta.scope):
            self._parts.counters["refused_scope"] += 1
            return
        self.learn(delta, sender)

    def learn(self, delta: Delta, sender: Member | None) -> None:
        """Take over what is new in it."""
        parts = self._parts
        log_id = (delta.owner, delta.scope)
        before = row_of(log_id, self._replica.get(log_id))
        applied = self._replica.apply(delta)
        if applied.gap:
            if sender is not None:
                self.want([log_id], sender)
            return
        slot = self._replica.get(log_id)
        after = row_of(log_id, slot)
        if not is_ahead(after, before):
            return
        self.learned_s = parts.now_s
        owner = parts.members.get(delta.owner)
        if owner is not None:
            if applied.replaced:
                self._view.refresh(owner, delta.scope)
            elif applied.keys:
                self._view.update(owner, delta.scope, applied.keys)
            if applied.replaced or applied.exceeds:
                self._judge(owner)
        if delta.news and slot is not None and slot.head is not None:
            floor = before.version if before.epoch == after.epoch else 0
            self._changes.put(
                log_id, [e.version for e in slot.head.above(floor)] or [after.version]
            )
            self._spreading.kick()

    def hear_head(self, head: Head, sender: Member) -> Member | None:
        """From whom to fetch what there is more of a log than this node has; None: from nobody."""
        parts, log_id = self._parts, (head.owner, head.scope)
        owner = parts.members.get(head.owner)
        row = row_of(log_id, self._replica.get(log_id))
        ahead = (head.epoch, head.version) > (row.epoch, row.version)
        if owner is None or not ahead or not self._may_have(head.scope):
            return None
        if head.withheld is None:
            return sender
        if self._replica.follow(log_id, head.epoch, head.withheld):
            self.learned_s = parts.now_s
            self.announce(log_id)
            return None
        # It may be not too large here, or not yet: that is seen by having it.
        if len(self._sought) > _WANTS_MAX:
            self._sought.clear()
        if not owner.live or parts.now_s - self._sought.get(log_id, -_SEEK_S) < _SEEK_S:
            return None
        self._sought[log_id] = parts.now_s
        return owner

    def _judge(self, owner: Member) -> None:
        """Tell whether there is more of an owner than is kept."""
        code, settings = RECORDS_EXCEEDED, self._parts.settings
        if any(
            slot.head is not None and slot.head.withheld
            for slot in self._replica.of_owner(owner.id)
        ):
            self._problems.set(
                code,
                owner.id,
                f"{owner.name} tells more than {settings.kept_mult * settings.own_records_max} "
                f"records or {settings.kept_mult * settings.own_bytes_max >> 20} MiB: nothing "
                "more is heard of it in this run",
            )
        else:
            self._problems.clear(code, owner.id)

    def announce(self, log_id: LogId) -> None:
        """Pass on that there is more of a log: it was fetched after a `Head`."""
        slot = self._replica.get(log_id)
        if slot is not None and slot.head is not None:
            self._changes.put(log_id, [slot.head.version])
            self._spreading.kick()

    def want(self, logs: Iterable[LogId], sender: Member) -> None:
        """Ask `sender` for what is missing of these logs."""
        parts = self._parts
        if len(self._wanted) > _WANTS_MAX:
            self._wanted.clear()
        rows: list[LogRow] = []
        for log_id in logs:
            if parts.now_s - self._wanted.get(log_id, -_WANT_S) >= _WANT_S:
                self._wanted[log_id] = parts.now_s
                rows.append(row_of(log_id, self._replica.get(log_id)))
        for index in range(0, len(rows), DELTAS_PER_ANSWER):
            self._post.send(sender.address, Want(tuple(rows[index : index + DELTAS_PER_ANSWER])))

    def answer(self, rows: Iterable[LogRow], sender: Member, source: Address) -> bool:
        """Send what is above `rows`, or the head of what fits into no packet; False where it is
        more than should go in packets, and the rest was left out.
        """
        deltas: list[Delta | Head] = []
        room_bytes = _ANSWER_PACKETS_MAX * self._post.room_bytes
        complete = True
        for row in rows:
            if not may_show(row.scope, sender):
                continue
            slot = self._replica.get((row.owner, row.scope))
            log = slot.head if slot is not None else None
            if log is None or (log.epoch, log.version) <= (row.epoch, row.version):
                continue
            if log.withheld:
                deltas.append(head_of((row.owner, row.scope), log))
                continue
            if room_bytes <= 0:
                complete = False
                break
            start, floor = (row.version, row.floor) if row.epoch == log.epoch else (0, 0)
            delta = log.delta(
                row.owner, row.scope, start, self._post.room_bytes, news=False, floor=floor
            )
            if delta is not None:
                deltas.append(delta)
                room_bytes -= len(encode(delta))
            if delta is None or delta.end < log.version:
                deltas.append(head_of((row.owner, row.scope), log))
        self._post.send_many(source, deltas)
        return complete

    def forget(self, owner: NodeId) -> None:
        """Drop everything of an owner that was forgotten."""
        self._replica.drop_owner(owner)
        self._changes.drop_owner(owner)

    def common_scopes(self, peer: Member) -> list[Scope]:
        """Scopes that both are in, in a fixed order."""
        mine = self._parts.me.scopes
        return sorted(mine & peer.scopes) if mine and peer.scopes else []

    def _may_have(self, scope: Scope) -> bool:
        return scope == GLOBAL or scope in self._parts.me.scopes


def may_show(scope: Scope, peer: Member) -> bool:
    """Whether `peer` may have records of the scope, as far as is known here."""
    return scope == GLOBAL or scope in peer.scopes
