"""Records are written, and everybody who should has them."""

from functools import partial

from msgspec.structs import replace

from netd.gossip.settings import profile
from netd.gossip.values import GLOBAL, Scope, State
from tests.sim import expect
from tests.sim.cluster import Cluster
from tests.sim.network import Packet
from tests.sim.node import Node
from tests.sim.real import plain_core
from tests.sim.scenarios.registry import draw, scenario, settled, sized


def write_something(cluster: Cluster, node: Node, scopes: list[Scope]) -> None:
    """Create, update or delete one of a few keys."""
    key = f"k{cluster.random.randrange(6)}"
    scope = cluster.random.choice(scopes)
    if (scope, "t", key) in node.wants.records and cluster.random.random() < 0.4:
        cluster.delete(node, key, scope=scope)
    else:
        size = cluster.random.choice([0, 50, 50, 900, 3000])
        cluster.publish(node, key, scope=scope, size=size)


@scenario
def churn(seed: int) -> Cluster:
    """Records come, change and go while packets are lost and nodes restart."""
    cluster = settled(seed)
    cluster.network.lossy(cluster.random.choice([0.0, 0.1, 0.2]))
    for _ in range(45):
        node = cluster.one()
        write_something(cluster, node, [GLOBAL])
        if cluster.random.random() < 0.05 and len(cluster.running()) > 3:
            cluster.crash(cluster.one())
        down = [node for node in cluster.nodes if node.driver is None]
        if down and cluster.random.random() < 0.2:
            cluster.restart(cluster.one(down))
        cluster.run(cluster.random.random() * 0.6)
    cluster.network.heal()
    cluster.restart(*[node for node in cluster.nodes if node.driver is None])
    expect.settled(cluster)
    return cluster


@scenario
def large_join(seed: int) -> Cluster:
    """Who joins a cluster of many records has them soon, and passes none of them on. One seed in
    100 has 10,000 of them.
    """
    many = draw(seed).choice([50, 50, 50, 200, 200, 1000])
    return joins_a_large_one(seed, 10_000 if seed % 100 == 0 else many)


def joins_a_large_one(seed: int, records: int) -> Cluster:
    """A newcomer to nodes that have written so many."""
    cluster = sized(seed, 4, 6)
    newcomer = cluster.nodes[-1]
    owners = cluster.nodes[:-1]
    for number in range(records):
        cluster.publish(
            owners[number % len(owners)], f"k{number}", size=draw(number).randint(0, 99)
        )
    cluster.start(*owners)
    cluster.run(0.1)
    expect.settled(cluster, within_s=30)
    cluster.run(5)
    before = cluster.network.bytes
    cluster.start(newcomer)
    cluster.run(0.001)
    expect.settled(cluster, within_s=5)
    cluster.run(3)
    sent = cluster.network.bytes - before
    quiet = cluster.now_s * len(cluster.nodes) * 2000
    assert sent < 20_000 + quiet, f"{sent} bytes of packets"
    assert newcomer.sent_bytes < 15_000, f"{newcomer.sent_bytes} bytes sent by the newcomer"
    return cluster


@scenario
def more_than_one_may_tell(seed: int) -> Cluster:
    """One node has a flaw and tells more than anybody keeps of one: all say so, nobody goes on
    asking for it, and nothing else suffers. When it starts anew without the flaw, all is well.
    """
    bounded = replace(profile("fast"), own_records_max=20, tombstone_kept_s=20.0)
    cluster = sized(seed, settings=bounded)
    flawed = cluster.add(settings=replace(bounded, own_records_max=1 << 20))
    cluster.start(within_s=1.0)
    cluster.run(1.0)
    expect.settled(cluster)
    for number in range(cluster.random.choice([70, 150])):
        cluster.publish(flawed, f"k{number}", size=cluster.random.choice([0, 900]))
        cluster.run(cluster.random.choice([0.0, 0.0, 0.05]))
    others = cluster.others(flawed)
    told = {(node.label, "records-exceeded", flawed.id) for node in others}
    expect.soon(cluster, "all say so", lambda: told == set(cluster.watch.problems), within_s=20)
    expect.quiet(cluster)
    cluster.publish(flawed, "one more")
    writer = cluster.one(others)
    cluster.publish(writer, "else")
    value = writer.wants.records[GLOBAL, "t", "else"]
    key = (writer.id, GLOBAL, "t", "else")

    def known() -> bool:
        return all(cluster.watch.table(node).get(key) == value for node in cluster.others(writer))

    expect.soon(cluster, "what others write is known", known, within_s=3)
    newcomer = cluster.add()
    cluster.start(newcomer)
    told.add((newcomer.label, "records-exceeded", flawed.id))
    expect.soon(cluster, "a newcomer too", lambda: told == set(cluster.watch.problems), within_s=60)
    expect.quiet(cluster)
    for number in range(2, 150):
        flawed.wants.records.pop((GLOBAL, "t", f"k{number}"), None)
    cluster.crash(flawed)
    cluster.restart(flawed)
    expect.settled(cluster)
    assert not cluster.watch.problems
    return cluster


