"""Simulated clusters to measure: joined from the beginning, and without what costs time only.

Packets are as long as sealed ones but not sealed, signatures cost a microsecond, and invariants
are not checked: `tests/sim` does that. The cores are those of `netd.gossip`, unchanged.
"""

import gc
from collections.abc import Callable
from typing import Final

from netd.gossip.core import Gossip
from netd.gossip.log import Log, Slot
from netd.gossip.member import Member
from netd.gossip.ring import Ring
from netd.gossip.sealing import OVERHEAD_BYTES, Opened, Refused
from netd.gossip.settings import Profile, Settings
from netd.gossip.tree import Tree
from netd.gossip.values import (
    GLOBAL,
    Event,
    Identity,
    MemberChanged,
    NodeId,
    Randomness,
    RecordChanged,
    State,
)
from tests.sim.cluster import Cluster
from tests.sim.core import Core, Factory, Verify
from tests.sim.node import Node
from tests.sim.real import real_core
from tests.sim.trace import Trace

HEADERS_BYTES: Final = 28  # of IPv4 and UDP, for each packet
_ID_BYTES: Final = 16
_SENDER_BYTES: Final = _ID_BYTES + 8


class Unsealed:
    """A `Sealer` that does not seal. Packets are as long as if it did."""

    overhead_bytes = OVERHEAD_BYTES

    def __init__(self, sender: NodeId, epoch: int) -> None:
        self._sender = sender
        self.renew(epoch)

    def renew(self, epoch: int) -> None:
        head = self._sender + epoch.to_bytes(8, "big")
        self._head = head.ljust(OVERHEAD_BYTES, b"\0")

    def seal(self, payload: bytes) -> bytes:
        return self._head + payload

    def open(self, packet: bytes) -> Opened | Refused:
        epoch = int.from_bytes(packet[_ID_BYTES:_SENDER_BYTES], "big")
        return Opened(packet[:_ID_BYTES], epoch, packet[OVERHEAD_BYTES:])

    def use(self, ring: Ring) -> None:
        pass

    def forget(self, sender: NodeId, epoch: int) -> None:
        pass


def unsealed_core(
    identity: Identity,
    settings: Settings,
    ring: Ring,
    *,
    cluster_id: bytes,
    verify: Verify,
    random: Randomness,
    now_s: float,
    wall_s: float,
) -> Core:
    return Gossip(
        identity,
        settings,
        ring,
        cluster_id=cluster_id,
        verify=verify,
        random=random,
        now_s=now_s,
        wall_s=wall_s,
        sealer=Unsealed(identity.id, identity.epoch),
    )


