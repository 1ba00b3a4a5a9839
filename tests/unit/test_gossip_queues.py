"""What is on its way to everybody: bounded, least sent first, and done some time."""

from hypothesis import given
from hypothesis import strategies as st

from netd.gossip.changes import TAIL_MAX, Changes
from netd.gossip.codec import decode_packet, encode, join_parts
from netd.gossip.core import Gossip
from netd.gossip.member import Member
from netd.gossip.messages import Delta, Head, Introduce, Message, Suspect
from netd.gossip.news import News
from netd.gossip.settings import Settings
from netd.gossip.values import GLOBAL
from tests.unit.gossip_cores import (
    START_S,
    Lab,
    Puppet,
    address_of,
    core_of,
    identity_of,
    introduced,
    values,
)

SCOPE = b"scope--1"
COPIES = 4


def node(number: int) -> bytes:
    return number.to_bytes(16, "big")


def said(number: int) -> Suspect:
    return Suspect(node(number), 1, 1, (node(0),))


SIZE = len(encode(said(1)))


def about(taken: list[bytes]) -> list[int]:
    found = decode_packet(join_parts(taken))
    return [int.from_bytes(m.id, "big") for m in found if isinstance(m, Suspect)]


def test_news_is_told_as_often_as_there_are_copies_and_then_done() -> None:
    news = News(100)
    for number in range(5):
        news.put(node(number), said(number))
    counts: dict[int, int] = {}
    while news:
        for number in about(news.take(2 * SIZE, COPIES)):
            counts[number] = counts.get(number, 0) + 1
    assert counts == dict.fromkeys(range(5), COPIES)
    assert news.take(1_000, COPIES) == []


def test_what_was_told_least_often_goes_first() -> None:
    news = News(100)
    news.put(node(1), said(1))
    assert about(news.take(1_000, COPIES)) == [1]
    news.put(node(2), said(2))
    assert about(news.take(SIZE, COPIES)) == [2]
    assert about(news.take(2 * SIZE, COPIES)) == [1, 2]
    news.put(node(1), said(1))  # something new of it
    assert about(news.take(SIZE, COPIES)) == [1]


def test_news_is_bounded_and_drops_what_was_told_most() -> None:
    news = News(4)
    news.put(node(9), said(9))
    news.take(1_000, 100)
    for number in range(4):
        news.put(node(number), said(number))
    assert (len(news), news.dropped) == (4, 1)
    assert sorted(about(news.take(1_000, 100))) == [0, 1, 2, 3]


@given(st.lists(st.integers(0, 300)), st.integers(1, 20))
def test_news_never_takes_more_room_than_it_is_given(rooms: list[int], copies: int) -> None:
    news = News(100)
    for number in range(8):
        news.put(node(number), said(number))
        if number % 2:
            news.introduce(node(number), Puppet(number).introduction)
    for room in rooms:
        assert sum(map(len, news.take(room, copies))) <= room


def test_a_death_does_not_wait_for_the_introductions_of_many() -> None:
    news = News(1_000)
    for number in range(500):
        news.introduce(node(number), Puppet(number).introduction)
    news.put(node(900), said(900))
    assert about(news.take(1_000, COPIES)) == [900]
    for number in range(600, 700):
        news.put(node(number), said(number))
    taken = news.take(1_000, COPIES)
    kinds = [isinstance(message, Introduce) for message in decode_packet(join_parts(taken))]
    assert kinds == sorted(kinds, reverse=True)
    assert sum(kinds) >= 2
    assert len(about(taken)) >= 500 // SIZE


def test_news_knows_how_much_it_has() -> None:
    news = News(3)
    queue = news._statements
    for number in range(5):
        news.put(node(number), said(number))
        news.put(node(number), said(number))
    assert queue.size_bytes == 3 * SIZE
    news.drop(node(4))
    assert queue.size_bytes == 2 * SIZE
    for _ in range(COPIES):
        news.take(1_000, COPIES)
    assert queue.size_bytes == 0
    news.put(node(1), said(1))
    for _ in range(5):
        news.take(1_000, 12)
    news.take(1_000, 2)
    assert queue.size_bytes == 0


def test_news_ends_when_the_cluster_becomes_smaller() -> None:
    news = News(100)
    news.put(node(1), said(1))
    for _ in range(10):
        news.take(1_000, 12)
    assert len(news) == 1
    news.take(1_000, 8)
    assert not news
    assert len(news._statements) == 0


