"""Names of what checks look at, made into addresses without making anybody wait."""

import asyncio
import concurrent.futures.thread  # noqa: F401 - see below
import encodings.idna  # noqa: F401 - or Python does it when the registry may not read it any more
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from netd.registry.checks.probe import Failed

THREADS_MAX: Final = 8
KEPT_S: Final = 5.0
KEPT_MAX: Final = 1024
ADDRESSES_MAX: Final = 8

Own = Callable[[str], Sequence[str] | None]
"""The addresses of a name that is netd's to know; None: that is for others to know."""


@lru_cache(maxsize=16_384)
def is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class Names:
    """Asks `own` first, and the host's resolver for what it does not know.

    The C library blocks, for half a minute where nobody answers; so it gets threads, and at most
    `THREADS_MAX` of them. They are daemons: the process does not wait for them at its end.
    """

    def __init__(self, own: Own = lambda _: None) -> None:
        self._own = own
        self._kept: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._asked: dict[str, asyncio.Future[tuple[str, ...]]] = {}
        self._threads = asyncio.Semaphore(THREADS_MAX)
        self._tasks: set[asyncio.Task[None]] = set()

    async def addresses(self, host: str) -> tuple[str, ...]:
        """At least one address. Raises `Failed`. Answers are kept for `KEPT_S`."""
        if is_address(host):
            return (host,)
        own = self._own(host)
        if own:
            return tuple(own[:ADDRESSES_MAX])
        if own is not None:
            raise Failed(f"name {host!r}: netd knows no address of it")
        now = asyncio.get_running_loop().time()
        kept = self._kept.get(host)
        if kept is not None and now < kept[0]:
            return kept[1]
        return await asyncio.shield(self._asked.get(host) or self._ask(host))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ask(self, host: str) -> "asyncio.Future[tuple[str, ...]]":
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[str, ...]] = loop.create_future()
        # Nobody may be left to take the answer: that is no fault to be logged.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._asked[host] = answer
        task = loop.create_task(self._look_up(host, answer), name=f"look up {host}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return answer

    async def _look_up(self, host: str, answer: "asyncio.Future[tuple[str, ...]]") -> None:
        try:
            async with self._threads:
                found = await _in_thread(host)
        except OSError as error:
            answer.set_exception(Failed(f"name {host!r}: {error.strerror or error}"))
        except asyncio.CancelledError:
            answer.cancel()
            raise
        else:
            self._keep(host, found)
            answer.set_result(found)
        finally:
            del self._asked[host]

    def _keep(self, host: str, found: tuple[str, ...]) -> None:
        if len(self._kept) >= KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        self._kept.pop(host, None)
        self._kept[host] = (asyncio.get_running_loop().time() + KEPT_S, found)


async def _in_thread(host: str) -> tuple[str, ...]:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[tuple[str, ...]] = loop.create_future()

    def settle(found: tuple[str, ...] | OSError) -> None:
        if ended.done():
            return
        if isinstance(found, OSError):
            ended.set_exception(found)
        else:
            ended.set_result(found)

    def work() -> None:
        found: tuple[str, ...] | OSError
        try:
            found = _resolved(host)
        except OSError as error:
            found = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=work, name="resolve", daemon=True).start()
    # A thread cannot be stopped: its place is taken until it ends, whoever still waits.
    return await ended


def _resolved(host: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that is empty or too long, from the codec idna
        raise OSError(f"not a name: {error}") from None
    addresses = tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
    if not addresses:
        raise OSError("it has no address")
    return addresses[:ADDRESSES_MAX]
