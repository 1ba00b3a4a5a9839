"""The daemon's stream of changes of keys, followed as long as somebody wants it."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Final

import msgspec

from netd.model.kv import KeyChange
from netd.registry.api import Refused, Unreachable
from netd.registry.consul.keys_api import KeysApi
from netd.tasks import Tasks

RETRY_MIN_S: Final = 0.1
RETRY_MAX_S: Final = 2.0
LINE_MAX: Final = 8 * 1024 * 1024  # bytes of a change; one that is longer counts as lost

log = logging.getLogger(__name__)


class KeyChanges:
    """Calls `tell` with what comes. `idle` says that nobody has wanted it for long.

    `live` is whether changes are told; `begun` counts how often the stream has begun. Where
    changes may have been missed one is told that is `lost`, from which on others are told or,
    where its index is 0, are not.
    """

    def __init__(
        self, api: KeysApi, tell: Callable[[KeyChange], None], idle: Callable[[], bool]
    ) -> None:
        self.live = False
        self.begun = 0
        self._api = api
        self._tell_others = tell
        self._idle = idle
        self._tasks = Tasks()
        self._following: asyncio.Task[None] | None = None

    def want(self) -> None:
        """Follow, if that is not being done already."""
        if self._following is None or self._following.done():
            self._following = self._tasks.start("changes of keys", self._follow())

    async def close(self) -> None:
        await self._tasks.stop()

    async def _follow(self) -> None:
        retry_s = RETRY_MIN_S
        while not self._idle():
            before = self.begun
            try:
                await self._take_stream()
            except (Unreachable, Refused) as error:
                log.info("changes of keys are not told: %s", error)
            self._tell(KeyChange(index=0, lost=True))
            retry_s = RETRY_MIN_S if self.begun > before else min(retry_s * 2, RETRY_MAX_S)
            if not self._idle():
                await asyncio.sleep(retry_s)

    async def _take_stream(self) -> None:
        lines = Lines()
        async with aclosing(self._api.changes()) as stream:
            async for data in stream:
                if not data:
                    self.begun += 1
                    self._tell(KeyChange(index=1, lost=True))
                for change in lines.take(data):
                    self._tell(change)
                if self._idle():  # something comes each 15 s
                    return

    def _tell(self, change: KeyChange) -> None:
        if change.lost:
            self.live = change.index > 0
        self._tell_others(change)


class Lines:
    """Changes out of the bytes of the stream."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._skipping = False
        self._decode = msgspec.json.Decoder(KeyChange).decode

    def take(self, data: bytes) -> Iterator[KeyChange]:
        """Raises `Unreachable` for what is no change."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._held += line
            if self._skipping:
                self._skipping = False
                yield KeyChange(index=1, lost=True)
            elif self._held:
                yield self._change()
            self._held.clear()
        self._held += rest
        if len(self._held) > LINE_MAX:
            self._held.clear()
            self._skipping = True

    def _change(self) -> KeyChange:
        try:
            return self._decode(self._held)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unreachable(f"no change: {error}") from None
