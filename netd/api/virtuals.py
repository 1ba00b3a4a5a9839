"""Calls about virtual addresses of services."""

from typing import Final

from netd.api.call import Call, Nothing, Reply
from netd.api.routing import AnyRoute, Route
from netd.model.errors import Exhausted, NotFound
from netd.model.service import Virtual, VirtualSpec


async def list_all(call: Call[Nothing, Nothing]) -> Reply:
    return Reply(200, call.cases.virtuals.all())


async def show(call: Call[Nothing, Nothing]) -> Reply:
    return Reply(200, call.cases.virtuals.find(call.path["service"]))


async def put(call: Call[Nothing, VirtualSpec]) -> Reply:
    virtual, created = await call.cases.virtuals.put(call.path["service"], call.body)
    return Reply(201 if created else 200, virtual)


async def delete(call: Call[Nothing, Nothing]) -> Reply:
    await call.cases.virtuals.delete(call.path["service"])
    return Reply(204)


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="GET",
        path="/v1/virtuals",
        handler=list_all,
        summary="List the services with virtual addresses",
        answer=tuple[Virtual, ...],
        statuses={200: "By name of the service"},
    ),
    Route(
        method="GET",
        path="/v1/virtuals/{service}",
        handler=show,
        summary="Show the virtual addresses of a service",
        answer=Virtual,
        statuses={200: "The addresses"},
        errors=(NotFound,),
    ),
    Route(
        method="PUT",
        path="/v1/virtuals/{service}",
        handler=put,
        summary="Give a service virtual addresses, or change their ports",
        body=VirtualSpec,
        answer=Virtual,
        statuses={201: "It has them now", 200: "It had them, and they are now as asked for"},
        errors=(Exhausted,),
    ),
    Route(
        method="DELETE",
        path="/v1/virtuals/{service}",
        handler=delete,
        summary="Take the virtual addresses of a service away",
        kind="none",
        statuses={204: "It has none"},
    ),
)
