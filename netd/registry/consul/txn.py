"""`/v1/txn`: several operations on keys, or on the catalogue: all or none."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from aiohttp import web

from netd.model.kv import OPERATIONS_MAX, VALUE_MAX_BYTES, Operation, Outcome
from netd.registry.api import Refused
from netd.registry.consul import reserved
from netd.registry.consul.acl_sight import Sight
from netd.registry.consul.draft import Draft
from netd.registry.consul.fields import Fields
from netd.registry.consul.key_reading import KeyReads, failures
from netd.registry.consul.keys_api import KeysApi
from netd.registry.consul.options import Options, options_of
from netd.registry.consul.pairs import pairs_of
from netd.registry.consul.parts import Parts
from netd.registry.consul.reads import headers_of
from netd.registry.consul.txn_catalog import KINDS, Show, Step, Steps, step_of
from netd.registry.consul.txn_keys import READS, denied, operation_of
from netd.registry.http.answers import json_body, respond
from netd.registry.http.call import Call, Failure
from netd.registry.http.caller import Caller
from netd.registry.http.routing import Route

# Values in base64, and what is around each.
BODY_MAX: Final = VALUE_MAX_BYTES * 4 // 3 + OPERATIONS_MAX * 4096

Rows = list[Mapping[Any, Any]]


class Fault(msgspec.Struct, frozen=True, rename={"operation": "OpIndex", "what": "What"}):
    """Why nothing was done: the operation, counted from 0."""

    operation: int
    what: str


class Faulty(Exception):
    """Nothing can be done, as some operations cannot."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(faults)
        self.faults = faults


class Asked(NamedTuple):
    """What a transaction consists of: one of both is empty."""

    keys: list[Operation]
    catalog: list[Step]


class Transactions:
    def __init__(self, api: KeysApi, reads: KeyReads, parts: Parts) -> None:
        self._api = api
        self._reads = reads
        self._parts = parts

    def routes(self) -> Sequence[Route]:
        return (Route("/v1/txn", {"PUT": self.put}),)

    async def put(self, call: Call) -> web.StreamResponse:
        options = options_of(call.target, self._reads.datacenter)
        try:
            asked = asked_of(await call.body(BODY_MAX))
            if asked.catalog:
                rows, headers = await self._on_catalog(asked.catalog, call.caller, options)
            else:
                rows, headers = await self._on_keys(asked.keys, call.caller, options)
        except Faulty as faulty:
            body: dict[str, Any] = {"Results": None, "Errors": faulty.faults}
            return respond(json_body(body, pretty=options.pretty), {}, status=409)
        body = {"Results": rows, "Errors": None}
        return respond(json_body(body, pretty=options.pretty), headers, gzip_ok=call.takes_gzip)

    # Both give the results that the caller may see, and headers if there are only reads. They
    # raise `Faulty`.

    async def _on_keys(
        self, operations: Sequence[Operation], caller: Caller, options: Options
    ) -> tuple[Rows, dict[str, str]]:
        faults = [Fault(*each) for each in denied(operations, caller.rights)]
        outcome = Outcome(index=1)
        if operations and not faults:
            with failures():
                outcome = await reserved.transact(self._api, operations)
            faults = [Fault(each.operation, each.detail) for each in outcome.failures]
        if faults:
            raise Faulty(faults)
        sight = Sight(caller.rights)
        found = [each for each in outcome.results if sight.sees("key", each.key)]
        only_reads = all(operation.verb in READS for operation in operations)
        headers = headers_of(options, outcome.index) | sight.headers if only_reads else {}
        return [{"KV": pair} for pair in pairs_of(found)], headers

    async def _on_catalog(
        self, steps: Sequence[Step], caller: Caller, options: Options
    ) -> tuple[Rows, dict[str, str]]:
        numbers: dict[str, int] = {}  # of the first operation on an instance, by its id

        def write(draft: Draft) -> list[Show]:
            taken = Steps(self._parts, caller, draft)
            shows, faults = [], []
            for number, step in enumerate(steps):
                try:
                    show = taken.take(step)
                except Failure as failure:
                    faults.append(Fault(number, failure.text))
                    continue
                shows += [show] if show is not None else []
                for each in draft.ids - numbers.keys():
                    numbers[each] = number
            if faults:
                raise Faulty(faults)
            return shows

        try:
            shows = await self._parts.writing.carry_out(write)
        except Refused as refused:
            if refused.status >= 500 and refused.status != 507:
                raise
            about = [each for each in numbers if refused.field.startswith(f"put.{each}")]
            number = numbers[max(about, key=len)] if about else _first_write(steps)
            raise Faulty([Fault(number, refused.detail)]) from None
        sight = Sight(caller.rights)
        found = [shown for show in shows if (shown := show()) is not None]
        rows: Rows = [
            {each.kind: each.row} for each in found if sight.sees(each.resource, each.name)
        ]
        if any(step.writes for step in steps):
            return rows, {}
        index = max((each.row["ModifyIndex"] for each in found), default=1)
        return rows, headers_of(options, index) | sight.headers


def asked_of(body: bytes) -> Asked:
    """What a transaction is made of. Raises `Faulty` for operations that never could be done, and
    `Failure` for what is no transaction.
    """
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
    asked, faults = Asked([], []), []
    for number, each in enumerate(steps):
        found = _operation(Fields(each))
        if isinstance(found, str):
            faults.append(Fault(number, found))
        elif isinstance(found, Step):
            asked.catalog.append(found)
        else:
            asked.keys.append(found)
        if asked.keys and asked.catalog:
            raise Faulty([Fault(number, _MIXED)])
    if faults:
        raise Faulty(faults)
    size = sum(len(operation.value) for operation in asked.keys)
    if size > VALUE_MAX_BYTES:
        raise Failure(413, f"Values of the transaction are too large ({size} > {VALUE_MAX_BYTES})")
    return asked


def _operation(step: Fields) -> Operation | Step | str:
    """One operation, or what is wrong with it."""
    fields = step.fields("kv")
    if fields is not None:
        return operation_of(fields)
    for kind in KINDS:
        fields = step.fields(kind.lower())
        if fields is not None:
            return step_of(kind, fields)
    for other in ("Session", "Intention"):
        if other.lower() in step:
            return f"{other} operations cannot be part of a transaction"
    raise Failure(400, "Failed to parse body: an operation without a known kind")


def _first_write(steps: Sequence[Step]) -> int:
    return next(number for number, step in enumerate(steps) if step.writes)


_MIXED: Final = (
    "keys and the catalogue cannot be in one transaction: another host may hold the keys, so both "
    "cannot be changed together"
)
