"""The engine's copy of the cluster, and how news gets to it from the gossip thread."""

import asyncio
import threading
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.cluster.mirror import Mirror
from netd.cluster.outbox import PORTION, Forgotten, News, Outbox
from netd.cluster.views import Measures
from netd.engine.interfaces import (
    ClusterChange,
    MemberChange,
    ProblemChange,
    Record,
    RecordChange,
)
from netd.model.views import Member


def member(name: str, state: str = "alive") -> Member:
    return Member(
        id=f"id-{name}",
        name=name,
        address="192.0.2.1:7940",
        state=state,  # type: ignore[arg-type]
        rtt_ms=None,
        version="1",
    )


def record(key: str, value: bytes | None, owner: str = "id-b") -> RecordChange:
    return RecordChange(owner=owner, scope=bytes(8), table="t", key=key, value=value)


def problem(detail: str) -> ProblemChange:
    return ProblemChange(code="duplicate-name", about="id-b", detail=detail)


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_this_node_comes_first_then_the_others_by_name() -> None:
    mirror = Mirror(member("m"))
    mirror.take([member("z"), member("a")])
    assert [known.name for known in mirror.members()] == ["m", "a", "z"]


async def test_a_watcher_is_told_all_there_is_and_then_each_change() -> None:
    mirror = Mirror(member("own"))
    mirror.take([member("b"), record("k", b"1"), problem("two")])
    mirror.publish([Record(table="t", key="mine", value=b"m")])
    told: list[ClusterChange] = []
    stop = mirror.watch(told.append)
    assert told == [
        MemberChange(member=member("own")),
        MemberChange(member=member("b")),
        record("k", b"1"),
        record("mine", b"m", "id-own"),
        problem("two"),
    ]
    told.clear()
    mirror.take([member("b", "dead"), record("k", None), problem("")])
    await settle()
    assert told == [
        MemberChange(member=member("b", "dead"), before="alive"),
        record("k", None),
        problem(""),
    ]
    told.clear()
    stop()
    stop()
    mirror.take([record("k", b"2")])
    await settle()
    assert told == []


async def test_a_watcher_does_not_hear_twice_of_what_it_was_told_when_it_began() -> None:
    mirror = Mirror(member("own"))
    mirror.watch(lambda _change: None)
    mirror.take([record("k", b"1")])  # not delivered yet
    told: list[ClusterChange] = []
    mirror.watch(told.append)
    await settle()
    assert told.count(record("k", b"1")) == 1


async def test_a_watcher_that_publishes_is_not_called_from_within() -> None:
    mirror = Mirror(member("own"))
    depth: list[int] = []
    inside = False

    def notify(change: ClusterChange) -> None:
        nonlocal inside
        assert not inside
        inside = True
        if isinstance(change, RecordChange) and len(depth) < 5:
            depth.append(1)
            mirror.publish([Record(table="t", key=f"k{len(depth)}", value=b"x")])
        inside = False

    mirror.watch(notify)
    mirror.publish([Record(table="t", key="k0", value=b"x")])
    assert depth == []
    await settle()
    await settle()
    assert len(depth) == 5


async def test_a_watcher_that_fails_does_not_keep_the_others_from_hearing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mirror = Mirror(member("own"))
    armed = False

    def broken(_change: ClusterChange) -> None:
        if armed:
            raise KeyError("x")

    told: list[ClusterChange] = []
    mirror.watch(broken)
    mirror.watch(told.append)
    told.clear()
    armed = True
    mirror.take([record("k", b"1")])
    await settle()
    assert told == [record("k", b"1")]
    assert "a watcher of the cluster failed" in caplog.text


async def test_what_is_published_again_is_no_news() -> None:
    mirror = Mirror(member("own"))
    one, two = Record(table="t", key="k", value=b"1"), Record(table="t", key="k", value=None)
    assert mirror.publish([one]) == [one]
    assert mirror.publish([one]) == []
    assert mirror.own_records() == [one]
    assert mirror.publish([two]) == [two]
    assert mirror.publish([two]) == []
    assert mirror.own_records() == []


