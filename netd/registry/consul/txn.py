"""`/v1/txn`: several operations on keys, all or none."""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, get_args

import msgspec
from aiohttp import web

from netd.model.kv import (
    FLAGS_MAX,
    OPERATIONS_MAX,
    VALUE_MAX_BYTES,
    Entry,
    Operation,
    Outcome,
    Verb,
)
from netd.registry.consul import reserved
from netd.registry.consul.acl_sight import Sight
from netd.registry.consul.fields import Fields
from netd.registry.consul.key_reading import KeyReads, failures
from netd.registry.consul.keys_api import KeysApi
from netd.registry.consul.options import options_of
from netd.registry.consul.pairs import Pair, pair_of
from netd.registry.consul.reads import headers_of
from netd.registry.http.answers import json_body, respond
from netd.registry.http.call import Call, Failure
from netd.registry.http.rights import Rights
from netd.registry.http.routing import Route

# Values in base64, and what is around each.
BODY_MAX: Final = VALUE_MAX_BYTES * 4 // 3 + OPERATIONS_MAX * 4096
_VERBS: Final[Mapping[str, Verb]] = {verb: verb for verb in get_args(Verb)}
_CHECKS: Final = frozenset(("check-index", "check-session", "check-not-exists"))
_READS: Final = _CHECKS | {"get", "get-or-empty", "get-tree"}
_INDEX_MAX: Final = 2**63 - 1


class Fault(msgspec.Struct, frozen=True, rename={"operation": "OpIndex", "what": "What"}):
    """Why nothing was done: the operation, counted from 0."""

    operation: int
    what: str


class Transactions:
    def __init__(self, api: KeysApi, reads: KeyReads) -> None:
        self._api = api
        self._reads = reads

    def routes(self) -> Sequence[Route]:
        return (Route("/v1/txn", {"PUT": self.put}),)

    async def put(self, call: Call) -> web.StreamResponse:
        options = options_of(call.target, self._reads.datacenter)
        operations, faults = operations_of(await call.body(BODY_MAX))
        faults += denied(operations, call.caller.rights)
        if faults:
            return _refused(faults, options.pretty)
        outcome = Outcome(index=1)
        if operations:
            with failures():
                outcome = await reserved.transact(self._api, operations)
        if outcome.failures:
            faults = [Fault(each.operation, each.detail) for each in outcome.failures]
            return _refused(faults, options.pretty)
        sight = Sight(call.caller.rights)
        results = [each for each in outcome.results if sight.sees("key", each.key)]
        answer = {"Results": [{"KV": pair} for pair in _pairs(results)], "Errors": None}
        only_reads = all(operation.verb in _READS for operation in operations)
        headers = headers_of(options, outcome.index) | sight.headers if only_reads else {}
        return respond(json_body(answer, pretty=options.pretty), headers, gzip_ok=call.takes_gzip)


def denied(operations: Sequence[Operation], rights: Rights) -> list[Fault]:
    """Operations that the caller may not do. What reads shows what it may see, and is none."""
    found = []
    for number, operation in enumerate(operations):
        try:
            if operation.verb == "delete-tree":
                rights.demand_write_all(operation.key)
            elif operation.verb in _CHECKS:
                rights.demand("key", operation.key, "read")
            elif operation.verb not in _READS:
                rights.demand("key", operation.key, "write")
        except Failure as failure:
            found.append(Fault(number, failure.text))
    return found


def operations_of(body: bytes) -> tuple[list[Operation], list[Fault]]:
    """What is to be done, and what of it never could be. Raises `Failure`."""
    try:
        steps = (msgspec.json.decode(body) if body.strip() else None) or []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Failure(400, f"Failed to parse body: {error}") from None
    if not isinstance(steps, list):
        raise Failure(400, "Failed to parse body: expected a list of operations")
    if len(steps) > OPERATIONS_MAX:
        raise Failure(
            413, f"Transaction contains too many operations ({len(steps)} > {OPERATIONS_MAX})"
        )
    operations: list[Operation] = []
    faults: list[Fault] = []
    for number, step in enumerate(steps):
        found = _operation(Fields(step))
        if isinstance(found, str):
            faults.append(Fault(number, found))
        else:
            operations.append(found)
    size = sum(len(operation.value) for operation in operations)
    if size > VALUE_MAX_BYTES:
        raise Failure(413, f"Values of the transaction are too large ({size} > {VALUE_MAX_BYTES})")
    return operations, faults


def _operation(step: Fields) -> Operation | str:
    """One operation, or what is wrong with it."""
    fields = step.fields("kv")
    if fields is None:
        for kind in ("Node", "Service", "Check", "Session", "Intention"):
            if kind.lower() in step:
                return f"{kind} operations cannot be part of a transaction: keys alone can"
        raise Failure(400, "Failed to parse body: an operation without a known kind")
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


def _value(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Failure(400, f"Failed to parse body: a value that is no base64: {error}") from None


def _pairs(results: Iterable[Entry]) -> list[Pair]:
    return [pair_of(entry) for entry in results]


def _refused(faults: Sequence[Fault], pretty: bool) -> web.StreamResponse:
    body: dict[str, Any] = {"Results": None, "Errors": faults}
    return respond(json_body(body, pretty=pretty), {}, status=409)
