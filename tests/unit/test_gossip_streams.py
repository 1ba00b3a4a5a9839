"""Whether streams reach the members, also where packets do and nothing else would ask."""

from netd.gossip.calls import WAITING_MAX
from netd.gossip.core import Gossip
from netd.gossip.requests import FetchRing
from netd.gossip.streams import TRIED_MAX
from netd.gossip.values import JoinEnded, NodeId, StreamsTried
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


def test_where_too_many_calls_wait_nothing_is_learned_of_streams() -> None:
    lab = Lab()
    first, *others = lab.cluster(3)
    for other in others:
        known = first.member(other.id)
        assert known is not None
        known.tcp_ok = None
    calls = first._parts.calls
    while calls.make(address_of(2), None, FetchRing(), lambda _: None, 1.0):
        pass
    assert len(calls) == lab.settings.calls_max + WAITING_MAX
    before = lab.events[first.id].count(StreamsTried())
    first.try_streams(lab.now_s)
    for other in others:
        known = first.member(other.id)
        assert known is not None
        first._syncing.fetch_all(known)
        assert known.tcp_ok is None
    assert len(calls) == lab.settings.calls_max + WAITING_MAX
    first.join([address_of(2)], lab.now_s)
    output = first.take()
    assert output.events.count(StreamsTried()) == before + 1
    assert JoinEnded(address_of(2), "too many requests wait already") in output.events
    for call in output.calls:
        first.complete(call.number, None, lab.now_s)
    lab.settle()
    assert tried(lab, first) == {other.id: True for other in others}


def test_who_is_alone_has_nobody_to_try() -> None:
    lab = Lab()
    (alone,) = lab.add(1)
    assert tried(lab, alone) == {}
