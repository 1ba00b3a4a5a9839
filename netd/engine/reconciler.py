"""Keeps the kernel as intent wants it.

One pass: observe, compare, repair, look again. What cannot be repaired becomes a condition.
Events only say that it is time for a pass. A pass leaves alone whatever a use case touched
since it began to observe; the kernel runs calls in order, so what it then applies cannot
undo a use case that comes after.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from netd.engine.endpoints import Endpoints
from netd.engine.host import Host
from netd.engine.interfaces import Observation, Scope
from netd.engine.parts import Parts
from netd.model.condition import Condition
from netd.model.endpoint import EndpointRecord, Sandbox
from netd.model.views import PlannedOperation, ReconcileReport
from netd.plan.diff import diff
from netd.plan.objects import HOST, HOST_OWNER, Key, Object, State, Veth
from netd.plan.operations import Failure, Operation
from netd.plan.tunnels import Vxlan

SANDBOXES_PER_LOOK = 200  # bounds how long one look occupies the kernel thread
LOOKS = 4  # the most in one pass: one repair may be what makes the next one possible
ANNOUNCED_MAX = 1000  # repairs of one look that are events of their own; tables may have 100,000
NAMESPACE_IS_GONE = "its network namespace is gone"
_SOURCE = "drift-"


class _Found(msgspec.Struct, frozen=True):
    """What one look found: what to do, what is in the way, and whose namespace is gone."""

    operations: list[Operation]
    blocked: list[Object]
    dead: list[str]
    beyond: list[str]  # endpoints whose veth is missing but whose namespace was not looked at
    sandboxes: dict[str, Sandbox]


class Reconciler:
    def __init__(self, parts: Parts, host: Host, endpoints: Endpoints) -> None:
        self._parts = parts
        self._host = host
        self._endpoints = endpoints
        self._one_at_a_time = asyncio.Lock()
        self.drift = 0  # operations that the last look found to be needed
        self.nsids: Mapping[int, frozenset[str]] = {}  # as in Observation, of the last look
        self.retired = 0  # links marked for removal, at the last look
        self.passes = 0
        self.repaired = 0

    async def plan(self, endpoint_id: str | None = None) -> tuple[PlannedOperation, ...]:
        """What a full pass would do now. Changes nothing.

        With `endpoint_id` what it would do to that endpoint's objects, for which no other
        namespace is looked into. Raises `NotFound` where there is none.
        """
        if endpoint_id is not None:
            return await self._plan_of(endpoint_id)
        planned: list[PlannedOperation] = []
        async with self._one_at_a_time:
            for chunk in _chunks(list(self._parts.intent.records.values())):
                found = await self._look(chunk)
                known = set(planned)
                planned += [op for op in map(_planned, found.operations) if op not in known]
            self.drift = len(planned)
        return tuple(planned)

    async def _plan_of(self, endpoint_id: str) -> tuple[PlannedOperation, ...]:
        async with self._one_at_a_time:
            found = await self._look([self._parts.intent.record(endpoint_id)])
        return tuple(_planned(op) for op in found.operations if op.object.owner == endpoint_id)

    async def full_pass(self) -> ReconcileReport:
        """Look at everything and repair it."""
        async with self._one_at_a_time:
            await self._host.look()
            reports = [
                await self._pass(chunk)
                for chunk in _chunks(list(self._parts.intent.records.values()))
            ]
        report = _merged(reports)
        self.drift = len(report.failed)
        return report

    async def pass_over(self, endpoint_ids: Iterable[str]) -> ReconcileReport:
        """Look at the host, and into the namespaces of these endpoints."""
        records = self._parts.intent.records
        async with self._one_at_a_time:
            reports = [
                await self._pass(chunk)
                for chunk in _chunks([records[i] for i in endpoint_ids if i in records])
            ]
        report = _merged(reports)
        self.drift = len(report.failed)
        return report

    async def _pass(self, records: Sequence[EndpointRecord]) -> ReconcileReport:
        """Look and repair until a look finds nothing; what never ends becomes a condition."""
        parts = self._parts
        started_s = parts.clock.monotonic_s()
        looked_at = {record.endpoint.id: record for record in records}
        applied: list[PlannedOperation] = []
        swept: list[str] = []
        failures: list[Failure] = []
        blocked: list[Object] = []
        for _ in range(LOOKS):
            found = await self._look(list(looked_at.values()))
            blocked = found.blocked
            # No await between the end of the look and this call: see the module's docstring.
            failures = []
            if found.operations:
                failures = await parts.kernel.apply(found.operations, found.sandboxes)
            failed = {failure.operation for failure in failures}
            done = [op for op in found.operations if op not in failed]
            self._announce(done)
            applied += map(_planned, done)
            ended = [i for i in found.dead if await self._endpoints.sweep(i, NAMESPACE_IS_GONE)]
            swept += ended
            if not done and not ended and not found.beyond:
                break
            records_now = parts.intent.records
            looked_at = {
                i: records_now[i] for i in {*looked_at, *found.beyond} & records_now.keys()
            }
        self.passes += 1
        self._judge(blocked, failures, looked_at.keys())
        return ReconcileReport(
            applied=tuple(applied),
            failed=tuple(_planned(failure.operation, failure.message) for failure in failures),
            swept=tuple(swept),
            duration_ms=round((parts.clock.monotonic_s() - started_s) * 1000, 3),
        )

    async def _look(self, records: Sequence[EndpointRecord]) -> _Found:
        parts = self._parts
        with parts.busy.since_now() as mark:
            sandboxes, at_home = self._sandboxes_of(records)
            wanted = self._wanted(sandboxes)
            seen = await parts.kernel.observe(Scope(sandboxes=sandboxes, wanted=wanted))
            skip = mark.touched()
        self.nsids = seen.nsids
        self.retired = seen.retired
        dead = [
            record.endpoint.id
            for record in records
            if record.sandbox is not None
            and record.endpoint.id not in skip
            and record.sandbox.key in seen.missing
            and not _has_host_link(record, seen)
        ]
        dead += [endpoint_id for endpoint_id in at_home if endpoint_id not in skip]
        dead += [
            record.endpoint.id
            for record in records
            if record.handed_over
            and record.endpoint.id not in skip
            and not _has_host_link(record, seen)
            and (HOST, "link", record.endpoint.host_ifname) not in seen.foreign  # lost its mark
        ]
        # What intent wants now, not when the look began: deletions came in meanwhile.
        wanted = self._wanted(sandboxes, without=seen.missing, but_not_of=set(dead))
        blocked = [wanted[key] for key in seen.foreign if key in wanted]
        in_the_way = _unattainable(blocked, wanted, seen.state)
        operations = [
            op
            for op in diff(wanted, seen.state)
            if op.object.owner not in skip and in_the_way.isdisjoint(_rests_on(op.object))
        ]
        beyond = [op.object.owner for op in operations if _reaches_beyond(op, sandboxes)]
        operations = [op for op in operations if not _reaches_beyond(op, sandboxes)]
        return _Found(operations, blocked, dead, beyond, sandboxes)

    def _sandboxes_of(
        self, records: Iterable[EndpointRecord]
    ) -> tuple[dict[str, Sandbox], list[str]]:
        """The namespaces to look into; and the endpoints in the host's own one.

        Those share it, and each ends with its own process, so the sweep asks for each.
        """
        home = self._parts.kernel.own_sandbox_inode()
        found, at_home = {}, []
        for record in records:
            if record.sandbox is not None and record.sandbox.inode == home:
                at_home.append(record.endpoint.id)
            elif record.sandbox is not None:
                found[record.sandbox.key] = record.sandbox
        return found, at_home

    def _wanted(
        self,
        sandboxes: Collection[str],
        *,
        without: Collection[str] = (),
        but_not_of: Collection[str] = (),
    ) -> State:
        return {
            key: obj
            for key, obj in self._parts.intent.desired.state.items()
            if (obj.ns == HOST or (obj.ns in sandboxes and obj.ns not in without))
            and obj.owner not in but_not_of
        }

    def _announce(self, done: list[Operation]) -> None:
        self.repaired += len(done)
        for op in done[:ANNOUNCED_MAX]:
            self._parts.events.emit(
                "drift.repaired",
                about=op.object.owner,
                name=self._name_of(op.object.owner),
                detail=f"{op.text()} ({op.reason})",
                **({"ns": op.object.ns} if op.object.ns else {}),
            )

        if len(done) > ANNOUNCED_MAX:
            self._parts.events.emit(
                "drift.repaired",
                about=HOST_OWNER,
                name="",
                detail=f"and {len(done) - ANNOUNCED_MAX} more in the same pass",
            )

    def _judge(
        self, blocked: list[Object], failures: list[Failure], endpoint_ids: Collection[str]
    ) -> None:
        """Set the conditions of what could not be repaired, clear those of what is right."""
        conditions = self._parts.conditions
        troubles: dict[str, list[Condition]] = {}
        for failure in failures:
            troubles.setdefault(failure.operation.object.owner, []).append(
                self._condition("failed", failure.operation.object, failure.text())
            )
        for obj in blocked:
            detail = f"an object that is not netd's is in the place of: {obj.text()}"
            troubles.setdefault(obj.owner, []).append(self._condition("foreign", obj, detail))
        intent = self._parts.intent
        looked_at = {HOST_OWNER, *intent.networks, *endpoint_ids}
        judged = (conditions.having(_SOURCE) & looked_at) | troubles.keys()
        for owner in judged & {HOST_OWNER, *intent.networks, *intent.records}:  # still there
            conditions.replace(owner, _SOURCE, troubles.get(owner, []))

    def _condition(self, kind: str, obj: Object, detail: str) -> Condition:
        code = f"{_SOURCE}{kind}-{type(obj).__name__.lower()}-{'-'.join(obj.key[2:])}"
        return Condition(
            code=code,
            severity="error",
            detail=detail,
            remedy="remove or rename what is in the way; netd tries again by itself",
            since=self._parts.now(),
        )

    def _name_of(self, owner: str) -> str:
        intent = self._parts.intent
        if owner in intent.records:
            return intent.records[owner].endpoint.name
        network = intent.networks.get(owner)
        return network.name if network else ""


def _has_host_link(record: EndpointRecord, seen: Observation) -> bool:
    """Whether the endpoint's veth is there: then its namespace lives on, without its path."""
    name = record.endpoint.host_ifname
    return bool(name) and (HOST, "link", name) in seen.state


