"""Tells the engine what the protocol core says of members, records and problems."""

from collections.abc import Iterable
from typing import Final

from netd.cluster import views
from netd.cluster.core import Core
from netd.cluster.outbox import Forgotten, Outbox
from netd.gossip.keys import TABLE as KEYRING
from netd.gossip.log import ATTACHMENT
from netd.gossip.values import NodeId, ProblemChanged, RecordChanged

_OWN_TABLES: Final = (KEYRING, ATTACHMENT)  # the protocol's own


class Teller:
    """On the gossip loop; what it says goes through the outbox."""

    def __init__(self, core: Core, outbox: Outbox) -> None:
        self._core = core
        self._outbox = outbox
        self._views = views.MemberViews(core.id)

    def record_changed(self, event: RecordChanged) -> None:
        # What this node publishes, it knows.
        if event.owner != self._core.id and event.table not in _OWN_TABLES:
            self._outbox.put(views.record(event))

    def problem_changed(self, event: ProblemChanged) -> None:
        self._outbox.put(views.problem(event))

    def show(self, node: NodeId) -> None:
        known = self._core.member(node)
        if known is not None:
            self._outbox.put(self._views.member(known, self._core.shown(known)))
        else:
            self._outbox.put(Forgotten(node.hex()))

    def show_unreachable(self) -> None:
        """How they are shown depends on whether this node reaches anybody at all."""
        for member in self._core.members():
            if member.unreachable:
                self.show(member.id)

    def forget_all_but(self, known: Iterable[NodeId]) -> None:
        """Remember no longer when others were first heard of."""
        self._views.forget_all_but(known)
