"""Fetching over streams: page by page, whatever the sizes, and an end whatever the answers."""

import msgspec
import pytest

from netd.gossip import syncing
from netd.gossip.codec import decode_reply, decode_request, encode
from netd.gossip.core import Gossip
from netd.gossip.member import Member
from netd.gossip.messages import Head, LogRow, Ping
from netd.gossip.requests import Declined, FetchRing, StreamAck, StreamPing, Sync, SyncReply
from netd.gossip.settings import Settings
from netd.gossip.syncing import AT_ONCE_MAX, ROWS_MAX, WAITING_MAX
from netd.gossip.values import (
    GLOBAL,
    REPLY_MAX_BYTES,
    REQUEST_MAX_BYTES,
    VALUE_MAX_BYTES,
    Call,
    NodeId,
)
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

PEER = Puppet(2)
OWNERS = [Puppet(number) for number in range(10, 14)]


def scene(**settings: int) -> Gossip:
    core = core_of(identity_of(1), Settings(**settings))
    introduced(core, PEER, *OWNERS)
    return core


def member(core: Gossip, puppet: Puppet) -> Member:
    found = core.member(puppet.id)
    assert found is not None
    return found


def serve(core: Gossip, request: Sync) -> SyncReply:
    data = core.serve(encode(request), PEER.id, START_S)
    assert len(data) <= REPLY_MAX_BYTES
    reply = decode_reply(data)
    assert isinstance(reply, SyncReply)
    return reply


@pytest.mark.parametrize("size", [1, 1_000, VALUE_MAX_BYTES])
def test_a_joiner_has_all_records_however_large(size: int) -> None:
    lab = Lab()
    one, two = lab.add(1, 2)
    for number in range(12):
        one.publish(GLOBAL, "t", f"k{number}", bytes([number]) * size, lab.now_s)
    two.join([address_of(1)], lab.now_s)
    lab.settle()
    assert values(two) == values(one)
    assert len(values(two)) == 12


def test_a_joiner_of_ten_thousand_records_tells_nobody_of_them() -> None:
    lab = Lab()
    one, two = lab.add(1, 2)
    for number in range(10_000):
        one.publish(GLOBAL, "t", f"k{number}", b"value", lab.now_s)
    two.join([address_of(1)], lab.now_s)
    lab.settle()
    assert len(values(two)) == 10_000
    assert two._changes._tails.keys() <= {(two.id, GLOBAL)}
    lab.run(5.0)
    lab.sent = 0
    lab.run(5.0)
    assert lab.sent <= 2 * 5 * 2 + 4


def test_pages_are_bounded_and_go_on_where_the_last_one_ended() -> None:
    core = scene(page_max_bytes=2_000)
    for number in range(40):
        core.publish(GLOBAL, "t", f"k{number}", bytes(200), START_S)
    at, pages = 0, 0
    while True:
        page = serve(core, Sync((), (LogRow(core.id, GLOBAL, 1, at),), True))
        if not page.deltas:
            break
        (delta,) = page.deltas
        assert delta.start == at
        assert len(encode(page)) <= 2 * 2_000 + 500
        at = delta.end
        pages += 1
        assert page.more or at == core._replica.own_log(GLOBAL).version
    assert at == core._replica.own_log(GLOBAL).version
    assert pages > 2


def test_only_what_is_asked_for_and_may_be_shown_is_served() -> None:
    core = scene()
    scope = b"scope--1"
    core.subscribe(scope, START_S)
    core.publish(scope, "t", "k", b"secret", START_S)
    PEER.say(core, OWNERS[0].delta((1, "k", b"v")), now_s=START_S)
    for request in (
        Sync((scope,), (), False),
        Sync((scope,), (LogRow(core.id, scope, 0, 0),), True),
    ):
        assert all(delta.scope == GLOBAL for delta in serve(core, request).deltas)
    (delta,) = serve(core, Sync((), (LogRow(OWNERS[0].id, GLOBAL, 0, 0),), True)).deltas
    assert delta.owner == OWNERS[0].id
    assert serve(core, Sync((), tuple(core._replica.rows(())), False)) == SyncReply((), False)


def test_pages_begin_anywhere_so_that_one_log_does_not_bar_the_others() -> None:
    core = scene(page_max_bytes=400)
    for owner in OWNERS:
        core.receive(owner.packet(owner.delta((1, "k", b"v"))), owner.address, START_S)
    nothing = Sync((), (), False)
    first = {serve(core, nothing).deltas[0].owner for _ in range(50)}
    assert first == {core.id, *(owner.id for owner in OWNERS)}


