"""Commands on their way to the host that holds the keys: many in one question."""

import asyncio
from collections import deque
from typing import Final

from netd.engine.interfaces import Cluster
from netd.engine.kv import messages
from netd.engine.kv.messages import Batch, Holding, Results, Seen
from netd.kv import commands
from netd.kv.commands import Command, Failed, Result, Transact
from netd.model.errors import NetdError, Unavailable
from netd.tasks import Tasks

QUEUE_MAX: Final = 20_000
BATCH_MAX: Final = 256
BATCH_MAX_BYTES: Final = 900 << 10
AT_ONCE: Final = 2  # questions; one more follows changes, and some ask about other things


class Elsewhere(Exception):
    """Nothing was done: another host holds the keys. `holding` is what the host says that was
    asked, None: it knows nobody.
    """

    def __init__(self, holding: Holding | None) -> None:
        super().__init__()
        self.holding = holding


class _Waiting:
    """A command, and all who ask for the same."""

    def __init__(self, command: Command, holding: Holding) -> None:
        self.command = command
        self.holding = holding
        self.done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()


class Forwarding:
    """Commands that come while questions are under way wait, and share the next one.

    A read that waits is shared by all who ask the same. No command is sent twice.
    """

    def __init__(self, cluster: Cluster, tasks: Tasks) -> None:
        self._cluster = cluster
        self._tasks = tasks
        self._queue: deque[_Waiting] = deque()
        self._reads: dict[tuple[str, Command], _Waiting] = {}
        self._asking = 0
        self._closed = False
        self.sent = 0  # questions

    @property
    def queued(self) -> int:
        return len(self._queue)

    async def perform(self, holding: Holding, command: Command) -> Result:
        """Have the holder perform it. Raises `Elsewhere`, `Unavailable`, or what it refuses.

        When there is no answer in time a write may have been made all the same.
        """
        read = isinstance(command, commands.QUERIES)
        waiting = self._reads.get((holding.holder, command)) if read else None
        if waiting is None:
            if self._closed:
                raise Unavailable("netd is stopping")
            if len(self._queue) >= QUEUE_MAX:
                raise Unavailable(f"{QUEUE_MAX} commands wait for the host that holds the keys")
            waiting = _Waiting(command, holding)
            self._queue.append(waiting)
            if read:
                self._reads[holding.holder, command] = waiting
            self._send()
        return await asyncio.shield(waiting.done)

    def close(self) -> None:
        """Send no more; what waits is refused."""
        self._closed = True
        while self._queue:
            _fail(self._queue.popleft(), Unavailable("netd is stopping"))

    def _send(self) -> None:
        while self._queue and self._asking < AT_ONCE:
            batch = self._take_batch()
            self._asking += 1
            self._tasks.start("ask the holder of keys", self._ask(batch))

    def _take_batch(self) -> list[_Waiting]:
        """What is for the same host as the first one."""
        batch = [self._queue.popleft()]
        size = _size(batch[0].command)
        holding = batch[0].holding
        while self._queue and len(batch) < BATCH_MAX and self._queue[0].holding == holding:
            size += _size(self._queue[0].command)
            if size > BATCH_MAX_BYTES:
                break
            batch.append(self._queue.popleft())
        for waiting in batch:
            if isinstance(waiting.command, commands.QUERIES):
                # From now on who asks the same wants to know what is so later.
                self._reads.pop((waiting.holding.holder, waiting.command), None)
        return batch

    async def _ask(self, batch: list[_Waiting]) -> None:
        self.sent += 1
        holding = batch[0].holding
        error: Exception = Unavailable("netd is stopping")
        try:
            question = Batch(tuple(waiting.command for waiting in batch))
            answer = await messages.put(self._cluster, holding.holder, question)
            if isinstance(answer, Results) and len(answer.results) == len(batch):
                for waiting, result in zip(batch, answer.results, strict=True):
                    if isinstance(result, Failed):
                        _fail(waiting, result.error())
                    elif not waiting.done.done():
                        waiting.done.set_result(result)
            elif isinstance(answer, Seen):
                error = Elsewhere(answer.holding)
            else:
                error = Unavailable("the host that holds the keys has answered something else")
        except NetdError as failure:
            error = Unavailable(f"{holding.name} holds the keys: {failure.detail}")
        finally:
            self._asking -= 1
            for waiting in batch:
                _fail(waiting, error)
            self._send()


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.done.done():
        waiting.done.set_exception(error)
        waiting.done.exception()  # whoever asked may have gone


def _size(command: Command) -> int:
    """About how many bytes it takes."""
    if isinstance(command, Transact):
        return sum(len(step.value) + 4 * len(step.key) + 64 for step in command.operations)
    return 1024
