"""What is done to keys: operations and transactions of them."""

from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from netd.kv.draft import Draft
from netd.kv.space import Space
from netd.model.errors import Invalid
from netd.model.kv import (
    FLAGS_MAX,
    KEY_MAX_BYTES,
    OPERATIONS_MAX,
    VALUE_MAX_BYTES,
    Entry,
    Failure,
    Fault,
    KeyListing,
    KeyReading,
    Operation,
    Outcome,
    Verb,
)

READS: Final[frozenset[Verb]] = frozenset(
    {"get", "get-or-empty", "get-tree", "check-index", "check-session", "check-not-exists"}
)
_WHOLE_SPACE: Final[frozenset[Verb]] = frozenset({"get-tree", "delete-tree"})


class Refused(Exception):
    """An operation that cannot be carried out, and with it its transaction."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(detail)
        self.fault = fault
        self.detail = detail


def check(operations: Sequence[Operation]) -> None:
    """Raise `Invalid` for a transaction that could never be carried out."""
    if not 0 < len(operations) <= OPERATIONS_MAX:
        raise Invalid(
            f"{len(operations)} operations: a transaction has 1 to {OPERATIONS_MAX}",
            field="operations",
        )
    size = sum(len(operation.value) for operation in operations)
    if size > VALUE_MAX_BYTES:
        raise Invalid(
            f"the values have {size} bytes together, of at most {VALUE_MAX_BYTES}",
            field="operations",
        )
    for number, operation in enumerate(operations):
        if not operation.key and operation.verb not in _WHOLE_SPACE:
            raise Invalid("a key has at least one character", field=f"operations[{number}].key")
        if operation.flags > FLAGS_MAX:
            raise Invalid("flags have 64 bits", field=f"operations[{number}].flags")
        if len(operation.key.encode()) > KEY_MAX_BYTES:
            raise Invalid(
                f"the key has more than {KEY_MAX_BYTES} bytes", field=f"operations[{number}].key"
            )


def transact(
    base: Space | Draft, operations: Sequence[Operation], now_s: float
) -> tuple[Draft, Outcome]:
    """Carry all out in order, in a draft; where one fails the draft is to be forgotten.

    All failures are told, each as if those before it had been left out. Raises `Exhausted`.
    """
    draft = Draft(base, now_s)
    results: list[Entry] = []
    failures: list[Failure] = []
    for number, operation in enumerate(operations):
        try:
            results += _OPERATIONS[operation.verb](draft, operation)
        except Refused as refused:
            failures.append(Failure(operation=number, fault=refused.fault, detail=refused.detail))
    if failures:
        return Draft(base, now_s), Outcome(index=base.numbers.keys, failures=tuple(failures))
    return draft, Outcome(index=draft.numbers.keys, results=tuple(results))


def read(space: Space, key: str) -> KeyReading:
    """A key, with an index that a change of it, and of nothing else, makes larger."""
    entry = space.entry(key)
    if entry is not None:
        return KeyReading(index=entry.modify_index, entry=entry)
    return KeyReading(index=max(space.key_grave_index(key), space.numbers.reaped, 1))


def list_entries(space: Space, prefix: str) -> KeyListing:
    """All keys that begin with `prefix`. The index is as `read` has it."""
    entries = tuple(_present(space, key) for key in space.keys(prefix))
    return KeyListing(index=_index_of(space, prefix), entries=entries)


def list_keys(space: Space, prefix: str, separator: str) -> KeyListing:
    """Only the keys, each up to the first separator after `prefix`, and that only once."""
    keys = cut(space.keys(prefix), prefix, separator)
    return KeyListing(index=_index_of(space, prefix), keys=keys)


def cut(keys: Sequence[str], prefix: str, separator: str) -> tuple[str, ...]:
    """Each key up to the first separator after `prefix`, and that only once."""
    if not separator:
        return tuple(keys)
    return tuple(dict.fromkeys(_up_to(key, len(prefix), separator) for key in keys))


def _index_of(space: Space, prefix: str) -> int:
    if not prefix:
        return max(space.numbers.keys, 1)
    newest = max((_present(space, key).modify_index for key in space.keys(prefix)), default=0)
    return max(newest, space.grave_index(prefix), space.numbers.reaped, 1)


def _up_to(key: str, start: int, separator: str) -> str:
    end = key.find(separator, start)
    return key if end < 0 else key[: end + len(separator)]


def _present(space: Space | Draft, key: str) -> Entry:
    entry = space.entry(key)
    assert entry is not None  # it was listed
    return entry


# One operation. What it returns are its results.


def _written(draft: Draft, entry: Entry) -> list[Entry]:
    """Write an entry; one that is the same already stays as it is, with its index."""
    before = draft.entry(entry.key)
    if before is None:
        entry = replace(entry, create_index=draft.index, modify_index=draft.index)
    else:
        entry = replace(entry, create_index=before.create_index, modify_index=before.modify_index)
        if entry == before:
            return [replace(entry, value=b"")]
        entry = replace(entry, modify_index=draft.index)
    draft.put(entry)
    return [replace(entry, value=b"")]


def _set(draft: Draft, asked: Operation) -> list[Entry]:
    before = draft.entry(asked.key) or Entry(key=asked.key)
    return _written(draft, replace(before, value=asked.value, flags=asked.flags))


def _cas(draft: Draft, asked: Operation) -> list[Entry]:
    before = draft.entry(asked.key)
    if before is not None and asked.index == 0:
        raise Refused("exists", f"key {asked.key!r} exists")
    if asked.index != (before.modify_index if before else 0):
        raise Refused("stale", f"failed to set key {asked.key!r}, index is stale")
    return _set(draft, asked)


def _lock(draft: Draft, asked: Operation) -> list[Entry]:
    if not asked.session:
        raise Refused("no-session", f"failed to lock key {asked.key!r}, no session was given")
    if draft.session(asked.session) is None:
        raise Refused("no-session", f"failed to lock key {asked.key!r}, invalid session")
    before = draft.entry(asked.key) or Entry(key=asked.key)
    if before.session not in ("", asked.session):
        raise Refused("held", f"failed to lock key {asked.key!r}, lock is already held")
    if draft.delayed(asked.key, draft.now_s):
        raise Refused("delayed", f"failed to lock key {asked.key!r} due to lock delay")
    times = before.lock_index + (before.session != asked.session)
    entry = replace(before, session=asked.session, lock_index=times)
    return _written(draft, replace(entry, value=asked.value, flags=asked.flags))


def _unlock(draft: Draft, asked: Operation) -> list[Entry]:
    before = draft.entry(asked.key)
    if before is None or not asked.session or before.session != asked.session:
        raise Refused(
            "not-held",
            f"failed to unlock key {asked.key!r}, lock isn't held, or is held by another session",
        )
    return _written(draft, replace(before, session="", value=asked.value, flags=asked.flags))


def _get(draft: Draft, asked: Operation) -> list[Entry]:
    return [_demanded(draft, asked.key)]


def _get_or_empty(draft: Draft, asked: Operation) -> list[Entry]:
    return [draft.entry(asked.key) or Entry(key=asked.key)]


def _get_tree(draft: Draft, asked: Operation) -> list[Entry]:
    return [_present(draft, key) for key in draft.keys(asked.key)]


def _check_index(draft: Draft, asked: Operation) -> list[Entry]:
    entry = _demanded(draft, asked.key)
    if entry.modify_index != asked.index:
        raise Refused(
            "stale",
            f"failed index check for key {asked.key!r}, current modify index "
            f"{entry.modify_index} != {asked.index}",
        )
    return [replace(entry, value=b"")]


def _check_session(draft: Draft, asked: Operation) -> list[Entry]:
    entry = _demanded(draft, asked.key)
    if entry.session != asked.session:
        raise Refused(
            "not-held",
            f"failed session check for key {asked.key!r}, current session "
            f"{entry.session!r} != {asked.session!r}",
        )
    return [replace(entry, value=b"")]


def _check_not_exists(draft: Draft, asked: Operation) -> list[Entry]:
    if draft.entry(asked.key) is not None:
        raise Refused("exists", f"key {asked.key!r} exists")
    return []


def _delete(draft: Draft, asked: Operation) -> list[Entry]:
    draft.delete(asked.key)
    return []


def _delete_tree(draft: Draft, asked: Operation) -> list[Entry]:
    for key in draft.keys(asked.key):
        draft.delete(key)
    return []


def _delete_cas(draft: Draft, asked: Operation) -> list[Entry]:
    before = draft.entry(asked.key)
    if before is not None and before.modify_index != asked.index:
        raise Refused("stale", f"failed to delete key {asked.key!r}, index is stale")
    draft.delete(asked.key)
    return []


def _demanded(draft: Draft, key: str) -> Entry:
    entry = draft.entry(key)
    if entry is None:
        raise Refused("missing", f"key {key!r} doesn't exist")
    return entry


_OPERATIONS: Final[dict[Verb, Callable[[Draft, Operation], list[Entry]]]] = {
    "set": _set,
    "cas": _cas,
    "lock": _lock,
    "unlock": _unlock,
    "get": _get,
    "get-or-empty": _get_or_empty,
    "get-tree": _get_tree,
    "check-index": _check_index,
    "check-session": _check_session,
    "check-not-exists": _check_not_exists,
    "delete": _delete,
    "delete-tree": _delete_tree,
    "delete-cas": _delete_cas,
}
