"""Replies that are kept: until what they depend on changes, and no more than there is room for."""

import itertools
from collections import Counter

import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netd.naming.values import EVERYTHING, Answer, Record, Scope
from netd.registry.dns.packets import VARIANTS_MAX, Packet, Packets, replies, shuffled, size_of
from netd.registry.dns.wire import Query, parse_query

SCOPES = [Scope(frozenset({name})) for name in ("blue", "red")]
TOPICS = st.lists(st.sampled_from("abcd"), max_size=3, unique=True).map(tuple)


def packet(topics: tuple[str, ...] = ()) -> Packet:
    return Packet(itertools.repeat(b"x").__next__, [0], topics)


@settings(deadline=None)
@given(
    most=st.integers(2, 6),
    steps=st.lists(
        st.one_of(
            st.tuples(st.integers(0, 1), st.binary(min_size=1, max_size=1), TOPICS),
            st.sampled_from(["a", "b", "c", "d", EVERYTHING]),
        ),
        max_size=60,
    ),
)
def test_what_is_kept_depends_on_nothing_that_was_dropped_since(
    most: int, steps: list[tuple[int, bytes, tuple[str, ...]] | str]
) -> None:
    packets = Packets(most)
    held = [packets.of(scope) for scope in SCOPES]  # as a client has it at hand
    model: dict[tuple[int, bytes], Packet] = {}
    for step in steps:
        stamp = packets.stamp[0]
        if isinstance(step, str):
            packets.drop((step,))
            model = {
                key: kept
                for key, kept in model.items()
                if step != EVERYTHING and step not in kept.topics
            }
        else:
            number, key, topics = step
            made = packet(topics)
            packets.keep(SCOPES[number], key, made)
            model[number, key] = made
        if packets.stamp[0] != stamp:
            assert not any(held)
            held = [packets.of(scope) for scope in SCOPES]
        found = {
            (number, key): kept
            for number, scope in enumerate(SCOPES)
            for key, kept in packets.of(scope).items()
        }
        # All that is kept holds, and is what was put in last; at most the oldest are missing.
        assert found.items() <= model.items()
        assert len(found) <= most
        assert [packets.of(scope) for scope in SCOPES] == held
        if not isinstance(step, str):
            assert found[step[0], step[1]].topics == step[2]
    assert len(packets) == len(packets.of(SCOPES[0])) + len(packets.of(SCOPES[1]))


def asked() -> Query:
    return parse_query(dns.message.make_query("api.service.netd.internal", "A").to_wire())


def answer(weights: list[int]) -> Answer:
    name = "api.service.netd.internal"
    records = []
    for at, weight in enumerate(weights):
        data = bytes((10, 0, at >> 8, at & 255))
        text = ".".join(map(str, data))
        records.append(Record(name, "A", 2, text, data, weight=weight))
    return Answer("NOERROR", tuple(records))


def addresses(reply: bytes) -> list[str]:
    message = dns.message.from_wire(b"\0\0" + reply)
    return [str(item) for rrset in message.answer for item in rrset]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 100), min_size=2, max_size=20))
def test_firsts_are_as_the_weights_say(weights: list[int]) -> None:
    round_ = len(weights) if len(set(weights)) == 1 else VARIANTS_MAX
    made = list(itertools.islice(replies(asked(), answer(weights), 4096), 2 * round_))
    assert made[:round_] == made[round_:]
    firsts = Counter(addresses(reply)[0] for reply in made[:round_])
    for at, weight in enumerate(weights):
        share = round_ * weight / sum(weights)
        assert abs(firsts[f"10.0.0.{at}"] - share) < 1
    for reply in made[:round_]:
        assert len(set(addresses(reply))) == len(weights)


def test_no_more_bytes_are_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netd.registry.dns.packets.BYTES_MAX", 1 << 20)
    packets = Packets(1000)
    many = answer([1] * 200)
    reply = next(replies(asked(), many, 4096))
    for number in range(100):  # one name in as many spellings
        made = Packet(itertools.repeat(reply).__next__, [0], ("s/api",), size_of(many, reply))
        packets.keep(SCOPES[0], number.to_bytes(2, "big"), made)
        assert packets.size <= 1 << 20
    assert (99).to_bytes(2, "big") in packets.of(SCOPES[0])
    assert 1 <= len(packets) < 10
    packets.drop(("s/api",))
    assert (packets.size, len(packets)) == (0, 0)
    packets.keep(SCOPES[0], b"x", packet())
    packets.clear()
    assert packets.size == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=20))
def test_the_size_is_that_of_all_orders(weights: list[int]) -> None:
    found = answer(weights)
    orders = list(itertools.islice(replies(asked(), found, 4096), 2 * VARIANTS_MAX))
    assert sum(map(len, {id(one): one for one in orders}.values())) <= size_of(found, orders[0])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=20))
def test_all_records_are_there_in_any_order(weights: list[int]) -> None:
    found = answer(weights)
    mixed = shuffled(found)
    assert sorted(mixed.records, key=lambda one: one.rdata) == list(found.records)
    if any(weights):
        assert mixed.records[0].weight > 0


def test_one_record_is_one_reply() -> None:
    made = replies(asked(), answer([1]), 512)
    first = next(made)
    assert next(made) is first


def test_of_more_than_fit_all_are_answered_in_turn() -> None:
    made = itertools.islice(replies(asked(), answer([1] * 60), 512), 60)
    assert len({addresses(reply)[0] for reply in made}) == 60


def test_very_many_are_written_once() -> None:
    made = replies(asked(), answer([1] * 2000), 512)
    first = next(made)
    assert next(made) is first
    assert first[0] & 0x02  # truncated: TCP has them all
