"""What changes in etcd, as this host is told.

etcd does not say when a key was deleted that is not there any more. What was deleted since the
watch began is remembered here; to anything that is not there, the revision at which the watch
began is the last that can have changed it. So an index never misses a change, and is that of
the change itself as long as the watch lasts.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from netd.engine.interfaces import KeyListeners
from netd.etcd import layout
from netd.etcd.gateway import Gateway, Json, decode
from netd.etcd.transactions import Rows, span
from netd.kv.space import GRAVES_MAX
from netd.model.errors import NetdError, Unavailable
from netd.model.kv import KeyChange

RETRY_S: Final = 0.5

log = logging.getLogger(__name__)

Suspect = Callable[[set[str], set[str]], None]


class Watching:
    """`suspect` is told of sessions and nodes that have gone."""

    def __init__(self, gateway: Gateway, listeners: KeyListeners, suspect: Suspect) -> None:
        self._gateway = gateway
        self._listeners = listeners
        self._suspect = suspect
        self._began = 0  # revision
        self._graves: dict[str, int] = {}
        self.sessions = 0

    def deleted(self, key: str) -> int:
        """The last revision that can have deleted the key."""
        return max(self._graves.get(key, 0), self._began)

    def deleted_under(self, prefix: str) -> int:
        """The last revision that can have deleted a key with that prefix."""
        found = (index for key, index in self._graves.items() if key.startswith(prefix))
        return max(max(found, default=0), self._began)

    async def run(self) -> None:
        while True:
            try:
                await self._watch()
            except NetdError as error:
                log.info("keys in etcd are not watched: %s", error.detail)
            if self._listeners.live.is_set():
                self._listeners.live.clear()
                self._listeners.tell(KeyChange(index=0, lost=True))
            await asyncio.sleep(RETRY_S)

    async def _watch(self) -> None:
        """Raises `Unavailable` when it has ended."""
        rows = Rows(self._gateway)
        await rows.one(layout.ROOT)
        request = span(layout.ROOT) | {"start_revision": str(rows.revision + 1)}
        async for told in self._gateway.stream("/v3/watch", {"create_request": request}):
            if told.get("canceled"):
                raise Unavailable(f"the watch was ended: {told.get('cancel_reason', '')}")
            if told.get("created"):
                self._begin(rows.revision)
            if events := told.get("events"):
                self._take(events, int(told["header"]["revision"]))

    def _begin(self, revision: int) -> None:
        self._began = self.sessions = revision
        self._graves = {}
        self._listeners.live.set()
        self._listeners.tell(KeyChange(index=revision, lost=True))
        # What ended while nobody watched.
        self._suspect(set(), {""})

    def _take(self, events: list[Json], revision: int) -> None:
        keys: dict[str, None] = {}
        ended: set[str] = set()
        gone: set[str] = set()
        sessions = False
        for event in events:
            row = event["kv"]
            place = decode(row["key"])
            deleted = event.get("type") == "DELETE"
            if place.startswith(layout.KEYS):
                key = layout.name(row, layout.KEYS)
                keys[key] = None
                self._bury(key, int(row["mod_revision"]) if deleted else 0)
            elif place.startswith(layout.SESSIONS):
                sessions = True
                self.sessions = int(row["mod_revision"])
                if deleted:
                    ended.add(layout.name(row, layout.SESSIONS))
            elif place.startswith(layout.NODES) and deleted:
                sessions = True
                self.sessions = int(row["mod_revision"])
                gone.add(layout.name(row, layout.NODES))
        if ended or gone:
            self._suspect(ended, gone)
        if keys or sessions:
            self._listeners.tell(KeyChange(index=revision, keys=tuple(keys), sessions=sessions))

    def _bury(self, key: str, revision: int) -> None:
        self._graves.pop(key, None)
        if revision:
            self._graves[key] = revision
        if len(self._graves) > GRAVES_MAX:
            self._began = max(self._graves.values())
            self._graves = {}
