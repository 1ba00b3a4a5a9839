"""Calls about this host as a whole: its state, what happens on it, what is wrong with it."""

from typing import Annotated, Final

import msgspec

from netd.api.call import Call, Nothing, Reply, Stream
from netd.api.routing import AnyRoute, Route
from netd.model.errors import KernelFailure, NotFound, Unavailable
from netd.model.event import Event
from netd.model.names import Word
from netd.model.views import Finding, PlannedOperation, ReconcileReport, Status


class Since(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The revision after which to begin; now when it is left out."""

    since: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None


class PlanFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The endpoint whose operations are asked for; all where it is left out."""

    endpoint: Word | None = None


class Health(msgspec.Struct, frozen=True):
    """Whether the daemon is well, in the sense of the call."""

    ok: bool


async def status(call: Call[Nothing, Nothing]) -> Reply:
    return Reply(200, call.cases.status())


async def events(call: Call[Since, Nothing]) -> Stream:
    return Stream(call.cases.events(call.query.since))


async def plan(call: Call[PlanFilter, Nothing]) -> Reply:
    return Reply(200, await call.cases.plan(call.query.endpoint))


async def reconcile(call: Call[Nothing, Nothing]) -> Reply:
    return Reply(200, await call.cases.reconcile())


async def doctor(call: Call[Nothing, Nothing]) -> Reply:
    return Reply(200, await call.cases.doctor())


async def alive(call: Call[Nothing, Nothing]) -> Reply:
    return Reply(200, Health(ok=True))


async def ready(call: Call[Nothing, Nothing]) -> Reply:
    status = call.cases.status()
    if not status.ready:
        wrong = "; ".join(condition.detail for condition in status.conditions)
        raise Unavailable(f"netd is not ready: {wrong or 'it is still starting'}")
    return Reply(200, Health(ok=True))


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="GET",
        path="/v1/status",
        handler=status,
        summary="State of this host's daemon",
        answer=Status,
        statuses={200: "The state"},
    ),
    Route(
        method="GET",
        path="/v1/events",
        handler=events,
        summary="What happens, as it happens",
        query=Since,
        answer=Event,
        kind="ndjson",
        statuses={200: "One event on each line; an empty line says that the stream lives"},
    ),
    Route(
        method="GET",
        path="/v1/plan",
        handler=plan,
        summary="Operations that would run now, with reasons",
        query=PlanFilter,
        answer=tuple[PlannedOperation, ...],
        statuses={200: "The operations; none when the kernel is as wanted"},
        errors=(NotFound, KernelFailure),
    ),
    Route(
        method="POST",
        path="/v1/reconcile",
        handler=reconcile,
        summary="Look at the kernel now and run what is needed",
        answer=ReconcileReport,
        statuses={200: "What was done"},
        errors=(KernelFailure,),
    ),
    Route(
        method="GET",
        path="/v1/doctor",
        handler=doctor,
        summary="Check the host for what could hinder netd",
        answer=tuple[Finding, ...],
        statuses={200: "One finding for each check"},
        errors=(KernelFailure,),
    ),
    Route(
        method="GET",
        path="/healthz",
        handler=alive,
        summary="Whether the daemon answers",
        answer=Health,
        statuses={200: "It does"},
    ),
    Route(
        method="GET",
        path="/readyz",
        handler=ready,
        summary="Whether the kernel has been brought to what is wanted; 503 until then",
        answer=Health,
        statuses={200: "It has"},
    ),
)
