"""Keyrings: every step reaches all, none locks a member out, and two at once end the same way."""

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netd.gossip.core import Gossip
from netd.gossip.keys import GRACE_S, RECORD, TABLE, RingConflict, RingNotice
from netd.gossip.messages import Nack
from netd.gossip.ring import KEYS_MAX, REMOVED_MAX, Ring, key_id
from netd.gossip.sealing import Seal
from netd.gossip.values import GLOBAL, Address, NodeId, RingChanged, State
from tests.unit.gossip_cores import (
    RING,
    Lab,
    Passes,
    Puppet,
    address_of,
    core_of,
    identity_of,
    introduced,
)

SECRETS = [bytes([number]) * 32 for number in range(1, 8)]
NEW = SECRETS[0]
OLD = RING.keys[0]


def rotate(lab: Lab, core: Gossip, new: bytes, old: bytes) -> None:
    """As an operator does it: each step when the one before has reached all."""
    core.install_key(new, lab.now_s)
    lab.run(2.0)
    core.use_key(key_id(new), lab.now_s)
    lab.run(2.0)
    core.remove_key(key_id(old), lab.now_s)
    lab.run(2.0)


def opens(core: Gossip) -> set[bytes]:
    """Ids of the keys whose packets are opened."""
    assert isinstance(core._sealer, Seal)
    return set(core._sealer._secrets)


def refused(cores: list[Gossip]) -> int:
    """Packets that were not opened; those of oneself come from nowhere in these labs."""
    reasons = ("key", "tag", "epoch", "replay", "format", "cluster", "truncated")
    return sum(core.counters.get("refused_" + reason, 0) for core in cores for reason in reasons)


def test_a_rotation_reaches_all_and_no_packet_is_refused() -> None:
    lab = Lab()
    cores = lab.cluster(4)
    rotate(lab, cores[2], NEW, OLD)
    for core in cores:
        assert core.ring.keys == (NEW,)
        assert core.ring.primary == key_id(NEW)
        assert sum(isinstance(event, RingChanged) for event in lab.events[core.id]) == 3
        assert opens(core) == {key_id(NEW), key_id(OLD)}
    lab.run(GRACE_S)
    for core in cores:
        assert opens(core) == {key_id(NEW)}
        assert core.counters["probes_failed"] == 0
        assert all(member.state == State.ALIVE for member in core.members())
    assert refused(cores) == 0


def test_each_removed_key_has_its_grace_also_when_changes_follow_each_other() -> None:
    core = core_of(identity_of(1))
    first, second = SECRETS[:2]
    now_s = 1_000.0
    for step_s, secret in ((0.0, first), (6.0, second)):
        now_s += step_s
        _run_until(core, now_s)
        before = core.ring.primary
        core.install_key(secret, now_s)
        core.use_key(key_id(secret), now_s)
        core.remove_key(before, now_s)
    held = {key_id(secret) for secret in (OLD, first, second)}
    assert opens(core) == held
    _run_until(core, 1_010.5)
    assert opens(core) == held - {key_id(OLD)}
    _run_until(core, 1_016.5)
    assert opens(core) == {key_id(second)}


def _run_until(core: Gossip, end_s: float) -> None:
    while core.next_timer_s() <= end_s:
        core.advance(core.next_timer_s())
        core.take()


def test_steps_that_would_lock_somebody_out_are_refused_and_say_whom() -> None:
    lab = Lab()
    cores = lab.cluster(3)
    first, others = cores[0], {core.id for core in cores[1:]}
    new = first.install_key(NEW, lab.now_s)
    with pytest.raises(RingConflict, match="do not have the key yet") as waits:
        first.use_key(new, lab.now_s)
    assert set(waits.value.nodes) == others
    with pytest.raises(RingConflict, match="use another one first"):
        first.remove_key(key_id(OLD), lab.now_s)
    lab.run(2.0)
    first.use_key(new, lab.now_s)
    with pytest.raises(RingConflict, match="still use the key") as waits:
        first.remove_key(key_id(OLD), lab.now_s)
    assert set(waits.value.nodes) == others
    for step in (first.use_key, first.remove_key):
        with pytest.raises(RingConflict, match="there is no key ffffffff"):
            step(b"\xff" * 4, lab.now_s)
    with pytest.raises(RingConflict, match="32 bytes, not 5"):
        first.install_key(b"short", lab.now_s)
    lab.run(2.0)
    first.remove_key(key_id(OLD), lab.now_s)


