"""Messages as bytes: all come back as they were, and nothing else gets in, whatever it is."""

import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netd.gossip import messages, requests
from netd.gossip.codec import (
    Malformed,
    address_of,
    decode_packet,
    decode_reply,
    decode_request,
    encode,
    join_parts,
    pack_host,
)
from netd.gossip.core import Gossip
from netd.gossip.ring import KeyChange
from netd.gossip.values import Output
from tests.unit.gossip_cores import (
    CLUSTER,
    RING,
    START_S,
    Puppet,
    core_of,
    identity_of,
    introduced,
    table,
    values,
)

ids = st.binary(min_size=16, max_size=16)
scopes = st.binary(min_size=8, max_size=8)
epochs = st.integers(0, (1 << 48) - 1)
incarnations = st.integers(0, (1 << 32) - 1)
versions = st.integers(0, (1 << 63) - 1)
signatures = st.binary(min_size=64, max_size=64)
accusers = st.lists(ids, max_size=4).map(tuple)
protocols = st.integers(1, 1000)
leaves = st.binary(max_size=256)
log_rows = st.builds(messages.LogRow, ids, scopes, epochs, versions)
member_rows = st.builds(messages.MemberRow, ids, epochs, incarnations, st.integers(0, 3), accusers)
entries = st.builds(
    messages.Entry,
    versions,
    st.text(min_size=1, max_size=32),
    st.text(max_size=255),
    st.none() | st.binary(max_size=100),
    signatures,
)
introductions = st.builds(
    messages.Introduce,
    st.binary(min_size=32, max_size=32),
    epochs,
    incarnations,
    st.text(min_size=1, max_size=63),
    st.binary(min_size=4, max_size=16),
    st.integers(1, 65535),
    protocols,
    protocols,
    st.text(max_size=32),
    signatures,
)
alives = st.builds(messages.Alive, ids, epochs, incarnations, signatures)
suspects = st.builds(messages.Suspect, ids, epochs, incarnations, accusers)
deads = st.builds(messages.Dead, ids, epochs, incarnations, accusers)
lefts = st.builds(messages.Left, ids, epochs, incarnations, signatures)
marks = st.builds(messages.Mark, versions, versions, versions, signatures)
deltas = st.builds(
    messages.Delta,
    ids,
    scopes,
    epochs,
    marks,
    versions,
    versions,
    st.booleans(),
    st.lists(entries, max_size=3).map(tuple),
)
packet_messages = st.one_of(
    introductions,
    alives,
    suspects,
    deads,
    lefts,
    st.builds(messages.Ping, incarnations, ids, versions, versions),
    st.builds(messages.Ack, incarnations, ids, epochs, versions, versions),
    st.builds(messages.PingRequest, incarnations, ids, st.integers(0, 120_000)),
    st.builds(messages.Nack, incarnations),
    st.builds(messages.Query, st.lists(ids, max_size=16).map(tuple)),
    st.builds(messages.Compare, st.integers(0, 1), st.binary(min_size=1024, max_size=1024)),
    st.builds(messages.MemberRows, leaves, st.lists(member_rows, max_size=4).map(tuple)),
    st.builds(messages.LogRows, leaves, st.lists(log_rows, max_size=4).map(tuple)),
    st.builds(messages.TooDifferent, st.integers(0, 1)),
    deltas,
    st.builds(messages.Head, ids, scopes, epochs, versions, st.none() | marks),
    st.builds(messages.Want, st.lists(log_rows, max_size=16).map(tuple)),
)
any_requests = st.one_of(
    st.builds(requests.StreamPing, ids, st.none() | suspects),
    st.builds(requests.Join, introductions, st.none() | alives, st.none() | suspects | deads),
    st.builds(
        requests.Sync,
        st.lists(scopes, max_size=4).map(tuple),
        st.lists(log_rows, max_size=4).map(tuple),
        st.booleans(),
    ),
    st.builds(requests.FetchRing),
)
ages = st.tuples(epochs, st.binary(max_size=16))
rings = st.builds(
    requests.RingRow,
    st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=4).map(tuple),
    st.binary(min_size=4, max_size=4),
    epochs,
    st.binary(max_size=16),
    st.lists(
        st.builds(KeyChange, st.binary(min_size=4, max_size=4), ages, st.booleans()), max_size=20
    ).map(tuple),
    ages,
    ages,
)
replies = st.one_of(
    st.builds(requests.StreamAck, introductions | alives),
    st.builds(
        requests.Welcome,
        st.lists(introductions | alives | suspects | deads | lefts, max_size=4).map(tuple),
        rings,
        ids,
    ),
    st.builds(
        requests.SyncReply,
        st.lists(deltas, max_size=3).map(tuple),
        st.booleans(),
        st.lists(log_rows, max_size=3).map(tuple),
    ),
    st.builds(requests.RingReply, rings),
    st.builds(requests.Declined, st.text(max_size=512)),
)
DECODERS: list[Callable[[bytes], Any]] = [decode_packet, decode_request, decode_reply]


