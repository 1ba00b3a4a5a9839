"""Names, addresses and keys change hands."""

from tests.sim import expect
from tests.sim.cluster import Cluster
from tests.sim.node import Node
from tests.sim.scenarios.registry import scenario, settled

SPARE = 200  # the number of an address that no node has


@scenario
def new_address(seed: int) -> Cluster:
    """A node comes back at another address, and now and then another takes its old one."""
    cluster = settled(seed)
    node = cluster.one()
    old = node.address
    cluster.crash(node)
    cluster.run(cluster.random.choice([0.1, 3, 20]))
    cluster.restart(node, address=("10.1.0.1", 7946))
    if cluster.random.random() < 0.5:
        heir = cluster.add()
        heir.move(old)
        heir.boot(cluster.seeds(heir))
    expect.settled(cluster)
    return cluster


@scenario
def addresses_swapped(seed: int) -> Cluster:
    """Two nodes come back, each at the address of the other."""
    cluster = settled(seed)
    one, other = cluster.any(2)
    addresses = one.address, other.address
    cluster.crash(one, other)
    cluster.run(cluster.random.choice([0.1, 3, 20]))
    one.move(("10.1.0.1", 7946))
    other.move(addresses[0])
    one.move(addresses[1])
    cluster.restart(one, other)
    expect.settled(cluster)
    return cluster


@scenario
def lost_disk(seed: int) -> Cluster:
    """A node comes back with another key and its old name; the old node is dead."""
    cluster = settled(seed)
    node = cluster.one()
    old = node.id
    cluster.crash(node)
    cluster.run(cluster.random.choice([0.1, 3, 20]))
    cluster.lose_disk(node)
    cluster.restart(node)
    expect.settled(cluster)
    assert all(old not in expect.alive(other) for other in cluster.nodes)
    cluster.run(5)
    assert not cluster.watch.problems, "two nodes of one name, and one of them is dead"
    return cluster


@scenario
def cloned_machine(seed: int) -> Cluster:
    """A copy of a machine runs beside it: that is told, no storm follows, and one of the two is
    silent; it is a member again when it is restarted and the other one is gone.
    """
    cluster = settled(seed)
    node = cluster.one()
    others = cluster.others(node)
    twin = cluster.clone(node, running=cluster.random.random() < 0.7)
    expect.soon(
        cluster,
        "the clone is noticed",
        lambda: any(code == "cloned-identity" for _, code, _ in cluster.watch.problems),
        within_s=20,
    )
    before = cluster.network.packets
    seconds = 90 if seed % 5 == 0 else 20  # one renewal of epochs more, or none
    cluster.run(seconds)
    rate = (cluster.network.packets - before) / seconds / len(cluster.nodes)
    assert rate * cluster.settings.probe_interval_s < 10, f"{rate:.0f} packets/s from each node"
    expect.settled(cluster, nodes=[*others, later(node, twin)], within_s=0)
    loser, winner = sorted((node, twin), key=lambda one: one.disk.epoch)
    cluster.crash(loser, winner)
    cluster.run(cluster.random.choice([0.1, 20]))
    cluster.restart(loser)
    expect.settled(cluster)
    return cluster


def later(*nodes: Node) -> Node:
    """The one that runs in the latest epoch."""
    return max(nodes, key=lambda node: node.disk.epoch)


@scenario
def restored_backup(seed: int) -> Cluster:
    """A machine is set back to an earlier state, and its clock is behind as well: it is a member
    again, at the latest when it has been started once more.
    """
    cluster = settled(seed)
    node = cluster.one()
    early = node.disk.epoch
    for _ in range(2):
        cluster.crash(node)
        cluster.run(cluster.random.choice([0.5, 20]))
        cluster.restart(node)
        expect.settled(cluster, within_s=20)
    cluster.crash(node)
    node.disk.epoch = early
    node.clock.wall_offset_s = -3600.0
    cluster.run(cluster.random.choice([0.5, 20]))
    cluster.restart(node)
    expect.settled(cluster)
    return cluster


@scenario
def duplicate_name(seed: int) -> Cluster:
    """Two nodes of one name are both members; everybody is told, until one is gone."""
    cluster = settled(seed)
    twin = cluster.add(name=cluster.one().name)
    twin.boot(cluster.seeds(twin))
    expect.settled(cluster)
    expect.soon(
        cluster, "all are told", lambda: len(told(cluster)) == len(cluster.nodes), within_s=5
    )
    cluster.leave(twin)
    cluster.run(twin.settings.leave_s)
    expect.soon(cluster, "the problem is gone", lambda: not told(cluster), within_s=10)
    expect.settled(cluster)
    return cluster


def told(cluster: Cluster) -> set[str]:
    """The nodes that know of a duplicate name."""
    return {who for who, code, _ in cluster.watch.problems if code == "duplicate-name"}
