"""Whether streams reach the members, also where packets do and nothing else would ask."""

from netd.gossip.core import Gossip
from netd.gossip.streams import TRIED_MAX
from netd.gossip.values import NodeId, StreamsTried
from tests.unit.gossip_cores import Lab, address_of


def tried(lab: Lab, core: Gossip) -> dict[NodeId, bool | None]:
    """What is known of the others' streams once the core has tried them."""
    before = lab.events[core.id].count(StreamsTried())
    core.try_streams(lab.now_s)
    lab.settle()
    assert lab.events[core.id].count(StreamsTried()) == before + 1
    return {member.id: member.tcp_ok for member in core.members() if member.id != core.id}


def test_a_stream_that_is_blocked_is_found_and_found_open_again() -> None:
    lab = Lab()
    first, second, third = lab.cluster(3)
    assert tried(lab, first) == {second.id: True, third.id: True}
    lab.streams = lambda _source, to: to != address_of(3)
    lab.run(60)  # packets get through: nobody misses the streams
    known = first.member(third.id)
    assert known is not None
    assert known.tcp_ok is True
    assert tried(lab, first) == {second.id: True, third.id: False}
    assert known.live
    lab.heal()
    assert tried(lab, first) == {second.id: True, third.id: True}


def test_of_many_some_are_tried_and_those_first_that_did_not_answer() -> None:
    lab = Lab()
    first, *others = lab.cluster(TRIED_MAX + 4)
    blocked = {address_of(2), address_of(3)}
    lab.streams = lambda _source, to: to not in blocked
    while sum(works is False for works in tried(lab, first).values()) < len(blocked):
        pass  # the choice is made by chance, of a fixed seed
    lab.heal()
    calls = lab.calls
    known = tried(lab, first)
    assert lab.calls - calls == TRIED_MAX
    assert False not in known.values()
    assert len(known) == len(others)


def test_who_is_alone_has_nobody_to_try() -> None:
    lab = Lab()
    (alone,) = lab.add(1)
    assert tried(lab, alone) == {}
