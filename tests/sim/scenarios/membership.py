"""Nodes come and go."""

from netd.gossip.values import State
from tests.sim import expect
from tests.sim.cluster import Cluster
from tests.sim.scenarios.registry import scenario, settled, sized


@scenario
def quiet_cluster(seed: int) -> Cluster:
    """Nothing happens: little is sent, and nobody changes his mind about anybody."""
    cluster = settled(seed, 5, 12)
    cluster.run(5)
    changes = len(cluster.watch.changes)
    expect.quiet(cluster)
    assert len(cluster.watch.changes) == changes
    return cluster


@scenario
def join_all_at_once(seed: int) -> Cluster:
    """Many boot in the same moment and know only the first three."""
    cluster = sized(seed, 8, 20)
    cluster.start(within_s=0.05)
    cluster.run(0.1)
    expect.settled(cluster, within_s=10)
    return cluster


@scenario
def joins_one_by_one(seed: int) -> Cluster:
    """Each newcomer knows all and is known to all within a moment."""
    cluster = sized(seed, 5, 9)
    for node in cluster.nodes:
        cluster.start(node)
        cluster.run(0.01)
        expect.settled(cluster, within_s=5)
    return cluster


@scenario
def crash_of_one(seed: int) -> Cluster:
    """It is dead everywhere, soon, and nobody else is; it comes back."""
    cluster = settled(seed)
    victim = cluster.one()
    cluster.crash(victim)
    expect.dead_everywhere(cluster, victim, within_s=20)
    cluster.restart(victim)
    expect.settled(cluster, within_s=10)
    return cluster


@scenario
def crash_of_a_third(seed: int) -> Cluster:
    """30 % end at once."""
    cluster = settled(seed, 7, 12)
    victims = cluster.any(len(cluster.nodes) * 3 // 10)
    cluster.crash(*victims)
    expect.dead_everywhere(cluster, *victims, within_s=40)
    expect.settled(cluster, within_s=5)
    cluster.restart(*victims)
    expect.settled(cluster, within_s=20)
    return cluster


@scenario
def crash_and_restart_at_once(seed: int) -> Cluster:
    """The process is back before anybody has missed it: nobody is ever dead."""
    cluster = settled(seed)
    for _ in range(3):
        victim = cluster.one()
        cluster.crash(victim, power=False)
        cluster.run(cluster.random.random())
        cluster.restart(victim)
        expect.settled(cluster, within_s=10)
    assert not any(change.after is State.DEAD for _, _, change in cluster.watch.changes)
    return cluster


@scenario
def mass_restart(seed: int) -> Cluster:
    """All end, and all come back; what was said of their earlier runs is of no matter."""
    cluster = settled(seed)
    cluster.crash(*cluster.nodes)
    cluster.run(cluster.random.choice([0.1, 5, 60]))
    cluster.start(within_s=cluster.random.choice([0.1, 5.0]))
    cluster.run(5.1)
    expect.settled(cluster, within_s=30)
    return cluster


@scenario
def rolling_restart(seed: int) -> Cluster:
    """One after the other is restarted, by leaving or without a word."""
    cluster = settled(seed)
    for node in list(cluster.nodes):
        if cluster.random.random() < 0.5:
            cluster.leave(node)
            cluster.run(node.settings.leave_s + 0.01)
        else:
            cluster.crash(node)
            cluster.run(cluster.random.random() * 3)
        cluster.restart(node)
        cluster.run(cluster.random.random() * 5)
    expect.settled(cluster)
    return cluster


@scenario
def graceful_leave(seed: int) -> Cluster:
    """Who leaves has left everywhere at once, is nowhere called dead, and may come back."""
    cluster = settled(seed)
    leaver = cluster.one()
    here = leaver.id
    cluster.leave(leaver)
    others = cluster.running()
    expect.soon(
        cluster,
        f"{leaver} has left",
        lambda: all(expect.state_of(node, here) is State.LEFT for node in others),
        within_s=5,
    )
    cluster.run(20)
    assert all(expect.state_of(node, here) is State.LEFT for node in others)
    assert not any(change.after is State.DEAD for _, _, change in cluster.watch.changes)
    cluster.restart(leaver)
    expect.settled(cluster, within_s=10)
    return cluster
