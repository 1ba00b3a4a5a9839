"""A few protocol cores on a perfect network and a virtual clock, and members played by a test."""

import random
from collections.abc import Callable, Iterable
from typing import Final

from netd.gossip.codec import decode_packet, encode, join_parts
from netd.gossip.core import Gossip
from netd.gossip.messages import Alive, Dead, Delta, Left, Message, Suspect
from netd.gossip.proofs import Checker, Signer
from netd.gossip.ring import Ring
from netd.gossip.sealing import Opened, Seal
from netd.gossip.settings import Settings, profile
from netd.gossip.values import (
    GLOBAL,
    Address,
    Event,
    Identity,
    MemberChanged,
    NodeId,
    Output,
    RecordChanged,
    Scope,
    node_id_of,
)
from tests.sim.signatures import FakeSignatures

CLUSTER: Final = b"cluster1"
RING: Final = Ring.first(bytes(range(32)))
START_S: Final = 1_000.0
SIGNATURES: Final = FakeSignatures()
Passes = Callable[[Address, Address], bool]


def address_of(number: int) -> Address:
    return (f"192.0.2.{number}" if number < 256 else f"198.18.{number >> 8}.{number % 256}"), 7946


def identity_of(
    number: int, *, epoch: int = 1, name: str = "", at: Address | None = None
) -> Identity:
    """The node with this number: always the same key."""
    pair = SIGNATURES.pair(number.to_bytes(32, "big"))
    return Identity(
        id=node_id_of(pair.public_key),
        public_key=pair.public_key,
        sign=pair.sign,
        epoch=epoch,
        name=name or f"host-{number}",
        address=at or address_of(number),
    )


def core_of(
    identity: Identity,
    settings: Settings | None = None,
    *,
    now_s: float = START_S,
    seed: int | None = None,
    ring: Ring = RING,
) -> Gossip:
    return Gossip(
        identity,
        settings or profile("lan"),
        ring,
        cluster_id=CLUSTER,
        verify=SIGNATURES.verify,
        random=random.Random(identity.name if seed is None else seed),
        now_s=now_s,
        wall_s=1_700_000_000.0,
    )


class Puppet:
    """A member that says what a test wants, with real seals and signatures."""

    def __init__(self, number: int, *, epoch: int = 1, name: str = "", ring: Ring = RING) -> None:
        self.identity = identity_of(number, epoch=epoch, name=name)
        self.id = self.identity.id
        self.epoch = epoch
        self.address = self.identity.address
        self.signer = Signer(self.identity, CLUSTER)
        self.introduction = self.signer.introduction(self.identity, 0, (1, 1))
        self._ring = ring
        self._seal = Seal(self.id, epoch, CLUSTER, ring)

    def alive(self, incarnation: int) -> Alive:
        return self.signer.alive(self.epoch, incarnation)

    def left(self, incarnation: int = 0) -> Left:
        return self.signer.left(self.epoch, incarnation)

    def suspect(self, incarnation: int, *accusers: NodeId) -> Suspect:
        """An accusation of this puppet."""
        return Suspect(self.id, self.epoch, incarnation, tuple(sorted(accusers)))

    def dead(self, incarnation: int, *accusers: NodeId) -> Dead:
        return Dead(self.id, self.epoch, incarnation, tuple(sorted(accusers)))

    def packet(self, *messages: Message) -> bytes:
        return self._seal.seal(join_parts(map(encode, messages)))

    def say(self, core: Gossip, *messages: Message, now_s: float) -> list[Message]:
        """Send these, and see what is answered."""
        core.receive(self.packet(*messages), self.address, now_s)
        return self.heard(core.take())

    def heard(self, output: Output) -> list[Message]:
        """What of the output is for this puppet."""
        found: list[Message] = []
        # One that has seen nothing: the same puppet serves several cores of one identity.
        seal = Seal(self.id, self.epoch, CLUSTER, self._ring)
        for datagram in output.datagrams:
            if datagram.to == self.address:
                opened = seal.open(datagram.data)
                assert isinstance(opened, Opened)
                found += decode_packet(opened.payload)
        return found

    def delta(
        self,
        *records: tuple[int, str, bytes | None],
        scope: Scope = GLOBAL,
        epoch: int | None = None,
        start: int = 0,
        end: int | None = None,
        baseline: int = 0,
        floor: int = 0,
        news: bool = True,
    ) -> Delta:
        """Own records (version, key, value) of the table `t`."""
        run = self.epoch if epoch is None else epoch
        entries = tuple(
            self.signer.record(scope, run, version, "t", key, value)
            for version, key, value in records
        )
        last = entries[-1].version if entries else start
        until = last if end is None else end
        mark = self.signer.mark(scope, run, until, baseline, floor)
        return Delta(self.id, scope, run, mark, start, until, news, entries)


