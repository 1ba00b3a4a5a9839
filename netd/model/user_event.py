"""Events that users fire, for programs on all hosts that wait for them."""

from typing import Annotated

import msgspec

from netd.model.names import Word

PAYLOAD_MAX = 4096  # bytes

_Pattern = Annotated[str, msgspec.Meta(max_length=1024)]
_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]


class _Fired(msgspec.Struct, frozen=True, kw_only=True):
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    name: Word
    payload: Annotated[bytes, msgspec.Meta(max_length=PAYLOAD_MAX)] = b""
    node_filter: _Pattern = ""
    service_filter: _Pattern = ""
    tag_filter: _Pattern = ""
    version: _Count = 1
    time: _Count = 0


class UserEventSpec(_Fired, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event as it is fired. `id` is a UUID of whoever fires it, `time` a Lamport clock's.

    Filters are regular expressions on the names of hosts, of services there and on their tags,
    for whoever keeps the event to apply; "" is for everybody.
    """


class UserEvent(_Fired, frozen=True, kw_only=True):
    """An event as hosts tell each other. `fired_ms` is the Unix time, by the clock of its host."""

    fired_ms: _Count
