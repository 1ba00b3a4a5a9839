"""The host that holds the keys: one order of all writes, each on the disk before its answer."""

import asyncio
import logging
from collections import deque
from typing import Final

from netd.engine.interfaces import Change, Clock, Store
from netd.engine.kv.changes import Changes, Recent
from netd.engine.kv.health import Health
from netd.kv import commands, keys, queries, sessions
from netd.kv.commands import (
    Command,
    Create,
    Destroy,
    Nothing,
    OneSession,
    Renew,
    Result,
    Transact,
    Transacted,
)
from netd.kv.draft import Draft
from netd.kv.space import GRAVES_MAX, Space, Stored
from netd.model.errors import NetdError, NotFound, Unavailable
from netd.model.kv import SessionSpec

log = logging.getLogger(__name__)

QUEUE_MAX: Final = 20_000  # commands that wait
FAILED: Final = "the keeper of keys has failed: the log of the host that holds them says how"
BATCH_MAX: Final = 512  # that share one commit
BATCH_MAX_BYTES: Final = 4 << 20
RETRY_S: Final = 1.0  # after a failure to store that a session has ended
REAP: Final = 1_024  # deletions that are forgotten at once


class _Waiting:
    def __init__(self, command: Command) -> None:
        self.command = command
        self.done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def settle(self, result: Result | NetdError) -> None:
        if self.done.done():
            return  # whoever asked has gone
        if isinstance(result, NetdError):
            self.done.set_exception(result)
        else:
            self.done.set_result(result)


