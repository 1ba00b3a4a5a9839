"""Calls about this host as a whole: its state, what happens on it, what is wrong with it."""

from typing import Annotated

import msgspec

from netd.api.call import Call, Nothing, Reply, Stream
from netd.model.errors import Unavailable
from netd.model.names import Word


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
