"""Calls of the registry, and about it."""

from netd.api.call import Call, Nothing, Push, Reply
from netd.api.names import Watch
from netd.model.directory import RegistryReport
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
