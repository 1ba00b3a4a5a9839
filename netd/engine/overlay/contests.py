"""Names that two networks have, after hosts could not hear each other: which of them holds.

The later one goes on where it is in use, and goes with its last endpoint there.
"""

import asyncio
import logging
from typing import Final

from netd.engine.blocks import Blocks
from netd.engine.overlay.catalogue import Catalogue
from netd.engine.overlay.openings import Openings
from netd.engine.overlay.peers import Peers
from netd.engine.parts import Parts
from netd.model.condition import Condition
from netd.model.errors import NetdError
from netd.model.network import Network
from netd.model.overlay import Kept

log = logging.getLogger(__name__)

_CODES: Final = "overlay-"  # of conditions


class Contests:
    def __init__(
        self,
        parts: Parts,
        catalogue: Catalogue,
        blocks: Blocks,
        peers: Peers,
        openings: Openings,
    ) -> None:
        self._parts = parts
        self._catalogue = catalogue
        self._blocks = blocks
        self._peers = peers
        self._openings = openings
        self._superseded: asyncio.Queue[str] = asyncio.Queue()  # names; as many as there are

    def changed(self, name: str) -> None:
        """Another network has the name, or none, or this host has closed one of that name."""
        self._judge(name)
        if any(not self._in_use(kept) for kept in self._lost(name)):
            self._superseded.put_nowait(name)

    async def run(self) -> None:
        """Let go of networks that do not hold any more and that nobody uses here."""
        while True:
            name = await self._superseded.get()
            for kept in self._lost(name):
                if not self._in_use(kept):
                    await self._let_go(kept)

    async def _let_go(self, kept: Kept) -> None:
        name, network_id = kept.definition.name, kept.definition.id
        try:
            await self._catalogue.let_go(network_id)
            await self._blocks.forget(network_id)
        except NetdError as error:
            log.warning("network %s: %s", name, error.detail)
            return
        replaced = self._catalogue.entry(name) is not None
        self._parts.events.emit(
            "network.gone",
            about=network_id,
            name=name,
            detail="another network has its name" if replaced else "it was deleted",
        )

    def _lost(self, name: str) -> list[Kept]:
        """What this host claims of the name, and what does not hold."""
        entry = self._catalogue.entry(name)
        return [
            kept
            for kept in self._catalogue.kept()
            if kept.definition.name == name
            and (entry is None or entry.definition.id != kept.definition.id)
        ]

    def _in_use(self, kept: Kept) -> bool:
        return kept.definition.id in self._openings

    def _judge(self, name: str) -> None:
        """The conditions of a network: what holds is another, or others claim something else."""
        entry = self._catalogue.entry(name)
        opened = self._parts.intent.find_network(name)
        found: dict[str, list[Condition]] = {}
        if entry is not None:
            found[entry.definition.id] = [self._rival(entry)] if entry.rivals else []
        if opened is not None and opened.id in self._openings:
            if entry is None:
                found[opened.id] = [self._removed(opened)]
            elif entry.definition.id != opened.id:
                found[opened.id] = [self._later(opened, entry)]
                found[entry.definition.id] = [self._kept_out(opened)]
        for network_id, conditions in found.items():
            self._parts.conditions.replace(network_id, _CODES, conditions)

    def _rival(self, entry: Kept) -> Condition:
        who = ", ".join(map(self._peers.name_of, entry.rivals))
        return Condition(
            code=_CODES + "rival",
            severity="warning",
            detail=f"{who} made another network of this name later; this one holds",
            remedy="there, detach the endpoints of the later one; it goes with the last",
            since=self._parts.now(),
        )

    def _later(self, opened: Network, entry: Kept) -> Condition:
        who = self._peers.name_of(entry.origin)
        detail = f"{who} made another network of this name first, {entry.definition.id}"
        return self._error("conflict", detail, opened)

    def _kept_out(self, opened: Network) -> Condition:
        detail = (
            f"this host still has endpoints on a later network of this name, {opened.id}; "
            "until they are detached none can be attached here"
        )
        return self._error("conflict", detail, opened)

    def _removed(self, opened: Network) -> Condition:
        return self._error("removed", "it was deleted while this host was away", opened)

    def _error(self, kind: str, detail: str, opened: Network) -> Condition:
        return Condition(
            code=_CODES + kind,
            severity="error",
            detail=detail,
            remedy=f"netctl endpoint detach $(netctl endpoint ls -q --network {opened.id}): "
            "the network goes from this host with its last endpoint",
            since=self._parts.now(),
        )
