"""Calls about virtual addresses of services."""

from netd.api.call import Call, Nothing, Reply
from netd.model.service import VirtualSpec


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
