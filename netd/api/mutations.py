"""Work that changes something: once begun, it is brought to its end."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from netd.model.errors import NetdError, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")


class Mutations:
    """Waits for work up to a deadline. Neither the deadline nor a caller's leaving ends it."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, name: str, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. Raises `Unavailable` when it takes longer than the deadline."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            # Unlike wait_for(), wait() leaves the task alone when it times out or is cancelled.
            await asyncio.wait((task,), timeout=self._deadline_s)
        except asyncio.CancelledError:
            task.add_done_callback(_report)
            raise
        if not task.done():
            task.add_done_callback(_report)
            raise Unavailable(
                f"not finished within {self._deadline_s:g} s; it goes on, and the same call made "
                "again will find its result"
            )
        return task.result()

    async def settle(self, grace_s: float) -> None:
        """Wait up to `grace_s` for all that runs."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=grace_s)
        for task in self._running:
            log.warning("%s is still running", task.get_name())


def _report(task: "asyncio.Task[Any]") -> None:
    """Tell the log how work ended that nobody waits for any more."""
    name = task.get_name()
    if task.cancelled():
        log.warning("%s was cancelled, and nobody waited for it", name)
    elif (error := task.exception()) is None:
        log.info("%s succeeded, but nobody waited for it", name)
    elif isinstance(error, NetdError):
        log.warning("%s failed, and nobody waited for it: %s", name, error.detail)
    else:
        log.error("%s failed, and nobody waited for it", name, exc_info=error)
