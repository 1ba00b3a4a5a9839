"""Calls about names."""

from typing import Annotated

import msgspec

from netd.api.call import Call, Nothing, Reply, Stream
from netd.model.views import RecordType


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
