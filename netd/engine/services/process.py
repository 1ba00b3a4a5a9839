"""A process that an instance goes with."""

from collections.abc import Callable

from netd.engine.interfaces import Kernel


class Process:
    """Watched from when it is made. Its end may come before anybody follows it: see `over`.

    Raises `NotFound` or `Invalid` when there is no such process, `Exhausted`.
    """

    def __init__(self, kernel: Kernel, pid: int, start_ticks: int | None = None) -> None:
        self.pid = pid
        self.over = False
        self._follow: Callable[[], None] = lambda: None
        self._watched = kernel.watch_process(pid, start_ticks, self._ended)

    @property
    def start_ticks(self) -> int:
        return self._watched.start_ticks

    def follow(self, follow: Callable[[], None]) -> None:
        self._follow = follow

    def stop(self) -> None:
        self._watched.stop()

    def _ended(self) -> None:
        self.over = True
        self._follow()
