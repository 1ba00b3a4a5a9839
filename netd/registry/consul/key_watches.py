"""Waiting for keys and sessions to change: however many wait, by one stream of the daemon's.

All who wait for the same thing are one watch. A change wakes only the watches that it concerns;
each reads once, and what it has read is for all who wait there, with the bytes made of it.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from netd.indexes import discard
from netd.model.directory import Count
from netd.model.kv import KeyChange, SessionListing
from netd.registry.api import Refused, Unreachable
from netd.registry.consul.key_changes import KeyChanges
from netd.registry.consul.key_watch import Reading, Target, Watch
from netd.registry.consul.keys_api import KeysApi
from netd.tasks import Tasks

WAITING_MAX: Final = 20_000
PATIENCE_S: Final = 10.0  # with a daemon that does not say what changes
LINGER_S: Final = 30.0  # of the stream, when nobody waits any more
_NO_NODE: Final = "-"  # no host is called so


class TooMany(Exception):
    """`WAITING_MAX` calls wait already."""


class KeyWatches:
    """Reads of keys and sessions by `api`, of which some wait for a change.

    `waiting` counts those who wait now, `reads` how often something was read for them.
    """

    def __init__(self, api: KeysApi, patience_s: float = PATIENCE_S) -> None:
        self.waiting = 0
        self.reads = 0
        self._api = api
        self._changes = KeyChanges(api, self._tell, self._is_idle)
        self.patience_s = patience_s
        self._tasks = Tasks()
        self._left_s = 0.0  # when the last one who waited has left
        self._watches: dict[Target, Watch] = {}
        self._of_key: defaultdict[str, set[Watch]] = defaultdict(set)
        self._of_prefix: defaultdict[str, set[Watch]] = defaultdict(set)
        self._lengths: defaultdict[int, int] = defaultdict(int)  # of prefixes
        self._of_sessions: set[Watch] = set()

    @property
    def live(self) -> bool:
        """Whether changes are told."""
        return self._changes.live

    @property
    def streams(self) -> int:
        """How often the stream of changes has begun."""
        return self._changes.begun

    async def close(self) -> None:
        await self._changes.close()
        await self._tasks.stop()

    def counts(self) -> Iterator[Count]:
        yield Count(name="consul_kv_waiting", value=self.waiting)
        yield Count(name="consul_kv_watches", value=len(self._watches))
        yield Count(name="consul_kv_streams_total", value=self.streams)
        yield Count(name="consul_kv_watch_reads_total", value=self.reads)

    async def read(self, target: Target) -> Reading:
        """As it is now: what was written before is seen. Raises `Unreachable` and `Refused`."""
        match target.kind:
            case "key":
                return Reading(await self._api.read(target.name))
            case "entries":
                return Reading(await self._api.entries(target.name))
            case "names":
                return Reading(await self._api.names(target.name, target.separator))
            case "sessions":
                return Reading(await self._api.sessions(target.name))
            case "session":
                return Reading(await self._session(target.name))

    async def wait(self, target: Target, index: int, wait_s: float) -> Reading:
        """What there is as soon as its index is larger than `index`, or goes back; after `wait_s`
        in any case.

        Raises `Unreachable` and `Refused` when it cannot be read, and it cannot be known when
        it could be; `TooMany`.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + wait_s
        first = None
        with self._joined(target) as watch:
            while True:
                news = watch.news
                reading = await self._patiently(watch, deadline_s)
                if reading.index > index or (first is not None and reading.index < first):
                    return reading
                first = reading.index
                try:
                    async with asyncio.timeout_at(deadline_s):
                        await news.wait()
                except TimeoutError:
                    return reading

    @contextmanager
    def standing(self, target: Target) -> Iterator["Watch"]:
        """A watch that somebody keeps, to look at what there is at any time."""
        with self._joined(target) as watch:
            yield watch

    async def _patiently(self, watch: "Watch", deadline_s: float) -> Reading:
        """Read; when it fails, again as soon as there is reason to think that it would not."""
        patience_s = asyncio.get_running_loop().time() + self.patience_s
        while True:
            news = watch.news
            try:
                return await watch.current()
            except (Unreachable, Refused) as error:
                if isinstance(error, Refused) and not error.is_passing:
                    raise
                failed = error
            try:
                async with asyncio.timeout_at(min(patience_s, deadline_s)):
                    await news.wait()
                    while not self.live:
                        news = watch.news
                        await news.wait()
            except TimeoutError:
                raise failed from None

    async def _session(self, session_id: str) -> SessionListing:
        """A session changes by coming and going alone. The index of one that is not there is that
        of any change of sessions, read first: what it misses wakes those who wait.
        """
        others = await self._api.sessions(_NO_NODE)
        session = await self._api.session(session_id)
        if session is None:
            return SessionListing(index=others.index)
        return SessionListing(index=session.modify_index, sessions=(session,))

    # Who waits for what

    @contextmanager
    def _joined(self, target: Target) -> Iterator["Watch"]:
        if self.waiting >= WAITING_MAX:
            raise TooMany(f"{WAITING_MAX} calls wait for changes of keys already")
        watch = self._watches.get(target)
        if watch is None:
            watch = self._watches[target] = self._new(target)
        watch.joined += 1
        self.waiting += 1
        self._changes.want()
        try:
            yield watch
        finally:
            watch.joined -= 1
            self.waiting -= 1
            if not watch.joined:
                self._drop(target, watch)
            if not self.waiting:
                self._left_s = asyncio.get_running_loop().time()

    def _new(self, target: Target) -> "Watch":
        async def read() -> Reading:
            self.reads += 1
            return await self.read(target)

        watch = Watch(self._tasks, read, lambda: self.live)
        match target.kind:
            case "key":
                self._of_key[target.name].add(watch)
            case "sessions" | "session":
                self._of_sessions.add(watch)
            case _:
                self._of_prefix[target.name].add(watch)
                self._lengths[len(target.name)] += 1
        return watch

    def _drop(self, target: Target, watch: "Watch") -> None:
        del self._watches[target]
        match target.kind:
            case "key":
                discard(self._of_key, target.name, watch)
            case "sessions" | "session":
                self._of_sessions.discard(watch)
            case _:
                discard(self._of_prefix, target.name, watch)
                self._lengths[len(target.name)] -= 1
                if not self._lengths[len(target.name)]:
                    del self._lengths[len(target.name)]

    def _concerned(self, change: KeyChange) -> set["Watch"]:
        if change.lost:
            return set(self._watches.values())
        found = set(self._of_sessions) if change.sessions else set()
        lengths = sorted(self._lengths)
        for key in change.keys:
            found |= self._of_key.get(key, set())
            for length in lengths:
                if length > len(key):
                    break
                found |= self._of_prefix.get(key[:length], set())
        return found

    def _tell(self, change: KeyChange) -> None:
        for watch in self._concerned(change):
            watch.change()

    def _is_idle(self) -> bool:
        now_s = asyncio.get_running_loop().time()
        return not self.waiting and now_s - self._left_s >= LINGER_S
