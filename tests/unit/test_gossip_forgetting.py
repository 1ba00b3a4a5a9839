"""Members that are gone for good are forgotten; what becomes of one that comes back after all."""

import msgspec

from netd.gossip.codec import decode_reply, encode
from netd.gossip.messages import GONE_MAX_S, MemberRows
from netd.gossip.requests import Declined, Join
from netd.gossip.settings import profile
from netd.gossip.values import GLOBAL, EpochWanted, State
from tests.unit.gossip_cores import START_S, Lab, Puppet, address_of, introduced, states, values

SHORT = msgspec.structs.replace(profile("lan"), dead_kept_s=100.0, left_kept_s=50.0)


def renew_wanted(lab: Lab, number: int) -> list[int]:
    """Do for a node what its driver does; the epochs above which it wanted one."""
    core = lab.cores[address_of(number)]
    wanted = [event.above for event in lab.events[core.id] if isinstance(event, EpochWanted)]
    lab.events[core.id].clear()
    for above in wanted:
        core.renew(above + 1, lab.now_s)
    return wanted


def test_who_was_away_for_longer_than_any_is_remembered_becomes_a_member_again() -> None:
    lab = Lab(settings=SHORT)
    one, two, three = lab.cluster(3)
    three.publish(GLOBAL, "t", "k", b"before", lab.now_s)
    lab.run(2.0)
    lab.cut([one, two], [three])
    lab.run(300.0)
    assert one.member(three.id) is None
    assert states(lab.events[one.id], three.id)[-2:] == [State.DEAD, None]
    lab.heal()
    lab.run(30.0)  # it reaches the others, so it would never doubt that it is one of them
    assert renew_wanted(lab, 3) == [1]
    lab.run(10.0)
    for core in (one, two):
        member = core.member(three.id)
        assert member is not None
        assert (member.state, member.epoch) == (State.ALIVE, 2)
        assert values(core) == {(three.id, GLOBAL, "t", "k"): b"before"}
    assert renew_wanted(lab, 3) == []


def test_two_sides_that_have_forgotten_each_other_are_one_again_after_a_join() -> None:
    lab = Lab(settings=SHORT)
    one, two, three, four = lab.cluster(4)
    lab.cut([one, two], [three, four])
    lab.run(300.0)
    lab.heal()
    renewed = []
    for _ in range(10):
        three.join([address_of(1)], lab.now_s)  # as the driver does with configured addresses
        lab.run(3.0)
        for number in range(1, 5):
            renewed += [number for _ in renew_wanted(lab, number)]
    assert sorted(renewed) == sorted(set(renewed))  # none more than once
    for core in (one, two, three, four):
        assert {member.state for member in core.members()} == {State.ALIVE}
        assert len(list(core.members())) == 4


def test_a_forgotten_run_is_told_once_a_second_at_most() -> None:
    lab = Lab(settings=SHORT)
    (one,) = lab.add(1)
    puppet, other = Puppet(2), Puppet(3)
    introduced(one, puppet, other, now_s=lab.now_s)
    puppet.say(one, puppet.left(), now_s=lab.now_s)
    lab.run(120.0)
    assert one.member(puppet.id) is None
    told = [puppet.say(one, puppet.introduction, now_s=lab.now_s) for _ in range(5)]
    (rows,) = [message for answer in told for message in answer]
    assert isinstance(rows, MemberRows)
    assert [(row.id, row.epoch, row.state) for row in rows.rows] == [(puppet.id, 1, State.LEFT)]
    reply = one.serve(encode(Join(puppet.introduction, None, None)), puppet.id, lab.now_s)
    assert decode_reply(reply) == Declined(
        "this run of the node is forgotten: it begins another", over=True
    )
    assert one.member(puppet.id) is None


def test_hosts_that_start_anew_do_not_keep_the_gone_among_them() -> None:
    lab = Lab(settings=msgspec.structs.replace(SHORT, left_kept_s=400.0, dead_kept_s=900.0))
    *_, four, five = lab.cluster(5)
    four.leave(lab.now_s)
    lab.run(2.0)
    lab.remove(four, five)
    lab.run(40.0)
    ends_s = {four.id: lab.now_s + 400.0, five.id: lab.now_s + 900.0}
    epoch = 1
    while lab.now_s < max(ends_s.values()):
        epoch += 1
        for number in (1, 2, 3):
            del lab.cores[address_of(number)]
            (anew,) = lab.add(number, epoch=epoch)
            anew.join([address_of(1 + number % 3)], lab.now_s)
            lab.run(60.0)
        for core in lab.cores.values():
            known = {member.id: member.state for member in core.members()}
            for gone, state in ((four.id, State.LEFT), (five.id, State.DEAD)):
                if lab.now_s < ends_s[gone] - 60:
                    assert known[gone] == state
                elif lab.now_s > ends_s[gone]:
                    assert gone not in known


def test_how_long_it_is_gone_is_told_and_taken_over() -> None:
    lab = Lab()
    _, two, three = lab.cluster(3)
    three.leave(lab.now_s)
    lab.run(2.0)
    lab.remove(three)
    lab.run(1_000.0)
    (four,) = lab.add(4)
    four.join([address_of(2)], lab.now_s)
    lab.settle()
    here, there = two.member(three.id), four.member(three.id)
    assert here is not None
    assert there is not None
    assert there.state == State.LEFT
    assert abs(there.state_since_s - here.state_since_s) <= 1


def test_a_life_sign_ends_what_was_said_of_how_long_it_is_gone() -> None:
    (one,) = Lab(settings=SHORT).add(1)
    target, other = Puppet(2), Puppet(3)
    introduced(one, target, other)
    accusers = (other.id, bytes(16))
    dead = msgspec.structs.replace(target.dead(0, *accusers), gone_s=GONE_MAX_S)
    other.say(one, dead, now_s=START_S)
    other.say(one, target.alive(1), now_s=START_S)
    member = one.member(target.id)
    assert member is not None
    assert (member.state, member.gone_s, member.state_since_s) == (State.ALIVE, 0, START_S)
