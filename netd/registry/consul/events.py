"""Events that users fire: the last ones that concern this host."""

import asyncio
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import msgspec

from netd.model.service import Service
from netd.registry.consul.regexps import BadPattern, Budget, Pattern

KEPT: Final = 256
VERSION: Final = 1
PAYLOAD_MAX: Final = 4096  # bytes
_STEPS_MAX: Final = 50_000  # of the filters of one event


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """`time` is a Lamport clock's, of the host that fired it. Filters are regular expressions, ""
    is for everybody.
    """

    id: str = msgspec.field(name="ID")
    name: str = msgspec.field(name="Name")
    payload: bytes | None = msgspec.field(name="Payload", default=None)
    node_filter: str = msgspec.field(name="NodeFilter", default="")
    service_filter: str = msgspec.field(name="ServiceFilter", default="")
    tag_filter: str = msgspec.field(name="TagFilter", default="")
    version: int = msgspec.field(name="Version", default=VERSION)
    time: int = msgspec.field(name="LTime", default=0)


class Events:
    """`own_node` is this host's name, `own_services` are its instances.

    `spread` tells the other hosts of an event that was fired here; what it tells them they `take`.
    """

    def __init__(
        self,
        own_node: Callable[[], str],
        own_services: Callable[[], Iterable[Service]],
        spread: Callable[[Event], Awaitable[None]],
    ) -> None:
        self.fired = 0
        self.taken = 0
        self._own_node = own_node
        self._own_services = own_services
        self._spread = spread
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._known: deque[str] = deque(maxlen=4 * KEPT)  # ids, of those that were not kept too
        self._time = 1  # of the next event that is fired here
        self._news = asyncio.Event()

    async def fire(self, event: Event) -> Event:
        """Have all hosts that it concerns know it. Raises `BadPattern`, and what `spread` raises;
        then nobody knows it.
        """
        for text in (event.node_filter, event.service_filter, event.tag_filter):
            if text:
                Pattern(text)
        event = msgspec.structs.replace(event, id=str(uuid.uuid4()))
        fired = msgspec.structs.replace(event, time=self._time)
        self._time += 1
        await self._spread(fired)
        self.fired += 1
        self.take(fired)  # unless it has come back by now
        return event

    def take(self, event: Event) -> None:
        """Keep an event if it concerns this host. What was taken already is nothing new."""
        if event.id in self._known:
            return
        self._known.append(event.id)
        self._time = max(self._time, event.time + 1)
        if not self._concerns_us(event):
            return
        self.taken += 1
        self._kept.append(event)
        news, self._news = self._news, asyncio.Event()
        news.set()

    def of(self, name: str) -> list[Event]:
        """Those of a name, "": all; the oldest first."""
        return [event for event in self._kept if name in ("", event.name)]

    async def wait(self, name: str, index: int, wait_s: float) -> list[Event]:
        """The events, as soon as the newest is another one than that whose index is `index`."""
        deadline_s = asyncio.get_running_loop().time() + wait_s
        while True:
            news = self._news
            found = self.of(name)
            if index_of(found) != index:
                return found
            try:
                async with asyncio.timeout_at(deadline_s):
                    await news.wait()
            except TimeoutError:
                return found

    def _concerns_us(self, event: Event) -> bool:
        """Patterns that take too long concern nobody."""
        budget = Budget(_STEPS_MAX)
        try:
            if event.node_filter:
                nodes = Pattern(event.node_filter, budget)
                if not nodes.is_in(self._own_node()):
                    return False
            return not event.service_filter or self._has_service(event, budget)
        except BadPattern:
            return False

    def _has_service(self, event: Event, budget: Budget) -> bool:
        names = Pattern(event.service_filter, budget)
        tags = Pattern(event.tag_filter, budget)
        for service in self._own_services():
            if not names.is_in(service.name):
                continue
            if not event.tag_filter or any(tags.is_in(tag) for tag in service.tags):
                return True
        return False


def index_of(events: list[Event]) -> int:
    """The index of a list is made of the id of its newest event: it does not grow with time."""
    if not events:
        return 1
    number = uuid.UUID(events[-1].id).int
    return ((number >> 64) ^ (number & (1 << 64) - 1)) or 1
