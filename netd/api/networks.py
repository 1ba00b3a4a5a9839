"""Calls about networks."""

from netd.api.call import Call, Nothing, Reply
from netd.model.network import NetworkSpec
from netd.model.views import Reclaim


async def create(call: Call[Nothing, NetworkSpec]) -> Reply:
    network, created = await call.cases.create_network(call.body)
    return Reply(201 if created else 200, network)


async def list_all(call: Call[Nothing, Nothing]) -> Reply:
    return Reply(200, call.cases.networks())


async def show(call: Call[Nothing, Nothing]) -> Reply:
    return Reply(200, call.cases.network(call.path["network"]))


async def reclaim(call: Call[Nothing, Reclaim]) -> Reply:
    return Reply(200, await call.cases.reclaim(call.path["network"], call.body.members))


async def delete(call: Call[Nothing, Nothing]) -> Reply:
    await call.cases.delete_network(call.path["network"])
    return Reply(204)
