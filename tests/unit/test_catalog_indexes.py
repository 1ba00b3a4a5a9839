"""Indexes, waiting for them, and the answers that are kept."""

import asyncio

import pytest

from netd.registry.catalog.indexes import Indexes
from netd.registry.catalog.kept import Kept
from netd.registry.http.answers import Body, json_body


class Clock:
    def __init__(self, now_ms: int = 1000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def test_an_index_grows_with_each_change_and_with_time() -> None:
    clock = Clock()
    indexes = Indexes(clock)
    assert indexes.of("a") == 1000
    assert [indexes.next(), indexes.next()] == [1001, 1002]
    clock.now_ms = 5000
    assert indexes.next() == 5000
    clock.now_ms = 10  # somebody has set it back
    assert indexes.next() == 5001


def test_an_index_is_never_0() -> None:
    assert Indexes(Clock(0)).of("a") == 1


def test_only_what_is_touched_has_another_index() -> None:
    indexes = Indexes(Clock())
    indexes.touch("a", indexes.next())
    assert (indexes.of("a"), indexes.of("b")) == (1001, 1000)


def test_what_is_forgotten_has_no_smaller_index_than_before() -> None:
    indexes = Indexes(Clock(), most=4)
    for name in "abcde":
        indexes.touch(name, indexes.next())
    assert len(indexes) == 4
    assert indexes.of("a") == 1001 == indexes.of("never touched")
    assert indexes.of("e") == 1005


async def test_who_waits_wakes_for_the_topic_alone() -> None:
    indexes = Indexes(Clock())
    waiting = asyncio.ensure_future(indexes.wait("a", 1000, 5.0))
    await asyncio.sleep(0)
    indexes.touch("b", indexes.next())
    await asyncio.sleep(0)
    assert indexes.waiting == 1
    indexes.touch("a", indexes.next())
    assert await waiting == 1002
    assert indexes.waiting == 0


async def test_an_index_that_is_small_enough_is_not_waited_for() -> None:
    indexes = Indexes(Clock())
    assert await indexes.wait("a", 999, 5.0) == 1000
    assert await indexes.wait("a", 2**60, 5.0) == 1000  # of another life


async def test_an_index_of_a_host_whose_clock_is_ahead_is_not_waited_for() -> None:
    """Another topic's change has made all indexes here larger, but this one's is not seen yet."""
    indexes = Indexes(Clock())
    indexes.touch("a", indexes.next())
    for _ in range(10):
        indexes.touch("b", indexes.next())
    assert await indexes.wait("a", 1005, 5.0) == 1001
    assert indexes.waiting == 0


async def test_waiting_ends() -> None:
    indexes = Indexes(Clock())
    assert await indexes.wait("a", 1000, 0.01) == 1000
    assert indexes.waiting == 0


async def test_who_leaves_is_forgotten() -> None:
    indexes = Indexes(Clock())
    waiting = asyncio.ensure_future(indexes.wait("a", 1000, 5.0))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert indexes.waiting == 0
    indexes.touch("a", indexes.next())


def test_an_answer_holds_for_its_index() -> None:
    kept = Kept()
    body = json_body([1])
    kept.put("q", 5, body)
    assert kept.get("q", 5) is body
    assert kept.get("q", 6) is None
    assert kept.get("other", 5) is None
    kept.put("q", 6, json_body([2]))
    assert kept.get("q", 5) is None
    assert len(kept) == 1


def test_what_was_not_asked_for_longest_is_dropped() -> None:
    kept = Kept(count_max=2)
    for name in "ab":
        kept.put(name, 1, json_body(name))
    kept.get("a", 1)
    kept.put("c", 1, json_body("c"))
    assert kept.get("b", 1) is None
    assert kept.get("a", 1) is not None


def test_bytes_are_counted_packed_ones_too() -> None:
    kept = Kept(bytes_max=20_000)
    body = Body(b"x" * 2000)
    kept.put("a", 1, body)
    assert kept.size == 2000
    packed = body.packed()
    assert packed is not None
    kept.get("a", 1)
    assert kept.size == 2000 + len(packed)
    kept.put("huge", 1, Body(b"x" * 15_000))
    assert kept.get("huge", 1) is None
    for number in range(20):
        kept.put(number, 1, Body(b"y" * 2000))
    assert kept.size <= 20_000
    kept.put("a", 2, Body(b""))
    assert kept.size <= 20_000
