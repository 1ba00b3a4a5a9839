"""Invariants 11 to 17: what is replicated."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from netd.gossip.values import GLOBAL, NodeId, RecordChanged, Scope
from tests.sim.invariants import Violation

Key = tuple[NodeId, Scope, str, str]  # owner, scope, table, key
Log = tuple[NodeId, Scope, int]  # owner, scope, epoch
Values = Mapping[tuple[str, str], bytes]


def key_of(record: RecordChanged) -> Key:
    return record.owner, record.scope, record.table, record.key


def _text(key: Key) -> str:
    owner, scope, table, name = key
    return f"{owner.hex()[:8]}/{scope.hex()[:4]}/{table}/{name}"


class WrittenByOwner:
    """(11) Every value anywhere was written by its owner under that key.

    Who has a value has none that is older later on, and (13) what was seen to be deleted does
    not come back. Values of one key are all different, so a value tells its place in history.
    """

    def __init__(self) -> None:
        self._places: dict[Key, dict[bytes, int]] = {}
        self._writes: dict[Key, int] = {}
        self._seen: dict[tuple[str, Key], int] = {}
        self._deleted: dict[tuple[str, Key], int] = {}

    def begins(self, observer: str) -> None:
        self._seen = {key: n for key, n in self._seen.items() if key[0] != observer}
        self._deleted = {key: n for key, n in self._deleted.items() if key[0] != observer}

    def write(self, key: Key, value: bytes | None) -> None:
        """The owner writes; None deletes. A restarted owner may write what it had again."""
        self._writes[key] = place = self._writes.get(key, 0) + 1
        if value is not None:
            self._places.setdefault(key, {})[value] = place

    def see(self, observer: str, record: RecordChanged, *, hidden: bool) -> None:
        """`hidden`: the owner is, so that None does not mean a deletion."""
        key = key_of(record)
        here = (observer, key)
        last = self._seen.get(here, 0)
        if record.value is None:
            if not hidden:
                self._deleted[here] = last
            return
        place = self._places.get(key, {}).get(record.value)
        if place is None:
            raise Violation(11, f"{observer} has {_text(key)} as its owner never wrote it")
        if place <= self._deleted.get(here, -1):
            raise Violation(13, f"{observer} has {_text(key)} back after its deletion")
        if place < last:
            raise Violation(11, f"{observer} has an older {_text(key)} after a newer one")
        self._seen[here] = place


class Convergence:
    """(14) Without faults every replica has what the owners have, within a time."""

    def see(
        self,
        waited_s: float,
        within_s: float,
        observer: str,
        has: Mapping[Key, bytes],
        should: Mapping[Key, bytes],
    ) -> bool:
        if has == should:
            return True
        if waited_s > within_s:
            wrong = {key for key in has.keys() | should.keys() if has.get(key) != should.get(key)}
            text = f"{len(wrong)} records of {len(should)}, {_text(min(wrong))} one of them"
            raise Violation(14, f"after {waited_s:.1f} s {observer} differs in {text}")
        return False


class Watermark:
    """(12) A replica that has a log up to a version has the effect of all versions up to it: what
    the owner had at that version, but for what the owner has written again since.
    """

    def __init__(self) -> None:
        self._states: dict[Log, dict[int, Values]] = {}
        self._written: dict[Log, dict[tuple[str, str], int]] = {}

    def owner(self, log: Log, version: int, state: Values) -> None:
        """What the owner has; to be told after each of its changes."""
        states = self._states.setdefault(log, {})
        before = states[max(states)] if states else {}
        written = self._written.setdefault(log, {})
        for key in before.keys() | state.keys():
            if before.get(key) != state.get(key):
                written[key] = version
        states[version] = state

    def forget(self, log: Log) -> None:
        """Not all of its changes are told any more."""
        self._states[log] = {}

    def replica(self, observer: str, log: Log, version: int, state: Values) -> None:
        known = self._states.get(log)
        if not known:
            return
        if version > max(known):
            raise Violation(12, f"{observer} has version {version} of a log: it never had one")
        wanted = known.get(version)
        if wanted is None:
            return
        written = self._written[log]
        for key in wanted.keys() | state.keys():
            if wanted.get(key) != state.get(key) and written.get(key, 0) <= version:
                text = f"{observer} at version {version} differs from its owner then in {key}"
                raise Violation(12, text)


class HiddenWithOwner:
    """(15) Records of an owner that is hidden are invisible; those of the same run are visible
    again soon after its return: `bound_s` after it was seen hidden last.
    """

    def __init__(self, bound_s: float = 1.5) -> None:
        self.bound_s = bound_s
        self._seen: dict[tuple[str, NodeId], tuple[int, int]] = {}  # epoch, visible before
        self._back_s: dict[tuple[str, NodeId], float] = {}

    def begins(self, observer: str) -> None:
        self._seen = {key: seen for key, seen in self._seen.items() if key[0] != observer}
        self._back_s = {key: at for key, at in self._back_s.items() if key[0] != observer}

    def see(
        self, now_s: float, observer: str, owner: NodeId, *, epoch: int, hidden: bool, visible: int
    ) -> None:
        """`visible`: how many of its records are."""
        here = (observer, owner)
        if hidden:
            self._back_s[here] = now_s
            if visible:
                raise Violation(15, f"{observer} shows {visible} records of a hidden owner")
            return
        before = self._seen.get(here)
        back_s = self._back_s.get(here)
        if back_s is not None and before is not None:
            if before[0] == epoch and before[1] and not visible:
                if now_s - back_s > self.bound_s:
                    text = f"{observer} shows none of {before[1]} records, their owner is back"
                    raise Violation(15, text)
                return
            del self._back_s[here]
        self._seen[here] = epoch, visible


class ValidHistory:
    """(16) What a watcher is told is, for each key: a value, values, None, a value again; and all
    of it together is the table.
    """

    def __init__(self) -> None:
        self._tables: dict[str, dict[Key, bytes]] = {}

    def begins(self, observer: str) -> None:
        self._tables[observer] = {}

    def table(self, observer: str) -> Mapping[Key, bytes]:
        return self._tables[observer]

    def told(self, observer: str, record: RecordChanged) -> None:
        table = self._tables[observer]
        key = key_of(record)
        if record.value is None:
            if table.pop(key, None) is None:
                raise Violation(16, f"{observer} told of the end of {_text(key)}, which was not")
        elif table.get(key) == record.value:
            raise Violation(16, f"{observer} told twice of one value of {_text(key)}")
        else:
            table[key] = record.value

    def see(self, observer: str, records: Iterable[RecordChanged]) -> None:
        """The table as the core shows it."""
        shown = {key_of(record): record.value for record in records}
        if shown != self._tables[observer]:
            raise Violation(16, f"what {observer} told of records is not what it has")


class ScopesAreKept:
    """(17) What belongs to a network never reaches a node that is not in it. `marks` are bytes
    that are in each record of a scope and nowhere else.
    """

    def __init__(self) -> None:
        self.marks: set[Scope] = set()

    def told(self, observer: str, scopes: AbstractSet[Scope], scope: Scope) -> None:
        """`scopes`: those that the observer is in."""
        if scope != GLOBAL and scope not in scopes:
            raise Violation(17, f"{observer} has a record of {scope.hex()}: not its network")

    def wire(self, receiver: str, scopes: AbstractSet[Scope], text: bytes) -> None:
        """`text` is sent to the receiver."""
        for mark in self.marks:
            if mark in text and mark not in scopes:
                raise Violation(17, f"{receiver} is sent records of {mark.hex()}")