def test_a_member_that_tells_of_no_ring_is_waited_for_until_it_is_gone() -> None:
    core, silent = core_of(identity_of(1)), Puppet(2)
    introduced(core, silent)
    new = core.install_key(NEW, 1_000.0)
    with pytest.raises(RingConflict) as waits:
        core.use_key(new, 1_000.0)
    assert waits.value.nodes == (silent.id,)
    silent.say(core, silent.left(0), now_s=1_000.0)
    core.use_key(new, 1_000.0)
    assert core.ring.primary == new


def test_nothing_is_said_of_members_that_were_not_heard_yet() -> None:
    """As after a restart: this node knows who is there, and not yet what they have."""
    core = core_of(identity_of(1))
    core.install_key(NEW, 1_000.0)
    core.use_key(key_id(NEW), 1_000.0)
    silent = Puppet(2, ring=core.ring)
    introduced(core, silent)
    for step, key in ((core.remove_key, OLD), (core.use_key, NEW)):
        with pytest.raises(RingConflict, match="have not told yet which keys") as waits:
            step(key_id(key), 1_000.0)
        assert waits.value.nodes == (silent.id,)


def test_of_many_that_learn_of_a_ring_not_all_fetch_it_at_once_or_from_one() -> None:
    lab = Lab()
    cores = lab.cluster(30)
    served: list[NodeId] = []
    times: list[float] = []
    lab.streams = _noting(lab, served, times)
    cores[0].install_key(NEW, lab.now_s)
    lab.run(2.0)
    assert all(core.ring == cores[0].ring for core in cores)
    assert len(served) == len(cores) - 1
    assert len(set(served)) > 3
    assert len(set(times)) > len(cores) // 2


def _noting(lab: Lab, served: list[NodeId], times: list[float]) -> Passes:
    def passes(_source: Address, to: Address) -> bool:
        served.append(lab.cores[to].id)
        times.append(lab.now_s)
        return True

    return passes


def test_a_ring_that_one_member_does_not_give_is_had_from_another() -> None:
    lab = Lab()
    cores = lab.cluster(4)
    author = address_of(1)
    lab.streams = lambda source, to: author not in (source, to)
    cores[0].install_key(NEW, lab.now_s)
    lab.run(20.0)
    assert all(core.ring == RING for core in cores[1:])
    lab.streams = lambda source, to: (source, to) != (address_of(2), author)
    lab.run(20.0)
    assert all(core.ring == cores[0].ring for core in cores)


def test_keys_are_few_and_the_same_one_is_installed_once() -> None:
    core = core_of(identity_of(1))
    for secret in SECRETS[: KEYS_MAX - 1]:
        core.install_key(secret, 1_000.0)
    stamp = core.ring.stamp
    assert core.install_key(NEW, 1_000.0) == key_id(NEW)
    assert core.ring.stamp == stamp
    with pytest.raises(RingConflict, match="remove one first"):
        core.install_key(SECRETS[5], 1_000.0)


def test_what_all_members_hold_can_be_seen_everywhere() -> None:
    lab = Lab()
    cores = lab.cluster(3)
    cores[0].install_key(NEW, lab.now_s)
    lab.run(2.0)
    for core in cores:
        rings = core.rings()
        assert rings.keys() == {other.id for other in cores}
        assert all(notice.ids == core.ring.ids for notice in rings.values())
        assert NEW not in [secret for notice in rings.values() for secret in notice.ids]


def test_who_was_away_for_a_whole_rotation_makes_it_up_over_streams() -> None:
    lab = Lab()
    cores = lab.cluster(4)
    away = cores[3]
    lab.cut(cores[:3], [away])
    lab.run(40.0)
    rotate(lab, cores[0], NEW, OLD)
    lab.run(2 * GRACE_S)
    assert away.ring == RING
    lab.heal()
    lab.run(40.0)
    assert away.ring == cores[0].ring
    for core in cores:
        assert all(member.state == State.ALIVE for member in core.members())


def test_rotations_on_both_sides_of_a_partition_end_the_same_way() -> None:
    lab = Lab()
    cores = lab.cluster(4)
    lab.cut(cores[:2], cores[2:])
    lab.run(40.0)
    rotate(lab, cores[0], SECRETS[0], OLD)
    rotate(lab, cores[3], SECRETS[1], OLD)
    lab.run(2 * GRACE_S)
    lab.heal()
    lab.run(60.0)
    assert len({core.ring for core in cores}) == 1
    for core in cores:
        assert all(member.state == State.ALIVE for member in core.members())


