"""One thing that is waited for, for however many wait for it."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Literal, NamedTuple

import msgspec

from netd.model.kv import KeyListing, KeyReading, SessionListing
from netd.registry.api import Refused, Unreachable
from netd.registry.http.answers import Body
from netd.tasks import Tasks

Found = KeyReading | KeyListing | SessionListing


class Target(NamedTuple):
    """What is read: a key, the entries or the names of keys under a prefix, the sessions of a
    node ("": of all), or one session by its id.
    """

    kind: Literal["key", "entries", "names", "sessions", "session"]
    name: str = ""
    separator: str = ""


class Reading:
    """What was found, and what was made of it, by what it was made for.

    `index` is the one to wait from: not larger than of whatever is like this one by all that was
    known when it was read.
    """

    __slots__ = ("_made", "found", "index")

    def __init__(self, found: Found) -> None:
        self.found = found
        self.index = max(found.index, 1)
        self._made: dict[Hashable, Body] = {}

    def made(self, purpose: Hashable, make: Callable[[Found], Body]) -> Body:
        """What `make` makes of it; made once for each purpose."""
        body = self._made.get(purpose)
        if body is None:
            body = self._made[purpose] = make(self.found)
        return body

    def is_like(self, earlier: "Reading") -> bool:
        """Whether both say the same of what was asked for. Not when indexes have begun anew, as
        after keys were lost: then the smaller one is to be told.
        """
        mine, others = self.found, earlier.found
        if mine.index < others.index:
            return False
        return msgspec.structs.replace(mine, index=0) == msgspec.structs.replace(others, index=0)


class Watch:
    """One thing that is waited for. `news` is set, and another one, when it may have changed."""

    def __init__(
        self, tasks: Tasks, read: Callable[[], Awaitable[Reading]], live: Callable[[], bool]
    ) -> None:
        self.joined = 0
        self.news = asyncio.Event()
        self._tasks = tasks
        self._read = read
        self._live = live
        self._last: Reading | None = None
        self._reading: Reading | None = None  # the last, while it is known to hold
        self._under_way: asyncio.Future[Reading] | None = None

    def change(self) -> None:
        """What was read holds no more, nor does what is being read."""
        self._reading = None
        self._under_way = None
        news, self.news = self.news, asyncio.Event()
        news.set()

    async def current(self) -> Reading:
        """What there is, as far as one was told. Raises what reading raises."""
        if self._reading is not None:
            return self._reading
        if self._under_way is None:
            self._under_way = asyncio.get_running_loop().create_future()
            self._tasks.start("read what has changed", self._find(self._under_way))
        return await asyncio.shield(self._under_way)

    async def _find(self, result: asyncio.Future[Reading]) -> None:
        try:
            reading = await self._read()
        except (Unreachable, Refused) as error:
            result.set_exception(error)
            result.exception()  # nobody may be there any more to hear of it
        except BaseException:
            result.cancel()
            raise
        else:
            if self._last is not None and reading.is_like(self._last):
                reading = self._last
            self._last = reading
            result.set_result(reading)
            if self._under_way is result and self._live():
                self._reading = reading
        if self._under_way is result:
            self._under_way = None
