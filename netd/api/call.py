"""One call, from the handlers' point of view: what came in and what goes out."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from netd.api.metrics import Metrics
from netd.api.use_cases import Following, Plugins, UseCases

Q = TypeVar("Q", covariant=True)
B = TypeVar("B", covariant=True)


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The query or the body of a call that has none."""


NOTHING = Nothing()


@dataclass(frozen=True, slots=True)
class Backend:
    """What all calls have in common: the daemon, its metrics and the API's description. Without
    `plugins`, those that runtimes start do their work themselves.
    """

    cases: UseCases
    metrics: Metrics
    document: bytes
    plugins: Plugins | None = None


@dataclass(frozen=True, slots=True)
class Call(Generic[Q, B]):
    """A call after its path, query and body were checked. `path` has the path's parameters."""

    backend: Backend
    path: Mapping[str, str]
    query: Q
    body: B

    @property
    def cases(self) -> UseCases:
        return self.backend.cases


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in JSON; None is an answer without a body."""

    status: int
    value: object = None


@dataclass(frozen=True, slots=True)
class Page:
    """An answer that is text already."""

    body: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that goes on: one line of JSON for each value."""

    values: AsyncIterator[object]


@dataclass(frozen=True, slots=True)
class Push:
    """A stream whose lines are with the reader's socket before whoever causes them goes on."""

    source: Following


Answer = Reply | Page | Stream | Push
