"""Processes of the host: when one ends."""

import asyncio
import errno
import os
import select
from collections.abc import Callable
from functools import partial

from netd.engine.interfaces import WatchedProcess
from netd.kernel.netns import start_ticks_of
from netd.model.errors import Exhausted, Invalid, NotFound

_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


def watch_process(pid: int, start_ticks: int | None, ended: Callable[[], None]) -> WatchedProcess:
    """As in the interface: by a pidfd, which becomes readable when the process ends.

    See pidfd_open(2). Before Linux 6.9 it refuses a thread that is not its process's first with
    EINVAL, since then with ENOENT.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except OSError as error:
        raise _explained(error, pid) from error
    try:
        ticks = _start_ticks(pid)
        # Only now: as it has not ended yet, what was read of it was not another one's.
        if _has_ended(descriptor) or ticks is None or start_ticks not in (None, ticks):
            raise NotFound(f"there is no process {pid}", field="pid")
        watch = _Watch(descriptor, ended)
    except BaseException:
        os.close(descriptor)
        raise
    return WatchedProcess(start_ticks=ticks, stop=watch.stop)


class _Watch:
    def __init__(self, descriptor: int, ended: Callable[[], None]) -> None:
        self._descriptor: int | None = descriptor
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, partial(self._over, ended))

    def stop(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)

    def _over(self, ended: Callable[[], None]) -> None:
        self.stop()
        ended()


def _has_ended(descriptor: int) -> bool:
    poll = select.poll()  # unlike select(), it takes descriptors above 1023
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _start_ticks(pid: int) -> int | None:
    try:
        process = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return start_ticks_of(process)
    except (FileNotFoundError, ProcessLookupError):
        return None
    finally:
        os.close(process)


def _explained(error: OSError, pid: int) -> NotFound | Invalid | Exhausted:
    if error.errno in _NO_DESCRIPTOR:
        return Exhausted(f"process {pid} cannot be watched: {error.strerror}")
    if error.errno in (errno.EINVAL, errno.ENOENT):
        return Invalid(f"{pid} is a thread; give the id of its process", field="pid")
    return NotFound(f"there is no process {pid}", field="pid")