def test_a_burst_goes_to_three_and_the_rest_waits_for_the_ticks() -> None:
    news = News(100)
    news.put(node(1), said(1))
    bursts = [len(news.take(1_000, COPIES + 4, fresh_only=True)) for _ in range(5)]
    assert bursts == [1, 1, 1, 0, 0]
    assert len(news.take(1_000, COPIES + 4)) == 1


# Changes of records


def writer(*puppets: Puppet, **settings: int) -> tuple[Gossip, Changes]:
    core = core_of(identity_of(1), Settings(**settings))
    introduced(core, *puppets)
    return core, core._changes


def member(core: Gossip, puppet: Puppet) -> Member:
    found = core.member(puppet.id)
    assert found is not None
    return found


def filled(core: Gossip, puppet: Puppet, room: int = 1_000) -> list[Message]:
    """What that member would be sent of the changes now."""
    messages = core._changes.fill(member(core, puppet), room, fresh_only=False)
    assert sum(map(len, messages)) <= room
    return decode_packet(join_parts(messages))


PEER, OWNER = Puppet(2), Puppet(3)


def own(core: Gossip, messages: list[Message]) -> list[Delta]:
    return [m for m in messages if isinstance(m, Delta) and m.owner == core.id]


def test_own_changes_go_before_others_and_fresh_ones_before_told_ones() -> None:
    core, changes = writer(PEER, OWNER)
    changes.clear()
    core.receive(OWNER.packet(OWNER.delta((1, "k", b"v"))), OWNER.address, START_S)
    core.publish(GLOBAL, "t", "mine", b"v", START_S)
    owners = [m.owner for m in filled(core, PEER) if isinstance(m, Delta)]
    assert owners == [core.id, OWNER.id]
    core.receive(PEER.packet(PEER.delta((1, "k", b"v"))), PEER.address, START_S)
    third = Puppet(4)
    introduced(core, third)
    owners = [m.owner for m in filled(core, third) if isinstance(m, Delta)]
    assert owners == [core.id, PEER.id, OWNER.id]


def test_a_change_is_told_as_often_as_there_are_copies() -> None:
    core, changes = writer(PEER)
    changes.clear()
    core.publish(GLOBAL, "t", "k", b"v", START_S)
    deltas = []
    for _ in range(100):
        deltas += own(core, filled(core, PEER))
    assert len(deltas) == Settings().record_copies
    assert not changes


def test_what_is_sent_of_a_log_has_no_gap_and_all_of_it_is_sent() -> None:
    core, changes = writer(PEER)
    changes.clear()
    first = core._replica.own_log(GLOBAL).version
    for number in range(20):
        core.publish(GLOBAL, "t", f"k{number}", bytes(150), START_S)
    at = first
    while changes:
        for delta in own(core, filled(core, PEER)):
            assert delta.start <= at
            at = max(at, delta.end)
    assert at == first + 20


def test_of_many_changes_only_the_head_is_told_and_they_take_no_memory() -> None:
    core, changes = writer(PEER)
    changes.clear()
    for number in range(1_000):
        core.publish(GLOBAL, "t", "k", b"%d" % number, START_S)
    (tail,) = changes._tails.values()
    assert len(tail.versions) <= TAIL_MAX + 1
    (head,) = filled(core, PEER)
    assert head == Head(core.id, GLOBAL, 1, core._replica.own_log(GLOBAL).version)


def test_of_a_record_that_fits_into_no_packet_the_head_is_told() -> None:
    core, changes = writer(PEER)
    changes.clear()
    core.publish(GLOBAL, "t", "k", bytes(64 << 10), START_S)
    assert [type(m) for m in filled(core, PEER, 1_174)] == [Head]
    assert filled(core, PEER, 300) == []  # another packet may have room for it


def test_tails_are_bounded_and_the_most_told_goes() -> None:
    core, changes = writer(logs_queued_max=4)
    for number in range(2, 12):
        puppet = Puppet(number)
        introduced(core, puppet)
        core.receive(puppet.packet(puppet.delta((1, "k", b"v"))), puppet.address, START_S)
        assert len(changes) <= 4
    assert changes.dropped >= 6


def test_what_only_its_owner_could_be_told_is_done() -> None:
    """Two nodes: the other one needs none of its own changes, and nobody else is there."""
    core, changes = writer(OWNER)
    changes.clear()
    core.receive(OWNER.packet(OWNER.delta((1, "k", b"v"))), OWNER.address, START_S)
    assert len(changes) == 1
    for _ in range(Settings().record_copies):
        assert filled(core, OWNER) == []
    assert not changes