class Recorder:
    """What cores tell that is measured, each with its time: deaths, and records by value."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.deaths: list[tuple[float, str, NodeId]] = []
        self.records: dict[bytes, list[float]] = {}  # of the values that are awaited
        self._now_s = now_s

    def begins(self, label: str, core: Core) -> None:
        pass

    def ends(self, label: str, core: Core) -> None:
        pass

    def serves(self, label: str, core: Core, peer: NodeId, reply: bytes) -> None:
        pass

    def tells(self, label: str, core: Core, event: Event) -> None:
        if isinstance(event, MemberChanged):
            if event.after is State.DEAD:
                self.deaths.append((self._now_s(), label, event.id))
        elif isinstance(event, RecordChanged) and event.value in self.records:
            assert event.value is not None
            self.records[event.value].append(self._now_s())


class _NoTrace(Trace):
    def bytes_arrive(self, kind: bytes, now_s: float, source: int, to: int, data: bytes) -> None:
        pass

    def event(self, now_s: float, where: str, what: str) -> None:
        pass


class Bench(Cluster):
    """All of `size` nodes run and know each other.

    The first learns of the others by the protocol's own words; the rest get copies of its tables,
    as if they had just joined and all news had gone round. With `shared` they have the logs in
    common, which saves memory and is right as long as nothing changes.
    """

    def __init__(
        self,
        seed: int,
        size: int,
        settings: Profile | Settings,
        *,
        factory: Factory = unsealed_core,
        shared: bool = False,
    ) -> None:
        super().__init__(seed, size, settings=settings, factory=factory, watched=False)
        self.recorder = Recorder(lambda: self.now_s)
        self.world.listener = self.recorder
        self.world.trace = _NoTrace()
        gc.disable()  # millions of objects that stay would be looked at again and again
        for node in self.nodes:
            node.boot(self.seeds(node))
        cores = [_gossip(node) for node in self.nodes]
        _teach(cores)
        for core in cores[1:]:
            _copy_members(cores[0], core)
            _copy_logs(cores[0], core, shared=shared)
        gc.freeze()
        gc.enable()
        # Their timers are where they are in a cluster that has run for long.
        self.run(10 * self.settings.probe_interval_s)

    def traffic(self) -> tuple[int, int]:
        """Packets and bytes of UDP payload that all nodes have sent."""
        return (
            sum(node.sent_packets for node in self.nodes),
            sum(node.sent_bytes for node in self.nodes),
        )

    def counted(self, name: str) -> int:
        """The sum of one counter of all cores."""
        return sum(node.core.counters.get(name, 0) for node in self.running())


def sealed(seed: int, size: int, profile: Profile) -> Bench:
    """The same with packets sealed as they are outside of simulations."""
    return Bench(seed, size, profile, factory=real_core)


def _gossip(node: Node) -> Gossip:
    core = node.core
    assert isinstance(core, Gossip)
    return core


def _teach(cores: list[Gossip]) -> None:
    """Tell the first of these of all others, and of their records."""
    first = cores[0]
    for core in cores:
        core._replication.begin()
    first._membership.hear_quietly(core._parts.me.introduction for core in cores[1:])
    for core in cores[1:]:
        log = core._replica.own_log(GLOBAL)
        delta = log.delta(core.id, GLOBAL, 0, 1 << 16, news=False)
        assert delta is not None
        first._replication.learn(delta, None)
    for core in cores:
        core._post.out.clear()
        core._parts.events.clear()


def _copy_members(source: Gossip, to: Gossip) -> None:
    theirs, mine = source._parts.members, to._parts.members
    for member in theirs:
        if member.id != to.id:
            mine._table[member.id] = _copy_of(member)
    mine._live = [member.id for member in mine if member.id != to.id]
    mine._place = {node: place for place, node in enumerate(mine._live)}
    mine._names = theirs._names  # nobody changes its name here
    mine.tree = _tree_of(theirs.tree)


def _copy_of(member: Member) -> Member:
    copy = Member.__new__(Member)
    for name in Member.__slots__:
        setattr(copy, name, getattr(member, name))
    return copy


def _copy_logs(source: Gossip, to: Gossip, *, shared: bool) -> None:
    own = (to.id, GLOBAL)
    shown = to._view._shown
    for log_id, slot in source._replica.items():
        if log_id != own:
            to._replica.put(log_id, slot if shared else _slot_of(slot))
    for owner, scopes in source._view._shown.items():
        if owner != to.id:
            shown[owner] = scopes if shared else {s: dict(v) for s, v in scopes.items()}
    to._replica._trees = {scope: _tree_of(tree) for scope, tree in source._replica._trees.items()}


def _slot_of(slot: Slot) -> Slot:
    copy = Slot()
    copy.fingerprint = slot.fingerprint
    assert slot.current is not None
    log = slot.current
    copy.current = Log(log.epoch, log.mark)
    for entry in log.above(0):
        copy.current.put(entry)
    copy.current.version, copy.current.floor = log.version, log.floor
    return copy


def _tree_of(tree: Tree) -> Tree:
    copy = Tree()
    copy._leaves = list(tree._leaves)
    copy.root = tree.root
    return copy
