"""Processes of the kernel in memory: they start, end, and are watched."""

import asyncio
import itertools
from collections.abc import Callable

from netd.engine.interfaces import WatchedProcess
from netd.model.errors import NotFound


class Processes:
    """Tests start and end them; a pid may be used again."""

    def __init__(self) -> None:
        self._started: dict[int, int] = {}  # when each that runs did, in ticks
        self._watches: set[_Watch] = set()
        self._numbers = itertools.count(1)

    def start(self, pid: int | None = None) -> int:
        """A new process, with a pid of its own unless one is given; its pid."""
        number = next(self._numbers)
        pid = 4000 + number if pid is None else pid
        self._started[pid] = 100_000 + number
        return pid

    def end(self, pid: int) -> None:
        del self._started[pid]
        for watch in [watch for watch in self._watches if watch.pid == pid]:
            watch.loop.call_soon(self._tell, watch)

    def forget_watches(self) -> None:
        """Who watched has died."""
        self._watches.clear()

    def watched(self) -> set[int]:
        return {watch.pid for watch in self._watches}

    def watch(self, pid: int, start_ticks: int | None, ended: Callable[[], None]) -> WatchedProcess:
        """As in the interface of the kernel."""
        ticks = self._started.get(pid)
        if ticks is None or start_ticks not in (None, ticks):
            raise NotFound(f"there is no process {pid}", field="pid")
        watch = _Watch(pid, ended)
        self._watches.add(watch)
        return WatchedProcess(start_ticks=ticks, stop=lambda: self._watches.discard(watch))

    def _tell(self, watch: "_Watch") -> None:
        if watch in self._watches:
            self._watches.remove(watch)
            watch.ended()


class _Watch:
    def __init__(self, pid: int, ended: Callable[[], None]) -> None:
        self.pid = pid
        self.ended = ended
        self.loop = asyncio.get_running_loop()