def test_strangers_and_those_who_are_gone_are_declined() -> None:
    core = scene()
    stranger = Puppet(99)
    PEER.say(core, PEER.left(0), now_s=START_S)
    for peer in (stranger, PEER):
        for request in (Sync((), (), False), FetchRing()):
            reply = decode_reply(core.serve(encode(request), peer.id, START_S))
            assert reply == Declined("join first")


def test_a_server_that_lacks_something_asks_back_but_not_in_a_circle() -> None:
    core = scene()
    ahead = Sync((), (LogRow(OWNERS[0].id, GLOBAL, 1, 5),), False)
    calls = 0
    core.advance(core.next_timer_s())
    core.take()
    for _ in range(10):
        serve(core, ahead)
        for call in _syncs(core):
            calls += 1
            core.complete(call.number, encode(SyncReply((), False)), START_S)
    assert calls == 1


def _syncs(core: Gossip) -> list[Call]:
    return [c for c in core.take().calls if isinstance(decode_request(c.request), Sync)]


def _answers(core: Gossip, reply: bytes | None) -> int:
    """How many calls it takes until the core is content with what it gets as answer."""
    core._syncing.fetch_all(member(core, PEER))
    calls = 0
    while found := _syncs(core):
        for call in found:
            calls += 1
            assert calls < 50
            core.complete(call.number, reply, START_S)
    return calls


def test_answers_that_lead_nowhere_are_not_asked_for_again() -> None:
    strange = Puppet(99).delta((1, "k", b"v"))
    known = OWNERS[0].delta((1, "k", b"v"), news=False)
    nonsense: list[bytes | None] = [
        None,
        b"",
        b"nonsense",
        encode(Declined("no")),
        encode(StreamAck(PEER.introduction)),
        encode(SyncReply((), True)),
        encode(SyncReply((strange,), True)),
        encode(SyncReply((OWNERS[0].delta((9, "k", b"v"), start=8),), True)),
        encode(SyncReply((OWNERS[0].delta(scope=b"scope--1", end=9),), True)),
    ]
    for reply in nonsense:
        assert _answers(scene(), reply) == 1
    assert _answers(scene(), encode(SyncReply((known,), True))) == 2


def test_one_fetch_with_each_and_two_in_all_are_under_way() -> None:
    core = scene()
    for puppet in (PEER, PEER, *OWNERS):
        core._syncing.fetch_all(member(core, puppet))
    first = _syncs(core)
    assert [call.node for call in first] == [PEER.id, OWNERS[0].id]
    assert len(first) == AT_ONCE_MAX
    core.complete(first[0].number, encode(SyncReply((), False)), START_S)
    assert len(_syncs(core)) == 1


def test_what_waits_is_bounded() -> None:
    core = scene()
    for version in range(500):
        owner = OWNERS[version % 4]
        core._syncing.fetch(member(core, PEER), (owner.id, version.to_bytes(8, "big")))
    assert len(core._syncing._waiting) <= WAITING_MAX


def test_a_head_leads_to_a_fetch_of_that_log_and_is_passed_on() -> None:
    core = scene()
    owner = OWNERS[0]
    head = Head(owner.id, GLOBAL, 1, 1)
    core.receive(PEER.packet(head), PEER.address, START_S)
    (call,) = _syncs(core)
    assert decode_request(call.request) == Sync((), (LogRow(owner.id, GLOBAL, 0, 0),), True)
    core._changes.clear()
    page = SyncReply((owner.delta((1, "k", bytes(5_000)), news=False),), False)
    core.complete(call.number, encode(page), START_S)
    assert len(values(core)) == 1
    assert list(core._changes._tails) == [(owner.id, GLOBAL)]
    core.receive(PEER.packet(head), PEER.address, START_S)
    assert _syncs(core) == []


def test_a_log_that_was_left_behind_the_floor_comes_in_pages_too() -> None:
    lab = Lab(settings=Settings(tombstone_kept_s=5.0, page_max_bytes=3_000))
    one, two = lab.cluster(2)
    for number in range(60):
        one.publish(GLOBAL, "t", f"k{number}", bytes(100), lab.now_s)
    lab.run(3.0)
    assert values(two) == values(one)
    lab.cut([one], [two])
    lab.run(5.0)
    for number in range(30):
        one.publish(GLOBAL, "t", f"k{number}", None, lab.now_s)
        one.publish(GLOBAL, "t", f"n{number}", bytes(100), lab.now_s)
    lab.run(20.0)
    lab.heal()
    lab.run(40.0)
    assert values(two) == values(one)
    assert len(values(two)) == 60


