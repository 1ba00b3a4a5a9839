"""Keys change, packets are not what they seem, and versions differ."""

from netd.gossip.codec import encode, join_parts
from netd.gossip.keys import RingConflict
from netd.gossip.messages import Alive, Delta, Entry, Left, Mark
from netd.gossip.ring import Ring, key_id
from netd.gossip.sealing import Seal
from netd.gossip.settings import profile
from netd.gossip.values import GLOBAL, Address
from tests.sim import expect
from tests.sim.cluster import Cluster, protocol
from tests.sim.invariants.traffic import NoProbeFails, NothingChanges
from tests.sim.network import Packet
from tests.sim.node import Node
from tests.sim.scenarios.registry import scenario, settled
from tests.sim.signatures import RealSignatures
from tests.sim.world import Action

ELSEWHERE: Address = "203.0.113.9", 7946


@scenario
def key_rotation(seed: int) -> Cluster:
    """Install, use, remove, at different nodes and at any time: no probe fails of it."""
    cluster = settled(seed)
    cluster.run(5)
    check = NoProbeFails()
    look(cluster, check)
    old = cluster.ring.primary
    for number in range(2):
        secret = bytes([number]) * 32
        key = key_id(secret)
        change(cluster, install(secret))
        cluster.run(cluster.random.choice([0.0, 0.01, 0.5, 3]))
        change(cluster, use(key))
        cluster.run(cluster.random.choice([0.0, 0.01, 0.5, 3]))
        change(cluster, remove(old))
        # The next one begins with what this one has led to, as an operator would see.
        one_ring(cluster, keys=1)
        old = key
        look(cluster, check)
    cluster.run(15)
    look(cluster, check)
    one_ring(cluster, keys=1)
    expect.settled(cluster, within_s=0)
    return cluster


@scenario
def key_rotation_with_one_cut_off(seed: int) -> Cluster:
    """A node misses some steps of a rotation, or all, and is a member again all the same."""
    cluster = settled(seed)
    away = cluster.one()
    others = cluster.others(away)
    old = cluster.ring.primary
    secret = b"k" * 32
    key = key_id(secret)
    steps = [install(secret), use(key), remove(old)]
    begin, end = sorted(cluster.random.sample(range(4), 2))
    for number, step in enumerate(steps):
        if number == begin:
            cluster.network.partition([away], others)
            cluster.run(cluster.random.choice([0, 30]))
        if number == end:
            cluster.network.heal()
        change(cluster, step, at=others)
        cluster.run(cluster.random.choice([0, 1, 20]))
    cluster.network.heal()
    expect.settled(cluster, within_s=40, number=8)
    one_ring(cluster, keys=1)
    return cluster


@scenario
def changes_of_keys_at_two_places(seed: int) -> Cluster:
    """Two sides of a partition install different keys: after it all have one ring with both."""
    cluster = settled(seed)
    nodes = cluster.any(len(cluster.nodes))
    one, other = nodes[: len(nodes) // 2], nodes[len(nodes) // 2 :]
    cluster.network.partition(one, other)
    cluster.run(20)
    secrets = [bytes([number]) * 32 for number in range(2)]
    for secret, side in zip(secrets, (one, other), strict=True):
        key = key_id(secret)
        change(cluster, install(secret), at=side)
        if cluster.random.random() < 0.5:
            cluster.run(5)
            change(cluster, use(key), at=side)
    cluster.run(cluster.random.choice([0, 5]))
    cluster.network.heal()
    expect.settled(cluster, within_s=40, number=8)
    cluster.run(5)
    one_ring(cluster, keys=0)
    for node in cluster.nodes:
        assert set(secrets) <= set(node.core.ring.keys), "a key was lost"
    return cluster


def install(secret: bytes) -> Action:
    return lambda core, now_s: core.install_key(secret, now_s)


def use(key: bytes) -> Action:
    return lambda core, now_s: core.use_key(key, now_s)


def remove(key: bytes) -> Action:
    return lambda core, now_s: core.remove_key(key, now_s)


def change(cluster: Cluster, action: Action, at: list[Node] | None = None) -> None:
    """What an operator does: try it anywhere until nothing speaks against it."""

    refusals: set[str] = set()

    def done() -> bool:
        node = cluster.one(at)
        try:
            node.tell(action)
        except RingConflict as refusal:
            refusals.add(str(refusal))
            return False
        return True

    expect.soon(cluster, lambda: f"the keyring can be changed: {refusals}", done, within_s=60)


def look(cluster: Cluster, check: NoProbeFails) -> None:
    for node in cluster.nodes:
        counters = node.core.counters
        check.see(node.label, counters["probes_failed"], counters["refused_key"])


def one_ring(cluster: Cluster, *, keys: int) -> None:
    """All have the same keyring soon, with so many keys unless that does not matter."""

    def is_so() -> bool:
        rings = {node.core.ring for node in cluster.nodes}
        return len(rings) == 1 and (not keys or len(rings.pop().keys) == keys)

    expect.soon(cluster, f"one keyring of {keys} keys", is_so, within_s=15)


@scenario
def hostile_packets(seed: int) -> Cluster:
    """What is corrupted, cut short, replayed, or from elsewhere changes nothing and is counted."""
    cluster = settled(seed, 4, 6)
    tapped: list[Packet] = []
    cluster.network.inspect = tapped.append
    for node in cluster.nodes:
        cluster.publish(node, "facts")
    cluster.run(3)
    cluster.network.inspect = None
    cluster.run(3)
    random = cluster.random
    stranger = Seal(b"s" * 16, 1, cluster.world.cluster_id, Ring.first(b"x" * 32))
    foreign = Seal(b"s" * 16, 1, b"another cluster!", cluster.ring)
    for _ in range(60):
        number, to, data = random.choice(tapped)
        target = next(node for node in cluster.nodes if node.address == to)
        source = cluster.nodes[number].address
        place = random.randrange(len(data))
        flipped = data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]
        kinds = {
            "a corrupted packet": flipped,
            "a truncated packet": data[:place],
            "a longer packet": data + random.randbytes(9),
            "a repeated packet": data,
            "junk": random.randbytes(random.randrange(1500)),
            "a packet of another key": stranger.seal(b"\x90"),
            "a packet of another cluster": foreign.seal(b"\x90"),
        }
        what = random.choice(list(kinds))
        changes_nothing(target, what, kinds[what], source)
        cluster.run(0.1)
    expect.quiet(cluster)
    expect.settled(cluster, within_s=0)
    return cluster


