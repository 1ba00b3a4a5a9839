"""What gets into the logs: own records as they are written, others' as they are signed."""

from collections.abc import Iterable

from netd.gossip.log import ATTACHMENT, Log, LogId, RecordKey, Slot, size_bytes
from netd.gossip.logs import Logs
from netd.gossip.messages import Delta, Entry, Mark
from netd.gossip.parts import Parts
from netd.gossip.values import NodeId, Scope


class Applied:
    """What a delta did: `keys` changed in the log in force, `replaced` if that is another one
    now, `gap` if something before it is missing here, `exceeds` if it is more than one owner may
    have and the log is withheld now; nothing of it: it was known.
    """

    __slots__ = ("exceeds", "gap", "keys", "replaced")

    def __init__(
        self,
        keys: Iterable[RecordKey] = (),
        *,
        replaced: bool = False,
        gap: bool = False,
        exceeds: bool = False,
    ) -> None:
        self.keys = tuple(keys)
        self.replaced = replaced
        self.gap = gap
        self.exceeds = exceeds


class Replica(Logs):
    """Only what the owner has signed gets in."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.own: dict[Scope, Log] = {}
        self._versions: dict[Scope, int] = {}  # of own logs that are not kept

    # This node's own

    def own_log(self, scope: Scope) -> Log:
        log = self.own.get(scope)
        if log is None:
            log = self.own[scope] = Log(self._parts.me.epoch)
            log.version = log.floor = self._versions.pop(scope, 0)
            self._sign(scope, log, 0)
            slot = Slot()
            slot.current = log
            self.put((self._parts.me.id, scope), slot)
            self.count(self._parts.me.id, scope, slot)
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
        self.count(self._parts.me.id, scope, self._slots[self._parts.me.id, scope])
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
        if target.withheld:
            self.follow(log_id, delta.epoch, delta.mark)
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
            slot = Slot()
            self.put(log_id, slot)
        if self._exceeds(delta.owner, slot, target, entries):
            self._withhold(log_id, slot, delta)
            return Applied(exceeds=True)
        if target is not slot.current:
            slot.following = target
        moved = delta.end > target.version
        for entry in entries:
            target.put(entry)
        target.version = max(target.version, delta.end)
        if target.version >= delta.mark.floor:
            target.drop_tombstones(delta.mark.floor)
        self.count(delta.owner, delta.scope, slot)
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
            if log.epoch == delta.epoch and (
                log.withheld or delta.mark.floor <= max(log.version, log.floor)
            ):
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
        log = (public_key, delta.owner, delta.scope, delta.epoch)
        signed = mark == target.mark and target.version > 0
        if not (signed or parts.checker.mark(*log, mark)) or not all(
            parts.checker.record(*log, entry) for entry in entries
        ):
            parts.counters["refused_signature"] += 1
            return False
        return True

    def _exceeds(self, owner: NodeId, slot: Slot, target: Log, entries: list[Entry]) -> bool:
        """Whether with these in `target` there would be more of one owner than is kept.

        A log that is to be replaced does not count, so that a new run is heard in any case.
        """
        settings, mult = self._parts.settings, self._parts.settings.kept_mult
        heads = [other.head for other in self.of_owner(owner) if other is not slot]
        logs = [target, *(log for log in heads if log is not None)]
        rows = len(entries) + sum(len(log.entries) for log in logs)
        size = sum(size_bytes(entry.table, entry.key, entry.value) for entry in entries)
        size += sum(log.size_bytes for log in logs)
        return rows > mult * settings.own_records_max or size > mult * settings.own_bytes_max

    def _withhold(self, log_id: LogId, slot: Slot, delta: Delta) -> None:
        """Keep no more of it than is in force, and follow its version only."""
        self._parts.counters["refused_records"] += 1
        log = slot.following = Log(delta.epoch, delta.mark)
        log.withheld = True
        log.version = delta.mark.version
        self.count(*log_id, slot)

    def follow(self, log_id: LogId, epoch: int, mark: Mark) -> bool:
        """Take over the version of a log that is withheld here; whether it is."""
        slot, owner = self._slots.get(log_id), self._parts.members.get(log_id[0])
        log = slot.head if slot is not None else None
        if slot is None or log is None or owner is None:
            return False
        if not log.withheld or log.epoch != epoch:
            return False
        if mark.version > log.version:
            if not self._parts.checker.mark(owner.public_key, *log_id, epoch, mark):
                self._parts.counters["refused_signature"] += 1
                return True
            log.mark, log.version = mark, mark.version
            self.count(*log_id, slot)
        return True
