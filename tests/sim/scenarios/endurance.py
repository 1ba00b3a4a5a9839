"""A hundred nodes for hours: of those that live and are heard, nobody is declared dead (7).

The profile is `lan`; `scripts/bench gossip` has `fast`, for ten times as long.
"""

from typing import Final

from tests.sim import expect
from tests.sim.cluster import Cluster
from tests.sim.real import plain_core
from tests.sim.scenarios.registry import endurance

NODES: Final = 100
RUN_S: Final = 900.0
RUNS: Final = 4  # which makes 100 node-hours
SLOW_NODES: Final = 8
SLOW_S: Final = 2.0
DEAF_SHARES: Final = (0.7, 0.9, 1.0)  # of the packets to the deaf node that are lost


def crowd(seed: int) -> Cluster:
    """Nodes that have known each other for some time."""
    cluster = Cluster(seed, NODES, settings="lan", factory=plain_core, watched=False)
    cluster.start_acquainted()
    cluster.run(10 * cluster.settings.probe_interval_s)
    return cluster


def end(cluster: Cluster) -> Cluster:
    """All is well again, and all know it."""
    cluster.network.heal()
    for node in cluster.nodes:
        node.slow_down(0.0)
    cluster.watch.excused.clear()
    expect.settled(cluster)
    return cluster


@endurance
def loss_among_many(seed: int) -> Cluster:
    """A fifth of all packets is lost."""
    cluster = crowd(seed)
    cluster.network.lossy(0.2)
    cluster.run(RUN_S)
    return end(cluster)


@endurance
def deaf_among_many(seed: int) -> Cluster:
    """One hears little or nothing: it accuses all others, one after the other."""
    cluster = crowd(seed)
    deaf = cluster.one()
    cluster.watch.excused.add(deaf.id)
    for other in cluster.others(deaf):
        cluster.network.link(other, deaf).loss = DEAF_SHARES[seed % len(DEAF_SHARES)]
    cluster.run(RUN_S)
    return end(cluster)


@endurance
def slow_among_many(seed: int) -> Cluster:
    """Some handle packets up to two seconds late, half of them their timers too."""
    cluster = crowd(seed)
    for number, node in enumerate(cluster.any(SLOW_NODES)):
        node.slow_down(SLOW_S, timers=bool(number % 2))
    cluster.run(RUN_S)
    return end(cluster)
