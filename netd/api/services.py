"""Calls about services: their instances, what checks find, maintenance."""

from typing import Final

import msgspec

from netd.api.auth import Access
from netd.api.call import Call, Nothing, Reply
from netd.api.routing import AnyRoute, Route
from netd.model.errors import Conflict, Exhausted, NotFound
from netd.model.names import Word
from netd.model.service import (
    CheckFault,
    CheckReports,
    CheckResult,
    Maintenance,
    Service,
    ServiceChanges,
    ServiceSpec,
)


class ServiceFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which instances to list: those that match all that is given. `network` is name or id."""

    name: Word | None = None
    node: Word | None = None
    network: Word | None = None
    passing: bool = False


async def list_all(call: Call[ServiceFilter, Nothing]) -> Reply:
    wanted = call.query
    found = call.cases.services.all(
        name=wanted.name, node=wanted.node, network=wanted.network, passing=wanted.passing
    )
    return Reply(200, found)


async def show(call: Call[Nothing, Nothing]) -> Reply:
    return Reply(200, call.cases.services.find(call.path["id"]))


async def register(call: Call[Nothing, ServiceSpec]) -> Reply:
    service, created = await call.cases.services.put(call.path["id"], call.body)
    return Reply(201 if created else 200, service)


async def deregister(call: Call[Nothing, Nothing]) -> Reply:
    await call.cases.services.delete(call.path["id"])
    return Reply(204)


async def change(call: Call[Nothing, ServiceChanges]) -> Reply:
    await call.cases.services.change(call.body)
    return Reply(204)


async def report(call: Call[Nothing, CheckResult]) -> Reply:
    call.cases.services.report(call.path["id"], call.path["check"], call.body)
    return Reply(204)


async def report_all(call: Call[Nothing, CheckReports]) -> Reply:
    return Reply(200, call.cases.services.report_all(call.body.reports))


async def maintain(call: Call[Nothing, Maintenance]) -> Reply:
    return Reply(200, await call.cases.services.maintain(call.path["id"], call.body))


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="GET",
        path="/v1/services",
        handler=list_all,
        summary="List the instances of services, all or those that match",
        query=ServiceFilter,
        answer=tuple[Service, ...],
        statuses={200: "The instances, of all hosts"},
        errors=(NotFound,),
    ),
    Route(
        method="GET",
        path="/v1/services/{id}",
        handler=show,
        summary="Show one instance of a service",
        answer=Service,
        statuses={200: "The instance"},
        errors=(NotFound,),
    ),
    Route(
        method="PUT",
        path="/v1/services/{id}",
        handler=register,
        summary="Register an instance of a service, or change it",
        body=ServiceSpec,
        answer=Service,
        statuses={201: "Registered", 200: "It was there already, and is now as asked for"},
        errors=(NotFound, Conflict, Exhausted),
        needs=Access.REGISTRY,
    ),
    Route(
        method="POST",
        path="/v1/services",
        handler=change,
        summary="Register and deregister several instances, all or none",
        body=ServiceChanges,
        kind="none",
        statuses={204: "Done, all of it"},
        errors=(NotFound, Conflict, Exhausted),
        needs=Access.REGISTRY,
    ),
    Route(
        method="DELETE",
        path="/v1/services/{id}",
        handler=deregister,
        summary="Deregister an instance of a service",
        kind="none",
        statuses={204: "Deregistered, or not there"},
        errors=(Conflict,),
        needs=Access.REGISTRY,
    ),
    Route(
        method="PUT",
        path="/v1/services/{id}/checks/{check}",
        handler=report,
        summary="Say what a check of an instance has found",
        body=CheckResult,
        kind="none",
        statuses={204: "Taken"},
        errors=(NotFound, Conflict),
        needs=Access.REGISTRY,
    ),
    Route(
        method="PUT",
        path="/v1/checks",
        handler=report_all,
        summary="Say what many checks have found",
        body=CheckReports,
        answer=tuple[CheckFault, ...],
        statuses={200: "All but these are taken"},
        needs=Access.REGISTRY,
    ),
    Route(
        method="PUT",
        path="/v1/services/{id}/maintenance",
        handler=maintain,
        summary="Take an instance out, or let it in again",
        body=Maintenance,
        answer=Service,
        statuses={200: "The instance as it is now"},
        errors=(NotFound, Conflict),
        needs=Access.REGISTRY,
    ),
)
