"""What is measured on simulated nodes: each function is one run, in a process of the pool."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from os import cpu_count
from typing import Final, Literal, NamedTuple

from netd.gossip.settings import Profile
from netd.gossip.values import GLOBAL, State
from tests.bench.gossip_cluster import HEADERS_BYTES, Bench, sealed
from tests.lab.process import die_with_parent
from tests.sim.node import Node

CRASH_S: Final = 120.0  # after which a crash counts as never noticed
CHANGE_S: Final = 60.0
HEAL_S: Final = 300.0
SLOW_S: Final = 2.0
STEP_S: Final = 0.25
VALUE_BYTES: Final = 100
DEAF_SHARES: Final = (1.0, 0.9, 0.7)  # of the packets to the deaf node that are lost

Trouble = Literal["loss", "deaf", "slow"]
Cut = Literal["half", "one"]


class Deaths(NamedTuple):
    """Of nodes that run and hear, in so many node-hours."""

    false: int
    node_hours: float
    suspicions: int
    cpu_s: float


class Traffic(NamedTuple):
    """Of one node in a second, and what it cost to simulate all of them."""

    packets: float
    payload_bytes: float
    bytes: float  # with headers of IP and UDP
    virtual_s_per_cpu_s: float


class Never(AssertionError):
    """What was waited for did not happen in the time that is far too long for it."""


def pool() -> ProcessPoolExecutor:
    """One process for each processor; they end with this one, however that ends."""
    return ProcessPoolExecutor(cpu_count(), get_context("spawn"), die_with_parent)


def all_of(jobs: Iterable[Future[list[float]]]) -> list[float]:
    """What all of them have found. All are begun before the first is waited for."""
    return [value for job in list(jobs) for value in job.result()]


def crashes(seed: int, size: int, profile: Profile, kills: int) -> list[float]:
    """Seconds until all others take a crashed node for dead, for one crash after another."""
    cluster = Bench(seed, size, profile)
    took_s = []
    for _ in range(kills):
        cluster.run(cluster.random.random() * 10)
        victim = cluster.one()
        victim_id, began_s = victim.id, cluster.now_s
        cluster.crash(victim)
        heard = _deaths_of(cluster, victim_id, began_s)
        took_s.append(max(heard) - began_s)
    return took_s


def _deaths_of(cluster: Bench, victim: bytes, began_s: float) -> list[float]:
    """When each of the others took it for dead."""

    def told() -> dict[str, float]:
        return {
            label: at_s
            for at_s, label, node in cluster.recorder.deaths
            if node == victim and at_s >= began_s
        }

    _wait(cluster, lambda: len(told()) == len(cluster.running()), CRASH_S)
    return list(told().values())


def false_deaths(trouble: Trouble, seed: int, size: int, profile: Profile, hours: float) -> Deaths:
    """Nobody dies for `hours`, with loss everywhere, one deaf node, or 8 slow ones."""
    began_cpu_s = time.process_time()
    cluster = Bench(seed, size, profile)
    deaf = None
    if trouble == "loss":
        cluster.network.lossy(0.2)
    elif trouble == "slow":
        for number, node in enumerate(cluster.any(8)):
            node.slow_down(SLOW_S, timers=bool(number % 2))
    else:
        deaf = cluster.one()
        share = DEAF_SHARES[seed % len(DEAF_SHARES)]
        for other in cluster.others(deaf):
            cluster.network.link(other, deaf).loss = share
    # All that is told of deaths is kept: many would be a result, and fill the memory.
    cluster.run(hours * 3600)
    well = {node.id for node in cluster.nodes if node is not deaf}
    return Deaths(
        false=sum(victim in well for _, _, victim in cluster.recorder.deaths),
        node_hours=hours * size,
        suspicions=cluster.counted("probes_failed"),
        cpu_s=time.process_time() - began_cpu_s,
    )


def changes(seed: int, size: int, profile: Profile, count: int, loss: float) -> list[float]:
    """Seconds until the last node shows a record that one has written, for so many of them."""
    cluster = Bench(seed, size, profile)
    cluster.network.lossy(loss)
    took_s = []
    for number in range(count):
        cluster.run(0.5 + cluster.random.random())
        writer = cluster.one()
        cluster.publish(writer, "changing", size=VALUE_BYTES)
        value = writer.wants.records[GLOBAL, "t", "changing"]
        seen: list[float] = []
        cluster.recorder.records[value] = seen
        began_s = cluster.now_s
        _wait(cluster, partial(_all_have, seen, size - 1), CHANGE_S)
        took_s.append(max(seen) - began_s)
        cluster.recorder.records.pop(value)
        if number == 0:
            took_s.clear()  # its key is new to all; the others are changes
    return took_s


def bursts(seed: int, size: int, profile: Profile, count: int, writers: int) -> list[float]:
    """Seconds until the last node shows all that so many others have written at one instant."""
    cluster = Bench(seed, size, profile)
    seen = cluster.recorder.records
    took_s = []
    for number in range(count + 1):
        cluster.run(3.0 + cluster.random.random())
        for writer in cluster.any(writers):
            cluster.publish(writer, "changing", size=VALUE_BYTES)
            seen[writer.wants.records[GLOBAL, "t", "changing"]] = []
        began_s = cluster.now_s
        _wait(cluster, lambda: all(_all_have(at_s, size - 1) for at_s in seen.values()), CHANGE_S)
        if number:  # the first time keys are new
            took_s.append(max(max(at_s) for at_s in seen.values()) - began_s)
        seen.clear()
    return took_s


def _all_have(seen: list[float], others: int) -> bool:
    return len(seen) == others


def quiet(seed: int, size: int, profile: Profile, seconds: float) -> Traffic:
    """What nodes send while nothing happens."""
    # Memory for the logs of so many nodes is there only once.
    return _traffic(Bench(seed, size, profile, shared=size > 1000), seconds)


def speed(size: int, profile: Profile, seconds: float, *, seals: bool) -> float:
    """Virtual seconds of a quiet cluster that one processor simulates in a second."""
    cluster = sealed(1, size, profile) if seals else Bench(1, size, profile)
    return _traffic(cluster, seconds).virtual_s_per_cpu_s


def _traffic(cluster: Bench, seconds: float) -> Traffic:
    size = len(cluster.nodes)
    packets, payload = cluster.traffic()
    began_cpu_s = time.process_time()
    cluster.run(seconds)
    cpu_s = time.process_time() - began_cpu_s
    more_packets, more_payload = cluster.traffic()
    packets, payload = more_packets - packets, more_payload - payload
    total = payload + packets * HEADERS_BYTES
    node_s = size * seconds
    return Traffic(packets / node_s, payload / node_s, total / node_s, seconds / cpu_s)


def heal(seed: int, size: int, profile: Profile, cut: Cut, partition_s: float) -> float:
    """Seconds from the end of a partition until all nodes have all members and all records.

    Each side writes meanwhile: every tenth node one record at the beginning, one at the end.
    """
    cluster = Bench(seed, size, profile)
    nodes = cluster.any(size)
    left = nodes[: size // 2] if cut == "half" else nodes[:1]
    right = nodes[len(left) :]
    for node in nodes:
        cluster.publish(node, "own", size=VALUE_BYTES)
    _await_agreement(cluster)
    cluster.network.partition(left, right)
    writers = [*left[::10], *right[::10]]
    for node in writers:
        cluster.publish(node, "own", size=VALUE_BYTES)
    cluster.run(partition_s)
    for node in writers:
        cluster.publish(node, "later", size=VALUE_BYTES)
    # Who is alone doubts itself, and takes its time.
    others = right[0].core.members()
    assert sum(not member.hidden for member in others) == len(right), "nobody has noticed"
    cluster.network.heal()
    return _await_agreement(cluster)


def _await_agreement(cluster: Bench) -> float:
    """Until all take all for alive and show all that was written: how long it took."""
    ids = {node.id for node in cluster.nodes}
    written = {
        (node.id, key): value
        for node in cluster.nodes
        for (_, _, key), value in node.wants.records.items()
    }

    def agree(node: Node) -> bool:
        if _alive(node) != ids:
            return False
        shown = {(r.owner, r.key): r.value for r in node.core.records(GLOBAL, "t")}
        return shown == written

    began_s = cluster.now_s
    left = list(cluster.nodes)

    def all_agree() -> bool:
        # Whoever agrees is asked again at the end only.
        left[:] = [node for node in left if not agree(node)] or [
            node for node in cluster.nodes if not agree(node)
        ]
        return not left

    _wait(cluster, all_agree, HEAL_S)
    return cluster.now_s - began_s


def _alive(node: Node) -> set[bytes]:
    return {member.id for member in node.core.members() if member.state is State.ALIVE}


def _wait(cluster: Bench, is_so: Callable[[], bool], within_s: float) -> None:
    end_s = cluster.now_s + within_s
    while not is_so():
        if cluster.now_s > end_s:
            raise Never(f"seed {cluster.seed}: not so after {within_s:g} s")
        cluster.run(STEP_S)
