"""Calls about keys, sessions and locks."""

from typing import Final

import msgspec

from netd.api.auth import Access
from netd.api.call import Call, Nothing, Reply, Stream
from netd.api.routing import AnyRoute, Route
from netd.model.errors import Conflict, Exhausted, NotFound
from netd.model.kv import (
    Index,
    KeyChange,
    KeyDone,
    KeyListing,
    KeyMove,
    KeyName,
    KeyPut,
    KeyReading,
    KeyStatus,
    Outcome,
    Session,
    SessionListing,
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


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="GET",
        path="/v1/kv",
        handler=list_keys,
        summary="List keys with their values, or only the keys",
        query=KeyFilter,
        answer=KeyListing,
        statuses={200: "By key; none is an answer too"},
        errors=(Exhausted,),
    ),
    Route(
        method="DELETE",
        path="/v1/kv",
        handler=delete_tree,
        summary="Delete all keys that begin with a prefix",
        query=Prefix,
        answer=KeyDone,
        statuses={200: "There are none"},
        needs=Access.REGISTRY,
    ),
    Route(
        method="GET",
        path="/v1/kv/{key}",
        handler=read,
        summary="Read a key",
        query=Wait,
        answer=KeyReading,
        statuses={200: "The key, or that there is none"},
        errors=(Exhausted,),
    ),
    Route(
        method="PUT",
        path="/v1/kv/{key}",
        handler=put,
        summary="Write a key, or acquire or release it as a lock",
        body=KeyPut,
        answer=KeyDone,
        statuses={200: "Whether it was done"},
        errors=(Exhausted,),
        needs=Access.REGISTRY,
    ),
    Route(
        method="DELETE",
        path="/v1/kv/{key}",
        handler=delete,
        summary="Delete a key",
        query=Condition,
        answer=KeyDone,
        statuses={200: "Whether it was done; it was where there was no such key"},
        needs=Access.REGISTRY,
    ),
    Route(
        method="GET",
        path="/v1/kv-changes",
        handler=follow,
        summary="Which keys change, as they do",
        answer=KeyChange,
        kind="ndjson",
        statuses={200: "One change on each line; an empty line says that the stream lives"},
        errors=(Exhausted,),
    ),
    Route(
        method="GET",
        path="/v1/kv-holder",
        handler=status,
        summary="Who holds the keys, and how many there are",
        answer=KeyStatus,
        statuses={200: "As this host knows"},
    ),
    Route(
        method="POST",
        path="/v1/kv-holder",
        handler=move,
        summary="Move the keys to another host",
        body=KeyMove,
        answer=KeyStatus,
        statuses={200: "The host holds them now"},
        errors=(NotFound, Conflict),
    ),
    Route(
        method="POST",
        path="/v1/transactions",
        handler=transact,
        summary="Carry out operations on keys, all or none",
        body=Transaction,
        answer=Outcome,
        statuses={200: "What was done, or why nothing was"},
        errors=(Exhausted,),
        needs=Access.REGISTRY,
    ),
    Route(
        method="GET",
        path="/v1/sessions",
        handler=list_sessions,
        summary="List sessions",
        query=SessionFilter,
        answer=SessionListing,
        statuses={200: "By id"},
        errors=(Exhausted,),
    ),
    Route(
        method="POST",
        path="/v1/sessions",
        handler=create_session,
        summary="Create a session",
        body=SessionSpec,
        answer=Session,
        statuses={201: "Created"},
        errors=(Exhausted,),
        needs=Access.REGISTRY,
    ),
    Route(
        method="GET",
        path="/v1/sessions/{id}",
        handler=session,
        summary="Show a session",
        answer=Session,
        statuses={200: "The session"},
        errors=(NotFound,),
    ),
    Route(
        method="DELETE",
        path="/v1/sessions/{id}",
        handler=destroy_session,
        summary="End a session, and release what it holds",
        kind="none",
        statuses={204: "It is no more"},
        needs=Access.REGISTRY,
    ),
    Route(
        method="POST",
        path="/v1/sessions/{id}/renew",
        handler=renew_session,
        summary="Have a session last for its TTL from now on",
        answer=Session,
        statuses={200: "The session"},
        errors=(NotFound,),
        needs=Access.REGISTRY,
    ),
)