def test_changes_in_a_scope_without_others_do_not_wait() -> None:
    core, changes = writer(PEER)
    core.subscribe(SCOPE, START_S)
    changes.clear()
    core.publish(SCOPE, "t", "k", b"v", START_S)
    assert len(changes) == 1
    assert changes.peers(fresh_only=False) == []
    assert not changes


def test_a_quiet_cluster_of_two_has_no_ticks() -> None:
    lab = Lab()
    one, two = lab.cluster(2)
    for core in (one, two):
        core.subscribe(SCOPE, lab.now_s)
        core.publish(SCOPE, "t", "k", b"v", lab.now_s)
        core.publish(b"scope--2", "t", "k", b"v", lab.now_s)
    lab.run(10.0)
    assert values(one)[two.id, SCOPE, "t", "k"] == b"v"
    for core in (one, two):
        assert core.levels()["changes_queued"] == core.levels()["statements_queued"] == 0
        assert core._spreading._tick is None


def test_news_of_a_log_begins_anew_with_its_epoch() -> None:
    core, changes = writer(PEER, OWNER)
    changes.clear()
    records = [(number, f"k{number}", b"v") for number in range(1, 9)]
    core.receive(OWNER.packet(OWNER.delta(*records)), OWNER.address, START_S)
    again = Puppet(3, epoch=2)
    core.receive(again.packet(again.introduction), again.address, START_S)
    core.receive(again.packet(again.delta((1, "new", b"v"))), again.address, START_S)
    (delta,) = filled(core, PEER)
    assert isinstance(delta, Delta)
    assert (delta.epoch, delta.start, delta.end) == (2, 0, 1)


def test_changes_below_the_floor_are_told_by_the_head() -> None:
    """A delta from the beginning may not reach them, and would be sent for ever."""
    core, changes = writer(PEER)
    for number in range(30):
        core.publish(GLOBAL, "t", f"old{number}", bytes(100), START_S)
    changes.clear()
    core.publish(GLOBAL, "t", "k", b"v", START_S)
    core.publish(GLOBAL, "t", "k", None, START_S)
    log = core._replica.own_log(GLOBAL)
    log.drop_tombstones(log.version)
    sent = 0
    while changes:
        assert [type(m) for m in filled(core, PEER)] == [Head]
        sent += 1
    assert sent == Settings().record_copies


@given(st.lists(st.tuples(st.integers(0, 900), st.booleans()), max_size=30))
def test_no_packet_is_larger_than_it_may_be(writes: list[tuple[int, bool]]) -> None:
    lab = Lab()  # it looks at each packet
    one, two = lab.add(1, 2)
    two.join([address_of(1)], lab.now_s)
    for number, (size, hold) in enumerate(writes):
        one.publish(GLOBAL, "t", f"{number}", bytes(size), lab.now_s)
        if not hold:
            lab.run(0.05)
    lab.run(5.0)
    assert values(one) == values(two)


def test_many_changes_at_once_go_on_in_further_packets() -> None:
    core, changes = writer(PEER)
    changes.clear()
    for number in range(10):
        core.publish(GLOBAL, "t", f"k{number}", b"v" * 400, START_S)
    messages = changes.fill(member(core, PEER), 1_000, False, further=(1_000,) * 3)
    assert all(len(message) <= 1_000 for message in messages)
    deltas = [delta for data in messages for delta in own(core, decode_packet(join_parts([data])))]
    assert len(deltas) == 4
    assert [delta.start for delta in deltas[1:]] == [delta.end for delta in deltas[:-1]]
    assert sum(len(delta.entries) for delta in deltas) == deltas[-1].end - deltas[0].start


def test_changes_of_many_at_once_go_on_in_further_packets_too() -> None:
    puppets = [Puppet(number) for number in range(3, 15)]
    core, changes = writer(PEER, *puppets)
    for puppet in puppets:
        core.receive(puppet.packet(puppet.delta((1, "k", b"v" * 60))), puppet.address, START_S)
    changes.drop((core.id, GLOBAL))
    messages = changes.fill(member(core, PEER), 500, True, further=(1_000,) * 4)
    deltas = decode_packet(join_parts(messages))
    assert [type(delta) for delta in deltas] == [Delta] * 12
    assert {d.owner for d in deltas if isinstance(d, Delta)} == {p.id for p in puppets}
    one_packet = decode_packet(join_parts(changes.fill(member(core, PEER), 500, True)))
    assert len(one_packet) < 3
