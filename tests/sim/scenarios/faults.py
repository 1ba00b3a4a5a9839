"""The network or a host is not as it should be, and nobody is to die of it."""

from tests.sim import expect
from tests.sim.cluster import Cluster
from tests.sim.network import Bursts
from tests.sim.node import Node
from tests.sim.scenarios.registry import scenario, settled, sized

HOUR_S = 3600.0


def links_of(cluster: Cluster, node: Node) -> list[tuple[Node, Node]]:
    """From and to a node."""
    others = [other for other in cluster.nodes if other is not node]
    return [(node, other) for other in others] + [(other, node) for other in others]


@scenario
def loss_of_20_percent(seed: int) -> Cluster:
    """Nobody is declared dead, changes get through, and who really crashes is noticed."""
    cluster = settled(seed)
    cluster.network.lossy(0.2)
    cluster.run(20)
    cluster.publish(cluster.one(), "facts")
    expect.soon(cluster, "all know", lambda: is_known(cluster), within_s=10)
    victim = cluster.one()
    cluster.crash(victim)
    expect.dead_everywhere(cluster, victim, within_s=40)
    cluster.network.heal()
    expect.settled(cluster)
    return cluster


def is_known(cluster: Cluster) -> bool:
    """Whether every node has what all others have published."""
    nodes = cluster.running()
    return all(cluster.watch.table(n) == expect.should_have(n, nodes) for n in nodes)


@scenario
def loss_from_the_start(seed: int) -> Cluster:
    """A cluster forms though a fifth of all packets is lost."""
    cluster = sized(seed)
    cluster.network.lossy(0.2)
    cluster.start(within_s=2.0)
    cluster.run(2.0)
    cluster.run(20)
    cluster.network.heal()
    expect.settled(cluster, within_s=10)
    return cluster


@scenario
def bursts_of_loss(seed: int) -> Cluster:
    """Loss comes in bursts, links go bad independently, packets come twice and out of order."""
    cluster = settled(seed, 5, 6)
    for node in cluster.nodes:
        for other in cluster.others(node):
            link = cluster.network.link(node, other)
            link.bursts = Bursts(enter=0.05, leave=0.3, bad_loss=0.8)
            link.duplication = 0.1
            link.reorder = 0.2
    cluster.run(25)
    cluster.network.heal()
    expect.settled(cluster)
    return cluster


@scenario
def deaf_node(seed: int) -> Cluster:
    """It hears nothing, or little: it may die of that, those that it accuses may not."""
    cluster = settled(seed)
    deaf = cluster.one()
    share = cluster.random.choice([1.0, 0.9, 0.7])
    for other in cluster.others(deaf):
        cluster.network.link(other, deaf).loss = share
    if share == 1.0 and cluster.random.random() < 0.5:
        cluster.network.cut(cluster.others(deaf), [deaf])
    cluster.watch.excused.add(deaf.id)
    cluster.run(25)
    assert cluster.watch.false_death.deaths == 0
    cluster.network.heal()
    cluster.watch.excused.clear()
    expect.settled(cluster)
    return cluster


@scenario
def mute_node(seed: int) -> Cluster:
    """It hears all and is not heard: only it dies of that."""
    cluster = settled(seed)
    mute = cluster.one()
    cluster.network.cut([mute], cluster.others(mute), tcp=cluster.random.random() < 0.5)
    cluster.run(25)
    cluster.network.heal()
    expect.settled(cluster)
    return cluster


