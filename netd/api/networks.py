"""Calls about networks."""

from typing import Final

import msgspec

from netd.api.call import Call, Nothing, Reply
from netd.api.routing import AnyRoute, Route
from netd.model.errors import Conflict, Exhausted, KernelFailure, NotFound
from netd.model.network import Network, NetworkSpec
from netd.model.views import Reclaim, Reclaimed


class Deletion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the network is to come again, so that its subnets are not given to others."""

    keep_subnets: bool = False


async def create(call: Call[Nothing, NetworkSpec]) -> Reply:
    network, created = await call.cases.create_network(call.body)
    return Reply(201 if created else 200, network)


async def list_all(call: Call[Nothing, Nothing]) -> Reply:
    return Reply(200, call.cases.networks())


async def show(call: Call[Nothing, Nothing]) -> Reply:
    return Reply(200, call.cases.network(call.path["network"]))


async def reclaim(call: Call[Nothing, Reclaim]) -> Reply:
    return Reply(200, await call.cases.reclaim(call.path["network"], call.body.members))


async def delete(call: Call[Deletion, Nothing]) -> Reply:
    keep = call.query.keep_subnets
    await call.cases.delete_network(call.path["network"], keep_subnets=keep)
    return Reply(204)


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="POST",
        path="/v1/networks",
        handler=create,
        summary="Create a network",
        body=NetworkSpec,
        answer=Network,
        statuses={201: "Created", 200: "The same network was there already"},
        errors=(Conflict, Exhausted, KernelFailure),
    ),
    Route(
        method="GET",
        path="/v1/networks",
        handler=list_all,
        summary="List all networks",
        answer=tuple[Network, ...],
        statuses={200: "All networks"},
    ),
    Route(
        method="GET",
        path="/v1/networks/{network}",
        handler=show,
        summary="Show one network, by name or id",
        answer=Network,
        statuses={200: "The network"},
        errors=(NotFound,),
    ),
    Route(
        method="DELETE",
        path="/v1/networks/{network}",
        handler=delete,
        summary="Delete a network that has no endpoints, by name or id",
        query=Deletion,
        kind="none",
        statuses={204: "Deleted, or not there"},
        errors=(Conflict, KernelFailure),
    ),
    Route(
        method="POST",
        path="/v1/networks/{network}/reclaim",
        handler=reclaim,
        summary="Take over the addresses of hosts that will not come back",
        body=Reclaim,
        answer=Reclaimed,
        statuses={200: "What this host owns now that it had not before"},
        errors=(NotFound, Conflict),
    ),
)
