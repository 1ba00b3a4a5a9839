"""The records that can be seen: of members that are there, in scopes that they are in."""

from collections.abc import Iterable, Iterator

from netd.gossip.log import ATTACHMENT, Log, RecordKey
from netd.gossip.member import Member
from netd.gossip.parts import Parts
from netd.gossip.replica import Replica
from netd.gossip.values import GLOBAL, SCOPE_BYTES, NodeId, RecordChanged, Scope

Values = dict[RecordKey, bytes]


class View:
    """Keeps what was last told of each log, and tells the difference."""

    def __init__(self, parts: Parts, replica: Replica) -> None:
        self._parts = parts
        self._replica = replica
        self._shown: dict[NodeId, dict[Scope, Values]] = {}

    def records(self) -> Iterator[RecordChanged]:
        for owner, scopes in self._shown.items():
            for scope, values in scopes.items():
                for (table, key), value in values.items():
                    yield RecordChanged(owner, scope, table, key, value)

    def records_of(self, scope: Scope, table: str) -> Iterator[RecordChanged]:
        """The visible records of one table in one scope."""
        for owner, scopes in self._shown.items():
            for (found, key), value in scopes.get(scope, {}).items():
                if found == table:
                    yield RecordChanged(owner, scope, table, key, value)

    def refresh_owner(self, owner: Member) -> None:
        """The owner is hidden, or visible again, or gone from the table."""
        for scope in sorted({GLOBAL, *owner.scopes, *self._shown.get(owner.id, ())}):
            self.refresh(owner, scope)

    def refresh(self, owner: Member, scope: Scope) -> None:
        """Look through the whole log."""
        if scope == GLOBAL:
            self._follow_attachments(owner)
        wanted = self._wanted(owner, scope)
        shown = self._shown.get(owner.id, {}).get(scope, {})
        keys = [key for key in shown if key not in wanted]
        keys += [key for key, value in wanted.items() if shown.get(key) != value]
        self._tell(owner, scope, keys, wanted)

    def update(self, owner: Member, scope: Scope, keys: Iterable[RecordKey]) -> None:
        """Look at these records only."""
        keys = tuple(keys)
        if scope == GLOBAL:
            attachments = [key for table, key in keys if table == ATTACHMENT]
            if attachments:
                self._follow_attachments(owner, attachments)
        log = self._visible_log(owner, scope)
        if log is None:
            return
        entries = log.entries
        wanted: Values = {}
        for key in keys:
            entry = entries.get(key)
            if entry is not None and entry.value is not None:
                wanted[key] = entry.value
        self._tell(owner, scope, keys, wanted)

    def _follow_attachments(self, owner: Member, changed: Iterable[str] | None = None) -> None:
        """See in which scopes the owner is now, by all its attachments or by those that changed."""
        log = self._log(owner, GLOBAL)
        entries = log.entries if log is not None else {}
        if changed is None:
            changed = [key for table, key in entries if table == ATTACHMENT]
            affected, scopes = set(owner.scopes), set()
        else:
            affected, scopes = set(), set(owner.scopes)
        for key in changed:
            scope = _scope_of(key)
            if scope is None:
                continue
            affected.add(scope)
            entry = entries.get((ATTACHMENT, key))
            if entry is not None and entry.value is not None:
                scopes.add(scope)
            else:
                scopes.discard(scope)
        self._parts.members.set_scopes(owner, frozenset(scopes))
        for scope in sorted(affected):
            self.refresh(owner, scope)

    def _log(self, owner: Member, scope: Scope) -> Log | None:
        slot = self._replica.get((owner.id, scope))
        return slot.current if slot is not None else None

    def _visible_log(self, owner: Member, scope: Scope) -> Log | None:
        """The log in force, if its records are to be seen."""
        log = self._log(owner, scope)
        if log is None or owner.hidden or self._parts.members.get(owner.id) is not owner:
            return None
        if scope == GLOBAL:
            return log
        if scope not in owner.scopes or scope not in self._parts.me.scopes:
            return None
        # What is older than the attachment was deleted when the owner was in the scope last.
        known = self._log(owner, GLOBAL)
        if known is not None and known.epoch == log.epoch:
            entry = known.entries.get((ATTACHMENT, scope.hex()))
            if entry is not None and log.version < _version_of(entry.value):
                return None
        return log

    def _wanted(self, owner: Member, scope: Scope) -> Values:
        log = self._visible_log(owner, scope)
        if log is None:
            return {}
        return {key: entry.value for key, entry in log.entries.items() if entry.value is not None}

    def _tell(self, owner: Member, scope: Scope, keys: Iterable[RecordKey], wanted: Values) -> None:
        scopes = self._shown.setdefault(owner.id, {})
        shown = scopes.setdefault(scope, {})
        for key in keys:
            value = wanted.get(key)
            if shown.get(key) == value:
                continue
            if value is None:
                del shown[key]
            else:
                shown[key] = value
            self._parts.events.append(RecordChanged(owner.id, scope, *key, value))
        if not shown:
            del scopes[scope]
        if not scopes:
            del self._shown[owner.id]


def _scope_of(key: str) -> Scope | None:
    try:
        scope = bytes.fromhex(key)
    except ValueError:
        return None
    # One scope has one key, or a second one would outlive the deletion of the first.
    return scope if len(scope) == SCOPE_BYTES and scope != GLOBAL and scope.hex() == key else None


def _version_of(value: bytes | None) -> int:
    return int(value) if value is not None and value.isdigit() and len(value) < 20 else 0