def test_a_key_that_was_installed_apart_from_a_rotation_is_there_after_it() -> None:
    lab = Lab()
    cores = lab.cluster(4)
    lab.cut(cores[:2], cores[2:])
    lab.run(40.0)
    cores[3].install_key(SECRETS[1], lab.now_s)
    lab.run(1.0)
    rotate(lab, cores[0], SECRETS[0], OLD)
    lab.heal()
    lab.run(60.0)
    for core in cores:
        assert core.ring == cores[0].ring
        assert set(core.ring.keys) == {SECRETS[0], SECRETS[1]}
        assert core.ring.primary == key_id(SECRETS[0])


def test_an_older_netd_takes_a_merged_ring_and_what_it_makes_of_it_is_taken() -> None:
    first = Ring.first(OLD)
    one = first.with_key(SECRETS[0], (10, b"a"))
    other = first.with_key(SECRETS[1], (11, b"b"))
    both = one.merged(other)
    assert both.age > other.age  # or whoever compares ages only would keep one of them
    # It changes what it knows of: keys, primary, stamp and author.
    third = Ring(
        keys=(*both.keys[1:], SECRETS[2]), primary=key_id(SECRETS[2]), stamp=20, author=b"old"
    )
    assert both.merged(third) == third.merged(both) == third
    later = third.with_key(SECRETS[3], (third.stamp + 1, b"a"))
    assert third.merged(later) == later
    assert both.merged(later) == later
    told_by_it = Ring(keys=both.keys, primary=both.primary, stamp=both.stamp, author=both.author)
    assert both.merged(told_by_it) == told_by_it.merged(both) == both


@st.composite
def histories(draw: st.DrawFn) -> list[Ring]:
    """Rings of nodes that have changed them, each on its own and now and then merged."""
    rings = [Ring.first(OLD)] * 3
    secrets = [OLD, *SECRETS[:3]]
    for clock in range(1, draw(st.integers(1, 14))):
        who, which = draw(st.integers(0, 2)), draw(st.integers(0, 3))
        ring, age = rings[who], (max(clock, rings[who].stamp + 1), bytes([who]))
        match draw(st.sampled_from(["install", "use", "remove", "merge"])):
            case "install" if len(ring.keys) < KEYS_MAX:
                rings[who] = ring.with_key(secrets[which], age)
            case "use" if secrets[which] in ring.keys:
                rings[who] = ring.with_primary(key_id(secrets[which]), age)
            case "remove" if ring.primary != key_id(secrets[which]):
                rings[who] = ring.without_key(key_id(secrets[which]), age)
            case "merge":
                rings[who] = ring.merged(rings[which % 3])
    return rings


def content(ring: Ring) -> Ring:
    return msgspec.structs.replace(ring, stamp=0, author=b"")


@given(histories())
def test_merging_is_the_same_in_whatever_order_and_repetition(rings: list[Ring]) -> None:
    one, other, third = rings
    both = one.merged(other)
    assert both == other.merged(one)
    assert both.merged(one) == both.merged(other) == both.merged(both) == both
    assert content(both.merged(third)) == content(one.merged(other.merged(third)))
    for ring in (*rings, both, both.merged(third)):
        assert ring.is_sound()
        assert ring.primary in ring.ids


@given(st.permutations(SECRETS), st.integers(1, 3))
def test_of_too_many_keys_the_same_stay_everywhere(secrets: list[bytes], here: int) -> None:
    one = other = Ring.first(OLD)
    for number, secret in enumerate(secrets[:3]):
        one = one.with_key(secret, (10 + number, b"a"))
    for number, secret in enumerate(secrets[3 : 3 + here]):
        other = other.with_key(secret, (11 + number, b"b"))
    both = one.merged(other)
    assert both == other.merged(one) == both.merged(one) == both.merged(other)
    assert len(both.keys) == KEYS_MAX
    assert OLD in both.keys  # it is used


