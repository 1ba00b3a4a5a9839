"""What has to be so, and until when: each lets time pass until it is, or is a violation."""

from collections.abc import Callable, Iterable

from netd.gossip.values import GLOBAL, NodeId, State
from tests.sim.cluster import Cluster
from tests.sim.invariants.membership import Agreement, DeathIsNoticed
from tests.sim.invariants.records import Convergence, Key
from tests.sim.invariants.traffic import Quiet
from tests.sim.node import Node

STEP_S = 0.25
CALM_S = 5.0
QUIET_BYTES = 600  # from one node in one probe interval


def settled(
    cluster: Cluster,
    *,
    within_s: float = 30.0,
    nodes: Iterable[Node] | None = None,
    number: int = 4,
) -> float:
    """These nodes, all that run unless told otherwise, take each other for alive, nobody else,
    and have each other's records. How long it took.
    """
    agreement, convergence = Agreement(number), Convergence()

    def is_so(waited_s: float) -> bool:
        group = list(nodes) if nodes is not None else cluster.running()
        ids = frozenset(node.id for node in group if node.driver is not None)
        views = {node.label: alive(node) for node in group}
        if not agreement.see(waited_s, within_s, {"as it is": ids, **views}):
            return False
        return all(
            convergence.see(
                waited_s,
                within_s,
                node.label,
                records_of(cluster, node, ids),
                should_have(node, group),
            )
            for node in group
        )

    return wait(cluster, is_so)


def dead_everywhere(
    cluster: Cluster, *victims: Node, within_s: float, at: Iterable[Node] | None = None
) -> float:
    """All others have noticed that these are dead, or never knew them."""
    check = DeathIsNoticed()
    observers = list(at) if at is not None else cluster.running()

    def is_so(waited_s: float) -> bool:
        return all(
            check.see(
                waited_s,
                within_s,
                victim.label,
                {node.label: state_of(node, victim.id) for node in observers},
            )
            for victim in victims
        )

    return wait(cluster, is_so)


def soon(
    cluster: Cluster, what: str | Callable[[], str], is_so: Callable[[], bool], *, within_s: float
) -> float:
    """Whatever `is_so` tells becomes so; `what` says it in words."""

    def checked(waited_s: float) -> bool:
        if is_so():
            return True
        text = what if isinstance(what, str) else what()
        assert waited_s <= within_s, f"not so after {waited_s:.1f} s: {text}"
        return False

    return wait(cluster, checked)


def quiet(cluster: Cluster, *, seconds: float = 10.0) -> None:
    """Nothing happens, so next to nothing is sent."""
    cluster.run(CALM_S)
    interval_s = cluster.settings.probe_interval_s
    check = Quiet(6 / interval_s, QUIET_BYTES / interval_s)
    nodes = cluster.running()
    before = {node.label: (node.sent_packets, node.sent_bytes) for node in nodes}
    cluster.run(seconds)
    for node in nodes:
        packets, sent_bytes = before[node.label]
        packets, sent_bytes = node.sent_packets - packets, node.sent_bytes - sent_bytes
        check.see(node.label, seconds, packets, sent_bytes)


def wait(cluster: Cluster, is_so: Callable[[float], bool]) -> float:
    """Let time pass until it is; seconds from now. `is_so` is told how long it was."""
    start_s = cluster.now_s
    while not is_so(cluster.now_s - start_s):
        cluster.run(STEP_S)
    return cluster.now_s - start_s


# Looking at one node


def alive(node: Node) -> frozenset[NodeId]:
    """Whom it takes for alive, itself included."""
    return frozenset(m.id for m in node.core.members() if m.state is State.ALIVE)


def state_of(node: Node, other: NodeId) -> State | None:
    member = node.core.member(other)
    return member.state if member is not None else None


def records_of(cluster: Cluster, node: Node, owners: Iterable[NodeId]) -> dict[Key, bytes]:
    """What it shows of these owners' records."""
    table = cluster.watch.table(node)
    return {key: value for key, value in table.items() if key[0] in set(owners)}


def should_have(node: Node, owners: Iterable[Node]) -> dict[Key, bytes]:
    """What a node has to show of what these want published."""
    scopes = {GLOBAL, *node.wants.scopes}
    return {
        (owner.id, scope, table, key): value
        for owner in owners
        if owner.id != node.id
        for (scope, table, key), value in owner.wants.records.items()
        if scope in scopes
    }
