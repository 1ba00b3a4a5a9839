"""What the gossip thread tells the engine: the last word on each thing, in small portions.

A later change of the same member or record takes the place of one that waits, so what waits is
bounded by what there is, however long the engine's loop takes.
"""

import asyncio
import threading
from collections.abc import Callable, Hashable
from itertools import islice
from typing import Final, NamedTuple

from netd.engine.interfaces import ProblemChange, RecordChange
from netd.model.views import Member

PORTION: Final = 200  # changes handed over at once; between two portions the loop goes on


class Forgotten(NamedTuple):
    """Nothing is known any more of the member."""

    id: str


News = Member | Forgotten | RecordChange | ProblemChange


class Outbox:
    """`put` is for any thread, `deliver` is called on the loop that the outbox is made on."""

    def __init__(self, deliver: Callable[[list[News]], None]) -> None:
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, News] = {}
        self._called = False
        self._closed = False

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def put(self, news: News) -> None:
        match news:
            case RecordChange():
                key: Hashable = (news.owner, news.scope, news.table, news.key)
            case ProblemChange():
                key = (news.code, news.about)
            case _:
                key = news.id
        with self._lock:
            if self._closed:
                return
            if not isinstance(news, Member | Forgotten):
                # The order is that of the last words; but what becomes of a member stays before
                # what becomes of its records by that.
                self._waiting.pop(key, None)
            self._waiting[key] = news
            if self._called:
                return
            self._called = True
        self._loop.call_soon_threadsafe(self._hand_over)

    def close(self) -> None:
        """Deliver nothing any more. On the loop of the one who made it."""
        with self._lock:
            self._closed = True
            self._waiting.clear()

    def _hand_over(self) -> None:
        with self._lock:
            keys = list(islice(self._waiting, PORTION))
            portion = [self._waiting.pop(key) for key in keys]
            self._called = bool(self._waiting)
        if self._called:
            self._loop.call_soon(self._hand_over)
        if portion:
            self._deliver(portion)
