"""Operations on keys, of which a transaction is made."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Final, get_args

import msgspec

from netd.model.kv import FLAGS_MAX, Operation, Verb
from netd.registry.consul.fields import Fields
from netd.registry.http.call import Failure
from netd.registry.http.rights import Rights

_VERBS: Final[Mapping[str, Verb]] = {verb: verb for verb in get_args(Verb)}
_CHECKS: Final = frozenset(("check-index", "check-session", "check-not-exists"))
READS: Final = _CHECKS | {"get", "get-or-empty", "get-tree"}
_INDEX_MAX: Final = 2**63 - 1


def operation_of(fields: Fields) -> Operation | str:
    """One operation, or what is wrong with it. Raises `Failure` for what is none."""
    asked = fields.text("verb")
    verb = _VERBS.get(asked)
    if verb is None:
        return f"unknown KV verb {asked[:40]!r}"
    key = fields.text("key")
    if not key and verb not in ("get-tree", "delete-tree"):
        return "Missing key name"
    flags, index = fields.number("flags"), fields.number("index")
    if not 0 <= flags <= FLAGS_MAX or not 0 <= index <= _INDEX_MAX:
        raise Failure(400, "Failed to parse body: a number out of range")
    asked_for = {
        "verb": verb,
        "key": key,
        "value": _value(fields.text("value")),
        "flags": flags,
        "index": index,
        "session": fields.text("session"),
    }
    try:
        return msgspec.convert(asked_for, Operation)
    except msgspec.ValidationError as error:
        raise Failure(400, f"Failed to parse body: {error}") from None


def denied(operations: Sequence[Operation], rights: Rights) -> list[tuple[int, str]]:
    """Operations that the caller may not do, by number, and why. What reads shows what it may
    see, and is none.
    """
    found = []
    for number, operation in enumerate(operations):
        try:
            if operation.verb == "delete-tree":
                rights.demand_write_all(operation.key)
            elif operation.verb in _CHECKS:
                rights.demand("key", operation.key, "read")
            elif operation.verb not in READS:
                rights.demand("key", operation.key, "write")
        except Failure as failure:
            found.append((number, failure.text))
    return found


def _value(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Failure(400, f"Failed to parse body: a value that is no base64: {error}") from None
