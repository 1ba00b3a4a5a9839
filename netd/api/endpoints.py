"""Calls about endpoints, and about containers as sets of endpoints."""

from typing import Final

import msgspec

from netd.api.call import Call, Nothing, Reply
from netd.api.routing import AnyRoute, Route
from netd.model.endpoint import AttachRequest, Endpoint, EndpointPatch
from netd.model.errors import Conflict, Exhausted, KernelFailure, NotFound


class EndpointFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which endpoints to list: those that match all that is given. `network` is name or id."""

    network: str | None = None
    container_id: str | None = None
    node: str | None = None


async def attach(call: Call[Nothing, AttachRequest]) -> Reply:
    endpoint, created = await call.cases.attach(call.path["network"], call.body)
    return Reply(201 if created else 200, endpoint)


async def list_all(call: Call[EndpointFilter, Nothing]) -> Reply:
    wanted = call.query
    found = call.cases.endpoints(
        network=wanted.network, container_id=wanted.container_id, node=wanted.node
    )
    return Reply(200, found)


async def show(call: Call[Nothing, Nothing]) -> Reply:
    return Reply(200, call.cases.endpoint(call.path["id"]))


async def update(call: Call[Nothing, EndpointPatch]) -> Reply:
    return Reply(200, await call.cases.update_endpoint(call.path["id"], call.body))


async def detach(call: Call[Nothing, Nothing]) -> Reply:
    await call.cases.detach(call.path["id"])
    return Reply(204)


async def detach_container(call: Call[Nothing, Nothing]) -> Reply:
    await call.cases.detach_container(call.path["container_id"])
    return Reply(204)


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="POST",
        path="/v1/networks/{network}/endpoints",
        handler=attach,
        summary="Attach a container to a network",
        body=AttachRequest,
        answer=Endpoint,
        statuses={201: "Attached", 200: "The same attachment was there already"},
        errors=(NotFound, Conflict, Exhausted, KernelFailure),
    ),
    Route(
        method="GET",
        path="/v1/endpoints",
        handler=list_all,
        summary="List endpoints, all or those that match",
        query=EndpointFilter,
        answer=tuple[Endpoint, ...],
        statuses={200: "The endpoints"},
        errors=(NotFound,),
    ),
    Route(
        method="GET",
        path="/v1/endpoints/{id}",
        handler=show,
        summary="Show one endpoint",
        answer=Endpoint,
        statuses={200: "The endpoint"},
        errors=(NotFound,),
    ),
    Route(
        method="PATCH",
        path="/v1/endpoints/{id}",
        handler=update,
        summary="Change a live endpoint's ports, aliases, labels, bandwidth or name",
        body=EndpointPatch,
        answer=Endpoint,
        statuses={200: "The endpoint as it is now"},
        errors=(NotFound, Conflict, Exhausted, KernelFailure),
    ),
    Route(
        method="DELETE",
        path="/v1/endpoints/{id}",
        handler=detach,
        summary="Detach an endpoint",
        kind="none",
        statuses={204: "Detached, or not there"},
        errors=(KernelFailure,),
    ),
    Route(
        method="DELETE",
        path="/v1/containers/{container_id}",
        handler=detach_container,
        summary="Detach all of a container's endpoints",
        kind="none",
        statuses={204: "Detached, or there were none"},
        errors=(KernelFailure,),
    ),
)
