"""Calls about keys, sessions and locks."""

import msgspec

from netd.api.call import Call, Nothing, Reply, Stream
from netd.model.errors import NotFound
from netd.model.kv import (
    Index,
    KeyMove,
    KeyName,
    KeyPut,
    SessionSpec,
    Transaction,
    WaitSeconds,
)
from netd.model.names import Word


class Wait(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Answer as soon as the index is larger than `index`, and after `wait_s` in any case."""

    index: Index = 0
    wait_s: WaitSeconds = 0.0


class KeyFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which keys to list; with `names` only the keys, up to `separator` if there is one."""

    prefix: KeyName = ""
    names: bool = False
    separator: KeyName = ""
    index: Index = 0
    wait_s: WaitSeconds = 0.0


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`cas`: delete only the key that has this modify index."""

    cas: Index | None = None


class Prefix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the keys to be deleted begin with; "" deletes all."""

    prefix: KeyName


class SessionFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which sessions to list: those of a node, "": all."""

    node: Word = ""
    index: Index = 0
    wait_s: WaitSeconds = 0.0


async def list_keys(call: Call[KeyFilter, Nothing]) -> Reply:
    asked, kv = call.query, call.cases.kv
    if asked.names:
        found = await kv.names(asked.prefix, asked.separator, asked.index, asked.wait_s)
    else:
        found = await kv.entries(asked.prefix, asked.index, asked.wait_s)
    return Reply(200, found)


async def delete_tree(call: Call[Prefix, Nothing]) -> Reply:
    return Reply(200, await call.cases.kv.delete_tree(call.query.prefix))


async def read(call: Call[Wait, Nothing]) -> Reply:
    asked = call.query
    return Reply(200, await call.cases.kv.read(call.path["key"], asked.index, asked.wait_s))


async def put(call: Call[Nothing, KeyPut]) -> Reply:
    return Reply(200, await call.cases.kv.put(call.path["key"], call.body))


async def delete(call: Call[Condition, Nothing]) -> Reply:
    return Reply(200, await call.cases.kv.delete(call.path["key"], call.query.cas))


async def transact(call: Call[Nothing, Transaction]) -> Reply:
    return Reply(200, await call.cases.kv.transact(call.body.operations))


async def follow(call: Call[Nothing, Nothing]) -> Stream:
    return Stream(call.cases.kv.follow())


async def list_sessions(call: Call[SessionFilter, Nothing]) -> Reply:
    asked = call.query
    return Reply(200, await call.cases.kv.sessions(asked.node, asked.index, asked.wait_s))


async def create_session(call: Call[Nothing, SessionSpec]) -> Reply:
    return Reply(201, await call.cases.kv.create_session(call.body))


async def session(call: Call[Nothing, Nothing]) -> Reply:
    found = await call.cases.kv.session(call.path["id"])
    if not found.sessions:
        raise NotFound(f"there is no session {call.path['id']!r}")
    return Reply(200, found.sessions[0])


async def renew_session(call: Call[Nothing, Nothing]) -> Reply:
    return Reply(200, await call.cases.kv.renew_session(call.path["id"]))


async def destroy_session(call: Call[Nothing, Nothing]) -> Reply:
    await call.cases.kv.destroy_session(call.path["id"])
    return Reply(204)


async def status(call: Call[Nothing, Nothing]) -> Reply:
    return Reply(200, await call.cases.kv.status())


async def move(call: Call[Nothing, KeyMove]) -> Reply:
    return Reply(200, await call.cases.kv.move(call.body))
