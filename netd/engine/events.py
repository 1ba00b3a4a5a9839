"""What happened, in order, for those who follow it."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator

from netd.engine.interfaces import Clock
from netd.engine.times import rfc3339
from netd.model.event import Event

log = logging.getLogger(__name__)

KEPT = 10_000
_GRAVE = frozenset(
    {"condition.set", "drift.repaired", "endpoint.swept", "member.dead", "cluster.problem"}
)


class EventLog:
    """The last events. A reader that falls behind by more than `KEPT` is told what it lost.

    Revisions begin at the start time in microseconds, so they grow over restarts as long as
    the clock does not go back by more than the daemon was down.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._revision = int(clock.wall_s() * 1_000_000)
        self.count = 0  # events since the start
        self._news = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        """How many events are kept."""
        return len(self._events)

    @property
    def revision(self) -> int:
        return self._revision

    def emit(
        self,
        kind: str,
        *,
        about: str,
        name: str,
        detail: str = "",
        **data: str | int | bool | list[str],
    ) -> None:
        """Append an event of type `kind` about the object with id `about`, and log it."""
        self._revision += 1
        self.count += 1
        level = logging.WARNING if kind in _GRAVE else logging.INFO
        # Values may come from callers: they are arguments, never part of the format.
        fields = {"object": about, **data}
        log.log(level, "%s", " ".join(filter(None, (kind, name, detail))), extra=fields)
        self._events.append(
            Event(
                revision=self._revision,
                at=rfc3339(self._clock.wall_s()),
                type=kind,
                object=about,
                name=name,
                detail=detail,
                data=data,
            )
        )
        self._news.set()
        self._news = asyncio.Event()

    def close(self) -> None:
        """End all streams after what they have not read yet."""
        self._closed = True
        self._news.set()

    async def follow(self, since: int | None) -> AsyncIterator[Event]:
        """Events after revision `since`, then new ones as they come; None: only new ones."""
        at = self._revision if since is None else since
        while True:
            oldest = self._revision - len(self._events) + 1
            if at + 1 < oldest:
                yield self._gap(at, oldest)
                at = oldest - 1
            elif at < self._revision:
                at += 1
                yield self._events[at - oldest]
            elif self._closed:
                return
            else:
                await self._news.wait()

    def _gap(self, at: int, oldest: int) -> Event:
        return Event(
            revision=oldest - 1,
            at=rfc3339(self._clock.wall_s()),
            type="events.lost",
            object="host",
            name="",
            detail=f"events after revision {at} and before {oldest} are no longer kept",
        )
