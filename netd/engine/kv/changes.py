"""Who waits for which keys, and is woken when these change.

A change costs as much as it has keys, and those who wait for them, whoever else waits.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final, Literal

import msgspec

from netd.model.errors import Exhausted
from netd.model.kv import KeyChange

WAITING_MAX: Final = 20_000
FOLLOWERS_MAX: Final = 64
BACKLOG_MAX: Final = 4_096  # changes, for a follower that is slow and for other hosts


class Interest(msgspec.Struct, frozen=True):
    """One key, all keys with a prefix, or all sessions."""

    kind: Literal["key", "prefix", "sessions"]
    name: str = ""


class Changes:
    """Changes come in by `tell`; `wanted` is set while anybody waits for one.

    `live` says whether changes are being told. While it is not set nothing may be concluded from
    silence: who waits reads again when it is.
    """

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.live = asyncio.Event()
        self.waiting = 0
        self._keys: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._prefixes: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._lengths: defaultdict[int, int] = defaultdict(int)  # of prefixes waited for
        self._sessions: set[asyncio.Event] = set()
        self._followers: set[_Follower] = set()

    def tell(self, change: KeyChange) -> None:
        """Wake those whom a change concerns; all of them when some were lost."""
        for news in self._concerned(change):
            news.set()
        for follower in self._followers:
            follower.put(change)

    @contextmanager
    def subscribe(self, interest: Interest) -> Iterator[asyncio.Event]:
        """An event that is set by changes of that. Raises `Exhausted`."""
        if self.waiting >= WAITING_MAX:
            raise Exhausted(f"{WAITING_MAX} calls wait for changes of keys already")
        news = asyncio.Event()
        self._enter(interest, news)
        try:
            yield news
        finally:
            self._leave(interest, news)

    async def follow(self) -> AsyncIterator[KeyChange]:
        """All changes from now on; the first one says from which index on. Ends with `close`.

        Raises `Exhausted`.
        """
        if len(self._followers) >= FOLLOWERS_MAX:
            raise Exhausted(f"{FOLLOWERS_MAX} calls follow all changes of keys already")
        follower = _Follower()
        self._followers.add(follower)
        self.wanted.set()
        try:
            async for change in follower.all():
                yield change
        finally:
            self._followers.discard(follower)
            self._note()

    def close(self) -> None:
        """End all that follow."""
        for follower in self._followers:
            follower.end()

    def _concerned(self, change: KeyChange) -> set[asyncio.Event]:
        if change.lost:
            every = [self._sessions, *self._keys.values(), *self._prefixes.values()]
            return set().union(*every)
        found = set(self._sessions) if change.sessions else set()
        lengths = sorted(self._lengths)
        for key in change.keys:
            found |= self._keys.get(key, set())
            for length in lengths:
                if length > len(key):
                    break
                found |= self._prefixes.get(key[:length], set())
        return found

    def _enter(self, interest: Interest, news: asyncio.Event) -> None:
        self.waiting += 1
        self.wanted.set()
        match interest.kind:
            case "key":
                self._keys[interest.name].add(news)
            case "prefix":
                self._prefixes[interest.name].add(news)
                self._lengths[len(interest.name)] += 1
            case "sessions":
                self._sessions.add(news)

    def _leave(self, interest: Interest, news: asyncio.Event) -> None:
        self.waiting -= 1
        name = interest.name
        match interest.kind:
            case "key":
                self._keys[name].discard(news)
                if not self._keys[name]:
                    del self._keys[name]
            case "prefix":
                self._prefixes[name].discard(news)
                if not self._prefixes[name]:
                    del self._prefixes[name]
                self._lengths[len(name)] -= 1
                if not self._lengths[len(name)]:
                    del self._lengths[len(name)]
            case "sessions":
                self._sessions.discard(news)
        self._note()

    def _note(self) -> None:
        if not self.waiting and not self._followers:
            self.wanted.clear()


class _Follower:
    """Changes on their way to one reader; too many become one that says that some were lost."""

    def __init__(self) -> None:
        self._backlog: deque[KeyChange] = deque()
        self._news = asyncio.Event()
        self._ended = False

    def put(self, change: KeyChange) -> None:
        if len(self._backlog) >= BACKLOG_MAX:
            self._backlog.clear()
            change = KeyChange(index=change.index, lost=True)
        self._backlog.append(change)
        self._news.set()

    def end(self) -> None:
        self._ended = True
        self._news.set()

    async def all(self) -> AsyncIterator[KeyChange]:
        while True:
            while self._backlog:
                yield self._backlog.popleft()
            if self._ended:
                return
            self._news.clear()
            await self._news.wait()


class Recent:
    """The last changes, for those who ask what there was since an index."""

    def __init__(self, index: int) -> None:
        self._changes: deque[KeyChange] = deque()
        self._first = index  # all after this index is known
        self.index = index
        self._news = asyncio.Event()

    def put(self, change: KeyChange) -> None:
        self._changes.append(change)
        self.index = change.index
        if len(self._changes) > BACKLOG_MAX:
            self._first = self._changes.popleft().index
        self._news.set()
        self._news = asyncio.Event()

    def close(self) -> None:
        """Answer all who wait."""
        self._news.set()

    async def since(self, index: int, wait_s: float) -> KeyChange:
        """What has changed after an index, as soon as anything has; nothing after `wait_s`.

        One of before the last start of whoever holds the keys, or that is too long ago, is lost.
        """
        if index == self.index:
            news = self._news
            try:
                async with asyncio.timeout(wait_s):
                    await news.wait()
            except TimeoutError:
                return KeyChange(index=index)
        if not self._first <= index <= self.index:
            return KeyChange(index=self.index, lost=True)
        newer = [change for change in self._changes if change.index > index]
        keys = dict.fromkeys(key for change in newer for key in change.keys)
        if len(keys) > BACKLOG_MAX:
            return KeyChange(index=self.index, lost=True)
        return KeyChange(
            index=self.index,
            keys=tuple(keys),
            sessions=any(change.sessions for change in newer),
        )
