"""A cluster, and what can be done to it: the words in which scenarios are written."""

import gc
import hashlib
import random
from collections.abc import Sequence

import msgspec

from netd.gossip.calls import WAITING_MAX
from netd.gossip.ring import Ring
from netd.gossip.settings import Profile, Settings, profile
from netd.gossip.values import GLOBAL, Address, Scope
from tests.sim.clock import Clock
from tests.sim.core import Factory
from tests.sim.invariants.traffic import Bounds
from tests.sim.network import PACKET_MAX_BYTES, Network
from tests.sim.node import Node
from tests.sim.real import acquaint, real_core
from tests.sim.signatures import FakeSignatures, Signatures
from tests.sim.streams import Streams
from tests.sim.trace import Trace
from tests.sim.watch import Watch
from tests.sim.world import Disk, World

LOOK_S = 0.5  # virtual seconds between two looks at all that cores show
NEVER = float("inf")
PORT = 7946
ALOUD = False  # whether clusters print what happens


class Cluster:
    """Nodes that do not run yet. All randomness comes from `seed`; `random` is the scenario's.

    `mistake_s` is how long a node that lives may be called dead, see invariant 6. Without `watched`
    invariants are left out, for measurements.
    """

    def __init__(
        self,
        seed: int,
        size: int,
        *,
        settings: Profile | Settings = "fast",
        factory: Factory = real_core,
        signatures: Signatures | None = None,
        mistake_s: float = 60.0,
        watched: bool = True,
    ) -> None:
        self.seed = seed
        self.random = random.Random(f"{seed} scenario")
        self.settings = profile(settings) if isinstance(settings, str) else settings
        self.clock = Clock()
        self.network = Network(self.clock, random.Random(f"{seed} network"))
        self.trace = Trace(aloud=ALOUD)
        streams = Streams(self.clock, self.network, random.Random(f"{seed} streams"))
        bounds = Bounds(PACKET_MAX_BYTES, levels_max(self.settings))
        self.watch = Watch(self.trace, self.network, bounds, mistake_s)
        self.streams = streams
        self.world = World(
            clock=self.clock,
            network=self.network,
            streams=streams,
            trace=self.trace,
            signatures=signatures or FakeSignatures(),
            factory=factory,
            cluster_id=self._bytes("cluster", 16),
            listener=self.watch,
        )
        self.ring = Ring.first(self._bytes("ring", 32))
        self.nodes: list[Node] = []
        self._look_s = LOOK_S if watched else NEVER
        self._written = 0
        for _ in range(size):
            self.add()

    @property
    def now_s(self) -> float:
        return self.clock.now_s

    # Nodes

    def add(self, *, name: str = "", settings: Settings | None = None) -> Node:
        """One more node that does not run yet. It calls itself `name`, or as no other."""
        number = len(self.nodes)
        disk = Disk(secret=self._bytes(f"node {number}", 32), ring=self.ring)
        address = address_of(number + 1)
        node = Node(number, address, disk, settings or self.settings, self.world, name=name)
        self.nodes.append(node)
        self.watch.add(node)
        return node

    def running(self) -> list[Node]:
        """The nodes that run and mean to go on."""
        return [node for node in self.nodes if node.driver is not None and not node.leaving]

    def any(self, count: int, of: Sequence[Node] | None = None) -> list[Node]:
        """So many nodes, at random, of those that run unless told otherwise."""
        return self.random.sample(self.running() if of is None else list(of), count)

    def one(self, of: Sequence[Node] | None = None) -> Node:
        return self.any(1, of)[0]

    def others(self, *nodes: Node) -> list[Node]:
        """The nodes that run and are not these."""
        return [node for node in self.running() if node not in nodes]

    # Time

    def run(self, seconds: float) -> None:
        """Let time pass, and look at everything meanwhile."""
        end_s = self.clock.now_s + seconds
        while self._look_s <= end_s:
            self.clock.run(self._look_s)
            self.watch.look()
            self._look_s = self.clock.now_s + LOOK_S
        self.clock.run(end_s)

    # Life and death

    def start(self, *nodes: Node, within_s: float = 0.0) -> None:
        """Boot these, or all, at times spread over `within_s`; they join at the first ones."""
        for node in nodes or self.nodes:
            when_s = self.clock.now_s + self.random.random() * within_s
            self.clock.at(when_s, node.boot, self.seeds(node))

    def start_acquainted(self) -> None:
        """Boot all as members that know each other: for clusters too large to form here."""
        for node in self.nodes:
            node.boot(self.seeds(node))
        # Millions of objects that stay: looking through them for garbage takes longer than this.
        gc.disable()
        acquaint([node.core for node in self.nodes])
        gc.freeze()
        gc.enable()
        for node in self.nodes:
            node.tell(lambda _core, _now_s: None)

    def seeds(self, node: Node) -> list[Address]:
        """Where a node joins: at the first three, and where it knew others."""
        first = [other.address for other in self.nodes[:3] if other is not node]
        return list(dict.fromkeys([*first, *node.disk.peers]))

    def crash(self, *nodes: Node, power: bool | None = None) -> None:
        """Processes end without a word; hosts as well with `power`, by chance if not said."""
        for node in nodes:
            node.die(power=self.random.random() < 0.5 if power is None else power)

    def restart(self, *nodes: Node, address: Address | None = None) -> None:
        """Boot again what has crashed, at another address if there is one."""
        for node in nodes:
            if address is not None:
                node.move(address)
            node.boot(self.seeds(node))

    def lose_disk(self, node: Node) -> None:
        """Its disk is new: another key, the same name; programs ask for what they want again."""
        self._written += 1
        secret = self._bytes(f"new disk {self._written}", 32)
        node.disk = Disk(secret=secret, ring=node.disk.ring)

    def clone(self, node: Node, *, running: bool) -> Node:
        """A copy of the node begins to run elsewhere: of a machine that was running, so that it
        is the same run of the same node, or of its disk.
        """
        twin = self.add(name=node.name)
        twin.disk = Disk(secret=node.disk.secret, ring=node.disk.ring, epoch=node.disk.epoch)
        twin.wants.records.update(node.wants.records)
        twin.boot(self.seeds(twin), epoch=node.disk.epoch if running else None)
        return twin

    def leave(self, *nodes: Node) -> None:
        for node in nodes:
            node.leave()

    def stop(self, node: Node, seconds: float) -> None:
        """SIGSTOP now, SIGCONT after so long."""
        node.stop()
        self.clock.at(self.clock.now_s + seconds, lambda _: node.go_on())

    # Records

    def scope(self, number: int) -> Scope:
        return self._bytes(f"scope {number}", 8)

    def join_scope(self, node: Node, scope: Scope) -> None:
        self.watch.scopes.marks.add(scope)  # every record of it begins with its scope
        node.wants.scopes.add(scope)
        node.tell(lambda core, now_s: core.subscribe(scope, now_s))

    def leave_scope(self, node: Node, scope: Scope) -> None:
        node.wants.scopes.discard(scope)
        node.old_scopes.add(scope)
        node.tell(lambda core, now_s: core.unsubscribe(scope, now_s))

    def publish(self, node: Node, key: str, *, scope: Scope = GLOBAL, size: int = 0) -> None:
        """A program on the node writes a value that is like no other, and has its scope in it."""
        self._written += 1
        value = scope + b"%d" % self._written
        value += bytes(max(0, size - len(value)))
        node.wants.records[scope, "t", key] = value
        self._write(node, scope, key, value)

    def delete(self, node: Node, key: str, *, scope: Scope = GLOBAL) -> None:
        node.wants.records.pop((scope, "t", key), None)
        self._write(node, scope, key, None)

    def _write(self, node: Node, scope: Scope, key: str, value: bytes | None) -> None:
        if node.driver is not None:
            self.watch.written.write((node.core.id, scope, "t", key), value)
            node.tell(lambda core, now_s: core.publish(scope, "t", key, value, now_s))

    def _bytes(self, what: str, count: int) -> bytes:
        return hashlib.blake2b(f"{self.seed} {what}".encode(), digest_size=count).digest()


def address_of(number: int) -> Address:
    """Every node of a simulation has an address of its own."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", PORT


def levels_max(settings: Settings) -> dict[str, int]:
    """The most that each level of a core may ever be."""
    return {
        "members": settings.members_max,
        "statements_queued": 2 * settings.statements_queued_max,  # introductions have their own
        "changes_queued": settings.logs_queued_max,
        "logs": settings.logs_max,
        "calls": settings.calls_max + WAITING_MAX,
        "suspicions": settings.members_max,
        "health": settings.health_max - 1,
    }


def protocol(settings: Settings, least: int, most: int) -> Settings:
    """The same, of a version that speaks these."""
    return msgspec.structs.replace(settings, protocol_min=least, protocol_max=most)
