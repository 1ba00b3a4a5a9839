"""Changes of the catalogue, made as drafts: all of what a call asks for, or nothing."""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from netd.model.service import ServiceChanges
from netd.registry.api import Refused
from netd.registry.catalog.catalog import Catalog
from netd.registry.catalog.daemon import Daemon
from netd.registry.consul.draft import Draft
from netd.registry.consul.registrar import Registrar
from netd.registry.http.call import Failure
from netd.registry.http.caller import Callers

_TRIES: Final = 5
T = TypeVar("T")


class Writing:
    """One draft after the other is made and carried out, as the next is made of what it leaves.

    Who else changes something meanwhile, a check or `netctl`, has the draft made again.
    """

    def __init__(
        self, catalog: Catalog, daemon: Daemon, callers: Callers, registrar: Registrar
    ) -> None:
        self._catalog = catalog
        self._daemon = daemon
        self._endpoint_at = callers.endpoint_at
        self._registrar = registrar
        self._turn = asyncio.Lock()

    async def carry_out(self, write: Callable[[Draft], T]) -> T:
        """Have done what `write` writes into a draft. Raises what it raises, and `Refused`, whose
        `field` names the instance if it is about one; and `Unreachable`.
        """
        async with self._turn:
            seen: dict[str, int] | None = None
            for _ in range(_TRIES):
                draft = Draft(self._catalog, self._endpoint_at)
                result = write(draft)
                changes = draft.changes()
                if await self._is_done(draft, changes, seen):
                    return result
                seen = changes.seen
        raise Failure(500, "the catalogue changes all the time: try again")

    async def _is_done(
        self, draft: Draft, changes: ServiceChanges, seen: dict[str, int] | None
    ) -> bool:
        """Have the daemon do it; False: what it was made of has changed. `seen` is what an
        earlier one was made of.
        """
        if not changes.put and not changes.delete:
            return True
        try:
            async with self._registrar.turn(draft.check_idents, draft.ids):
                await self._daemon.change(changes)
        except Refused as refused:
            self._daemon.take_over()
            if refused.status != 409 or seen == changes.seen:
                raise
            return False
        else:
            return True
