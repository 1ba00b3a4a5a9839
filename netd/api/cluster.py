"""Calls about the cluster: its members, its keys, and what they have told each other."""

from typing import Final

import msgspec

from netd.api.call import Call, Nothing, Reply
from netd.api.routing import AnyRoute, Route
from netd.model.errors import Conflict, Exhausted, NotFound
from netd.model.names import Word
from netd.model.views import (
    ClusterKey,
    ClusterRecord,
    Joined,
    JoinRequest,
    KeyRequest,
    Member,
    Token,
    TokenRequest,
)


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


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="GET",
        path="/v1/members",
        handler=members,
        summary="List the cluster's members, this host first",
        answer=tuple[Member, ...],
        statuses={200: "The members"},
    ),
    Route(
        method="POST",
        path="/v1/members/join",
        handler=join,
        summary="Join the hosts at these addresses, or those that a token names",
        body=JoinRequest,
        answer=Joined,
        statuses={200: "At least one has answered: a result for each address, and the members"},
        errors=(Conflict,),
    ),
    Route(
        method="POST",
        path="/v1/members/leave",
        handler=leave,
        summary="Leave the cluster; this host goes on alone",
        kind="none",
        statuses={204: "Left, or it was alone"},
    ),
    Route(
        method="GET",
        path="/v1/keys",
        handler=keys,
        summary="List the keys of the cluster, without their secrets",
        answer=tuple[ClusterKey, ...],
        statuses={200: "The keys, the primary one first"},
    ),
    Route(
        method="POST",
        path="/v1/keys",
        handler=install_key,
        summary="Install a key on all members",
        body=KeyRequest,
        answer=ClusterKey,
        statuses={201: "Installed", 200: "This host had it already"},
        errors=(Conflict, Exhausted),
    ),
    Route(
        method="PUT",
        path="/v1/keys/{id}/primary",
        handler=use_key,
        summary="Have all members send with a key that all have",
        answer=ClusterKey,
        statuses={200: "The key"},
        errors=(NotFound, Conflict),
    ),
    Route(
        method="DELETE",
        path="/v1/keys/{id}",
        handler=remove_key,
        summary="Remove a key that no member sends with",
        kind="none",
        statuses={204: "Removed"},
        errors=(NotFound, Conflict),
    ),
    Route(
        method="POST",
        path="/v1/tokens",
        handler=issue_token,
        summary="Make a token that lets hosts join",
        body=TokenRequest,
        answer=Token,
        statuses={201: "Made; the answer is the only place where it is shown"},
        errors=(Exhausted,),
    ),
    Route(
        method="GET",
        path="/v1/records",
        handler=records,
        summary="List what this host sees of the cluster's replicated log",
        query=RecordFilter,
        answer=tuple[ClusterRecord, ...],
        statuses={200: "The records"},
    ),
)
