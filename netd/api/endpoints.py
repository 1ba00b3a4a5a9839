"""Calls about endpoints, and about containers as sets of endpoints."""

import msgspec

from netd.api.call import Call, Nothing, Reply
from netd.model.endpoint import AttachRequest, EndpointPatch


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