def introduced(core: Gossip, *puppets: Puppet, now_s: float = START_S) -> None:
    """Make the puppets members, as far as this core knows."""
    for puppet in puppets:
        puppet.say(core, puppet.introduction, now_s=now_s)
        assert core.member(puppet.id) is not None


class Lab:
    """Cores that reach each other at once. `packets` and `streams` say what gets through."""

    def __init__(self, *, settings: Settings | None = None) -> None:
        self.settings = settings or profile("lan")
        self.now_s = START_S
        self.cores: dict[Address, Gossip] = {}
        self.events: dict[NodeId, list[Event]] = {}
        self.packets: Passes = lambda _source, _to: True
        self.streams: Passes = lambda _source, _to: True
        self.sent = 0
        self.calls = 0

    def add(self, *numbers: int, epoch: int = 1) -> list[Gossip]:
        """Start nodes; they know nobody. A number that runs already starts anew."""
        made = []
        for number in numbers:
            core = core_of(identity_of(number, epoch=epoch), self.settings, now_s=self.now_s)
            self.cores[address_of(number)] = core
            self.events.setdefault(core.id, [])
            made.append(core)
        return made

    def cluster(self, count: int) -> list[Gossip]:
        """Nodes 1 to `count`, which have joined each other."""
        cores = self.add(*range(1, count + 1))
        for core in cores[1:]:
            core.join([address_of(1)], self.now_s)
            self.settle()
        self.run(3.0)
        for core in cores:
            assert len(list(core.members())) == count
        return cores

    def remove(self, *cores: Gossip) -> None:
        """These crash."""
        for core in cores:
            del self.cores[address(core)]

    def settle(self) -> None:
        """Carry everything until all are silent, without time going on."""
        while self._carry():
            pass

    def run(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        self.settle()
        while self.cores:
            due_s = min(core.next_timer_s() for core in self.cores.values())
            if due_s > end_s:
                break
            self.now_s = max(self.now_s, due_s)
            for core in list(self.cores.values()):
                if core.next_timer_s() <= self.now_s:
                    core.advance(self.now_s)
            self.settle()
        self.now_s = end_s

    def cut(self, *sides: Iterable[Gossip]) -> None:
        """Only members of the same side reach each other."""
        side_of = {address(core): number for number, side in enumerate(sides) for core in side}

        def passes(source: Address, to: Address) -> bool:
            return side_of.get(source) == side_of.get(to)

        self.packets = self.streams = passes

    def heal(self) -> None:
        self.packets = self.streams = lambda _source, _to: True

    def _carry(self) -> bool:
        busy = False
        for source, core in list(self.cores.items()):
            output = core.take()
            self.events[core.id] += output.events
            for datagram in output.datagrams:
                assert len(datagram.data) <= self.settings.packet_max_bytes
                self.sent += 1
                target = self.cores.get(datagram.to)
                if target is not None and self.packets(source, datagram.to):
                    target.receive(datagram.data, source, self.now_s)
            for call in output.calls:
                self.calls += 1
                reply = None
                target = self.cores.get(call.to)
                if (
                    target is not None
                    and call.node in (None, target.id)
                    and self.streams(source, call.to)
                ):
                    reply = target.serve(call.request, core.id, self.now_s)
                core.complete(call.number, reply, self.now_s)
            busy |= bool(output.datagrams or output.calls)
        return busy


def address(core: Gossip) -> Address:
    me = core.member(core.id)
    assert me is not None
    return me.address


def table(core: Gossip) -> dict[NodeId, tuple[int, int, int, tuple[NodeId, ...]]]:
    """What the core thinks of all members: epoch, incarnation, state and accusers."""
    return {
        member.id: (
            member.epoch,
            member.incarnation,
            int(member.state),
            member.accuser_list if member.state == 1 else (),
        )
        for member in core.members()
    }


def values(core: Gossip) -> dict[tuple[NodeId, Scope, str, str], bytes | None]:
    """The visible records but for keyrings and attachments."""
    return {
        (record.owner, record.scope, record.table, record.key): record.value
        for record in core.records()
        if record.table not in ("keyring", "attachment")
    }


def states(events: Iterable[Event], node: NodeId) -> list[int | None]:
    """The states that events tell of a node, without repetitions; None: it was forgotten."""
    found: list[int | None] = []
    for event in events:
        if isinstance(event, MemberChanged) and event.id == node and event.after not in found[-1:]:
            found.append(event.after)
    return found


def replayed(events: Iterable[Event]) -> dict[tuple[NodeId, Scope, str, str], bytes]:
    """The table that follows from events, which have to be a valid history of each record."""
    shown: dict[tuple[NodeId, Scope, str, str], bytes] = {}
    for event in events:
        if isinstance(event, RecordChanged):
            key = event[:4]
            assert event.value != shown.get(key)
            if event.value is None:
                del shown[key]
            else:
                shown[key] = event.value
    return shown


def checker() -> Checker:
    return Checker(SIGNATURES.verify, CLUSTER)
