"""All members that this node knows, itself included."""

from collections.abc import Iterable, Iterator

from netd.gossip.member import Member
from netd.gossip.messages import Introduce
from netd.gossip.tree import Tree
from netd.gossip.values import NodeId, Randomness, Scope, State

FORGOTTEN_MAX = 16_384


class Members:
    """The table, with what follows from it: the hash tree, who lives, who is in which scope."""

    def __init__(self, me: NodeId, introduction: Introduce, now_s: float) -> None:
        self.tree = Tree()
        self._table: dict[NodeId, Member] = {}
        self._live: list[NodeId] = []  # the others; in any order, for random choice
        self._place: dict[NodeId, int] = {}
        self._names: dict[str, set[NodeId]] = {}
        self._scopes: dict[Scope, dict[NodeId, None]] = {}
        self._forgotten: dict[NodeId, int] = {}  # id -> epoch
        self.lost: dict[NodeId, None] = {}
        self.me = self.add(me, introduction, now_s)
        self._remove_live(me)

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._table.values())

    def get(self, node: NodeId) -> Member | None:
        return self._table.get(node)

    @property
    def live_count(self) -> int:
        """Those that take part, this node included."""
        return len(self._live) + 1

    def live_ids(self) -> list[NodeId]:
        """The others that take part."""
        return self._live

    def named(self, name: str) -> Iterable[Member]:
        return [self._table[node] for node in sorted(self._names.get(name, ()))]

    def in_scope(self, scope: Scope) -> dict[NodeId, None]:
        return self._scopes.get(scope, {})

    def is_forgotten(self, node: NodeId, epoch: int) -> bool:
        """Whether this run of the node is over and was forgotten."""
        return self._forgotten.get(node, -1) >= epoch

    def add(self, node: NodeId, introduction: Introduce, now_s: float) -> Member:
        """Raises `Malformed` for an introduction with an impossible address."""
        member = self._table[node] = Member(node, introduction, now_s)
        self._names.setdefault(member.name, set()).add(node)
        self._forgotten.pop(node, None)
        self._add_live(node)
        self.changed(member)
        return member

    def present(self, member: Member, introduction: Introduce) -> None:
        """Take over a newer introduction; call `changed` when all is done."""
        before = member.name
        member.present(introduction)
        if before != member.name:
            self._leave_name(before, member.id)
            self._names.setdefault(member.name, set()).add(member.id)

    def changed(self, member: Member) -> None:
        """Bring up to date what follows from the member's state."""
        new = member.new_fingerprint()
        self.tree.flip(member.id[0], member.fingerprint ^ new)
        member.fingerprint = new
        if member.live and member.id not in self._place:
            self._add_live(member.id)
        elif not member.live and member.id in self._place:
            self._remove_live(member.id)
        if member.lost:
            self.lost[member.id] = None
        else:
            self.lost.pop(member.id, None)

    def set_scopes(self, member: Member, scopes: frozenset[Scope]) -> None:
        for scope in member.scopes - scopes:
            del self._scopes[scope][member.id]
            if not self._scopes[scope]:
                del self._scopes[scope]
        for scope in sorted(scopes - member.scopes):
            self._scopes.setdefault(scope, {})[member.id] = None
        member.scopes = scopes

    def forget(self, member: Member) -> None:
        """Remove a member that is gone; what is said of this run of it is ignored from now on."""
        self.set_scopes(member, frozenset())
        self.tree.flip(member.id[0], member.fingerprint)
        self._leave_name(member.name, member.id)
        if member.id in self._place:
            self._remove_live(member.id)
        self.lost.pop(member.id, None)
        del self._table[member.id]
        if len(self._forgotten) >= FORGOTTEN_MAX:
            self._forgotten.pop(next(iter(self._forgotten)))
        self._forgotten[member.id] = member.epoch

    def pick(self, random: Randomness, count: int, *, but: NodeId = b"") -> list[Member]:
        """At most `count` of the others that take part, at random, without `but`."""
        live = self._live
        if len(live) <= count + 1:
            chosen = [node for node in live if node != but]
            random.shuffle(chosen)
        else:
            chosen = [node for node in random.sample(live, count + 1) if node != but]
        return [self._table[node] for node in chosen[:count]]

    def pick_in(self, scope: Scope, random: Randomness, count: int) -> list[Member]:
        """The same, of those in a scope."""
        members = [self._table[node] for node in self.in_scope(scope) if node != self.me.id]
        live = [member for member in members if member.state <= State.SUSPECT]
        return random.sample(live, min(count, len(live)))

    def _add_live(self, node: NodeId) -> None:
        self._place[node] = len(self._live)
        self._live.append(node)

    def _remove_live(self, node: NodeId) -> None:
        place = self._place.pop(node)
        last = self._live.pop()
        if last != node:
            self._live[place] = last
            self._place[last] = place

    def _leave_name(self, name: str, node: NodeId) -> None:
        holders = self._names[name]
        holders.discard(node)
        if not holders:
            del self._names[name]
