"""What the engine needs of whoever holds keys, sessions and locks."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from netd.engine.interfaces.store import Snapshot
from netd.kv.commands import Command, Result
from netd.model.kv import KeyChange, KeyStatus, Session, SessionSpec


class KeyListeners(Protocol):
    """Who waits for changes of keys; whoever holds the keys tells them.

    `wanted` is set while anybody waits. `live` is to be set while changes are told: then none is
    left out, or one tells that some were lost. It begins with such a one.
    """

    wanted: asyncio.Event
    live: asyncio.Event

    def tell(self, change: KeyChange) -> None: ...


class SessionHealth(Protocol):
    """What sessions depend on, as this host sees it. `changed` is called when something has
    become worse.
    """

    changed: Callable[[], None]

    def check(self, spec: SessionSpec) -> None:
        """Raise `Invalid` for a session that would end at once."""
        ...

    def lost(self, sessions: Iterable[Session]) -> list[str]:
        """The ids of those of the sessions that are to end."""
        ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class KeyValues(Protocol):
    """Keys, sessions and locks of the whole cluster.

    All writes have one order, and what is read is what was written last.
    """

    async def perform(self, command: Command) -> Result:
        """Read or write.

        Raises `Unavailable` when whoever decides cannot be reached: a write may then have been
        made or not, and nothing is read. Raises `Invalid`, `Exhausted`; `NotFound` for a session
        to be renewed.
        """
        ...

    async def status(self) -> KeyStatus: ...

    async def move(self, node: str, *, abandon: bool) -> KeyStatus:
        """Have another member (id or name) hold the keys.

        Raises `NotFound`, `Conflict`, and `Unavailable`, which says where they are now.
        """
        ...

    async def restore(self, snapshot: Snapshot) -> None:
        """Take up what this host holds. Raises `Unavailable` when it cannot be understood."""
        ...

    def start(self) -> None: ...

    async def stop(self) -> None: ...

    def counters(self) -> dict[str, int]: ...

    def levels(self) -> dict[str, int]: ...
