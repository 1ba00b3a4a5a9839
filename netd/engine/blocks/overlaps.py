"""Addresses that two hosts own: never by what netd does, but by a database that was restored, or
when a host was declared dead that is not. Such addresses are not given any more.

Records come late, so one that overlaps is a reason to ask, no more.
"""

import logging

from netd.engine.blocks import questions
from netd.engine.blocks.books import Books
from netd.engine.blocks.owners import Owners
from netd.engine.blocks.questions import Look
from netd.engine.interfaces import Cluster
from netd.engine.parts import Parts
from netd.model.blocks import Ledger
from netd.model.condition import Condition
from netd.model.errors import NetdError
from netd.plan import ledger as ledgers
from netd.plan.space import NOWHERE, Space

log = logging.getLogger(__name__)


class Overlaps:
    def __init__(self, parts: Parts, cluster: Cluster, books: Books, owners: Owners) -> None:
        self._parts = parts
        self._cluster = cluster
        self._books = books
        self._owners = owners
        self._found: dict[str, dict[str, Space]] = {}  # by network and member

    def suspect(self, ledger: Ledger, member: str) -> bool:
        """Whether a host is to be asked, or was found to overlap before."""
        found = self._found.get(ledger.network_id, {})
        return member in found or bool(self._claimed(ledger, member))

    async def examine(self, network_id: str, member: str) -> None:
        """Ask a host what it owns of what this one does; freeze what both do."""
        before = self._books.find(network_id)
        claimed = self._claimed(before, member) if before is not None else NOWHERE
        if before is None or not claimed:
            self._show(network_id, member, NOWHERE)
            return
        question = Look(network_id=network_id, prefixes=claimed.prefixes())
        try:
            seen = await questions.look(self._cluster, member, question)
        except NetdError as error:
            log.info("network %s: %s: %s", network_id, member, error.detail)
            return
        after = self._books.find(network_id)
        both = NOWHERE
        if after is not None and before.epoch == after.epoch == seen.epoch:
            # What was this host's before and after the other looked was so meanwhile.
            own = ledgers.owned(before) & ledgers.owned(after)
            both = Space.of(seen.prefixes) & own
        self._show(network_id, member, both)

    def _claimed(self, ledger: Ledger, member: str) -> Space:
        told = self._owners.told(ledger.network_id).get(member)
        if told is None or told.epoch != ledger.epoch:
            return NOWHERE
        return Space.of(told.prefixes) & ledgers.owned(ledger)

    def _show(self, network_id: str, member: str, both: Space) -> None:
        found = self._found.setdefault(network_id, {})
        if both:
            found[member] = both
        else:
            found.pop(member, None)
        frozen = NOWHERE
        for space in found.values():
            frozen |= space
        self._books.freeze(network_id, frozen)
        conditions = [self._condition(network_id)] if frozen else []
        self._parts.conditions.replace(network_id, "blocks-overlap", conditions)

    def _condition(self, network_id: str) -> Condition:
        found = self._found[network_id]
        who = "; ".join(
            f"{self._owners.name(member)}: {', '.join(space.prefixes()[:5])}"
            for member, space in sorted(found.items())
        )
        return Condition(
            code="blocks-overlap",
            severity="error",
            detail=f"other hosts own addresses that are this host's, too; it gives none of them "
            f"any more: {who}",
            remedy="the host whose state was restored or copied needs a new identity; there: "
            "systemctl stop netd; rm /var/lib/netd/identity.key; systemctl start netd",
            since=self._parts.now(),
        )
