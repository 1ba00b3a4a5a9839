"""A thread that runs calls in order, for code on an event loop that must not wait for them.

`ThreadPoolExecutor(1)` does the same with two futures, three locks and a semaphore for each
call, which together cost an attach a tenth of its time.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
_Call = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class Worker:
    """`name` is the thread's. Calls may come from any event loop."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Have `work` run after all that came before; its result or exception is the future's.

        Work that was called for is done also when the future is cancelled. Raises
        RuntimeError after `close`.
        """
        if self._closed:
            raise RuntimeError(f"the thread {self._thread.name} has ended")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._calls.put((work, future, loop))
        return future

    def close(self) -> None:
        """Wait until all that was called for is done, and end the thread."""
        self._closed = True
        self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            work, future, loop = call
            result: Any = None
            failure: BaseException | None = None
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
                failure = error
            try:
                loop.call_soon_threadsafe(_settle, future, result, failure)
            except RuntimeError:
                log.debug("a result came after the event loop was closed")


def _settle(future: "asyncio.Future[Any]", result: object, failure: BaseException | None) -> None:
    if future.done():
        return  # cancelled
    if failure is None:
        future.set_result(result)
    else:
        future.set_exception(failure)