def _reaches_beyond(op: Operation, sandboxes: Collection[str]) -> bool:
    obj = op.object
    return op.verb == "add" and isinstance(obj, Veth) and obj.peer_ns not in sandboxes


def _unattainable(blocked: Iterable[Object], wanted: State, state: State) -> set[Key]:
    """What cannot be made: what is blocked, and the other ends of veths that need it."""
    keys = {obj.key for obj in blocked}
    if not keys:
        return keys
    missing = [obj for key, obj in wanted.items() if isinstance(obj, Veth) and key not in state]
    return keys | {
        (veth.peer_ns, "link", veth.peer_name)
        for veth in missing
        if not keys.isdisjoint(_rests_on(veth))
    }


def _rests_on(obj: Object) -> set[Key]:
    """The object itself and what it is put on."""
    keys = {obj.key, obj.link_key or obj.key}
    if isinstance(obj, Veth | Vxlan) and obj.master:
        keys.add((HOST, "link", obj.master))
    return keys


def _planned(op: Operation, error: str = "") -> PlannedOperation:
    return PlannedOperation(
        verb=op.verb,
        object=op.object.text(),
        ns=op.object.ns,
        owner=op.object.owner,
        reason=op.reason,
        error=error,
    )


def _chunks(records: list[EndpointRecord]) -> list[list[EndpointRecord]]:
    size = SANDBOXES_PER_LOOK
    return [records[at : at + size] for at in range(0, len(records), size)] or [[]]


def _merged(reports: list[ReconcileReport]) -> ReconcileReport:
    return ReconcileReport(
        applied=tuple(op for report in reports for op in report.applied),
        failed=tuple(op for report in reports for op in report.failed),
        swept=tuple(i for report in reports for i in report.swept),
        duration_ms=round(sum(report.duration_ms for report in reports), 3),
    )
