"""The simulated world itself: packets, streams, processes and clocks do what they are told."""

import hashlib
from typing import cast

import pytest

from netd.gossip.values import node_id_of
from tests.sim.cluster import Cluster
from tests.sim.driver import SOCKET_BYTES
from tests.sim.echo import Echo
from tests.sim.network import Bursts
from tests.sim.node import Node
from tests.sim.signatures import FakeSignatures, RealSignatures, Signatures

PACKETS = 2_000


def world(size: int = 2) -> Cluster:
    """Nodes that run and have joined at each other."""
    cluster = Cluster(7, size, factory=Echo, watched=False)
    cluster.start()
    cluster.run(0.5)
    return cluster


def core(node: Node) -> Echo:
    return cast(Echo, node.core)


def say(source: Node, to: Node, text: str = "hi", times: int = 1) -> None:
    for _ in range(times):
        source.tell(lambda _core, _now_s: core(source).say(to.address, text))


def heard(node: Node, what: str = "hi") -> int:
    return sum(text.startswith(what) for _, text in core(node).seen)


def test_a_packet_arrives_within_a_millisecond_with_its_source() -> None:
    cluster = world()
    one, other = cluster.nodes
    before_s = other.clock.now_s()
    say(one, other)
    cluster.run(0.01)
    when_s, text = next(seen for seen in core(other).seen if seen[1].startswith("hi"))
    assert text == f"hi from {one.address[0]}"
    assert 0.0005 <= when_s - before_s <= 0.001


def test_loss_duplication_and_bursts_have_the_shares_that_were_set() -> None:
    cluster = world()
    one, other = cluster.nodes
    link = cluster.network.link(one, other)
    link.loss = 0.3
    say(one, other, "lossy", PACKETS)
    link.loss, link.duplication = 0.0, 0.2
    say(one, other, "twice", PACKETS)
    link.duplication, link.bursts = 0.0, Bursts(enter=0.1, leave=0.3, bad_loss=1.0)
    say(one, other, "burst", PACKETS)
    cluster.run(1)
    assert heard(other, "lossy") == pytest.approx(0.7 * PACKETS, rel=0.1)
    assert heard(other, "twice") == pytest.approx(1.2 * PACKETS, rel=0.1)
    assert heard(other, "burst") == pytest.approx(0.75 * PACKETS, rel=0.1)


def test_packets_overtake_each_other_where_they_may() -> None:
    cluster = world()
    one, other = cluster.nodes
    cluster.network.link(one, other).reorder = 0.5
    for number in range(100):
        say(one, other, f"number {number:03}")
        cluster.run(0.002)
    cluster.run(1)
    order = [text for _, text in core(other).seen if text.startswith("number")]
    assert len(order) == 100
    assert order != sorted(order)


def test_what_is_too_long_for_a_link_vanishes() -> None:
    cluster = world()
    one, other = cluster.nodes
    cluster.network.link(one, other).largest_bytes = 100
    say(one, other, "x" * 100)
    say(one, other, "x" * 101)
    cluster.run(0.1)
    assert heard(other, "x") == 1


def test_a_cut_may_be_one_way_or_of_one_kind_and_heals() -> None:
    cluster = world()
    one, other = cluster.nodes
    cluster.network.cut([one], [other], tcp=False)
    say(one, other)
    say(other, one)
    one.tell(lambda _core, _now_s: core(one).ask(other.address, None))
    cluster.run(0.1)
    assert (heard(other), heard(one)) == (0, 1)
    assert heard(other, "asked") == 2  # the first was the join
    cluster.network.heal()
    say(one, other)
    cluster.run(0.1)
    assert heard(other) == 1


def test_a_stream_that_is_cut_in_one_direction_ends_at_its_timeout() -> None:
    cluster = world()
    one, other = cluster.nodes
    cluster.network.cut([other], [one], udp=False)
    one.tell(lambda _core, _now_s: core(one).ask(other.address, None, 3.0))
    cluster.run(2.9)
    assert heard(one, "got nothing") == 0
    cluster.run(0.2)
    assert heard(one, "got nothing") == 1


