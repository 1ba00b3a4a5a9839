"""Sections as they are sent: which have changed, each drawn once for all who read everything."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from netd.registry.catalog.indexes import Indexes
from netd.registry.page.document import SECTIONS, section_of
from netd.registry.page.facts import SECTIONS_OF
from netd.registry.page.html import Markup, joined
from netd.registry.page.view import Query, View

GATHER_S: Final = 0.05  # changes within it are told at once
_ALL: Final = "page"  # the topic of any section


class Rendering:
    """`view` is what there is to show, for a query. `now_ms` is the Unix time."""

    def __init__(self, view: Callable[[Query], View], now_ms: Callable[[], int]) -> None:
        self.drawn = 0
        self._view = view
        self._indexes = Indexes(now_ms)
        self._loop = asyncio.get_running_loop()
        self._changed: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._kept: dict[str, tuple[int, Markup]] = {}

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def changed(self, kinds: Iterable[str]) -> None:
        """Facts or entries of these kinds are others than before."""
        for kind in kinds:
            self._changed.update(SECTIONS_OF.get(kind, ()))
        if self._changed and self._timer is None:
            self._timer = self._loop.call_later(GATHER_S, self._tell)

    def versions(self) -> dict[str, int]:
        """Of all sections. One that has changed has a greater one than before."""
        self._settle()
        return {name: self._indexes.of(name) for name in SECTIONS}

    @property
    def version(self) -> int:
        """Of the page."""
        return self._indexes.of(_ALL)

    async def wait(self, version: int, timeout_s: float) -> int:
        """Wait until the page's version is above this one, at most so long; what it is then."""
        return await self._indexes.wait(_ALL, version, timeout_s)

    def section(self, name: str, query: Query) -> Markup:
        self._settle()
        version = self._indexes.of(name)
        kept = self._kept.get(name) if query.is_plain else None
        if kept is not None and kept[0] == version:
            return kept[1]
        _, draw = SECTIONS[name]
        drawn = section_of(name, version, draw(self._view(query)))
        self.drawn += 1
        if query.is_plain:
            self._kept[name] = version, drawn
        return drawn

    async def page(self, query: Query) -> Markup:
        """All sections. Names are answered between two of them."""
        parts = []
        for name in SECTIONS:
            parts.append(self.section(name, query))
            await asyncio.sleep(0)
        return joined(parts)

    def _tell(self) -> None:
        self._timer = None
        self._settle()

    def _settle(self) -> None:
        if not self._changed:
            return
        index = self._indexes.next()
        for name in self._changed:
            self._indexes.touch(name, index)
        self._changed.clear()
        self._indexes.touch(_ALL, index)
