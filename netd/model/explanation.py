"""Answers about the way of a packet: what it passes, and where it ends."""

from typing import Literal

import msgspec

from netd.model.endpoint import Protocol

StepName = Literal[
    "name",
    "policy",
    "source",
    "route",
    "neighbour",
    "tunnel",
    "forwarding",
    "underlay",
    "destination",
    "return",
]
StepStatus = Literal["ok", "failed", "skipped"]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the way. A `skipped` one does not apply or was not judged: `detail` says which.

    `remedy` says what to do about a failed one.
    """

    name: StepName
    status: StepStatus
    detail: str
    remedy: str = ""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The way of packets between two ends, as the host `node` sees it.

    `source` and `destination` are as they were asked for. The first step that fails is named by
    `failed`, and those after it are not judged. `result` is `unknown` where nothing failed but
    a host that has to say something could not be asked.
    """

    source: str = msgspec.field(name="from")
    destination: str = msgspec.field(name="to")
    protocol: Protocol = "tcp"
    port: int | None = None
    node: str
    result: Literal["ok", "failed", "unknown"]
    failed: StepName | None = None
    steps: tuple[Step, ...]


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """What a host asks another one to explain.

    A `reply` answers what has come already: no policy is applied to it, and nobody else is asked.
    """

    source: str
    destination: str
    protocol: Protocol = "tcp"
    port: int | None = None
    reply: bool = False
