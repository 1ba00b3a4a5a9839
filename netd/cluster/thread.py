"""A thread with an event loop of its own."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class LoopThread:
    """Runs an event loop until `close`. Calls come from another loop."""

    def __init__(self, name: str) -> None:
        self._started = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._main()), name=name, daemon=True
        )
        self._thread.start()
        self._started.wait()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` there and wait for its result or exception. Cancelling cancels it."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def post(self, work: Callable[[*Ts], object], *arguments: *Ts) -> None:
        """Have `work` called there, in the order of these calls."""
        self._loop.call_soon_threadsafe(work, *arguments)

    async def close(self) -> None:
        """End the loop, cancelling what still runs on it, and the thread."""
        self._loop.call_soon_threadsafe(self._ended.set)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._started.set()
        await self._ended.wait()
