"""The engine's store on SQLite: one thread for the disk, many commits in one transaction."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from netd.engine.interfaces import Change, Snapshot
from netd.model.errors import NetdError, Unavailable
from netd.store.database import Database, Statement, statements
from netd.worker import Worker

IDLE_S: Final = 0.5  # a checkpoint waits for a pause this long between commits ...
LOG_COMMITS_MAX: Final = 4_000  # ... but not for ever: the log grows by some 8 KiB a commit

Result = TypeVar("Result")
log = logging.getLogger(__name__)


class _Waiting:
    """A commit that waits for the worker thread."""

    def __init__(self, change: Change) -> None:
        self.statements: list[Statement] = statements(change)
        # A network outlives a power cut, as the configuration of a host does. Of addresses that
        # were given to another host or got from it, both sides must remember the same.
        # A lock that somebody was told to hold stays held.
        self.sync = bool(
            change.sync
            or change.put_networks
            or change.delete_networks
            or change.put_blocks
            or change.keys is not None
        )
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class SqliteStore:
    """Implements `netd.engine.interfaces.Store`. Made by `open`; belongs to one event loop.

    All state here is the event loop's; the database is the worker thread's alone. Commits
    that come while the thread is busy wait, and then share one transaction.
    """

    def __init__(self, database: Database, worker: Worker) -> None:
        self._database = database
        self._worker = worker
        self._waiting: list[_Waiting] = []
        self._running: asyncio.Future[list[NetdError | None]] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._logged = 0  # commits since the last checkpoint
        self._closed = False

    @classmethod
    async def open(cls, directory: Path) -> "SqliteStore":
        """Open or create the state folder.

        Raises `Unavailable` when another netd uses it, a newer one has written it, or the
        database is damaged or cannot be written.
        """
        worker = Worker("store")
        try:
            database = await worker.call(partial(Database, directory))
        except BaseException:
            worker.close()
            raise
        return cls(database, worker)

    async def load(self) -> Snapshot:
        """Read everything that is stored. Raises `Unavailable`."""
        self._check_open()
        return await self._call(self._database.load)

    async def commit(self, change: Change) -> None:
        """Apply the change whole or not at all; when this returns it survives kill -9.

        Raises `Unavailable` when it cannot be written and `Conflict` when another network has
        the name. A commit that is cancelled while it waits may still be made.
        """
        self._check_open()
        commit = _Waiting(change)
        self._waiting.append(commit)
        if self._running is None:
            self._start()
        await commit.done

    async def close(self) -> None:
        """Finish the commits that wait, then close and unlock. Doing it again does nothing."""
        if self._closed:
            return
        self._closed = True
        while self._running is not None:
            await asyncio.wait([self._running])
        if self._idle is not None:
            self._idle.cancel()
        await self._call(self._database.close)
        self._worker.close()

    def _start(self) -> None:
        """Hand all that waits to the worker thread."""
        batch, self._waiting = self._waiting, []
        if self._idle is not None:
            self._idle.cancel()
        work = partial(self._write, batch, self._logged >= LOG_COMMITS_MAX)
        self._running = self._worker.call(work)
        self._running.add_done_callback(partial(self._settle, batch))

    def _write(self, batch: list[_Waiting], checkpoint_first: bool) -> list[NetdError | None]:
        """On the worker thread."""
        if checkpoint_first:
            self._checkpoint()
        sync = any(commit.sync for commit in batch)
        return self._database.write([commit.statements for commit in batch], sync=sync)

    def _settle(
        self, batch: list[_Waiting], running: asyncio.Future[list[NetdError | None]]
    ) -> None:
        """Tell who waits for the batch, and go on with what came meanwhile."""
        bug = running.exception()
        errors = [bug] * len(batch) if bug else running.result()
        for commit, error in zip(batch, errors, strict=True):
            if commit.done.done():  # its caller was cancelled
                continue
            if error is None:
                commit.done.set_result(None)
            else:
                commit.done.set_exception(error)
        self._running = None
        self._logged = len(batch) + (0 if self._logged >= LOG_COMMITS_MAX else self._logged)
        if self._waiting:
            self._start()
        elif not self._closed:
            self._idle = running.get_loop().call_later(IDLE_S, self._rest)

    def _rest(self) -> None:
        """Nothing was committed for a while: bring the log into the database file."""
        self._logged = 0
        self._worker.call(self._checkpoint)

    def _checkpoint(self) -> None:
        """On the worker thread. What cannot be moved stays in the log, so nothing is lost."""
        try:
            self._database.checkpoint()
        except Unavailable as error:
            log.warning("checkpoint of the state: %s", error.detail)

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the store is closed: netd is stopping")

    async def _call(self, work: Callable[[], Result]) -> Result:
        return await self._worker.call(work)