def test_what_was_removed_long_ago_does_not_come_back() -> None:
    away = ring = Ring.first(OLD).with_key(NEW, (1, b"a"))
    for number in range(40):
        secret = bytes([100 + number]) * 32
        ring = ring.with_key(secret, (2 * number + 2, b"b"))
        ring = ring.with_primary(key_id(secret), (2 * number + 2, b"b"))
        for gone in [key for key in ring.ids if key != ring.primary]:
            ring = ring.without_key(gone, (2 * number + 3, b"b"))
    assert len(ring.changes) <= KEYS_MAX + REMOVED_MAX
    assert ring.merged(away) == away.merged(ring) == ring
    late = away.with_key(SECRETS[2], (200, b"a"))
    assert set(ring.merged(late).keys) == {*ring.keys, SECRETS[2]}


def test_a_ring_of_the_far_future_is_neither_taken_nor_waited_for() -> None:
    core = core_of(identity_of(1))
    mine = core.ring
    far = (1 << 48) - 1
    core._keys.adopt(mine.with_key(NEW, (far, b"a")))
    assert core.ring == mine
    # Nor one in which something is later than the ring itself: it could not be undone.
    false = msgspec.structs.replace(mine.with_key(NEW, (far, b"a")), stamp=5)
    core._keys.adopt(false)
    assert core.ring == mine
    lab = Lab()
    cores = lab.cluster(3)
    notice = RingNotice(far, cores[0].id, key_id(OLD), (key_id(OLD),))
    cores[0]._replication.write(GLOBAL, TABLE, RECORD, msgspec.msgpack.encode(notice))
    lab.run(2.0)
    calls = lab.calls
    cores[1].install_key(NEW, lab.now_s)
    lab.run(5.0)
    assert cores[2].ring == cores[1].ring
    assert lab.calls - calls <= 4


steps = st.lists(
    st.tuples(
        st.sampled_from(["install", "use", "remove"]),
        st.integers(0, 2),  # by whom
        st.integers(0, 3),  # which key
        st.sampled_from([0.0, 0.0, 0.02, 2.0]),  # time until the next
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(steps)
def test_whatever_is_done_where_all_end_with_one_ring_and_a_common_key(
    done: list[tuple[str, int, int, float]],
) -> None:
    lab = Lab()
    cores = lab.cluster(3)
    secrets = [OLD, *SECRETS[:3]]
    for step, who, which, wait_s in done:
        try:
            match step:
                case "install":
                    cores[who].install_key(secrets[which], lab.now_s)
                case "use":
                    cores[who].use_key(key_id(secrets[which]), lab.now_s)
                case _:
                    cores[who].remove_key(key_id(secrets[which]), lab.now_s)
        except RingConflict:
            pass
        for one, other in itertools.permutations(cores, 2):
            assert one.ring.primary in opens(other)
        lab.run(wait_s)
    lab.run(30.0)
    assert len({core.ring for core in cores}) == 1
    assert cores[0].ring.is_sound()


def test_rings_that_are_older_or_broken_are_not_taken_over() -> None:
    core = core_of(identity_of(1))
    core.install_key(NEW, 1_000.0)
    mine = core.ring
    author: NodeId = bytes(16)
    for ring in (
        Ring(keys=(NEW,), primary=key_id(NEW), stamp=mine.stamp, author=author),
        Ring(keys=(NEW,), primary=key_id(NEW), stamp=mine.stamp - 1, author=b"\xff" * 16),
        Ring(keys=(NEW,), primary=key_id(OLD), stamp=mine.stamp + 1, author=author),
        Ring(keys=(), primary=key_id(OLD), stamp=mine.stamp + 1, author=author),
        Ring(keys=(b"short",), primary=key_id(b"short"), stamp=mine.stamp + 1, author=author),
        Ring(keys=tuple(SECRETS[:5]), primary=key_id(NEW), stamp=mine.stamp + 1, author=author),
    ):
        core._keys.adopt(ring)
        assert core.ring == mine


def test_a_packet_of_an_unknown_key_leads_to_one_call_of_its_member() -> None:
    core, puppet = core_of(identity_of(1)), Puppet(2)
    introduced(core, puppet)
    core.take()
    strange = Puppet(2, ring=Ring.first(NEW))
    for _ in range(20):
        core.receive(strange.packet(Nack(1)), strange.address, 1_000.0)
    output = core.take()
    assert [call.node for call in output.calls] == [puppet.id]
    assert output.datagrams == []
    unknown = Puppet(9, ring=Ring.first(NEW))
    core.receive(unknown.packet(Nack(1)), unknown.address, 1_000.0)
    assert core.take().calls == []