def test_a_stream_ends_at_once_if_nobody_or_somebody_else_answers() -> None:
    cluster = world(3)
    one, other, third = cluster.nodes
    one.tell(lambda _core, _now_s: core(one).ask(other.address, third.id))
    cluster.crash(third, power=False)
    one.tell(lambda _core, _now_s: core(one).ask(third.address, None))
    cluster.run(0.1)
    assert heard(one, "got nothing") == 2
    third.refuses = False
    one.tell(lambda _core, _now_s: core(one).ask(third.address, None))
    cluster.run(0.1)
    assert heard(one, "got nothing") == 2


def test_a_stopped_process_gets_what_waited_for_it_as_far_as_there_was_room() -> None:
    cluster = world()
    one, other = cluster.nodes
    cluster.stop(other, 5.0)
    ticks = heard(other, "tick")
    say(one, other, "x" * 1000, SOCKET_BYTES // 1000 + 50)
    cluster.run(4.9)
    assert heard(other, "x") == 0
    assert heard(other, "tick") == ticks
    cluster.run(0.2)
    assert heard(other, "x") == SOCKET_BYTES // 1000
    assert other.driver is not None
    assert other.driver.dropped_packets == 50
    assert heard(other, "tick") == ticks + 1


def test_a_slow_node_handles_packets_late() -> None:
    cluster = world()
    one, other = cluster.nodes
    other.slow_down(2.0)
    say(one, other, "hi", 100)
    cluster.run(1)
    assert 30 < heard(other) < 70
    cluster.run(1.1)
    assert heard(other) == 100


def test_a_restart_has_a_later_epoch_and_asks_for_the_same_again() -> None:
    cluster = world()
    node = cluster.nodes[0]
    cluster.publish(node, "fact")
    epoch, identity = core(node).identity.epoch, core(node).id
    cluster.crash(node)
    node.clock.wall_offset_s = -3600
    cluster.restart(node)
    assert core(node).identity.epoch > epoch
    assert core(node).id == identity
    assert heard(node, "publish fact") == 1
    cluster.crash(node)
    cluster.lose_disk(node)
    cluster.restart(node)
    assert core(node).id != identity


def test_a_clone_runs_in_the_epoch_of_the_original() -> None:
    cluster = world()
    node = cluster.nodes[0]
    twin = cluster.clone(node, running=True)
    assert core(twin).id == core(node).id
    assert core(twin).identity.epoch == core(node).identity.epoch
    assert core(twin).identity.address != core(node).identity.address


def test_clocks_drift_and_jump() -> None:
    cluster = world()
    fast, right = cluster.nodes
    fast.clock.drift(500)
    fast.clock.wall_offset_s += 3600
    before = fast.clock.now_s(), right.clock.now_s()
    cluster.run(1000)
    assert fast.clock.now_s() - before[0] == pytest.approx(1000.5, abs=0.001)
    assert right.clock.now_s() - before[1] == pytest.approx(1000, abs=0.001)
    assert core(fast).wall_s - core(right).wall_s == pytest.approx(3600.5, abs=0.1)


@pytest.mark.parametrize("signatures", [FakeSignatures(), RealSignatures()])
def test_only_the_owner_of_a_key_signs_with_it(signatures: Signatures) -> None:
    pair = signatures.pair(b"a" * 32)
    other = signatures.pair(b"b" * 32)
    signature = pair.sign(b"text")
    assert len(signature) == 64
    assert signatures.verify(pair.public_key, b"text", signature)
    assert not signatures.verify(pair.public_key, b"texT", signature)
    assert not signatures.verify(other.public_key, b"text", signature)
    assert not signatures.verify(bytes(32), b"text", signature)
    expected = hashlib.blake2b(pair.public_key, digest_size=16).digest()
    assert node_id_of(pair.public_key) == expected
