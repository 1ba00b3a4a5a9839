"""The engine's copy of what the cluster knows, and those who watch it. On the engine's loop."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from netd.cluster.outbox import Forgotten, News
from netd.cluster.views import Measures
from netd.engine.interfaces import (
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
    """`own` is this node, which is always there. Own records are known here first."""

    def __init__(self, own: Member) -> None:
        self._own_id = own.id
        self._members: dict[str, Member] = {own.id: own}
        self._sorted: tuple[Member, ...] | None = None
        self._records: dict[RecordKey, RecordChange] = {}
        self._problems: dict[tuple[str, str], ProblemChange] = {}
        self._watchers: dict[_Watcher, None] = {}
        self._telling = False

    def members(self) -> tuple[Member, ...]:
        """This node first, then the others by name."""
        if self._sorted is None:
            others = (m for m in self._members.values() if m.id != self._own_id)
            own = self._members[self._own_id]
            self._sorted = (own, *sorted(others, key=lambda member: (member.name, member.id)))
        return self._sorted

    def problems(self) -> tuple[ProblemChange, ...]:
        return tuple(self._problems.values())

    def own_records(self) -> list[Record]:
        return [
            Record(scope=known.scope, table=known.table, key=known.key, value=known.value)
            for known in self._records.values()
            if known.owner == self._own_id
        ]

    def publish(self, records: Iterable[Record]) -> list[Record]:
        """Take over what this node publishes; returns what of it is new."""
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
        return changed

    def take(self, portion: Sequence[News]) -> None:
        """What the gossip thread says."""
        for news in portion:
            match news:
                case Member():
                    self._put_member(news)
                case Forgotten():
                    self._forget_member(news.id)
                case RecordChange():
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
        for known in list(self._records.values()):
            if known.owner != self._own_id:
                self._put_record(msgspec.structs.replace(known, value=None))
        for problem in list(self._problems.values()):
            self._put_problem(msgspec.structs.replace(problem, detail=""))
        for member in list(self._members.values()):
            if member.id != self._own_id:
                self._forget_member(member.id)
        self._put_member(own)
        self._tell()

    def watch(self, notify: Notify) -> Callable[[], None]:
        """Call `notify` for all there is now, then for each change until the result is called."""
        for member in self.members():
            notify(MemberChange(member=member))
        for record in self._records.values():
            notify(record)
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
        self._note(change)
        return True

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
