"""Which host holds the keys: what this one knows of it, and keeps over restarts.

Who holds them is told to all by a record that every host publishes as it believes it, so that a
host that is new learns it also while the holder is down. Nobody begins to hold keys while it
may not know that somebody does.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Literal

import msgspec

from netd.engine.interfaces import (
    Change,
    Cluster,
    ClusterChange,
    Record,
    RecordChange,
    Snapshot,
    Store,
)
from netd.engine.kv.messages import TABLE, Holding
from netd.kv.space import NOTHING, Stored
from netd.model.errors import Unavailable
from netd.tasks import Tasks

FACT: Final = "kv-standing"  # in the store
KEY: Final = "holder"  # of records

log = logging.getLogger(__name__)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a host keeps. `role`: whether it holds the keys itself, or is giving them to `to`.

    Terms up to `burnt` were offered to somebody and may not be used again; of what is in
    `cancelled` this host never takes anything over.
    """

    holding: Holding | None = None
    role: Literal["none", "holder", "moving"] = "none"
    to: str = ""
    burnt: int = 0
    cancelled: Holding | None = None


class Place:
    """`serve` is awaited with what this host is to hold from now on, `rest` when it is to hold
    them no more; `rest` before that is stored, `serve` after.
    """

    def __init__(self, store: Store, cluster: Cluster, tasks: Tasks) -> None:
        self._store = store
        self._cluster = cluster
        self._tasks = tasks
        self._lock = asyncio.Lock()
        self._stop: Callable[[], None] = lambda: None
        self._heard: dict[str, Holding] = {}
        self.standing = Standing()
        self.ignored = 0  # records that could not be read
        self.moved = asyncio.Event()  # set, and replaced, by each change
        self.serve: Callable[[Stored | None], Awaitable[None]]
        self.rest: Callable[[Standing], Awaitable[None]]

    @property
    def holding(self) -> Holding | None:
        return self.standing.holding

    def restore(self, snapshot: Snapshot) -> None:
        """Raises `Unavailable` when what is stored cannot be understood."""
        text = snapshot.facts.get(FACT)
        if text is None:
            return
        try:
            self.standing = msgspec.json.decode(text, type=Standing)
        except ValueError as error:  # msgspec's errors are ValueErrors
            raise Unavailable(
                f"what is stored of the holder of keys cannot be understood: {error}"
            ) from error

    def start(self) -> None:
        self._publish()
        self._stop = self._cluster.watch(self._cluster_changed)

    def stop(self) -> None:
        self._stop()

    async def adopt(self, holding: Holding) -> None:
        """Believe it, if it beats what is believed. Raises `Unavailable` (the store)."""
        async with self._lock:
            if not holding.beats(self.holding):
                return
            before = self.standing
            # What was given away is forgotten. What was superseded stays on the disk.
            known = before.holding
            given = before.role == "moving" and known is not None and holding.continues(known)
            done = NOTHING if given else None
            log.info(
                "keys are held by %s (%s), term %d", holding.name, holding.holder, holding.term
            )
            await self._become(
                msgspec.structs.replace(before, holding=holding, role="none", to=""), done
            )

    async def become(self, standing: Standing, stored: Stored | None = None) -> None:
        """Take another standing, with all keys there are if they are given.

        Raises `Unavailable`: then it is the old one still.
        """
        async with self._lock:
            await self._become(standing, stored)

    async def _become(self, standing: Standing, stored: Stored | None) -> None:
        before = self.standing
        if before.role == "holder" and standing.role != "holder":
            # What is not to be served any more is not served while that is being stored.
            await self.rest(standing)
        text = msgspec.json.encode(standing).decode()
        change = Change(
            keys=stored, replace_keys=stored is not None, put_facts={FACT: text}, sync=True
        )
        try:
            await self._store.commit(change)
        except Unavailable:
            if before.role == "holder" and standing.role != "holder":
                await self.serve(None)
            raise
        self.standing = standing
        if standing.role == "holder" and (before.role != "holder" or stored is not None):
            await self.serve(stored)
        self._publish()
        self.moved.set()
        self.moved = asyncio.Event()

    def _publish(self) -> None:
        if self.holding is not None:
            value = msgspec.json.encode(self.holding)
            self._cluster.publish([Record(table=TABLE, key=KEY, value=value)])

    def _cluster_changed(self, change: ClusterChange) -> None:
        match change:
            case RecordChange(table=table, key=key, value=value) if (table, key) == (TABLE, KEY):
                if value is not None and change.owner != self._cluster.id:
                    self._heard_of(value)

    def _heard_of(self, value: bytes) -> None:
        try:
            holding = msgspec.json.decode(value, type=Holding)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            self.ignored += 1
            return
        if holding.beats(self.holding):
            self._tasks.start("adopt the holder of keys", self._adopt_soon(holding))

    async def _adopt_soon(self, holding: Holding) -> None:
        try:
            await self.adopt(holding)
        except Unavailable as error:
            log.error("the holder of keys cannot be stored: %s", error.detail)
