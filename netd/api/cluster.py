"""Calls about the cluster: its members, its keys, and what they have told each other."""

import msgspec

from netd.api.call import Call, Nothing, Reply
from netd.model.names import Word
from netd.model.views import JoinRequest, KeyRequest, TokenRequest


class RecordFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which records to list: those that match all that is given. `owner` is id or name."""

    table: Word | None = None
    owner: Word | None = None


async def members(call: Call[Nothing, Nothing]) -> Reply:
    return Reply(200, call.cases.cluster.members())


async def join(call: Call[Nothing, JoinRequest]) -> Reply:
    asked = call.body
    return Reply(200, await call.cases.cluster.join(asked.addresses, asked.token))


async def leave(call: Call[Nothing, Nothing]) -> Reply:
    await call.cases.cluster.leave()
    return Reply(204)


async def keys(call: Call[Nothing, Nothing]) -> Reply:
    return Reply(200, call.cases.cluster.keys())


async def install_key(call: Call[Nothing, KeyRequest]) -> Reply:
    key, created = await call.cases.cluster.install_key(call.body.secret)
    return Reply(201 if created else 200, key)


async def use_key(call: Call[Nothing, Nothing]) -> Reply:
    return Reply(200, await call.cases.cluster.use_key(call.path["id"]))


async def remove_key(call: Call[Nothing, Nothing]) -> Reply:
    await call.cases.cluster.remove_key(call.path["id"])
    return Reply(204)


async def issue_token(call: Call[Nothing, TokenRequest]) -> Reply:
    asked = call.body
    return Reply(201, await call.cases.cluster.issue_token(asked.expires_s, asked.uses))


async def records(call: Call[RecordFilter, Nothing]) -> Reply:
    return Reply(200, call.cases.cluster.records(call.query.table, call.query.owner))