class Keeper:
    """Made from what is stored. What is read is what was stored before, never less, never more.

    All that comes while a commit is under way shares the next one. Where a commit fails, its
    writes have never been, and each is answered with the error.
    """

    def __init__(
        self, store: Store, clock: Clock, health: Health, changes: Changes, stored: Stored
    ) -> None:
        self._store = store
        self._clock = clock
        self._health = health
        self._changes = changes
        self._queue: deque[_Waiting] = deque()
        self._news = asyncio.Event()
        self._ends: dict[str, None] = {}  # sessions that are to end
        self._task: asyncio.Task[None] | None = None
        self._closed = ""
        now_s = clock.monotonic_s()
        self.space = Space(stored, now_s)
        self.recent = Recent(self.space.numbers.index)
        self._deadlines = sessions.Deadlines()
        for session_id in self.space.session_ids():
            session = self.space.session(session_id)
            assert session is not None
            self._deadlines.renew(session, now_s)
        self.commits = 0

    @property
    def queued(self) -> int:
        return len(self._queue)

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="keeper of keys")
        self._task.add_done_callback(self._ended)

    async def close(self, why: str) -> None:
        """Take no more commands; return when those are settled that are being committed."""
        self._closed = why
        self._news.set()
        self.recent.close()
        if self._task is not None:
            await asyncio.wait([self._task])
        self._refuse_all()

    async def perform(self, command: Command) -> Result:
        """Raises `Unavailable`, and what the command is to be refused for.

        A write that is given up while it waits may still be made.
        """
        if isinstance(command, commands.QUERIES):
            self._check_open()
            return queries.answer(self.space, command)
        if isinstance(command, Renew):
            self._check_open()
            return self._renew(command)
        if isinstance(command, Transact):
            keys.check(command.operations)
        elif isinstance(command, Create):
            sessions.check(command.spec)
        self._check_open()
        if len(self._queue) >= QUEUE_MAX:
            raise Unavailable(f"{QUEUE_MAX} writes of keys wait already")
        waiting = _Waiting(command)
        self._queue.append(waiting)
        self._news.set()
        return await waiting.done

    def end_sessions(self, session_ids: list[str]) -> None:
        """Have sessions end soon: what they depend on is not there any more."""
        self._ends.update(dict.fromkeys(session_ids))
        self._news.set()

    def wake(self) -> None:
        """Look at the clock."""
        self._news.set()

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable(self._closed)

    def _renew(self, asked: Renew) -> Result:
        session = self.space.session(asked.session)
        if session is None or session.id in self._ends:
            raise NotFound(f"there is no session {asked.session!r}", field="session")
        self._deadlines.renew(session, self._clock.monotonic_s())
        return OneSession(session)

    # The one who writes

    async def _run(self) -> None:
        while not self._closed:
            self._news.clear()
            batch = self._take_batch()
            if batch or self._ends or self._is_due():
                try:
                    await self._commit(batch)
                except BaseException:
                    # Nobody knows what was stored: nothing is said of it any more.
                    self._closed = FAILED
                    for waiting in batch:
                        waiting.settle(Unavailable(FAILED))
                    raise
            else:
                await self._wait()

    async def _wait(self) -> None:
        """Until a command comes, or a deadline or a delay has passed."""
        times = [self._deadlines.next_s(), self.space.next_delay_s()]
        next_s = min((at_s for at_s in times if at_s is not None), default=None)
        wait_s = None if next_s is None else max(0.0, next_s - self._clock.monotonic_s())
        try:
            async with asyncio.timeout(wait_s):
                await self._news.wait()
        except TimeoutError:
            return

    def _is_due(self) -> bool:
        now_s = self._clock.monotonic_s()
        times = (self._deadlines.next_s(), self.space.next_delay_s())
        return any(at_s is not None and at_s <= now_s for at_s in times)

    def _take_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._queue and len(batch) < BATCH_MAX and size < BATCH_MAX_BYTES:
            waiting = self._queue.popleft()
            if waiting.done.done():
                continue  # whoever asked has gone
            batch.append(waiting)
            if isinstance(waiting.command, Transact):
                size += sum(len(operation.value) for operation in waiting.command.operations)
        return batch

    async def _commit(self, batch: list[_Waiting]) -> None:
        now_s = self._clock.monotonic_s()
        draft = Draft(self.space, now_s)
        ended = self._draft_ends(draft, now_s)
        results: list[Result | NetdError] = [
            self._write(draft, waiting.command) for waiting in batch
        ]
        if self.space.grave_count > GRAVES_MAX:
            draft.reap(self.space.oldest_graves(REAP))
        if draft.changed:
            try:
                await self._store.commit(Change(keys=draft.stored()))
            except NetdError as error:
                log.error("keys cannot be stored: %s", error.detail)
                for waiting in batch:
                    waiting.settle(error)
                if not batch:
                    await asyncio.sleep(RETRY_S)  # nobody waits for it
                return
            self.commits += 1
            self._take_over(draft, ended)
        for waiting, result in zip(batch, results, strict=True):
            waiting.settle(result)

    def _take_over(self, draft: Draft, ended: list[str]) -> None:
        """It is stored: now it is so."""
        stored = draft.stored()
        before = self.space.numbers.index
        self.space.take(stored, draft.now_s)
        for session_id in ended:
            self._ends.pop(session_id, None)
        for session_id, session in stored.sessions.items():
            if session is None:
                self._deadlines.drop(session_id)
            else:
                self._deadlines.renew(session, draft.now_s)
        if self.space.numbers.index > before:
            change = draft.told()
            self.recent.put(change)
            self._changes.tell(change)

    def _draft_ends(self, draft: Draft, now_s: float) -> list[str]:
        """End the sessions that are to end, and the delays that have passed."""
        # From here on they cannot be renewed.
        self._ends.update(dict.fromkeys(self._deadlines.due(now_s)))
        ends = list(self._ends)
        for session_id in ends:
            step = Draft(draft, now_s)
            sessions.end(step, session_id)
            draft.take(step)
        for key in self.space.delays_over(now_s):
            draft.delay(key, None)
        for session_id in [known for known in self._ends if self.space.session(known) is None]:
            del self._ends[session_id]
        return ends

    def _write(self, draft: Draft, command: Command) -> Result | NetdError:
        step: Draft
        try:
            match command:
                case Transact():
                    step, outcome = keys.transact(draft, command.operations, draft.now_s)
                    draft.take(step)
                    return Transacted(outcome)
                case Create():
                    return self._create(draft, command.spec)
                case Destroy():
                    step = Draft(draft, draft.now_s)
                    sessions.end(step, command.session)
                    draft.take(step)
                    return Nothing()
                case _:
                    raise AssertionError(command)
        except NetdError as error:
            return error

    def _create(self, draft: Draft, spec: SessionSpec) -> Result:
        self._health.check(spec)
        step = Draft(draft, draft.now_s)
        session_id = sessions.id_of(self._clock.new_id() + self._clock.new_id())
        session = sessions.create(step, session_id, spec)
        draft.take(step)
        return OneSession(session)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the keeper of keys has failed", exc_info=error)
            self._closed = FAILED
        self._refuse_all()

    def _refuse_all(self) -> None:
        while self._queue:
            why = self._closed or "netd is stopping on the host that holds the keys"
            self._queue.popleft().settle(Unavailable(why))
