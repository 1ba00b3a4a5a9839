"""Streams of events and of names: in order, without gaps that go unsaid, with an end."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

import pytest

from netd.engine import events as events_module
from netd.engine import names as names_module
from netd.engine.directory import Feed
from netd.engine.events import EventLog
from netd.engine.names import NameTable
from netd.model.directory import ZoneEntry
from netd.model.endpoint import Endpoint, EndpointPatch
from netd.model.event import Event
from netd.model.views import NameChange
from tests.unit.engine_fixture import Host, ManualClock

T = TypeVar("T")


async def take(stream: AsyncIterator[T], count: int) -> list[T]:
    async with asyncio.timeout(5):
        return [await anext(stream) for _ in range(count)]


def emit(log: EventLog, *names: str) -> None:
    for name in names:
        log.emit("test", about="x", name=name)


def names_of(found: list[Event]) -> list[str]:
    return [event.name for event in found]


@pytest.fixture
def log() -> EventLog:
    return EventLog(ManualClock())


async def test_new_events_in_order(log: EventLog) -> None:
    emit(log, "before")
    stream = log.follow(None)
    reading = asyncio.create_task(take(stream, 3))
    await asyncio.sleep(0)
    emit(log, "a", "b")
    await asyncio.sleep(0)
    emit(log, "c")
    found = await reading
    assert names_of(found) == ["a", "b", "c"]
    assert [event.revision for event in found] == sorted(event.revision for event in found)
    assert found[0].at == "2023-11-14T22:13:20.000Z"


async def test_events_since_a_revision(log: EventLog) -> None:
    emit(log, "a")
    revision = log.revision
    emit(log, "b", "c")
    assert names_of(await take(log.follow(revision), 2)) == ["b", "c"]


async def test_a_reader_that_knows_all_waits_for_the_next(log: EventLog) -> None:
    emit(log, "a")
    reading = asyncio.create_task(take(log.follow(log.revision), 1))
    await asyncio.sleep(0)
    assert not reading.done()
    emit(log, "b")
    assert names_of(await reading) == ["b"]


async def test_what_is_no_longer_kept_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events_module, "KEPT", 3)
    log = EventLog(ManualClock())
    emit(log, "a")
    revision = log.revision
    emit(log, "b", "c", "d", "e")
    lost, *rest = await take(log.follow(revision), 4)
    assert lost.type == "events.lost"
    assert lost.revision < rest[0].revision
    assert names_of(rest) == ["c", "d", "e"]


async def test_a_slow_reader_is_told_what_it_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "KEPT", 3)
    log = EventLog(ManualClock())
    stream = log.follow(log.revision)
    emit(log, "a")
    assert names_of(await take(stream, 1)) == ["a"]
    emit(log, *"bcdef")
    found = await take(stream, 4)
    assert [event.type for event in found] == ["events.lost", "test", "test", "test"]
    assert names_of(found[1:]) == ["d", "e", "f"]


async def test_a_close_ends_streams_after_what_was_said(log: EventLog) -> None:
    waiting = asyncio.create_task(anext(log.follow(None), None))
    behind = log.follow(log.revision)
    await asyncio.sleep(0)
    emit(log, "a")
    assert (await waiting) is not None
    log.close()
    assert names_of([event async for event in behind]) == ["a"]
    assert [event async for event in log.follow(None)] == []


async def test_revisions_grow_over_restarts(host: Host) -> None:
    await host.network("blue")
    last = (await host.happened("network.created")).revision
    host.clock.now_s += 1
    await host.restart()
    assert (await host.happened("daemon.started")).revision > last
    # Who asks with a revision of before is told that something may be missing.
    assert (await take(host.engine.events(last), 1))[0].type == "events.lost"


async def test_the_story_of_a_container(host: Host) -> None:
    network = await host.network("blue")
    endpoint = await host.attach("blue", "web")
    await host.engine.update_endpoint(endpoint.id, EndpointPatch(labels={"a": "b"}))
    await host.engine.detach(endpoint.id)
    await host.engine.delete_network("blue")
    await host.happened("network.deleted")
    assert [(event.type, event.object) for event in host.seen if event.type != "daemon.started"][
        -5:
    ] == [
        ("network.created", network.id),
        ("endpoint.attached", endpoint.id),
        ("endpoint.updated", endpoint.id),
        ("endpoint.detached", endpoint.id),
        ("network.deleted", network.id),
    ]
    attached = await host.happened("endpoint.attached")
    assert attached.data["addresses"] == list(endpoint.addresses)


# Names.


def endpoint(number: int, *aliases: str) -> Endpoint:
    return Endpoint(
        id=f"e{number}",
        network="blue",
        network_id="n1",
        container_id=f"c{number}",
        name=f"c{number}",
        node="node-1",
        ifname="eth0",
        addresses=(f"10.20.0.{number}/24",),
        aliases=aliases,
    )


def names() -> NameTable:
    return NameTable("netd.internal", 2, Feed(ZoneEntry(zone="z", node="n", node_id="1"), 0))


def short(changes: list[NameChange]) -> list[tuple[str, str]]:
    """Without pointers."""
    return [
        (change.op, change.record.name.split(".")[0] if change.record else "")
        for change in changes
        if change.record is None or change.record.type != "PTR"
    ]


async def test_the_table_then_a_mark_then_changes() -> None:
    table = names()
    table.put(endpoint(2))
    stream = table.stream(watch=True)
    assert short(await take(stream, 3)) == [("add", "c2"), ("sync", "")]
    table.put(endpoint(3))
    table.put(endpoint(2, "www"))
    table.remove("e2")
    changes = await take(stream, 6)
    assert short(changes) == [("add", "c3"), ("add", "www"), ("remove", "c2"), ("remove", "www")]
    assert [c.revision for c in changes] == sorted({c.revision for c in changes})


async def test_without_watch_the_table_is_all() -> None:
    table = names()
    table.put(endpoint(2))
    assert short([change async for change in table.stream(watch=False)]) == [
        ("add", "c2"),
        ("sync", ""),
    ]


async def test_changes_while_the_table_is_read_come_after_the_mark() -> None:
    table = names()
    table.put(endpoint(2))
    table.put(endpoint(3))
    stream = table.stream(watch=True)
    first = await take(stream, 1)
    table.remove("e2")
    rest = await take(stream, 4)
    assert short(first + rest) == [("add", "c2"), ("add", "c3"), ("sync", "")]
    assert {c.op for c in await take(stream, 2)} == {"remove"}


async def test_a_watcher_that_is_too_slow_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has to begin anew with the whole table, or it would miss a change."""
    monkeypatch.setattr(names_module, "_BACKLOG", 4)
    table = names()
    stream = table.stream(watch=True)
    await take(stream, 1)
    for number in range(2, 6):
        table.put(endpoint(number))
    assert [change async for change in stream] == []


async def test_a_close_ends_watchers() -> None:
    table = names()
    stream = table.stream(watch=True)
    await take(stream, 1)
    waiting = asyncio.create_task(anext(stream, None))
    await asyncio.sleep(0)
    table.close()
    async with asyncio.timeout(5):
        assert await waiting is None
