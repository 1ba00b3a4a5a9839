"""Checks the invariants while a simulation runs: on everything that cores tell, and by looking at
all of them every now and then.
"""

from collections.abc import Iterable

from netd.gossip.values import (
    GLOBAL,
    Event,
    JoinEnded,
    MemberChanged,
    NodeId,
    ProblemChanged,
    RecordChanged,
    Scope,
    State,
)
from tests.sim.core import Core, Member
from tests.sim.invariants.membership import (
    NeverOlder,
    NoFalseDeath,
    NoLastingMistake,
    OldRunsAreOver,
    OwnWordOnly,
)
from tests.sim.invariants.records import (
    HiddenWithOwner,
    Key,
    Log,
    ScopesAreKept,
    ValidHistory,
    Watermark,
    WrittenByOwner,
    key_of,
)
from tests.sim.invariants.traffic import Bounds
from tests.sim.network import Network
from tests.sim.node import Node
from tests.sim.real import logs_of
from tests.sim.trace import Trace

OWN_TABLES = ("keyring", "attachment")  # which cores write themselves
LOG_MAX = 200  # entries of logs that are compared version by version
SETTLED_S = 10.0  # since the last fault, after which nothing is excused by it


class Watch:
    """Follows the nodes of one simulation. `problems` and `joins` are what cores have told."""

    def __init__(self, trace: Trace, network: Network, bounds: Bounds, mistake_s: float) -> None:
        self.nodes: list[Node] = []
        self.problems: dict[tuple[str, str, NodeId], str] = {}
        self.joins: list[tuple[str, JoinEnded]] = []
        self.excused: set[NodeId] = set()  # who may die, though it runs
        self.changes: list[tuple[float, str, MemberChanged]] = []
        self.false_death = NoFalseDeath()
        self.own_word = OwnWordOnly()
        self.written = WrittenByOwner()
        self._by_label: dict[str, Node] = {}
        self._holders: dict[NodeId, list[Node]] = {}
        self._never_older = NeverOlder()
        self._old_runs = OldRunsAreOver()
        self._lasting = NoLastingMistake(mistake_s)
        self._hidden = HiddenWithOwner()
        self._history = ValidHistory()
        self.scopes = ScopesAreKept()
        self._watermark = Watermark()
        self._too_long: set[Log] = set()
        self._looked_at: dict[tuple[str, Log], int] = {}
        self._bounds = bounds
        self._trace = trace
        self._network = network

    def add(self, node: Node) -> None:
        self.nodes.append(node)
        self._by_label[node.label] = node

    def holders(self, node: NodeId) -> Iterable[Node]:
        """The nodes that run, or ran last, under this identity: one, but for clones."""
        return self._holders.get(node, ())

    # What cores tell

    def begins(self, where: str, core: Core) -> None:
        for check in (
            self._never_older,
            self._old_runs,
            self._history,
            self._hidden,
            self.written,
        ):
            check.begins(where)
        self._looked_at = {key: n for key, n in self._looked_at.items() if key[0] != where}
        self.problems = {key: text for key, text in self.problems.items() if key[0] != where}
        node = self._by_label[where]
        holders = self._holders.setdefault(core.id, [])
        if node not in holders:
            holders.append(node)
        for (scope, table, key), value in node.wants.records.items():
            self.written.write((core.id, scope, table, key), value)
        self._trace.event(self._network.clock.now_s, where, f"begins as {core.id.hex()}")

    def ends(self, where: str, core: Core) -> None:
        self._itself(core)
        self.problems = {key: text for key, text in self.problems.items() if key[0] != where}
        self._trace.event(self._network.clock.now_s, where, "ends")

    def tells(self, where: str, core: Core, event: Event) -> None:
        now_s = self._network.clock.now_s
        self._trace.event(now_s, where, self._text(event))
        if isinstance(event, MemberChanged):
            self.changes.append((now_s, where, event))
            self._member_changed(where, core, event)
        elif isinstance(event, RecordChanged):
            hidden = self._is_hidden(where, core.member(event.owner), event.scope)
            if event.owner == core.id:
                if event.table in OWN_TABLES:
                    self.written.write(key_of(event), event.value)
                self._own_logs(core)
            self.written.see(where, event, hidden=hidden)
            self._history.told(where, event)
            if event.owner != core.id and event.value is not None:
                self.scopes.told(where, self._by_label[where].wants.scopes, event.scope)
        elif isinstance(event, ProblemChanged):
            if event.detail:
                self.problems[where, event.code, event.about] = event.detail
            else:
                self.problems.pop((where, event.code, event.about), None)
        elif isinstance(event, JoinEnded):
            self.joins.append((where, event))

    def _is_hidden(self, where: str, owner: Member | None, scope: Scope) -> bool:
        """Whether records may be out of view though they were not deleted."""
        if owner is None or owner.hidden:
            return True
        both = self._by_label[where].wants.scopes & owner.scopes
        return scope != GLOBAL and scope not in both

    def serves(self, where: str, core: Core, peer: NodeId, reply: bytes) -> None:
        for node in self.holders(peer):
            self.scopes.wire(node.label, node.wants.scopes | node.old_scopes, reply)

    def _member_changed(self, where: str, core: Core, event: MemberChanged) -> None:
        member = core.member(event.id)
        if member is None or event.after is None:
            return
        self._age(where, member)
        self._old_runs.see(where, member.id, event.after, member.epoch)
        if event.after is State.DEAD:
            well = self.is_well(self._by_label[where], member, SETTLED_S)
            self.false_death.see(where, member.id, event.after, well=well)

    def _age(self, where: str, member: Member) -> None:
        age = member.epoch, member.incarnation
        self._never_older.see(where, member.id, age)
        if not self.own_word.knows(member.id, age):
            for holder in self.holders(member.id):
                if holder.driver is not None:
                    self._itself(holder.core)
            self.own_word.see(where, member.id, age)

    def _itself(self, core: Core) -> None:
        me = core.member(core.id)
        if me is not None:
            self.own_word.itself(me.id, (me.epoch, me.incarnation))

    # How things are

    def is_well(self, observer: Node, member: Member, since_s: float) -> bool:
        """Whether the member runs, in this epoch, and observer and member have reached each other
        for so long.
        """
        before_s = self._network.clock.now_s - since_s
        return member.id not in self.excused and any(
            node.is_well
            and node.disk.epoch == member.epoch
            and node.since_s <= before_s
            and self._network.touched_s(observer, node) <= before_s
            and self._network.connects(observer, node)
            for node in self.holders(member.id)
        )

    def look(self) -> None:
        """Look at everything that every core shows."""
        now_s = self._network.clock.now_s
        self._bounds.packet(self._network.longest_bytes)
        running = [node for node in self.nodes if node.driver is not None]
        for node in running:
            self._itself(node.core)
        for node in running:
            core = node.core
            self._bounds.level(node.label, core.levels())
            records = list(core.records())
            self._history.see(node.label, records)
            visible: dict[NodeId, int] = {}
            for record in records:
                visible[record.owner] = visible.get(record.owner, 0) + 1
            for member in core.members():
                self._age(node.label, member)
                dead = member.state is State.DEAD
                well = not dead or self.is_well(node, member, SETTLED_S)
                self._lasting.see(now_s, node.label, member.id, dead=dead, well=well)
                self._hidden.see(
                    now_s,
                    node.label,
                    member.id,
                    epoch=member.epoch,
                    hidden=member.hidden,
                    visible=visible.get(member.id, 0),
                )
            self._logs(node)

    def _own_logs(self, core: Core) -> None:
        for log, version, size, values in logs_of(core, core.id):
            if size > LOG_MAX:
                self._too_long.add(log)
                self._watermark.forget(log)
            elif log not in self._too_long:
                self._watermark.owner(log, version, values)

    def _logs(self, node: Node) -> None:
        """Compare replicas that have moved since the last look with what their owners had."""
        for log, version, size, values in logs_of(node.core):
            here = (node.label, log)
            if size <= LOG_MAX and self._looked_at.get(here) != version:
                self._looked_at[here] = version
                self._watermark.replica(node.label, log, version, values)

    def _text(self, event: Event) -> str:
        """An event in a line, with the labels of nodes for their ids."""
        if isinstance(event, MemberChanged):
            before = event.before.name if event.before is not None else "-"
            after = event.after.name if event.after is not None else "-"
            return f"{self._label(event.id)} {before} -> {after}"
        if isinstance(event, RecordChanged):
            value = event.value[8:20] if event.value is not None else None
            where = f"{event.scope.hex()[:4]}/{event.table}/{event.key}"
            return f"{self._label(event.owner)} {where} = {value!r}"
        if isinstance(event, ProblemChanged):
            return f"{event.code} {self._label(event.about)} {event.detail}"
        return repr(event)

    def _label(self, node: NodeId) -> str:
        return next((holder.label for holder in self.holders(node)), node.hex()[:8])

    def table(self, node: Node) -> dict[Key, bytes]:
        """What a node shows of records that programs have published on others."""
        here = node.core.id
        told = self._history.table(node.label)
        return {k: v for k, v in told.items() if k[0] != here and k[2] not in OWN_TABLES}
