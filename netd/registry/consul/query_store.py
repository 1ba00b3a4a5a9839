"""Prepared queries as all hosts have them: together in one key, so that names stay unique."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from netd.model.kv import VALUE_MAX_BYTES, Entry, KeyReading, Operation
from netd.registry.api import Refused, Unreachable
from netd.registry.consul.key_watch import Target
from netd.registry.consul.key_watches import KeyWatches
from netd.registry.consul.keys_api import KeysApi
from netd.registry.consul.query_spec import Query
from netd.registry.consul.reserved import QUERIES
from netd.tasks import Tasks

log = logging.getLogger(__name__)

Queries = tuple[Query, ...]
Change = Callable[[Queries], Queries]

KEY: Final = Target("key", QUERIES)
_TRIES: Final = 16  # while others write, too
_LOOK_S: Final = 60.0  # though nothing was told
_SESSIONS: Final = Target("sessions", "-")  # of no node: it is told of each change, and has none


class _Document(msgspec.Struct, frozen=True):
    queries: Queries = ()


class QueryStore:
    """All methods raise `Unreachable` and `Refused`."""

    def __init__(self, api: KeysApi) -> None:
        self._api = api

    async def all(self) -> Queries:
        """Those that there are, by their ids."""
        return await self.living(queries_of((await self._api.read(QUERIES)).entry))

    async def living(self, queries: Queries) -> Queries:
        """Those of the queries whose sessions have not ended."""
        if not any(query.session for query in queries):
            return queries
        sessions = {session.id for session in (await self._api.sessions()).sessions}
        return tuple(each for each in queries if not each.session or each.session in sessions)

    async def has_session(self, session_id: str) -> bool:
        return await self._api.session(session_id) is not None

    async def change(self, change: Change) -> None:
        """Have what `change` makes of the queries be so. It is called again when somebody else
        was quicker, and raises what it likes to have nothing changed.
        """
        for _ in range(_TRIES):
            entry = (await self._api.read(QUERIES)).entry
            before = queries_of(entry)
            queries = change(await self.living(before))
            if queries == before:
                return
            value = msgspec.json.encode(_Document(tuple(sorted(queries, key=lambda each: each.id))))
            if len(value) > VALUE_MAX_BYTES:
                raise Refused(507, "there is no room for more prepared queries: delete some")
            index = 0 if entry is None else entry.modify_index
            operation = Operation(verb="cas", key=QUERIES, value=value, index=index)
            if not (await self._api.transact(operation)).failures:
                return
        raise Refused(503, "prepared queries change all the time: try again")


class QueryTable:
    """The queries as they were when they were last told of, for those who cannot wait.

    Nothing is asked of the daemon before somebody has looked for the first time. Then there is
    nothing yet; what there is comes soon after, and what changes, as it does. `changed` is called
    then.
    """

    def __init__(self, store: QueryStore, watches: KeyWatches) -> None:
        self._store = store
        self._watches = watches
        self._tasks = Tasks()
        self._following: asyncio.Task[None] | None = None
        self._queries: Queries = ()
        self.known = asyncio.Event()  # once they have been read
        self.changed: Callable[[], None] = _nothing

    async def close(self) -> None:
        await self._tasks.stop()

    def look(self) -> Queries:
        if self._following is None or self._following.done():
            self._following = self._tasks.start("prepared queries", self._follow())
        return self._queries

    async def _follow(self) -> None:
        """A session that ends may take a query along, so changes of sessions count as well."""
        standing = self._watches.standing
        with standing(KEY) as queries, standing(_SESSIONS) as sessions:
            while True:
                news = queries.news, sessions.news
                try:
                    found = (await queries.current()).found
                    assert isinstance(found, KeyReading)
                    self._take(await self._store.living(queries_of(found.entry)))
                except (Unreachable, Refused) as error:
                    log.info("prepared queries cannot be read: %s", error)
                await self._first(*news)

    def _take(self, queries: Queries) -> None:
        self.known.set()
        if queries != self._queries:
            self._queries = queries
            self.changed()

    async def _first(self, *news: asyncio.Event) -> None:
        waiting = [self._tasks.start("news of queries", each.wait()) for each in news]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=_LOOK_S)
        finally:
            for each in waiting:
                each.cancel()


def queries_of(entry: Entry | None) -> Queries:
    """What is stored. Raises `Refused` for what this netd has not written."""
    if entry is None:
        return ()
    try:
        found = msgspec.json.decode(entry.value, type=_Document).queries
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(500, f"prepared queries cannot be understood: {error}") from None
    return tuple(_dated(query, entry.modify_index) for query in found)


def _dated(query: Query, index: int) -> Query:
    if query.create_index and query.modify_index:
        return query
    return msgspec.structs.replace(
        query,
        create_index=query.create_index or index,
        modify_index=query.modify_index or index,
    )


def _nothing() -> None:
    """Nobody wants to know."""
