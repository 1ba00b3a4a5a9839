"""What is said about members: its order, who may say it, and what comes of it."""

import random
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.gossip.accusations import INCARNATIONS_AHEAD_MAX
from netd.gossip.codec import decode_reply, encode
from netd.gossip.core import Gossip
from netd.gossip.member import Member
from netd.gossip.messages import (
    INCARNATION_MAX,
    Ack,
    Alive,
    Introduce,
    MemberRow,
    MemberRows,
    Ping,
    Query,
    Statement,
)
from netd.gossip.requests import Declined, Join, Welcome
from netd.gossip.settings import PROTOCOL_MAX, Settings, profile
from netd.gossip.values import GLOBAL, EpochWanted, MemberChanged, NodeId, ProblemChanged, State
from tests.unit.gossip_cores import (
    START_S,
    Lab,
    Puppet,
    address_of,
    core_of,
    identity_of,
    introduced,
    states,
    table,
    values,
)

LAN = profile("lan")
ALONE = Settings(members_repair_s=1e9, logs_repair_s=1e9, reconnect_s=1e9)
CREDULOUS = msgspec.structs.replace(ALONE, confirm_s=0.0)  # believes a death at once
TARGET = Puppet(2)
SPEAKER = Puppet(3)
ACCUSERS = tuple(bytes([number]) * 16 for number in range(0x10, 0x70, 0x10))


def scene(*others: Puppet, settings: Settings = ALONE) -> Gossip:
    """A core that knows the target and others."""
    core = core_of(identity_of(1), settings)
    introduced(core, *others)
    return core


def target(core: Gossip, node: NodeId = TARGET.id) -> Member:
    found = core.member(node)
    assert found is not None
    return found


def tell(core: Gossip, *said: Statement, now_s: float = START_S) -> None:
    """Each in a packet of its own."""
    for statement in said:
        SPEAKER.say(core, statement, now_s=now_s)


accusers = st.lists(st.sampled_from(ACCUSERS), min_size=1, max_size=4, unique=True)
incarnations = st.integers(0, 3)
signed = st.one_of(
    incarnations.map(TARGET.alive),
    incarnations.map(lambda number: TARGET.signer.introduction(TARGET.identity, number, (1, 1))),
    incarnations.map(TARGET.left),
)
accusations = st.builds(
    lambda number, by, dead: (TARGET.dead if dead else TARGET.suspect)(number, *by),
    incarnations,
    accusers,
    st.booleans(),
)


def _verdict(core: Gossip) -> tuple[object, ...]:
    """What has to be the same on all nodes; a death that is not confirmed yet is a suspicion."""
    member = target(core)
    if member.state == State.LEFT:
        return member.epoch, State.LEFT
    if member.state == State.ALIVE:
        return member.epoch, State.ALIVE, member.incarnation
    return member.epoch, State.SUSPECT, member.incarnation


