"""How real cores are made, and what is looked at inside of them."""

import struct
from collections.abc import Iterator, Sequence

from netd.gossip.core import Gossip
from netd.gossip.replay import ReplayWindow
from netd.gossip.ring import Ring
from netd.gossip.sealing import Opened, Refused
from netd.gossip.settings import Settings
from netd.gossip.values import Identity, NodeId, Randomness
from tests.sim.core import Core, Verify
from tests.sim.invariants.records import Log

_HEADER = struct.Struct(">4s16sQQ")
State = dict[tuple[str, str], bytes]


def real_core(
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
    """With packets sealed as they are outside of simulations."""
    return Gossip(
        identity,
        settings,
        ring,
        cluster_id=cluster_id,
        verify=verify,
        random=random,
        now_s=now_s,
        wall_s=wall_s,
    )


def plain_core(
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
    """With packets that anybody can read: less work, and less memory for many nodes."""
    return Gossip(
        identity,
        settings,
        ring,
        cluster_id=cluster_id,
        verify=verify,
        random=random,
        now_s=now_s,
        wall_s=wall_s,
        sealer=Plain(identity.id, identity.epoch, ring),
    )


class Plain:
    """Implements `sealing.Sealer` without encryption: the rules are the same."""

    overhead_bytes = 53  # as of a real one, so that packets have the same size

    def __init__(self, sender: NodeId, epoch: int, ring: Ring) -> None:
        self._sender = sender
        self._epoch = epoch
        self._counter = 0
        self._senders: dict[NodeId, tuple[int, ReplayWindow]] = {}
        self.use(ring)

    def use(self, ring: Ring) -> None:
        self._keys = frozenset(ring.ids)
        self._primary = ring.primary

    def renew(self, epoch: int) -> None:
        self._epoch = epoch
        self._counter = 0

    def seal(self, payload: bytes) -> bytes:
        self._counter += 1
        return _HEADER.pack(self._primary, self._sender, self._epoch, self._counter) + payload

    def open(self, packet: bytes) -> Opened | Refused:
        if len(packet) < _HEADER.size:
            return Refused("truncated")
        key, sender, epoch, counter = _HEADER.unpack_from(packet)
        if key not in self._keys:
            return Refused("key", sender)
        if sender == self._sender and epoch == self._epoch:
            return Refused("own", sender)
        known = self._senders.get(sender)
        if known is None or known[0] < epoch:
            known = self._senders[sender] = epoch, ReplayWindow()
        elif known[0] > epoch:
            return Refused("epoch", sender)
        if not known[1].accept(counter):
            return Refused("replay", sender)
        return Opened(sender, epoch, packet[_HEADER.size :])

    def forget(self, sender: NodeId, epoch: int) -> None:
        known = self._senders.get(sender)
        if known is not None and known[0] <= epoch:
            del self._senders[sender]


def acquaint(cores: Sequence[Core]) -> None:
    """Let real cores know each other and each other's records, as if they had met long ago."""
    real = [core for core in cores if isinstance(core, Gossip)]
    statements = [core._parts.me.introduction for core in real]
    deltas = []
    for core in real:
        core._replication.begin()
        for scope, log in core._replica.own.items():
            delta = log.delta(core.id, scope, 0, 1 << 30, news=False)
            if delta is not None:
                deltas.append(delta)
    for core in real:
        core._membership.hear_quietly(statements)
        core._oneself.welcomed()
        for delta in deltas:
            core._replication.learn(delta, None)


def logs_of(core: Core, owner: NodeId | None = None) -> Iterator[tuple[Log, int, int, State]]:
    """The logs in force of a real core, those of one owner or all: which, at what version, with
    how many entries; and the records in it.
    """
    if not isinstance(core, Gossip):
        return
    for (node, scope), slot in core._replica.items():
        log = slot.current
        if log is None or owner not in (None, node):
            continue
        values = {key: e.value for key, e in log.entries.items() if e.value is not None}
        yield (node, scope, log.epoch), log.version, len(log.entries), values
