"""A thread with an event loop of its own."""

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar, TypeVarTuple

from netd.model.errors import Unavailable

# A thread that wants the interpreter waits so long before it asks the one that has it for it,
# and begins to wait anew whenever that one makes a short system call and takes the interpreter
# back first, as an event loop under load does all the time. With Python's 5 ms, and the 50 us
# that the kernel adds to any wait (prctl(2), PR_SET_TIMERSLACK), packets waited for more than a
# second while the API computed in steps of 0.1 ms: a live node that looks dead. With these
# values it was 8 ms at the 99th percentile. Where no thread waits they cost nothing.
SWITCH_INTERVAL_S: Final = 0.00005
TIMER_SLACK_NS: Final = 1

_ENDED: Final = "this host has just stopped taking part in the cluster"

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class LoopThread:
    """Runs an event loop until `close`, in time whatever other threads do. Calls come from
    another loop.
    """

    def __init__(self, name: str) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._closed = False
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self._started.wait()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` there and wait for its result or exception. Cancelling cancels it.

        Raises `Unavailable` when the thread ends before it is done.
        """
        if self._closed:
            work.close()
            raise Unavailable(_ENDED)
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                raise Unavailable(_ENDED) from None
            raise

    def post(self, work: Callable[[*Ts], object], *arguments: *Ts) -> None:
        """Have `work` called there, in the order of these calls; not any more after `close`."""
        if not self._closed:
            self._loop.call_soon_threadsafe(work, *arguments)

    async def close(self) -> None:
        """End the loop, cancelling what still runs on it, and the thread."""
        self._closed = True
        self._loop.call_soon_threadsafe(self._ended.set)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _run(self) -> None:
        with suppress(OSError):  # /proc is not writable: the thread is a little slower
            slack = Path(f"/proc/{threading.get_native_id()}/timerslack_ns")
            slack.write_text(f"{TIMER_SLACK_NS}\n", encoding="ascii")
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._started.set()
        await self._ended.wait()
