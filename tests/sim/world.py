"""What all nodes of a simulation share, and what outlives the runs of one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from netd.gossip.ring import Ring
from netd.gossip.values import Address, Event, NodeId, Scope
from tests.sim.clock import Clock
from tests.sim.core import Core, Factory
from tests.sim.network import Network
from tests.sim.signatures import Signatures
from tests.sim.streams import Streams
from tests.sim.trace import Trace

RecordKey = tuple[Scope, str, str]


@dataclass
class Disk:
    """What survives a crash: the node's key, the epoch of its last run, the cluster's keys, and
    where other members were last.
    """

    secret: bytes
    ring: Ring
    epoch: int = 0
    peers: tuple[Address, ...] = ()

    def next_epoch(self, wall_s: float, above: int = 0) -> int:
        """A later one, as `netd.cluster.identity` makes it; durable when this returns."""
        self.epoch = max(self.epoch + 1, int(wall_s * 1000), above + 1)
        return self.epoch


@dataclass
class Wants:
    """What the programs on a node want of it, whoever restarts it: its records and scopes."""

    records: dict[RecordKey, bytes] = field(default_factory=dict)
    scopes: set[Scope] = field(default_factory=set)


class Listener(Protocol):
    """Whoever follows what cores do: see `watch.py`."""

    def begins(self, label: str, core: Core) -> None:
        """A run begins; nothing has reached the core."""

    def ends(self, label: str, core: Core) -> None:
        """A run is about to end."""

    def tells(self, label: str, core: Core, event: Event) -> None:
        """A core has told something."""

    def serves(self, label: str, core: Core, peer: NodeId, reply: bytes) -> None:
        """A core has answered a request."""


@dataclass
class World:
    """The surroundings of every node."""

    clock: Clock
    network: Network
    streams: Streams
    trace: Trace
    signatures: Signatures
    factory: Factory
    cluster_id: bytes
    listener: Listener


Action = Callable[[Core, float], object]
