"""The network is cut, and grows together again."""

from tests.sim import expect
from tests.sim.cluster import Cluster
from tests.sim.node import Node
from tests.sim.scenarios.registry import scenario, settled

HEAL_S = 30.0


def halves(cluster: Cluster) -> tuple[list[Node], list[Node]]:
    """Two sides, of any sizes."""
    nodes = list(cluster.nodes)
    cluster.random.shuffle(nodes)
    place = cluster.random.randint(1, len(nodes) - 1)
    return nodes[:place], nodes[place:]


@scenario
def partition_of_an_hour(seed: int) -> Cluster:
    """Both sides live on, and know all again within half a minute. One seed in 50 has the whole
    hour; in the others it is a minute at most, which is as long to the protocol.
    """
    cluster = settled(seed, 4, 7)
    one, other = halves(cluster)
    cluster.network.partition(one, other)
    cluster.run(3600 if seed % 50 == 0 else cluster.random.choice([5, 20, 40, 60]))
    for node in cluster.nodes:
        cluster.publish(node, "facts")
    cluster.run(2)
    cluster.network.heal()
    expect.settled(cluster, within_s=HEAL_S, number=8)
    return cluster


@scenario
def flapping_partition(seed: int) -> Cluster:
    """Cut and healed again and again, in different places."""
    cluster = settled(seed)
    for _ in range(4):
        cluster.network.partition(*halves(cluster))
        cluster.run(0.5 + 10 * cluster.random.random())
        cluster.network.heal()
        cluster.run(0.5 + 10 * cluster.random.random())
    expect.settled(cluster, within_s=HEAL_S, number=8)
    return cluster


@scenario
def bridge_node(seed: int) -> Cluster:
    """Two sides do not reach each other, one node reaches both: at that one all live."""
    cluster = settled(seed, 5, 8)
    bridge, *others = cluster.any(len(cluster.nodes))
    place = cluster.random.randint(1, len(others) - 1)
    cluster.network.partition(others[:place], others[place:])
    cluster.run(25)
    cluster.network.heal()
    expect.settled(cluster, within_s=HEAL_S, number=8)
    assert expect.alive(bridge) == {node.id for node in cluster.nodes}
    return cluster


@scenario
def single_links_cut(seed: int) -> Cluster:
    """Some pairs do not reach each other, each node reaches most: nobody dies."""
    cluster = settled(seed, 7, 9)
    nodes = cluster.any(len(cluster.nodes))
    for one, other in zip(nodes[::2], nodes[1::2], strict=False):
        cluster.network.partition([one], [other])
    cluster.run(25)
    expect.settled(cluster, within_s=0)
    cluster.network.heal()
    expect.settled(cluster)
    return cluster


@scenario
def crash_behind_a_partition(seed: int) -> Cluster:
    """Some nodes end, some are restarted while the cluster is cut in two."""
    cluster = settled(seed, 6, 8)
    one, other = halves(cluster)
    cluster.network.partition(one, other)
    cluster.run(cluster.random.choice([2, 30]))
    gone, restarted = cluster.any(2)
    cluster.crash(gone, restarted)
    cluster.run(cluster.random.choice([0.1, 20]))
    cluster.restart(restarted)
    cluster.run(cluster.random.choice([1, 20]))
    cluster.network.heal()
    expect.settled(cluster, within_s=HEAL_S + 10, number=8)
    return cluster
