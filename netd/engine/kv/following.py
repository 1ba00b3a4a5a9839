"""Changes of keys as they are told on this host, whoever holds the keys."""

import asyncio
import logging
from typing import Final

from netd.engine.interfaces import Cluster
from netd.engine.kv import messages
from netd.engine.kv.changes import Changes
from netd.engine.kv.founding import Founding
from netd.engine.kv.messages import Changed, Follow, Seen
from netd.engine.kv.place import Place
from netd.model.errors import NetdError, Unavailable
from netd.model.kv import KeyChange

WAIT_S: Final = 15.0  # of one question
LONGER_S: Final = 5.0  # for the way
RETRY_S: Final = 0.5

log = logging.getLogger(__name__)


class Following:
    """While anybody on this host waits for a change, one question to the holder waits for it."""

    def __init__(
        self, cluster: Cluster, place: Place, founding: Founding, changes: Changes
    ) -> None:
        self._cluster = cluster
        self._place = place
        self._founding = founding
        self._changes = changes
        self.failures = 0

    async def run(self) -> None:
        while True:
            await self._changes.wanted.wait()
            moved = self._place.moved
            try:
                holding = await self._founding.holding()
                if holding.holder == self._cluster.id:
                    await self._serve(moved)
                else:
                    await self._follow(holding.holder, moved)
            except NetdError as error:
                self.failures += 1
                log.info("changes of keys are not told here: %s", error.detail)
                self._lose()
                await asyncio.sleep(RETRY_S)

    async def _serve(self, moved: asyncio.Event) -> None:
        """The keeper tells of changes itself, as long as it is here."""
        if self._place.standing.role != "holder":
            raise Unavailable("the keys are not served just now")
        self._begin(0)
        await moved.wait()
        self._lose()

    async def _follow(self, holder: str, moved: asyncio.Event) -> None:
        since: int | None = None
        while self._changes.wanted.is_set() and not moved.is_set():
            answer = await messages.put(
                self._cluster, holder, Follow(since, WAIT_S), WAIT_S + LONGER_S
            )
            if isinstance(answer, Seen) and answer.holding is not None:
                await self._place.adopt(answer.holding)
            if not isinstance(answer, Changed):
                raise Unavailable("the host that is asked does not hold the keys")
            change = answer.change
            if since is None:
                self._begin(change.index)
            elif change.lost or change.index > since:
                self._changes.tell(change)
            since = change.index
        self._lose()

    def _begin(self, index: int) -> None:
        self._changes.live.set()
        self._changes.tell(KeyChange(index=index, lost=True))

    def _lose(self) -> None:
        """What happens from now on is not known here until `_begin`: have all look."""
        if self._changes.live.is_set():
            self._changes.live.clear()
            self._changes.tell(KeyChange(index=0, lost=True))
