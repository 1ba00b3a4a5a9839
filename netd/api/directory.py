"""Calls of the registry, and about it."""

from typing import Final

from netd.api.auth import Access
from netd.api.call import Call, Nothing, Push, Reply
from netd.api.names import Watch
from netd.api.routing import AnyRoute, Route
from netd.model.directory import Entry, RegistryReport, RegistryState
from netd.model.user_event import UserEventSpec


async def follow(call: Call[Watch, Nothing]) -> Push:
    return Push(call.cases.directory(call.query.watch))


async def state(call: Call[Nothing, Nothing]) -> Reply:
    return Reply(200, call.cases.registry())


async def report(call: Call[Nothing, RegistryReport]) -> Reply:
    call.cases.take_report(call.body)
    return Reply(204)


async def fire(call: Call[Nothing, UserEventSpec]) -> Reply:
    call.cases.fire(call.body)
    return Reply(204)


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="GET",
        path="/v1/directory",
        handler=follow,
        summary="What the registry has to know, then with watch=1 changes as they happen",
        query=Watch,
        answer=Entry,
        kind="ndjson",
        statuses={200: "One entry on each line; an empty line says that the stream lives"},
    ),
    Route(
        method="GET",
        path="/v1/registry",
        handler=state,
        summary="What the registry has reported last",
        answer=RegistryState,
        statuses={200: "Its state, also where there is none"},
    ),
    Route(
        method="PUT",
        path="/v1/registry",
        handler=report,
        summary="Report how the registry is",
        body=RegistryReport,
        kind="none",
        statuses={204: "Taken"},
        needs=Access.REGISTRY,
    ),
    Route(
        method="POST",
        path="/v1/user-events",
        handler=fire,
        summary="Tell all hosts of an event that a user fires",
        body=UserEventSpec,
        kind="none",
        statuses={204: "Told, or already known"},
        needs=Access.REGISTRY,
    ),
)