@scenario
def hostile_requests(seed: int) -> Cluster:
    """Requests and replies that are junk, or another's, change nothing."""
    cluster = settled(seed, 4, 5)
    random = cluster.random
    for _ in range(30):
        node, other = cluster.any(2)
        before = shown(node)
        core, now_s = node.core, node.clock.now_s()
        request = random.randbytes(random.randrange(200))
        if random.random() < 0.5:
            request = bytes([0x90 + random.randrange(16), random.randrange(256)]) + request
        core.serve(request, random.choice([other.id, b"?" * 16]), now_s)
        core.complete(random.randrange(100), request, now_s)
        assert shown(node) == before
        cluster.run(0.1)
    expect.settled(cluster, within_s=5)
    return cluster


@scenario
def forged_statements(seed: int) -> Cluster:
    """Who has the cluster's key can still say nothing in another's name."""
    cluster = settled(seed, 4, 6)
    seal = Seal(b"m" * 16, 1, cluster.world.cluster_id, cluster.ring)
    for _ in range(20):
        node, victim = cluster.any(2)
        member = node.core.member(victim.id)
        assert member is not None
        age = member.epoch, member.incarnation + cluster.random.choice([0, 1, 7])
        wrong = cluster.random.randbytes(64)
        entry = Entry(1000, "t", "facts", b"forged", wrong)
        mark = Mark(1000, 0, 0, wrong)
        forged = [
            Alive(victim.id, *age, wrong),
            Left(victim.id, *age, wrong),
            Delta(victim.id, GLOBAL, member.epoch, mark, 0, 1000, True, (entry,)),
            Delta(victim.id, GLOBAL, member.epoch + 1, mark, 0, 1000, True, (entry,)),
            Delta(victim.id, GLOBAL, member.epoch + 1, mark, 0, 1000, True, ()),
        ]
        before = shown(node)
        packet = seal.seal(join_parts(map(encode, forged)))
        node.arrive((packet, ELSEWHERE, 0))
        assert shown(node) == before
        cluster.run(0.1)
    expect.settled(cluster, within_s=5)
    return cluster


def changes_nothing(node: Node, what: str, data: bytes, source: Address) -> None:
    """Give a node a packet that it has to refuse.

    Who seals with an unknown key, or in an epoch that is over, may be a member that has missed
    something: of the first a stream is asked for, the second is told. Both are rare by design.
    """
    core = node.core
    before, counted = shown(node), dict(core.counters)
    core.receive(data, source, node.clock.now_s())
    datagrams, calls, events = core.take()
    for call in calls:
        core.complete(call.number, None, node.clock.now_s())
    why = {name for name, count in core.counters.items() if count > counted.get(name, 0)}
    sent = len(events)
    sent += len(datagrams) - (len(datagrams) == 1 and "refused_epoch" in why)
    sent += len(calls) - (len(calls) == 1 and "refused_key" in why)
    refused = sum(name.startswith("refused_") for name in why)
    NothingChanges().see(what, before, shown(node), sent, refused)


def shown(node: Node) -> object:
    """All that a core shows of the cluster."""
    core = node.core
    members = [
        (m.id, m.name, m.address, m.epoch, m.incarnation, m.state, m.unreachable)
        for m in core.members()
    ]
    levels = core.levels()
    return members, list(core.records()), core.ring, levels["members"], levels["logs"]


@scenario
def real_signatures(seed: int) -> Cluster:
    """The same with Ed25519, which the other scenarios do without."""
    cluster = settled(seed, 3, 4, signatures=RealSignatures())
    for number in range(10):
        cluster.publish(cluster.one(), f"k{number % 3}")
        cluster.run(0.1)
    victim = cluster.one()
    cluster.crash(victim)
    cluster.run(0.5)
    cluster.restart(victim)
    expect.settled(cluster, within_s=10)
    cluster.leave(victim)
    cluster.run(2)
    assert not any("refused_signature" in node.core.counters for node in cluster.running())
    return cluster


@scenario
def version_skew(seed: int) -> Cluster:
    """Nodes of two neighbouring versions are one cluster, and stay so through an upgrade."""
    fast = profile("fast")
    cluster = settled(seed, settings=protocol(fast, 1, 1))
    for node in cluster.any(len(cluster.nodes) // 2):
        node.settings = protocol(fast, 1, 2)
        cluster.crash(node, power=False)
        cluster.run(0.5)
        cluster.restart(node)
        expect.settled(cluster, within_s=10)
    stranger = cluster.add(settings=protocol(fast, 3, 3))
    stranger.boot(cluster.seeds(stranger))
    cluster.run(10)
    assert len(expect.alive(stranger)) == 1, "versions that have nothing in common do not mix"
    expect.quiet(cluster)
    cluster.crash(stranger)
    expect.settled(cluster, within_s=0)
    return cluster
