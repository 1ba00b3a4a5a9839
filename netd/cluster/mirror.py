"""The engine's copy of what the cluster knows, and those who watch it. On the engine's loop."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from netd.cluster.claims import Claims, is_claim
from netd.cluster.outbox import Forgotten, News
from netd.cluster.views import Measures
from netd.engine.interfaces import (
    GLOBAL_SCOPE,
    ClusterChange,
    MemberChange,
    ProblemChange,
    Record,
    RecordChange,
)
from netd.model.views import Member

Notify = Callable[[ClusterChange], None]
RecordKey = tuple[str, bytes, str, str]  # owner, scope, table, key

log = logging.getLogger(__name__)


class _Watcher:
    def __init__(self, notify: Notify) -> None:
        self.notify = notify
        self.waiting: list[ClusterChange] = []


class Mirror:
    """`own` is this node, which is always there. Own records are known here first.

    Those of a scope that this node is not in are seen by nobody else until it is.
    """

    def __init__(self, own: Member) -> None:
        self._own_id = own.id
        self._members: dict[str, Member] = {own.id: own}
        self._sorted: tuple[Member, ...] | None = None
        self._records: dict[RecordKey, RecordChange] = {}
        self._scopes: dict[bytes, None] = {GLOBAL_SCOPE: None}
        self._claims = Claims(own.id)
        self._problems: dict[tuple[str, str], ProblemChange] = {}
        self._watchers: dict[_Watcher, None] = {}
        self._telling = False

    def member(self, member: str) -> Member | None:
        """By id."""
        return self._members.get(member)

    def members(self) -> tuple[Member, ...]:
        """This node first, then the others by name."""
        if self._sorted is None:
            others = (m for m in self._members.values() if m.id != self._own_id)
            own = self._members[self._own_id]
            self._sorted = (own, *sorted(others, key=lambda member: (member.name, member.id)))
        return self._sorted

    def problems(self) -> tuple[ProblemChange, ...]:
        return tuple(self._problems.values())

    def records(self) -> tuple[RecordChange, ...]:
        return tuple(self._records.values())

    @property
    def claims_ignored(self) -> int:
        return self._claims.ignored

    def scopes(self) -> list[bytes]:
        """Those that this node is in, but the global one."""
        return [scope for scope in self._scopes if scope != GLOBAL_SCOPE]

    def own_records(self, scope: bytes | None = None) -> list[Record]:
        """What the others are to see, of all scopes that this node is in or of one."""
        return [
            Record(scope=known.scope, table=known.table, key=known.key, value=known.value)
            for known in self._records.values()
            if known.owner == self._own_id
            and known.scope in self._scopes
            and scope in (None, known.scope)
        ]

    def subscribe(self, scope: bytes) -> None:
        self._scopes[scope] = None

    def unsubscribe(self, scope: bytes) -> bool:
        """Drop all records of the scope; whether this node was in it."""
        if scope not in self._scopes:
            return False
        for known in list(self._records.values()):
            if known.scope == scope:
                self._put_record(msgspec.structs.replace(known, value=None))
        del self._scopes[scope]
        self._tell()
        return True

    def claim(
        self, table: str, key: str, body: bytes, stamp_ms: int | None, origin: str, wall_ms: int
    ) -> list[Record]:
        """Take over a claim of this node; the record that makes it, if that is new."""
        return self.publish([self._claims.record(table, key, body, stamp_ms, origin, wall_ms)])

    def withdraw(self, table: str, key: str) -> list[Record]:
        return self.publish([self._claims.withdrawal(table, key)])

    def publish(self, records: Iterable[Record]) -> list[Record]:
        """Take over what this node publishes; returns what of it is new to the others."""
        changed = [
            record
            for record in records
            if self._put_record(
                RecordChange(
                    owner=self._own_id,
                    scope=record.scope,
                    table=record.table,
                    key=record.key,
                    value=record.value,
                )
            )
        ]
        self._tell()
        return [record for record in changed if record.scope in self._scopes]

    def take(self, portion: Sequence[News]) -> None:
        """What the gossip thread says."""
        for news in portion:
            match news:
                case Member():
                    self._put_member(news)
                case Forgotten():
                    self._forget_member(news.id)
                case RecordChange():
                    if news.scope in self._scopes:  # or it was, until a moment ago
                        self._put_record(news)
                case ProblemChange():
                    self._put_problem(news)
        self._tell()

    def refresh(self, measured: Mapping[str, Measures]) -> None:
        """Take over what changes without being told."""
        for identifier, member in self._members.items():
            new = measured.get(identifier)
            if new is not None and identifier != self._own_id:
                self._members[identifier] = msgspec.structs.replace(
                    member, rtt_ms=new.rtt_ms, clock_offset_ms=new.clock_offset_ms
                )
        self._sorted = None

    def end(self, own: Member) -> None:
        """This node is on its own: the others have left, from here, and their records with them."""
        for problem in list(self._problems.values()):
            self._put_problem(msgspec.structs.replace(problem, detail=""))
        for member in list(self._members.values()):
            if member.id != self._own_id:
                self._forget_member(member.id)
        for known in list(self._records.values()):
            if known.owner != self._own_id:
                self._put_record(msgspec.structs.replace(known, value=None))
        self._put_member(own)
        self._tell()

    def watch(self, notify: Notify) -> Callable[[], None]:
        """Call `notify` for all there is now, then for each change until the result is called."""
        for member in self.members():
            notify(MemberChange(member=member))
        for record in self._records.values():
            if not is_claim(record):
                notify(record)
        for claim in self._claims.all():
            notify(claim)
        for problem in self._problems.values():
            notify(problem)
        watcher = _Watcher(notify)
        self._watchers[watcher] = None
        return lambda: self._watchers.pop(watcher, None)

    def _put_member(self, member: Member) -> None:
        before = self._members.get(member.id)
        self._members[member.id] = member
        self._sorted = None
        self._note(MemberChange(member=member, before=before.state if before else None))

    def _forget_member(self, identifier: str) -> None:
        member = self._members.pop(identifier, None)
        if member is not None:
            self._sorted = None
            if member.state != "left":
                left = msgspec.structs.replace(member, state="left")
                self._note(MemberChange(member=left, before=member.state))

    def _put_record(self, change: RecordChange) -> bool:
        """Whether it changes anything."""
        key = (change.owner, change.scope, change.table, change.key)
        before = self._records.get(key)
        if (before.value if before else None) == change.value:
            return False
        if change.value is None:
            del self._records[key]
        else:
            self._records[key] = change
        if is_claim(change):
            self._put_claim(change)
        else:
            self._note(change)
        return True

    def _put_claim(self, change: RecordChange) -> None:
        settled = self._claims.put(change)
        if settled is not None:
            self._note(settled)

    def _put_problem(self, change: ProblemChange) -> None:
        key = (change.code, change.about)
        if change.detail:
            self._problems[key] = change
        elif self._problems.pop(key, None) is None:
            return
        self._note(change)

    def _note(self, change: ClusterChange) -> None:
        for watcher in self._watchers:
            watcher.waiting.append(change)

    def _tell(self) -> None:
        """Have the watchers called, not from here: who publishes may be one."""
        if not self._telling and self._watchers:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell_all)

    def _tell_all(self) -> None:
        self._telling = False
        for watcher in list(self._watchers):
            changes, watcher.waiting = watcher.waiting, []
            for change in changes:
                if watcher not in self._watchers:
                    break  # it has stopped meanwhile
                try:
                    watcher.notify(change)
                except Exception:
                    log.exception("a watcher of the cluster failed on %s", type(change).__name__)
