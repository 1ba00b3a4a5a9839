"""Keys in which netd keeps what is no key to Consul's clients, as prepared queries and tokens.

They can be neither seen nor changed by these, and what deletes all keys leaves them there.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from netd.model.kv import OPERATIONS_MAX, Entry, Failure, Operation, Outcome
from netd.registry.api import Refused
from netd.registry.consul.keys_api import KeysApi

PREFIX: Final = ".netd/"
QUERIES: Final = PREFIX + "consul/queries"
ACL: Final = PREFIX + "consul/acl"
KEPT: Final = (QUERIES, ACL)
NOBODYS: Final = PREFIX + "\0"  # no key is called so, or begins so
_TRIES: Final = 5


def is_reserved(key: str) -> bool:
    return key.startswith(PREFIX)


def covers(prefix: str) -> bool:
    """Whether reserved keys are among those that begin so."""
    return PREFIX.startswith(prefix) or is_reserved(prefix)


def seen(entries: Iterable[Entry]) -> list[Entry]:
    """Those that are not reserved."""
    return [entry for entry in entries if not is_reserved(entry.key)]


async def transact(api: KeysApi, operations: Sequence[Operation]) -> Outcome:
    """Carry out what a client asks for. Raises `Unreachable` and `Refused`.

    Where all keys are deleted, the reserved ones are written again by the same transaction, if
    they are still as they were read before it.
    """
    for number, operation in enumerate(operations):
        whole = operation.verb in ("get-tree", "delete-tree")
        if is_reserved(operation.key) and not whole:
            detail = f"{operation.key!r} is reserved: keys do not begin with {PREFIX!r}"
            failure = Failure(operation=number, fault="other", detail=detail)
            return Outcome(index=1, failures=(failure,))
    if not any(each.verb == "delete-tree" and covers(each.key) for each in operations):
        return _shown(await api.transact(*operations), 0)
    for _ in range(_TRIES):
        kept = [(key, (await api.read(key)).entry) for key in KEPT]
        guards = tuple(_guard(key, entry) for key, entry in kept)
        again = tuple(_restore(entry) for _, entry in kept if entry is not None)
        steps = (*guards, *operations, *again)
        if len(steps) > OPERATIONS_MAX:
            room = OPERATIONS_MAX - len(guards) - len(again)
            raise Refused(400, f"deleting all keys leaves room for {room} operations")
        outcome = await api.transact(*steps)
        if not any(failure.operation < len(guards) for failure in outcome.failures):
            return _shown(outcome, len(guards))
    raise Refused(503, "prepared queries or tokens change all the time: try again")


def _guard(key: str, kept: Entry | None) -> Operation:
    if kept is None:
        return Operation(verb="check-not-exists", key=key)
    return Operation(verb="check-index", key=key, index=kept.modify_index)


def _restore(kept: Entry) -> Operation:
    return Operation(verb="set", key=kept.key, value=kept.value, flags=kept.flags)


def _shown(outcome: Outcome, guards: int) -> Outcome:
    failures = tuple(
        msgspec.structs.replace(failure, operation=failure.operation - guards)
        for failure in outcome.failures
    )
    return Outcome(index=outcome.index, results=tuple(seen(outcome.results)), failures=failures)