@given(st.lists(packet_messages, max_size=8))
def test_a_packet_comes_back_as_it_was(sent: list[messages.Message]) -> None:
    assert decode_packet(join_parts(map(encode, sent))) == sent


@given(any_requests, replies)
def test_requests_and_replies_come_back_as_they_were(
    request: requests.Request, reply: requests.Reply
) -> None:
    assert decode_request(encode(request)) == request
    assert decode_reply(encode(reply)) == reply


def test_every_message_is_tried_here() -> None:
    tried = {type(found) for found in _examples()}
    declared = {*_members(messages.Message), *_members(requests.Request), *_members(requests.Reply)}
    assert declared == tried


def _members(union: Any) -> tuple[type, ...]:
    return tuple(union.__args__)


def _examples() -> list[Any]:
    found: list[Any] = []

    @settings(max_examples=400, database=None, derandomize=True)
    @given(packet_messages, any_requests, replies)
    def collect(message: Any, request: Any, reply: Any) -> None:
        found.extend((message, request, reply))

    collect()
    return found


@given(st.binary(max_size=64))
def test_bytes_that_are_no_message_are_malformed(noise: bytes) -> None:
    for decode in DECODERS:
        _try(decode, noise)


@given(packet_messages, st.randoms(use_true_random=False))
def test_changed_and_cut_messages_are_malformed_or_other_messages(
    message: messages.Message, chance: random.Random
) -> None:
    data = bytearray(join_parts([encode(message)]))
    for _ in range(4):
        data[chance.randrange(len(data))] = chance.randrange(256)
        _try(decode_packet, bytes(data))
    for length in range(0, len(data), max(1, len(data) // 16)):
        _try(decode_packet, bytes(data[:length]))


def _try(decode: Callable[[bytes], Any], data: bytes) -> None:
    try:
        decode(data)
    except Malformed:
        return


LIES = [
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xdc\xff\xff",
    b"\xc9\xff\xff\xff\xff\x00",
]
BEFORE = {
    "nothing": b"",
    "packet": b"\xdc\x00\x01",
    "query": b"\xdc\x00\x01\x92\x0e",
    "ping": b"\x93\x2a",
    "sync": b"\x94\x2a\x90",
    "welcome": b"\x94\x33",
    "page": b"\x93\x34",
    "delta": b"\x93\x34\x91\x99\xc4\x10" + bytes(16) + b"\xc4\x08" + bytes(13) + b"\xc2",
}


@pytest.mark.parametrize("header", LIES)
@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE.keys())
def test_a_length_that_is_a_lie_allocates_nothing(before: bytes, header: bytes) -> None:
    tracemalloc.start()
    try:
        for decode in DECODERS:
            with pytest.raises(Malformed):
                decode(before + header)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_deep_nesting_is_malformed() -> None:
    for decode in DECODERS:
        with pytest.raises(Malformed):
            decode(b"\xdc\x00\x01" + b"\x91" * 100_000)


def test_addresses_are_of_four_or_sixteen_bytes() -> None:
    for host in ("192.0.2.1", "2001:db8::1"):
        assert address_of(pack_host(host), 7946) == (host, 7946)
    for length in (0, 3, 5, 8, 15, 17):
        with pytest.raises(Malformed):
            address_of(bytes(length), 7946)


# Into a core


def _core() -> tuple[Gossip, Puppet]:
    core, puppet = core_of(identity_of(1)), Puppet(2)
    introduced(core, puppet)
    puppet.say(core, puppet.delta((1, "key", b"value")), now_s=START_S)
    core.publish(bytes(8), "t", "own", b"value", START_S)
    core.take()
    return core, puppet


def _state(core: Gossip) -> object:
    return table(core), values(core), core._digests(core.member(core.id)), core.ring, core.problems


def _changes_nothing(core: Gossip, give: Callable[[], object], counted: str) -> Output:
    before, refused = _state(core), core.counters.get(counted, 0)
    give()
    assert _state(core) == before
    assert core.counters.get(counted, 0) == refused + 1
    return core.take()


@given(st.binary(max_size=300))
def test_a_packet_of_noise_changes_nothing(noise: bytes) -> None:
    core, puppet = _core()
    before = _state(core)
    core.receive(noise, puppet.address, START_S)
    assert _state(core) == before
    assert core.take() == Output([], [], [])
    assert sum(n for name, n in core.counters.items() if name.startswith("refused_")) == 1


@given(st.binary(max_size=100))
def test_a_sealed_packet_of_noise_changes_nothing(noise: bytes) -> None:
    core, puppet = _core()
    try:
        decode_packet(noise)
    except Malformed:
        sealed = puppet._seal.seal(noise)
        output = _changes_nothing(
            core, lambda: core.receive(sealed, puppet.address, START_S), "refused_malformed"
        )
        assert output == Output([], [], [])


@given(st.binary(max_size=100))
def test_a_request_of_noise_is_declined(noise: bytes) -> None:
    core, puppet = _core()
    try:
        decode_request(noise)
    except Malformed:
        replies = []
        _changes_nothing(
            core,
            lambda: replies.append(core.serve(noise, puppet.id, START_S)),
            "refused_malformed",
        )
        assert isinstance(decode_reply(replies[0]), requests.Declined)


@given(st.binary(max_size=100))
def test_a_reply_of_noise_changes_nothing(noise: bytes) -> None:
    core, puppet = _core()
    core.join([puppet.address], START_S)
    (call,) = core.take().calls
    try:
        decode_reply(noise)
    except Malformed:
        _changes_nothing(
            core, lambda: core.complete(call.number, noise, START_S), "refused_malformed"
        )


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(packet_messages, min_size=1, max_size=6), st.booleans())
def test_any_messages_of_a_member_or_a_stranger_are_borne(
    said: list[messages.Message], known: bool
) -> None:
    """Nothing that can be decoded raises, neither at once nor when timers run."""
    core, puppet = _core()
    speaker = puppet if known else Puppet(3)
    core.receive(speaker.packet(*said), speaker.address, START_S)
    assert all(len(datagram.data) <= 1_232 for datagram in core.take().datagrams)
    for second in range(1, 4):
        core.advance(START_S + second / 5)
    core.take()


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(any_requests, replies)
def test_any_request_and_reply_is_borne(request: requests.Request, reply: requests.Reply) -> None:
    core, puppet = _core()
    decode_reply(core.serve(encode(request), puppet.id, START_S))
    core.join([puppet.address], START_S)
    core._syncing.fetch_all(_member(core, puppet))
    for call in core.take().calls:
        core.complete(call.number, encode(reply), START_S)
    core.complete(12_345, encode(reply), START_S)
    core.take()


def _member(core: Gossip, puppet: Puppet) -> Any:
    return core.member(puppet.id)


def test_what_is_sealed_for_another_cluster_or_by_another_key_is_counted() -> None:
    core, puppet = _core()
    packet = puppet.packet(messages.Nack(1))
    changes = {
        "truncated": packet[:20],
        "format": b"\x07" + packet[1:],
        "cluster": packet[:1] + b"wxyz" + packet[5:],
        "tag": packet[:-1] + bytes([packet[-1] ^ 1]),
        "key": packet[:5] + b"wxyz" + packet[9:],
    }
    assert CLUSTER
    assert RING.primary == packet[5:9]
    for reason, changed in changes.items():
        _changes_nothing(
            core,
            lambda changed=changed: core.receive(changed, puppet.address, START_S),  # type: ignore[misc]
            "refused_" + reason,
        )
    core.receive(packet, puppet.address, START_S)
    _changes_nothing(core, lambda: core.receive(packet, puppet.address, START_S), "refused_replay")
