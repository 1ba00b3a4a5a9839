"""The logs that this node has, by owner and scope, and what they are compared by."""

from collections.abc import Iterable, Iterator

from netd.gossip.log import LogId, Slot
from netd.gossip.messages import LogRow
from netd.gossip.parts import Parts
from netd.gossip.tree import Tree, fingerprint
from netd.gossip.values import GLOBAL, NodeId, Scope


class Logs:
    """A table. For each scope there is a hash tree of the heads of its logs."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._slots: dict[LogId, Slot] = {}
        self._of_owner: dict[NodeId, dict[Scope, Slot]] = {}
        self._trees: dict[Scope, Tree] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def get(self, log: LogId) -> Slot | None:
        return self._slots.get(log)

    def put(self, log_id: LogId, slot: Slot) -> None:
        """Keep a log that is not kept yet."""
        owner, scope = log_id
        self._slots[log_id] = self._of_owner.setdefault(owner, {})[scope] = slot

    def items(self) -> Iterator[tuple[LogId, Slot]]:
        return iter(self._slots.items())

    def of_owner(self, owner: NodeId) -> Iterable[Slot]:
        return self._of_owner.get(owner, {}).values()

    def drop(self, log_id: LogId) -> None:
        slot = self._slots.pop(log_id, None)
        if slot is not None:
            owner, scope = log_id
            del self._of_owner[owner][scope]
            if not self._of_owner[owner]:
                del self._of_owner[owner]
            self._flip(scope, owner, slot.fingerprint)

    def drop_owner(self, owner: NodeId) -> None:
        for scope in list(self._of_owner.get(owner, ())):
            self.drop((owner, scope))

    def drop_scope(self, scope: Scope) -> None:
        """Forget what others have said in a scope that this node is no longer in."""
        me = self._parts.me.id
        for log_id in [i for i in self._slots if i[1] == scope and i[0] != me]:
            self.drop(log_id)

    # Comparing

    def root(self, scopes: Iterable[Scope]) -> int:
        """The digest of all logs in the global scope and in these."""
        total = 0
        for scope in (GLOBAL, *scopes):
            tree = self._trees.get(scope)
            if tree is not None:
                total ^= tree.root
        return total

    def trees(self, scopes: Iterable[Scope]) -> list[Tree]:
        found = (self._trees.get(scope) for scope in (GLOBAL, *scopes))
        return [tree for tree in found if tree is not None]

    def rows(self, scopes: Iterable[Scope], leaves: frozenset[int] | None = None) -> list[LogRow]:
        """How far this node has the logs of these scopes, of all leaves or of some."""
        wanted = {GLOBAL, *scopes}
        return [
            row_of(log_id, slot)
            for log_id, slot in self._slots.items()
            if log_id[1] in wanted and (leaves is None or _leaf(log_id[0]) in leaves)
        ]

    def count(self, owner: NodeId, scope: Scope, slot: Slot) -> None:
        row = row_of((owner, scope), slot)
        new = fingerprint(owner, scope, b"%d,%d" % (row.epoch, row.version))
        self._flip(scope, owner, slot.fingerprint ^ new)
        slot.fingerprint = new

    def _flip(self, scope: Scope, owner: NodeId, value: int) -> None:
        tree = self._trees.get(scope)
        if tree is None:
            tree = self._trees[scope] = Tree()
        tree.flip(_leaf(owner), value)


def row_of(log_id: LogId, slot: Slot | None) -> LogRow:
    """How far a log is known: nothing of it is version 0 of epoch 0."""
    head = slot.head if slot is not None else None
    if head is None:
        return LogRow(*log_id, 0, 0)
    return LogRow(*log_id, head.epoch, head.version, head.floor)


def is_ahead(one: LogRow, other: LogRow) -> bool:
    """Whether the first has what the second lacks."""
    return (one.epoch, one.version) > (other.epoch, other.version)


def _leaf(owner: NodeId) -> int:
    return owner[1]
