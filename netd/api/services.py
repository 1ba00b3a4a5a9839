"""Calls about services: their instances, what checks find, maintenance."""

import msgspec

from netd.api.call import Call, Nothing, Reply
from netd.model.names import Word
from netd.model.service import CheckReports, CheckResult, Maintenance, ServiceSpec


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


async def report(call: Call[Nothing, CheckResult]) -> Reply:
    call.cases.services.report(call.path["id"], call.path["check"], call.body)
    return Reply(204)


async def report_all(call: Call[Nothing, CheckReports]) -> Reply:
    return Reply(200, call.cases.services.report_all(call.body.reports))


async def maintain(call: Call[Nothing, Maintenance]) -> Reply:
    return Reply(200, await call.cases.services.maintain(call.path["id"], call.body))