async def test_on_its_own_again_the_others_are_gone_and_own_records_stay() -> None:
    mirror = Mirror(member("own"))
    mirror.publish([Record(table="t", key="mine", value=b"m")])
    mirror.take([member("b"), member("c", "left"), record("k", b"1"), problem("two")])
    told: list[ClusterChange] = []
    mirror.watch(told.append)
    told.clear()
    mirror.end(member("own"))
    await settle()
    assert record("k", None) in told
    assert problem("") in told
    assert MemberChange(member=member("b", "left"), before="alive") in told
    assert [known.name for known in mirror.members()] == ["own"]
    assert [known.key for known in mirror.own_records()] == ["mine"]
    assert mirror.problems() == ()


async def test_measures_are_refreshed_and_nothing_else() -> None:
    mirror = Mirror(member("own"))
    mirror.take([member("b", "dead")])
    mirror.refresh({"id-b": Measures(1.5, 2.5), "id-own": Measures(9.0, 9.0), "x": Measures(1, 1)})
    own, other = mirror.members()
    assert (other.rtt_ms, other.clock_offset_ms, other.state) == (1.5, 2.5, "dead")
    assert own == member("own")


async def test_a_forgotten_member_is_no_more() -> None:
    mirror = Mirror(member("own"))
    mirror.take([member("b")])
    told: list[ClusterChange] = []
    mirror.watch(told.append)
    told.clear()
    mirror.take([Forgotten("id-b"), Forgotten("id-x")])
    await settle()
    assert told == [MemberChange(member=member("b", "left"), before="alive")]
    assert len(mirror.members()) == 1


# The outbox


async def collected(outbox_news: Iterable[News]) -> list[list[News]]:
    portions: list[list[News]] = []
    outbox = Outbox(portions.append)

    def send() -> None:
        for news in outbox_news:
            outbox.put(news)

    sender = threading.Thread(target=send)
    sender.start()
    sender.join()
    async with asyncio.timeout(5):
        while outbox.waiting:
            await asyncio.sleep(0)
    return portions


async def test_news_come_in_portions_between_which_the_loop_goes_on() -> None:
    portions = await collected(record(str(n), b"x") for n in range(3 * PORTION))
    assert len(portions) >= 3
    assert all(len(portion) <= PORTION for portion in portions)
    assert [news.key for portion in portions for news in portion] == [  # type: ignore[union-attr]
        str(n) for n in range(3 * PORTION)
    ]


async def test_only_the_last_word_waits() -> None:
    portions: list[list[News]] = []
    outbox = Outbox(portions.append)
    for n in range(10_000):
        outbox.put(record("k", b"%d" % n))
        outbox.put(member("b", "alive" if n % 2 else "dead"))
        outbox.put(problem(str(n)))
    assert outbox.waiting == 3
    await settle()
    assert portions == [[member("b"), record("k", b"9999"), problem("9999")]]


async def test_what_becomes_of_a_member_is_told_before_what_becomes_of_its_records() -> None:
    portions: list[list[News]] = []
    outbox = Outbox(portions.append)
    outbox.put(member("b", "dead"))
    outbox.put(record("k", None))
    outbox.put(member("b", "dead"))  # shown again, for what else has changed
    await settle()
    assert portions == [[member("b", "dead"), record("k", None)]]


async def test_closed_it_delivers_nothing() -> None:
    portions: list[list[News]] = []
    outbox = Outbox(portions.append)
    outbox.put(record("k", b"1"))
    outbox.close()
    outbox.put(record("k", b"2"))
    await settle()
    assert portions == []


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.none() | st.binary(min_size=1, max_size=1)),
        max_size=40,
    ),
    st.sets(st.integers(0, 40)),
)
async def test_what_watchers_hear_is_a_history_that_ends_in_what_is_so(
    changes: list[tuple[str, bytes | None]], pauses: set[int]
) -> None:
    """However changes are joined on their way: values, then None, and never None twice."""
    mirror = Mirror(member("own"))
    outbox = Outbox(mirror.take)
    told: list[ClusterChange] = []
    mirror.watch(told.append)
    for number, (key, value) in enumerate(changes):
        outbox.put(record(key, value))
        if number in pauses:
            await settle()
    await settle()
    await settle()
    heard: dict[str, bytes | None] = {}
    for change in told:
        if isinstance(change, RecordChange):
            assert change.value != heard.get(change.key)
            heard[change.key] = change.value
    last = {key: value for key, value in dict(changes).items() if value is not None}
    assert {key: value for key, value in heard.items() if value is not None} == last
