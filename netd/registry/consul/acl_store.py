"""Tokens and policies as all hosts have them: together in one key, that only netd reads."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

import msgspec

from netd.model.kv import VALUE_MAX_BYTES, Entry, KeyReading, Operation
from netd.registry.api import Refused, Unreachable
from netd.registry.consul.acl_document import Document
from netd.registry.consul.key_reading import failures
from netd.registry.consul.key_watch import Target
from netd.registry.consul.key_watches import KeyWatches
from netd.registry.consul.keys_api import KeysApi
from netd.registry.consul.reserved import ACL
from netd.tasks import Tasks

log = logging.getLogger(__name__)

Change = Callable[[Document], Document]

KEY: Final = Target("key", ACL)
KNOWN_S: Final = 86_400.0  # how long it holds what was read last, while keys cannot be read
FIRST_S: Final = 5.0  # for the first reading
AGAIN_MAX_S: Final = 1.0  # until what could not be read is read again
AGAIN_S: Final = 0.1  # between two readings because of tokens that are not known
_TRIES: Final = 16  # while others write, too
_LOOK_S: Final = 60.0  # though nothing was told


class AclStore:
    """All methods raise `Unreachable` and `Refused`."""

    def __init__(self, api: KeysApi) -> None:
        self._api = api

    async def read(self) -> Document:
        return document_of((await self._api.read(ACL)).entry)

    async def change(self, change: Change) -> Document:
        """Have what `change` makes of the document be so, and return that. It is called again
        when somebody else was quicker, and raises what it likes to have nothing changed.
        """
        for _ in range(_TRIES):
            entry = (await self._api.read(ACL)).entry
            before = document_of(entry)
            after = change(before)
            if after == before:
                return before
            value = msgspec.json.encode(after)
            if len(value) > VALUE_MAX_BYTES:
                raise Refused(507, "there is no room for more tokens and policies: delete some")
            index = 0 if entry is None else entry.modify_index
            operation = Operation(verb="cas", key=ACL, value=value, index=index)
            outcome = await self._api.transact(operation)
            if not outcome.failures:
                return after.dated(outcome.index)
        raise Refused(503, "tokens and policies change all the time: try again")


class AclTable:
    """The document as it was when it was last told of.

    It is followed from the first question on. While keys cannot be read, what is known holds for
    `KNOWN_S`: a token that was withdrawn meanwhile does, too.
    """

    def __init__(self, store: AclStore, watches: KeyWatches, known_s: float = KNOWN_S) -> None:
        self._store = store
        self._watches = watches
        self.known_s = known_s
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        self._following: asyncio.Task[None] | None = None
        self._document: Document | None = None
        self._read_s = 0.0  # when it was last known to hold
        self._begun = 0  # readings, and writes that ended
        self._taken = 0  # the last of these that was taken
        self._news = asyncio.Event()  # that something was read, or could not be
        self._failing = False  # the last reading
        self._next: asyncio.Task[bool] | None = None  # a reading that has not begun
        self._reads = asyncio.Lock()

    async def close(self) -> None:
        await self._tasks.stop()

    @property
    def document(self) -> Document | None:
        """None: none is known, or what is known is too old."""
        self._follow()
        age_s = self._loop.time() - self._read_s
        return self._document if self._watches.live or age_s <= self.known_s else None

    async def known(self) -> Document:
        """Raises `Unreachable` when none is known, as soon as it is clear that there will be none
        soon.
        """
        deadline_s = self._loop.time() + FIRST_S
        while True:
            news = self._news
            document = self.document
            if document is not None:
                return document
            if self._failing:
                raise Unreachable("tokens cannot be read")
            try:
                async with asyncio.timeout_at(deadline_s):
                    await news.wait()
            except TimeoutError:
                raise Unreachable("tokens cannot be read") from None

    async def look_again(self) -> bool:
        """Read what others have written until now; whether that was possible. However many ask
        for it, it is read at most each `AGAIN_S`, and once at a time.
        """
        if self._next is None:
            self._next = self._tasks.start("tokens", self._look())
        return await asyncio.shield(self._next)

    def take(self, document: Document) -> None:
        """What this host itself has just written."""
        self._take(document, self._begin())

    def _begin(self) -> int:
        self._begun += 1
        return self._begun

    def _take(self, document: Document, begun: int) -> None:
        """What was read, unless something was taken that is newer."""
        if begun < self._taken:
            return
        self._taken = begun
        self._read_s = self._loop.time()
        if document != self._document:
            self._document = document
        self._tell(failing=False)

    def _tell(self, *, failing: bool) -> None:
        self._failing = failing
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _look(self) -> bool:
        await asyncio.sleep(AGAIN_S)
        async with self._reads:
            self._next = None  # whoever asks from now on may ask for something newer
            return await self._read()

    async def _read(self) -> bool:
        begun = self._begin()
        try:
            self._take(await self._store.read(), begun)
        except (Unreachable, Refused) as error:
            log.info("tokens cannot be read: %s", error)
            return False
        return True

    def _follow(self) -> None:
        if self._following is None or self._following.done():
            self._following = self._tasks.start("follow tokens", self._keep())

    async def _keep(self) -> None:
        with self._watches.standing(KEY) as watch:
            while True:
                news = watch.news
                begun = self._begin()
                try:
                    found = (await watch.current()).found
                    assert isinstance(found, KeyReading)
                    self._take(document_of(found.entry), begun)
                except (Unreachable, Refused) as error:
                    log.info("tokens cannot be read: %s", error)
                    self._tell(failing=True)
                await self._first(news)

    async def _first(self, news: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(AGAIN_MAX_S if self._failing else _LOOK_S):
                await news.wait()
        except TimeoutError:
            return


class Documents:
    """For those who change tokens and policies: what is so now, and what they make of it.

    Raises `Failure`. Tokens that have expired are gone.
    """

    def __init__(self, store: AclStore, table: AclTable) -> None:
        self._store = store
        self._table = table

    async def read(self) -> Document:
        with failures():
            return (await self._store.read()).at(time.time())

    async def change(self, change: Change) -> Document:
        with failures():
            document = await self._store.change(lambda known: change(known.at(time.time())))
        self._table.take(document)
        return document


def document_of(entry: Entry | None) -> Document:
    """What is stored. Raises `Refused` for what this netd has not written."""
    if entry is None:
        return Document()
    try:
        found = msgspec.json.decode(entry.value, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(500, f"tokens and policies cannot be understood: {error}") from None
    return found.dated(entry.modify_index)
