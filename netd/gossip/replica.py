"""All logs that this node has, its own included."""

from collections.abc import Iterable, Iterator

from netd.gossip.log import ATTACHMENT, Log, LogId, RecordKey, Slot
from netd.gossip.messages import Delta, Entry, LogRow
from netd.gossip.parts import Parts
from netd.gossip.tree import Tree, fingerprint
from netd.gossip.values import GLOBAL, NodeId, Scope


class Applied:
    """What a delta did: `keys` changed in the log in force, `replaced` if that is another one
    now, `gap` if something before it is missing here; nothing of it: it was known.
    """

    __slots__ = ("gap", "keys", "replaced")

    def __init__(
        self, keys: Iterable[RecordKey] = (), *, replaced: bool = False, gap: bool = False
    ) -> None:
        self.keys = tuple(keys)
        self.replaced = replaced
        self.gap = gap


class Replica:
    """Logs by owner and scope. Only what the owner has signed gets in."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._slots: dict[LogId, Slot] = {}
        self._trees: dict[Scope, Tree] = {}
        self.own: dict[Scope, Log] = {}
        self._versions: dict[Scope, int] = {}  # of own logs that are not kept

    def __len__(self) -> int:
        return len(self._slots)

    def get(self, log: LogId) -> Slot | None:
        return self._slots.get(log)

    def items(self) -> Iterator[tuple[LogId, Slot]]:
        return iter(self._slots.items())

    # This node's own

    def own_log(self, scope: Scope) -> Log:
        log = self.own.get(scope)
        if log is None:
            log = self.own[scope] = Log(self._parts.me.epoch)
            log.version = log.floor = self._versions.pop(scope, 0)
            self._sign(scope, log, 0)
            slot = Slot()
            slot.current = log
            self._slots[self._parts.me.id, scope] = slot
            self._count(self._parts.me.id, scope, slot)
        return log

    def write(self, scope: Scope, table: str, key: str, value: bytes | None) -> Entry | None:
        """A new version of an own record; None if it is no change."""
        log = self.own_log(scope)
        before = log.entries.get((table, key))
        if (None if before is None else before.value) == value:
            return None
        version = log.version + 1
        entry = self._parts.signer.record(scope, log.epoch, version, table, key, value)
        log.put(entry)
        log.version = version
        self._sign(scope, log, log.mark.baseline)
        self._count(self._parts.me.id, scope, self._slots[self._parts.me.id, scope])
        return entry

    def set_baseline(self, scope: Scope) -> None:
        """What the log has now is the whole state that this run begins with."""
        log = self.own_log(scope)
        self._sign(scope, log, log.version)

    def drop_tombstones(self, scope: Scope, version: int) -> None:
        """Forget own tombstones up to a version; a log of a later epoch may have none of them."""
        log = self.own.get(scope)
        if log is not None and log.version >= version:
            log.drop_tombstones(version)
            self._sign(scope, log, log.mark.baseline)

    def release(self, scope: Scope) -> None:
        """Keep no more than its version of an own log in which there is nothing: what is in others'
        below that is gone, and a scope that this node was once in costs next to nothing.
        """
        log = self.own.get(scope)
        if log is None or log.entries or log.floor < log.version:
            return
        if log.version:
            self._versions[scope] = log.version
        del self.own[scope]
        self.drop((self._parts.me.id, scope))
        if not any(other == scope for _, other in self._slots):
            self._trees.pop(scope, None)

    def _sign(self, scope: Scope, log: Log, baseline: int) -> None:
        log.mark = self._parts.signer.mark(scope, log.epoch, log.version, baseline, log.floor)

    def renew_own(self) -> None:
        """Write all own records again in the node's new epoch."""
        self._versions.clear()
        for scope, old in list(self.own.items()):
            del self.own[scope]
            self.drop((self._parts.me.id, scope))
            self.own_log(scope)
            for entry in old.above(0):
                if entry.value is not None:
                    value = b"0" if entry.table == ATTACHMENT else entry.value
                    self.write(scope, entry.table, entry.key, value)
            self.set_baseline(scope)

    # Others'

    def apply(self, delta: Delta) -> Applied:
        """Take over what is new in `delta`. Nothing changes if one signature is wrong."""
        log_id = (delta.owner, delta.scope)
        owner = self._parts.members.get(delta.owner)
        if owner is None or delta.owner == self._parts.me.id or delta.start > delta.end:
            return Applied()
        slot = self._slots.get(log_id)
        target = self._target(slot, delta)
        if target is None:
            return Applied()
        if delta.start > target.version:
            return Applied(gap=True)
        entries = [entry for entry in delta.entries if entry.version > target.version]
        if not self._sound(target, delta, entries, owner.public_key):
            return Applied()
        if (delta.mark.version, delta.mark.floor) > (target.mark.version, target.mark.floor):
            target.mark = delta.mark
        if slot is None:
            if len(self._slots) >= self._parts.settings.logs_max:
                self._parts.counters["refused_logs"] += 1
                return Applied()
            slot = self._slots[log_id] = Slot()
        if target is not slot.current:
            slot.following = target
        moved = delta.end > target.version
        for entry in entries:
            target.put(entry)
        target.version = max(target.version, delta.end)
        if target.version >= delta.mark.floor:
            target.drop_tombstones(delta.mark.floor)
        self._count(delta.owner, delta.scope, slot)
        if target is slot.following and target.complete:
            slot.current, slot.following = target, None
            return Applied(replaced=True)
        if not moved or target is slot.following:
            return Applied()
        return Applied((entry.table, entry.key) for entry in entries)

    def _target(self, slot: Slot | None, delta: Delta) -> Log | None:
        """The log that the delta continues, a new one if it begins one, None if it is old."""
        newest = 0
        for log in (slot.following, slot.current) if slot is not None else ():
            if log is None:
                continue
            if delta.epoch < newest:
                return None  # that run is over, though its log is still shown
            if log.epoch == delta.epoch and delta.mark.floor <= max(log.version, log.floor):
                return log
            newest = max(newest, log.epoch)
        if delta.epoch < newest:
            return None
        # Another epoch, or tombstones that were never seen here are gone: from the beginning.
        return Log(delta.epoch, delta.mark)

    def _sound(self, target: Log, delta: Delta, entries: list[Entry], public_key: bytes) -> bool:
        """Whether versions ascend within the delta's span and the owner has signed all."""
        parts, mark = self._parts, delta.mark
        at_last = bool(delta.entries) and delta.end == delta.entries[-1].version
        if delta.end > mark.version or not (at_last or delta.end == mark.version):
            parts.counters["refused_malformed"] += 1
            return False
        last = target.version
        for entry in entries:
            if not last < entry.version <= delta.end:
                parts.counters["refused_malformed"] += 1
                return False
            last = entry.version
        if len(target.entries) + len(entries) > parts.settings.records_per_log_max:
            parts.counters["refused_records"] += 1
            return False
        log = (public_key, delta.owner, delta.scope, delta.epoch)
        signed = mark == target.mark and target.version > 0
        if not (signed or parts.checker.mark(*log, mark)) or not all(
            parts.checker.record(*log, entry) for entry in entries
        ):
            parts.counters["refused_signature"] += 1
            return False
        return True

    def drop(self, log_id: LogId) -> None:
        slot = self._slots.pop(log_id, None)
        if slot is not None:
            self._flip(log_id[1], log_id[0], slot.fingerprint)

    def drop_owner(self, owner: NodeId) -> None:
        for log_id in [log_id for log_id in self._slots if log_id[0] == owner]:
            self.drop(log_id)

    def drop_scope(self, scope: Scope) -> None:
        """Forget what others have said in a scope that this node is no longer in."""
        me = self._parts.me.id
        for log_id in [i for i in self._slots if i[1] == scope and i[0] != me]:
            self.drop(log_id)

    # Comparing

    def root(self, scopes: Iterable[Scope]) -> int:
        """The digest of all logs in the global scope and in these."""
        total = 0
        for scope in (GLOBAL, *scopes):
            tree = self._trees.get(scope)
            if tree is not None:
                total ^= tree.root
        return total

    def trees(self, scopes: Iterable[Scope]) -> list[Tree]:
        found = (self._trees.get(scope) for scope in (GLOBAL, *scopes))
        return [tree for tree in found if tree is not None]

    def rows(self, scopes: Iterable[Scope], leaves: frozenset[int] | None = None) -> list[LogRow]:
        """How far this node has the logs of these scopes, of all leaves or of some."""
        wanted = {GLOBAL, *scopes}
        return [
            row_of(log_id, slot)
            for log_id, slot in self._slots.items()
            if log_id[1] in wanted and (leaves is None or _leaf(log_id[0]) in leaves)
        ]

    def _count(self, owner: NodeId, scope: Scope, slot: Slot) -> None:
        row = row_of((owner, scope), slot)
        new = fingerprint(owner, scope, b"%d,%d" % (row.epoch, row.version))
        self._flip(scope, owner, slot.fingerprint ^ new)
        slot.fingerprint = new

    def _flip(self, scope: Scope, owner: NodeId, value: int) -> None:
        tree = self._trees.get(scope)
        if tree is None:
            tree = self._trees[scope] = Tree()
        tree.flip(_leaf(owner), value)


def row_of(log_id: LogId, slot: Slot | None) -> LogRow:
    """How far a log is known: nothing of it is version 0 of epoch 0."""
    head = slot.head if slot is not None else None
    if head is None:
        return LogRow(*log_id, 0, 0)
    return LogRow(*log_id, head.epoch, head.version, head.floor)


def is_ahead(one: LogRow, other: LogRow) -> bool:
    """Whether the first has what the second lacks."""
    return (one.epoch, one.version) > (other.epoch, other.version)


def _leaf(owner: NodeId) -> int:
    return owner[1]