@scenario
def slow_nodes(seed: int) -> Cluster:
    """Some handle packets up to a second late, their timers too: nobody dies."""
    cluster = settled(seed, 6, 10, settings="lan")
    for node in cluster.any(len(cluster.nodes) // 4):
        node.slow_down(1.0, timers=cluster.random.random() < 0.5)
    cluster.run(40)
    for node in cluster.nodes:
        node.slow_down(0)
    expect.settled(cluster)
    return cluster


@scenario
def stopped_process(seed: int) -> Cluster:
    """SIGSTOP for 1 to 120 s: when it goes on nobody else dies, and it is back soon."""
    cluster = settled(seed, 5, 7)
    stopped = cluster.one()
    seconds = 120 ** cluster.random.random()
    cluster.stop(stopped, seconds)
    cluster.run(seconds + 0.01)
    expect.settled(cluster)
    return cluster


@scenario
def stalls(seed: int) -> Cluster:
    """Event loops stand still for a moment here and there: nobody dies."""
    cluster = settled(seed)
    for _ in range(40):
        node = cluster.one()
        if node.is_well:
            cluster.stop(node, cluster.random.random() * 1.0)
        cluster.run(cluster.random.random())
    cluster.run(1)
    assert cluster.watch.false_death.deaths == 0
    expect.settled(cluster)
    return cluster


@scenario
def clock_steps(seed: int) -> Cluster:
    """Clocks on the wall jump by an hour and all clocks drift: nothing comes of it."""
    cluster = settled(seed)
    for node in cluster.nodes:
        node.clock.drift(cluster.random.uniform(-500, 500))
    for node in cluster.any(2):
        node.clock.wall_offset_s = cluster.random.choice([-HOUR_S, HOUR_S])
    changes = len(cluster.watch.changes)
    cluster.run(10)
    cluster.publish(cluster.one(), "facts")
    cluster.run(5)
    assert len(cluster.watch.changes) == changes
    expect.settled(cluster, within_s=0)
    victim = cluster.one()
    cluster.crash(victim)
    victim.clock.wall_offset_s = -HOUR_S
    cluster.run(1)
    cluster.restart(victim)
    expect.settled(cluster, within_s=10)
    return cluster


@scenario
def udp_blocked(seed: int) -> Cluster:
    """A node is reached by streams only, or by packets only: it lives, and learns what is new."""
    cluster = settled(seed)
    node = cluster.one()
    udp = cluster.random.random() < 0.7
    cluster.network.partition([node], cluster.others(node), udp=udp, tcp=not udp)
    cluster.run(25)
    for other in cluster.running():
        assert expect.alive(other) >= {node.id}, f"{node} is not alive at {other}"
    for one in (node, cluster.one(cluster.others(node))):
        cluster.publish(one, "facts")
        expect.soon(cluster, "all know", lambda: is_known(cluster), within_s=15)
    cluster.network.heal()
    expect.settled(cluster)
    return cluster


@scenario
def mtu_black_hole(seed: int) -> Cluster:
    """Large packets from and to a node vanish: records get through all the same."""
    cluster = settled(seed)
    node = cluster.one()
    for source, to in links_of(cluster, node):
        cluster.network.link(source, to).largest_bytes = cluster.random.choice([1200, 1200, 548])
    for one in cluster.nodes:
        for number in range(5):
            cluster.publish(one, f"large {number}", size=cluster.random.randint(100, 1000))
        cluster.run(0.2)
    cluster.run(20)
    expect.settled(cluster, within_s=20)
    return cluster


@scenario
def long_delays(seed: int) -> Cluster:
    """What one node sends and is sent is under way for up to ten seconds: only it may die of
    that, and what arrives late does no harm.
    """
    cluster = settled(seed)
    node = cluster.one()
    most_s = cluster.random.choice([0.3, 2.0, 10.0])
    for source, to in links_of(cluster, node):
        cluster.network.link(source, to).delay_s = (0.001, most_s)
    cluster.watch.excused.add(node.id)
    cluster.run(25)
    cluster.publish(node, "facts")
    cluster.network.heal()
    expect.settled(cluster)
    cluster.watch.excused.clear()
    cluster.run(10)
    expect.settled(cluster, within_s=5)
    return cluster


@scenario
def address_translation(seed: int) -> Cluster:
    """A node's packets begin to come from elsewhere; what is sent to its own address arrives."""
    cluster = settled(seed)
    node = cluster.one()
    for port in range(3):
        node.public = "192.0.2.1", 40_000 + port
        cluster.run(10)
    expect.settled(cluster, within_s=5)
    return cluster
