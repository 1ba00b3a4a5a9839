"""Events: what happened to which object."""

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `GET /v1/events`. Revisions grow, also over a restart of the daemon."""

    revision: int
    at: str
    type: str  # e.g. network.created, endpoint.attached, drift.repaired
    object: str  # id of the network or endpoint, or "host"
    name: str
    detail: str = ""
    data: dict[str, str | int | bool | list[str]] = {}