def test_pings_by_stream_are_answered_by_their_target_only() -> None:
    core = scene()
    mine = decode_reply(core.serve(encode(StreamPing(core.id, None)), PEER.id, START_S))
    assert isinstance(mine, StreamAck)
    other = decode_reply(core.serve(encode(StreamPing(PEER.id, None)), PEER.id, START_S))
    assert isinstance(other, Declined)
    accused = StreamPing(core.id, Puppet(1).suspect(0, PEER.id))
    refuted = decode_reply(core.serve(encode(accused), PEER.id, START_S))
    assert refuted == StreamAck(Puppet(1).alive(1))
    assert PEER.say(core, Ping(1, core.id, 0, 0), now_s=START_S)


def test_a_request_has_room_for_its_rows() -> None:
    row = LogRow(bytes(16), bytes(8), (1 << 48) - 1, (1 << 63) - 1, (1 << 63) - 1)
    request = Sync((bytes(8),) * 4096, (row,) * ROWS_MAX, only=False)
    assert len(encode(request)) <= REQUEST_MAX_BYTES
    assert 2 * Settings().members_max <= ROWS_MAX  # the global logs, and those of any one scope


def test_more_logs_than_a_request_names_are_fetched_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scopes = [bytes([number]) * 8 for number in range(1, 9)]
    lab = Lab()
    one, two = lab.cluster(2)
    lab.packets = lambda _source, _to: False
    monkeypatch.setattr(syncing, "ROWS_MAX", 8)
    for core in (one, two):
        for scope in scopes:
            core.subscribe(scope, lab.now_s)
    two._syncing.fetch_all(member_of(two, one))
    lab.settle()
    for scope in scopes:
        one.publish(scope, "t", "k", b"value", lab.now_s)
    requests: list[bytes] = []
    answer = one.serve

    def noted(request: bytes, peer: NodeId, now_s: float) -> bytes:
        requests.append(request)
        return answer(request, peer, now_s)

    monkeypatch.setattr(one, "serve", noted)
    for _ in range(20):
        two._syncing.fetch_all(member_of(two, one))
        lab.settle()
    assert sum(scope in scopes for _, scope, _, _ in values(two)) == len(scopes)
    for request in map(decode_request, requests):
        assert isinstance(request, Sync)
        assert len(request.rows) <= 8


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("rest_max", [3, 1_000])
def test_a_joiner_names_what_is_left_of_many_logs_and_not_all_of_them_on_each_page(
    monkeypatch: pytest.MonkeyPatch, older: bool, rest_max: int
) -> None:
    """An older netd does not say what is left: all are named again."""
    monkeypatch.setattr(syncing, "REST_MAX", rest_max)
    monkeypatch.setattr(syncing, "RESUMED_MAX", 8)
    lab = Lab(settings=Settings(page_max_bytes=2_000))
    one, two = lab.add(1, 2)
    owners = [Puppet(number) for number in range(10, 50)]
    introduced(one, *owners)
    for owner in owners:
        one.receive(owner.packet(owner.delta((1, "k", bytes(200)))), owner.address, lab.now_s)
    one.take()
    named: list[int] = []
    answer = one.serve

    def noted(request: bytes, peer: NodeId, now_s: float) -> bytes:
        asked = decode_request(request)
        if isinstance(asked, Sync):
            named.append(len(asked.rows))
        reply = answer(request, peer, now_s)
        page = decode_reply(reply)
        if older and isinstance(page, SyncReply):
            reply = encode(msgspec.structs.replace(page, rest=()))
        return reply

    monkeypatch.setattr(one, "serve", noted)
    two.join([address_of(1)], lab.now_s)
    lab.settle()
    assert len(values(two)) == len(owners)
    assert len(named) > 8
    if not older and rest_max > len(owners):
        assert sum(count > 8 for count in named) <= 1  # once all are compared


def test_a_rest_that_cannot_be_taken_over_is_not_asked_for_in_a_circle() -> None:
    core = scene()
    core._syncing.fetch_all(member(core, PEER))
    strange = tuple(LogRow(owner.id, GLOBAL, 5, 9) for owner in OWNERS)
    asked = 0
    for _ in range(20):
        for call in core.take().calls:
            asked += 1
            core.complete(call.number, encode(SyncReply((), True, strange)), START_S)
    assert asked == 2


def member_of(core: Gossip, other: Gossip) -> Member:
    found = core.member(other.id)
    assert found is not None
    return found