@scenario
def owner_down_and_up(seed: int) -> Cluster:
    """Records of a dead owner are hidden; they are back when it is, without being sent again."""
    cluster = settled(seed)
    owner = cluster.one()
    for number in range(20):
        cluster.publish(owner, f"k{number}")
    expect.settled(cluster, within_s=5)
    others = cluster.others(owner)
    how = cluster.random.choice(["cut off", "crashed", "stopped"])
    if how == "cut off":
        cluster.network.partition([owner], others)
    elif how == "crashed":
        cluster.crash(owner)
    else:
        owner.stop()
    expect.dead_everywhere(cluster, owner, within_s=20, at=others)
    for node in others:
        assert not expect.records_of(cluster, node, [owner.id])
    cluster.run(cluster.random.choice([0, 5, 60]))
    if how == "cut off":
        cluster.network.heal()
    elif how == "crashed":
        cluster.restart(owner)
    else:
        owner.go_on()
    for node in others:
        expect.soon(
            cluster,
            f"{owner} is back at {node}",
            partial(is_alive, node, owner),
            within_s=30,
        )
    expect.settled(cluster, within_s=3)
    return cluster


def is_alive(node: Node, owner: Node) -> bool:
    return expect.state_of(node, owner.id) is State.ALIVE


@scenario
def return_after_gc(seed: int) -> Cluster:
    """A node returns when the tombstones of what it has are gone: nothing rises from the dead.
    One seed in 20 has 1,000 of them.
    """
    settings = replace(profile("fast"), tombstone_kept_s=20.0)
    cluster = settled(seed, 4, 6, settings=settings)
    owner, away = cluster.any(2)
    count = 1000 if seed % 20 == 0 else 60
    for number in range(count):
        cluster.publish(owner, f"k{number}")
    expect.settled(cluster, within_s=10)
    if cluster.random.random() < 0.5:
        cluster.network.partition([away], cluster.others(away))
    else:
        away.stop()
    cluster.run(cluster.random.choice([1, 15]))
    kept = cluster.random.sample(range(count), 5)
    for number in range(count):
        if number not in kept:
            cluster.delete(owner, f"k{number}")
    cluster.run(40)
    cluster.network.heal()
    away.go_on()
    expect.settled(cluster)
    return cluster


@scenario
def scopes(seed: int) -> Cluster:
    """Nodes join and leave networks; records reach their members, and nobody else."""
    cluster = settled(seed, factory=plain_core)
    cluster.network.inspect = partial(stays_in_scope, cluster)
    all_scopes = [cluster.scope(number) for number in range(3)]
    for _ in range(40):
        node = cluster.one()
        scope = cluster.random.choice(all_scopes)
        mine = sorted(node.wants.scopes)
        action = cluster.random.random()
        if scope not in node.wants.scopes and action < 0.5:
            cluster.join_scope(node, scope)
        elif mine and action < 0.6:
            leave_scope(cluster, node, cluster.random.choice(mine))
        elif mine and action < 0.9:
            write_something(cluster, node, mine)
        elif action > 0.95:
            # Programs may want less after a restart.
            cluster.crash(node)
            for scope, _, key in list(node.wants.records):
                if cluster.random.random() < 0.5:
                    del node.wants.records[scope, "t", key]
            cluster.run(cluster.random.random())
            cluster.restart(node)
        cluster.run(cluster.random.random() * 0.5)
    expect.settled(cluster, within_s=10)
    return cluster


def stays_in_scope(cluster: Cluster, packet: Packet) -> None:
    """Nobody is sent records of a scope that he is not in, or was lately."""
    _, to, data = packet
    node = next(node for node in cluster.nodes if node.address == to)
    cluster.watch.scopes.wire(node.label, node.wants.scopes | node.old_scopes, data)


def leave_scope(cluster: Cluster, node: Node, scope: Scope) -> None:
    """A network's last endpoint on a node is gone: its records go first."""
    for where, _, key in list(node.wants.records):
        if where == scope:
            cluster.delete(node, key, scope=scope)
    cluster.leave_scope(node, scope)