@given(st.lists(signed | accusations, max_size=8), st.randoms(use_true_random=False))
def test_order_and_repetition_of_statements_do_not_matter(
    said: list[Statement], chance: random.Random
) -> None:
    again = [*said, *chance.sample(said, len(said) // 2)]
    chance.shuffle(again)
    one, other = scene(TARGET, SPEAKER), scene(TARGET, SPEAKER)
    tell(one, *said)
    tell(other, *again)
    assert _verdict(one) == _verdict(other)


@given(
    st.lists(signed | accusations.filter(lambda said: type(said) is not type(TARGET.dead(0)))),
    st.randoms(use_true_random=False),
)
def test_without_deaths_tables_and_their_digests_are_the_same(
    said: list[Statement], chance: random.Random
) -> None:
    again = [*said, *said]
    chance.shuffle(again)
    one, other = scene(TARGET, SPEAKER), scene(TARGET, SPEAKER)
    tell(one, *said)
    tell(other, *again)
    assert target(one).fingerprint == target(other).fingerprint
    assert target(one).accuser_list == target(other).accuser_list


@given(st.lists(signed | accusations, max_size=8), st.randoms(use_true_random=False))
def test_silence_after_the_same_statements_leads_to_the_same_end(
    said: list[Statement], chance: random.Random
) -> None:
    again = [*said, *said]
    chance.shuffle(again)
    ends = []
    for order in (said, again):
        core = scene(TARGET, settings=Settings(probe_interval_s=1e6))
        core._membership.hear_quietly(order)
        if target(core).state == State.SUSPECT and len(target(core).accusers) > 1:
            for _ in range(40):
                core.advance(core.next_timer_s())
                core.take()
                if target(core).state != State.SUSPECT:
                    break
        ends.append((target(core).state, _verdict(core)))
    if State.SUSPECT not in (ends[0][0], ends[1][0]):
        assert ends[0] == ends[1]


@given(st.lists(signed | accusations))
def test_incarnations_never_go_down_and_only_signatures_make_alive(said: list[Statement]) -> None:
    core = scene(TARGET, SPEAKER)
    for statement in said:
        before = target(core)
        was, state = before.incarnation, before.state
        tell(core, statement)
        assert target(core).incarnation >= was
        if state != State.ALIVE and target(core).state == State.ALIVE:
            assert isinstance(statement, Alive | Introduce)
        if state == State.LEFT:
            assert target(core).state == State.LEFT


def test_forged_statements_are_refused_and_counted() -> None:
    core = scene(TARGET, SPEAKER)
    forger = Puppet(3)
    tell(core, TARGET.suspect(0, ACCUSERS[0]))
    forged: list[Statement] = [
        Alive(TARGET.id, 1, 5, forger.alive(5).signature),
        Alive(TARGET.id, 1, 6, TARGET.alive(5).signature),
        TARGET.left(0).__class__(TARGET.id, 1, 0, forger.left(0).signature),
        TARGET.left(0).__class__(TARGET.id, 1, 0, TARGET.alive(0).signature),
        Introduce(
            TARGET.identity.public_key, 9, 0, "x", bytes(4), 1, 1, 1, "", forger.alive(0).signature
        ),
    ]
    before = table(core)
    for number, statement in enumerate(forged, 1):
        tell(core, statement)
        assert table(core) == before
        assert core.counters["refused_signature"] == number


def test_an_accusation_may_run_ahead_but_not_far() -> None:
    core = scene(TARGET, SPEAKER)
    tell(core, TARGET.suspect(INCARNATIONS_AHEAD_MAX + 1, ACCUSERS[0]))
    assert target(core).state == State.ALIVE
    tell(core, TARGET.suspect(INCARNATIONS_AHEAD_MAX, ACCUSERS[0]))
    assert (target(core).state, target(core).incarnation) == (State.SUSPECT, 1_000)
    tell(core, TARGET.alive(1_000))
    assert target(core).state == State.SUSPECT
    tell(core, TARGET.alive(1_001))
    assert target(core).state == State.ALIVE


def test_accusations_without_accusers_or_by_the_accused_are_none() -> None:
    core = scene(TARGET, SPEAKER)
    tell(core, TARGET.suspect(0), TARGET.suspect(0, TARGET.id), TARGET.dead(0, TARGET.id))
    assert target(core).state == State.ALIVE


def test_a_node_refutes_what_is_said_of_it_in_the_answer() -> None:
    core = scene(TARGET, SPEAKER)
    me = Puppet(1)
    accused: list[Statement] = [me.suspect(0, TARGET.id), me.dead(1, TARGET.id, SPEAKER.id)]
    for number, said in enumerate(accused):
        heard = TARGET.say(core, said, Ping(1, core.id, 0, 0), now_s=START_S)
        said_back = {message for message in heard if isinstance(message, Alive)}
        assert said_back == {me.alive(number + 1)}
        assert any(isinstance(message, Ack) for message in heard)
        assert target(core, core.id).incarnation == number + 1
    assert core.counters["refutations"] == 2
    TARGET.say(core, me.suspect(0, TARGET.id), now_s=START_S)  # old
    assert core.counters["refutations"] == 2


@pytest.mark.parametrize("incarnation", [INCARNATIONS_AHEAD_MAX * 3, INCARNATION_MAX - 1])
def test_whoever_was_led_to_believe_too_much_is_told_more(incarnation: int) -> None:
    """In steps that are small enough a member believes any incarnation of an accusation."""
    lab = Lab()
    one, other = lab.cluster(2)
    me = Puppet(1)
    believed = lab.cores[address_of(2)].member(one.id)
    assert believed is not None
    believed.incarnation = incarnation  # as at the end of these
    believed.proof = None
    Puppet(3).say(other, me.suspect(incarnation, TARGET.id), now_s=lab.now_s)
    lab.run(3.0)
    assert believed.state is State.ALIVE
    assert believed.incarnation == target(one, one.id).incarnation == incarnation + 1


def test_when_incarnations_are_used_up_another_run_begins() -> None:
    core = scene(TARGET, SPEAKER)
    last = Puppet(1).suspect(INCARNATION_MAX, TARGET.id)
    for _ in range(3):
        core.receive(TARGET.packet(last), TARGET.address, START_S)
    output = core.take()
    assert [e for e in output.events if isinstance(e, EpochWanted)] == [EpochWanted(above=1)]
    assert not any(isinstance(message, Alive) for message in TARGET.heard(output))
    core.renew(7, START_S)
    tell(core, last)
    me = target(core, core.id)
    assert (me.epoch, me.incarnation) == (7, 0)


def test_a_row_about_this_node_is_refuted_too_but_not_a_departure() -> None:
    core = scene(TARGET, SPEAKER)
    row = MemberRow(core.id, 1, 0, State.SUSPECT, (TARGET.id,))
    TARGET.say(core, MemberRows(b"", (row,)), now_s=START_S)
    assert target(core, core.id).incarnation == 1
    gone = MemberRow(core.id, 1, 1, State.LEFT, ())
    for _ in range(3):
        TARGET.say(core, MemberRows(b"", (gone,)), now_s=START_S)
        assert target(core, core.id).incarnation == 1
    # Whoever thinks so is asked for the signature, which only a copy of this node can have made.
    assert core.counters["refutations"] == 1
    assert core._inquiries._queried[core.id] == START_S
    TARGET.say(core, Puppet(1).left(1), now_s=START_S)
    assert ("cloned-identity", core.id) in core.problems


def test_whoever_has_left_comes_back_in_a_later_epoch_only() -> None:
    core = scene(TARGET, SPEAKER)
    tell(core, TARGET.left(0))
    tell(core, TARGET.alive(5), TARGET.suspect(6, ACCUSERS[0]), TARGET.dead(7, *ACCUSERS[:2]))
    assert target(core).state == State.LEFT
    join = Join(TARGET.introduction, TARGET.alive(9), None)
    assert isinstance(decode_reply(core.serve(encode(join), TARGET.id, START_S)), Declined)
    again = Puppet(2, epoch=2)
    join = Join(again.introduction, None, None)
    assert isinstance(decode_reply(core.serve(encode(join), TARGET.id, START_S)), Welcome)
    assert (target(core).state, target(core).epoch) == (State.ALIVE, 2)
    tell(core, TARGET.left(9), TARGET.dead(9, *ACCUSERS[:2]), TARGET.introduction)
    assert (target(core).state, target(core).epoch) == (State.ALIVE, 2)


def test_departures_with_different_incarnations_are_the_same() -> None:
    """Otherwise tables differ for ever, and are compared for ever."""
    one, other = scene(TARGET, SPEAKER), scene(TARGET, SPEAKER)
    tell(one, TARGET.left(1), TARGET.left(4))
    tell(other, TARGET.alive(4), TARGET.left(1))
    assert one._parts.members.tree.root == other._parts.members.tree.root
    row = target(one).row()
    assert other._membership.hear_row(row, SPEAKER.address) is None
    assert not [m for m in SPEAKER.heard(other.take()) if isinstance(m, Query)]


def test_an_introduction_with_an_impossible_address_changes_nothing() -> None:
    core = scene(TARGET, SPEAKER)
    before = table(core)
    for number in (2, 4):
        bad = Puppet(number, epoch=2, name="other")
        unsigned = Introduce(
            bad.identity.public_key, 2, 0, "other", bytes(7), 1, 1, 1, "", bytes(64)
        )
        text = b"netd introduce" + b"cluster1" + encode(unsigned)
        said = msgspec.structs.replace(unsigned, signature=bad.identity.sign(text))
        tell(core, said)
    assert table(core) == before
    assert target(core).name == "host-2"
    tell(core, TARGET.left(0))
    _forgotten(core)


def _forgotten(core: Gossip) -> None:
    """Let so much time pass that who is gone is forgotten."""
    end_s = core.next_timer_s() + 2 * LAN.dead_kept_s
    core._parts.now_s = end_s - core._parts.paused_s
    core._parts.timers.run(core._parts.now_s)
    told = [event for event in core.take().events if isinstance(event, MemberChanged)]
    assert told[-1] == MemberChanged(TARGET.id, State.LEFT, None)
    assert core.member(TARGET.id) is None


def test_the_forgotten_do_not_come_back_by_hearsay() -> None:
    core = core_of(identity_of(1), Settings(probe_interval_s=1e9))
    introduced(core, TARGET, SPEAKER)
    tell(core, TARGET.left(0))
    core.take()
    _forgotten(core)
    now_s = core._parts.now_s
    core._membership.hear_quietly([TARGET.introduction, TARGET.alive(7)])
    core._membership.hear(TARGET.introduction, SPEAKER.address)
    rows = (MemberRow(TARGET.id, 1, 0, State.ALIVE, ()),)
    SPEAKER.say(core, MemberRows(b"", rows), now_s=now_s)
    assert not core._inquiries._queried
    answers = TARGET.say(core, Ping(1, core.id, 0, 0), now_s=now_s)
    assert not any(isinstance(answer, Query) for answer in answers)
    assert core.member(TARGET.id) is None
    later = Puppet(2, epoch=2)
    core._membership.hear(later.introduction, None)
    assert target(core).epoch == 2


def test_who_comes_and_goes_costs_one_timer() -> None:
    core = scene(TARGET, SPEAKER, settings=CREDULOUS)
    for number in range(0, 400, 2):
        tell(core, TARGET.suspect(number, *ACCUSERS[:2]), TARGET.dead(number, *ACCUSERS[:2]))
        assert target(core).state == State.DEAD
        tell(core, TARGET.alive(number + 1))
    forgets_s = START_S + LAN.left_kept_s
    assert [at_s for at_s, _, _ in core._parts.timers._heap if at_s == forgets_s] == [forgets_s]


# Problems


def _problems(core: Gossip) -> set[tuple[str, NodeId]]:
    return set(core.problems)


def test_two_hosts_of_one_name_are_a_problem_of_both_until_one_goes() -> None:
    core = scene(Puppet(4, name="same"), SPEAKER, settings=CREDULOUS)
    one, other = Puppet(4, name="same"), Puppet(5, name="same")
    tell(core, other.introduction)
    both = {("duplicate-name", one.id), ("duplicate-name", other.id)}
    assert _problems(core) == both
    told = [event for event in core.take().events if isinstance(event, ProblemChanged)]
    tell(core, other.introduction, one.introduction)
    assert not [event for event in core.take().events if isinstance(event, ProblemChanged)]
    assert all("192.0.2.4 port 7946, 192.0.2.5 port 7946" in event.detail for event in told)
    tell(core, other.suspect(0, *ACCUSERS[:2]), other.dead(0, *ACCUSERS[:2]))
    assert _problems(core) == set()
    tell(core, other.alive(1))
    assert _problems(core) == both
    # A new run with another name ends it, for both.
    tell(core, Puppet(5, epoch=2, name="another").introduction)
    assert _problems(core) == set()


def test_a_node_that_lost_its_disk_is_no_duplicate() -> None:
    core = scene(TARGET)
    replaced = Puppet(9, name="host-2")
    identity = replaced.identity._replace(address=TARGET.address)
    core._membership.hear(replaced.signer.introduction(identity, 0, (1, 1)), None)
    assert core.member(replaced.id) is not None
    assert _problems(core) == set()


def test_two_members_of_one_identity_are_a_problem_until_one_has_a_later_epoch() -> None:
    core = scene(TARGET, SPEAKER)
    clone = Puppet(2, name="clone")
    tell(core, clone.introduction, clone.introduction)
    ((code, about),) = core.problems
    assert (code, about) == ("cloned-identity", TARGET.id)
    assert "192.0.2.2 port 7946" in core.problems[code, about]
    assert target(core).name == "host-2"
    tell(core, Puppet(2, epoch=2, name="clone").introduction)
    assert _problems(core) == set()
    assert target(core).name == "clone"


def test_a_clone_in_the_same_epoch_makes_this_node_ask_for_a_later_one_once() -> None:
    core = scene(TARGET)
    clone = Puppet(1, name="clone")
    wanted = []
    for _ in range(5):
        core.receive(TARGET.packet(clone.introduction), TARGET.address, START_S)
        wanted += [event for event in core.take().events if isinstance(event, EpochWanted)]
    assert wanted == [EpochWanted(above=1)]
    assert ("cloned-identity", core.id) in core.problems
    core._membership.hear(clone.introduction, None)
    assert EpochWanted(above=1) not in core.take().events
    core.renew(2, START_S)
    assert target(core, core.id).epoch == 2
    output = core.take()
    core._membership.hear(clone.introduction, None)  # of the run that is over
    assert not core.take().events
    assert output.events
    with pytest.raises(ValueError, match="later"):
        core.renew(2, START_S)


def test_a_later_epoch_elsewhere_silences_a_node_that_was_taken_in() -> None:
    lab = Lab()
    first, second = lab.cluster(2)
    later = Puppet(2, epoch=2, name="clone")
    second.receive(later.packet(Ping(1, second.id, 0, 0)), later.address, lab.now_s)
    assert second.next_timer_s() == float("inf")
    second.take()
    second.receive(later.packet(Ping(1, second.id, 0, 0)), later.address, lab.now_s)
    assert second.take().datagrams == []
    reply = decode_reply(second.serve(encode(Join(later.introduction, None, None)), first.id, 0.0))
    assert isinstance(reply, Declined)
    assert ("cloned-identity", second.id) in second.problems


def test_members_are_as_many_as_the_cap_at_most() -> None:
    core = core_of(identity_of(1), Settings(members_max=4))
    puppets = [Puppet(number) for number in range(10, 20)]
    for puppet in puppets:
        puppet.say(core, puppet.introduction, now_s=START_S)
    assert len(list(core.members())) == 4
    assert [code for code, _ in core.problems] == ["members-exceeded"]
    join = Join(puppets[-1].introduction, None, None)
    reply = decode_reply(core.serve(encode(join), puppets[-1].id, START_S))
    assert isinstance(reply, Declined)
    # One that is known can start anew.
    again = Puppet(10, epoch=2)
    again.say(core, again.introduction, now_s=START_S)
    assert target(core, again.id).epoch == 2


def test_who_speaks_no_common_version_is_ignored_until_it_does() -> None:
    core = scene(SPEAKER)
    late = Puppet(2)
    least = PROTOCOL_MAX + 1
    future = late.signer.introduction(late.identity, 0, (least, least + 1))
    tell(core, future)
    assert core.member(late.id) is None
    mine, theirs = f"1 to {PROTOCOL_MAX}", f"{least} to {least + 1}"
    told = core.problems["protocol-version", late.id]
    assert f"speaks protocol {theirs}, this node {mine}" in told
    reply = decode_reply(core.serve(encode(Join(future, None, None)), late.id, START_S))
    assert isinstance(reply, Declined)
    assert f"{mine} are spoken here, not {theirs}" in reply.detail
    later = Puppet(2, epoch=2)
    tell(core, later.signer.introduction(later.identity, 0, (1, least)))
    assert core.member(late.id) is not None
    assert not core.problems


# Joining


def test_nobody_joins_in_anothers_name() -> None:
    core = scene(SPEAKER)
    request = encode(Join(TARGET.introduction, None, None))
    for peer in (SPEAKER.id, core.id):
        assert isinstance(decode_reply(core.serve(request, peer, START_S)), Declined)
    mine = encode(Join(Puppet(1).introduction, None, None))
    assert isinstance(decode_reply(core.serve(mine, core.id, START_S)), Declined)
    assert core.member(TARGET.id) is None


def test_a_joiner_learns_all_and_passes_nothing_on() -> None:
    lab = Lab()
    lab.cluster(6)
    (late,) = lab.add(7)
    late.join([(f"192.0.2.{1}", 7946)], lab.now_s)
    lab.settle()
    assert len(list(late.members())) == 7
    assert late.levels()["statements_queued"] == 0


def test_a_crash_is_known_to_all_and_a_new_run_is_taken_back() -> None:
    lab = Lab()
    cores = lab.cluster(5)
    crashed = cores.pop()
    lab.remove(crashed)
    lab.run(30.0)
    for core in cores:
        assert target(core, crashed.id).state == State.DEAD
        assert states(lab.events[core.id], crashed.id)[-2:] == [State.SUSPECT, State.DEAD]
    (again,) = lab.add(5, epoch=2)
    again.join([("192.0.2.1", 7946)], lab.now_s)
    lab.run(3.0)
    for core in (*cores, again):
        member = target(core, crashed.id)
        assert (member.state, member.epoch) == (State.ALIVE, 2)


def test_a_departure_is_known_at_once_and_no_death() -> None:
    lab = Lab()
    cores = lab.cluster(5)
    leaver = cores.pop()
    leaver.leave(lab.now_s)
    lab.run(LAN.leave_s)
    lab.remove(leaver)
    lab.run(30.0)
    for core in cores:
        assert states(lab.events[core.id], leaver.id) == [State.ALIVE, State.LEFT]
        assert core.counters["deaths"] == 0


def test_a_departure_is_told_to_some_at_once_and_not_to_all() -> None:
    core = scene(*(Puppet(number) for number in range(10, 40)))
    core.take()
    core.leave(START_S)
    told = {datagram.to for datagram in core.take().datagrams}
    assert len(told) == 8


def test_a_change_is_as_long_ago_as_it_is_on_the_clock_also_after_a_pause() -> None:
    core = scene(TARGET, SPEAKER, settings=CREDULOUS)
    now_s = START_S + 100.0
    core.receive(b"", SPEAKER.address, now_s)  # it has not run for so long
    assert core.counters["stalls"] == 1
    tell(core, TARGET.left(0), now_s=now_s)
    assert target(core).state_since_s == now_s
    assert target(core, SPEAKER.id).state_since_s == START_S


def test_a_joiner_asks_who_has_taken_it_in_not_who_had_that_address_before() -> None:
    lab = Lab()
    *_, lost = lab.cluster(3)
    lab.remove(lost)
    # Its disk was lost: another key at the same address, and the old node is not yet dead.
    heir = core_of(identity_of(9, at=address_of(3)), now_s=lab.now_s)
    lab.cores[address_of(3)] = heir
    lab.events[heir.id] = []
    heir.join([address_of(1)], lab.now_s)
    lab.settle()
    heir.publish(GLOBAL, "t", "k", bytes(5_000), lab.now_s)
    (late,) = lab.add(4)
    late.join([address_of(3)], lab.now_s)
    lab.settle()
    assert target(late, lost.id).live
    assert (target(late, lost.id).tcp_ok, target(late, heir.id).tcp_ok) == (None, True)
    assert values(late) == values(heir)


def test_a_partition_heals_without_help() -> None:
    lab = Lab()
    cores = lab.cluster(6)
    lab.cut(cores[:3], cores[3:])
    lab.run(60.0)
    for core in cores:
        assert sum(member.state == State.DEAD for member in core.members()) == 3
    lab.heal()
    lab.run(30.0)
    _all_agree(cores)


def test_a_quiet_cluster_says_nothing_but_pings() -> None:
    lab = Lab()
    cores = lab.cluster(4)
    cores[0].publish(bytes(8), "t", "key", b"value", lab.now_s)
    lab.run(20.0)
    lab.sent = lab.calls = 0
    before = [core.levels() for core in cores]
    lab.run(20.0)
    assert before == [core.levels() for core in cores]
    for core in cores:
        levels = core.levels()
        assert (levels["statements_queued"], levels["changes_queued"]) == (0, 0)
        # No tick either: only probing and reconnecting have timers, and probes' second pings.
        assert core._spreading._tick is None
    assert lab.calls == 0
    assert lab.sent <= 4 * 20 * 2 + 8


def _all_agree(cores: Sequence[Gossip]) -> None:
    tables = [table(core) for core in cores]
    assert all(found == tables[0] for found in tables)
    assert all(row[2] == State.ALIVE for row in tables[0].values())
