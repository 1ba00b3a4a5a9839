"""Calls about names."""

from typing import Annotated, Final

import msgspec

from netd.api.call import Call, Nothing, Reply, Stream
from netd.api.routing import AnyRoute, Route
from netd.model.views import NameChange, RecordType, Resolution, Trace


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A look-up, as the container with the address `from` would make it."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    type: RecordType = "A"
    source: str | None = msgspec.field(name="from", default=None)


class Watch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether to go on after the full table."""

    watch: bool = False


async def resolve(call: Call[Question, Nothing]) -> Reply:
    asked = call.query
    return Reply(200, call.cases.resolve(asked.name, asked.type, asked.source))


async def trace(call: Call[Question, Nothing]) -> Reply:
    asked = call.query
    return Reply(200, call.cases.trace(asked.name, asked.type, asked.source))


async def follow(call: Call[Watch, Nothing]) -> Stream:
    return Stream(call.cases.names(call.query.watch))


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="GET",
        path="/v1/resolve",
        handler=resolve,
        summary="Look a name up as a container would",
        query=Question,
        answer=Resolution,
        statuses={200: "The answer; NXDOMAIN and REFUSED are answers too"},
    ),
    Route(
        method="GET",
        path="/v1/resolve/trace",
        handler=trace,
        summary="Look a name up as a container would, and tell each step of the answer",
        query=Question,
        answer=Trace,
        statuses={200: "The whole answer and how it came about"},
    ),
    Route(
        method="GET",
        path="/v1/names",
        handler=follow,
        summary="All names, then with watch=1 changes as they happen",
        query=Watch,
        answer=NameChange,
        kind="ndjson",
        statuses={200: "One change on each line; an empty line says that the stream lives"},
    ),
)
