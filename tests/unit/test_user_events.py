"""Events that users fire: from one registry by the daemons to all others."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from netd.engine import user_events
from netd.engine.interfaces import Record
from netd.engine.user_events import BYTES_MAX, EVENTS_MAX, KEPT_S, SPREAD_S, TABLE, read
from netd.model.directory import Entry
from netd.model.errors import Exhausted, Invalid, Unavailable
from netd.model.user_event import UserEvent, UserEventSpec
from netd.registry.consul.event_feed import EventFeed
from netd.registry.consul.events import Event
from netd.registry.consul.keys_api import KeysApi
from tests.unit.consul_keys_lab import Lab, consul_keys
from tests.unit.engine_fixture import Host
from tests.unit.memory_cluster import Mesh


def spec(number: int = 1, **more: Any) -> UserEventSpec:
    return UserEventSpec(id=str(uuid.UUID(int=number)), **{"name": "deploy", **more})


def told(host: Host) -> dict[str, UserEvent]:
    """What its registry is told of, by the event's id."""
    following = host.engine.directory(watch=False)
    found: dict[str, UserEvent] = {}
    while lines := following.take(100):
        found |= {line.user_event.id: line.user_event for line in lines if line.user_event}
    return found


def names(host: Host) -> list[str]:
    return sorted(event.name for event in told(host).values())


@pytest.fixture
async def hosts(tmp_path: Path) -> AsyncIterator[list[Host]]:
    mesh = Mesh()
    made = []
    for number in (1, 2):
        (tmp_path / f"{number}").mkdir()
        host = Host(tmp_path / f"{number}", mesh, node=f"node-{number}", node_id=str(number) * 32)
        await host.start()
        made.append(host)
    await made[1].engine.cluster.join([made[0].cluster.address], None)
    yield made
    for host in made:
        await host.stop()


# Between hosts


async def test_all_hosts_are_told_what_one_fires(hosts: list[Host]) -> None:
    one, two = hosts
    asked = spec(payload=b"\x00\xff", node_filter="n", service_filter="s", tag_filter="t", time=7)
    one.engine.fire(asked)
    for host in hosts:
        (event,) = told(host).values()
        assert msgspec.structs.asdict(event) == {
            **msgspec.structs.asdict(asked),
            "fired_ms": round(one.clock.wall_s() * 1000),
        }
    one.engine.fire(asked)
    assert one.engine.counters()["user_events_fired"] == 1
    assert two.engine.counters()["user_events_heard"] == 1
    assert one.engine.levels()["user_events"] == two.engine.levels()["user_events"] == 1


async def test_an_event_is_told_for_some_minutes(hosts: list[Host]) -> None:
    one = hosts[0]
    one.engine.fire(spec(1))
    one.clock.now_s += KEPT_S / 2
    one.engine.fire(spec(2))
    events = one.engine._user_events
    assert events.forget_old() == KEPT_S / 2
    one.clock.now_s += KEPT_S / 2
    assert events.forget_old() == KEPT_S / 2
    for host in hosts:
        assert set(told(host)) == {spec(2).id}
    one.clock.now_s += KEPT_S
    assert events.forget_old() is None
    for host in hosts:
        assert told(host) == {}
        assert host.engine.levels()["user_events"] == 0
    assert [record for record in one.cluster.records() if record.table == TABLE] == []


async def test_what_is_old_goes_by_itself(
    hosts: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = hosts
    monkeypatch.setattr(user_events, "KEPT_S", 0.0)
    following = two.engine.directory(watch=True)
    news = asyncio.Event()
    following.on_news = news.set
    following.take(1000)
    news.clear()
    one.engine.fire(spec())
    seen: list[Entry] = []
    async with asyncio.timeout(5):
        while len(seen) < 2:
            await news.wait()
            news.clear()
            seen += following.take(100)
    assert [entry.user_event is not None for entry in seen] == [True, False]


async def test_newer_events_take_the_room_of_those_that_have_been_told(hosts: list[Host]) -> None:
    one, two = hosts
    for number in range(EVENTS_MAX):
        one.engine.fire(spec(number))
    with pytest.raises(Exhausted, match="64 events"):
        one.engine.fire(spec(EVENTS_MAX))
    assert len(told(two)) == EVENTS_MAX
    assert spec(EVENTS_MAX).id not in told(one)
    one.clock.now_s += SPREAD_S
    one.engine.fire(spec(EVENTS_MAX))
    for host in hosts:
        assert len(told(host)) == EVENTS_MAX
        assert spec(0).id not in told(host)
        assert spec(EVENTS_MAX).id in told(host)


@pytest.mark.parametrize(
    "bad",
    [
        UserEventSpec(id="no-uuid", name="x"),
        spec(payload=b"\xff" * 4096, node_filter="n" * 1000, tag_filter="t" * 1000, name="€" * 256),
    ],
)
async def test_what_is_not_told(hosts: list[Host], bad: UserEventSpec) -> None:
    with pytest.raises(Invalid):
        hosts[0].engine.fire(bad)
    assert told(hosts[0]) == told(hosts[1]) == {}


async def test_a_host_that_comes_is_not_told_of_what_was_before(tmp_path: Path) -> None:
    mesh = Mesh()
    hosts = []
    for number in (1, 2):
        (tmp_path / f"{number}").mkdir()
        host = Host(tmp_path / f"{number}", mesh, node=f"node-{number}", node_id=str(number) * 32)
        hosts.append(host)
    one, two = hosts
    await one.start()
    one.engine.fire(spec(1, name="before"))
    one.clock.now_s += 60
    two.clock.now_s += 60
    one.engine.fire(spec(2, name="while-it-starts"))
    two.clock.now_s += 5
    await two.start()
    await two.engine.cluster.join([one.cluster.address], None)
    assert names(two) == ["while-it-starts"]
    one.engine.fire(spec(3, name="after"))
    assert names(two) == ["after", "while-it-starts"]
    for host in hosts:
        await host.stop()


async def test_a_host_that_was_away_hears_of_it(hosts: list[Host]) -> None:
    one, two = hosts
    one.mesh.cut(one.cluster, two.cluster)
    one.engine.fire(spec())
    assert told(two) == {}
    one.mesh.heal(one.cluster, two.cluster)
    assert names(two) == ["deploy"]


async def test_events_of_a_host_that_has_died_are_told_no_more(hosts: list[Host]) -> None:
    one, two = hosts
    one.engine.fire(spec())
    one.cluster.becomes("dead")
    assert told(two) == {}


GOOD = {"id": spec().id, "name": "deploy", "fired_ms": 1_700_000_000_000, "a newer netd's": 1}


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"[" * 5000,
        msgspec.json.encode(GOOD | {"id": "x"}),
        msgspec.json.encode(GOOD | {"id": spec(2).id}),  # it is not the key
        msgspec.json.encode(GOOD | {"payload": "-"}),
        msgspec.json.encode(GOOD | {"fired_ms": -1}),
        msgspec.json.encode(GOOD | {"fired_ms": 1 << 60}),
        msgspec.json.encode(GOOD | {"name": "n" * 300}),
        msgspec.json.encode(GOOD | {"more": "n" * BYTES_MAX}),
    ],
)
async def test_what_no_netd_would_tell_is_ignored_and_counted(
    hosts: list[Host], value: bytes
) -> None:
    one, two = hosts
    one.cluster.publish([Record(table=TABLE, key=spec().id, value=msgspec.json.encode(GOOD))])
    assert names(two) == ["deploy"]
    one.cluster.publish([Record(table=TABLE, key=spec().id, value=None)])
    one.cluster.publish([Record(table=TABLE, key=spec().id, value=value)])
    assert told(two) == {}
    assert two.engine.counters()["user_event_records_ignored"] == 1


async def test_no_host_tells_of_more_than_it_may(hosts: list[Host]) -> None:
    one, two = hosts
    for number in range(EVENTS_MAX + 9):
        value = msgspec.json.encode(GOOD | {"id": spec(number).id})
        one.cluster.publish([Record(table=TABLE, key=spec(number).id, value=value)])
    assert len(told(two)) == EVENTS_MAX
    assert two.engine.counters()["user_event_records_ignored"] == 9


@given(st.binary(max_size=200))
def test_nothing_that_is_read_raises(value: bytes) -> None:
    assert read(spec().id, value) is None


# In the registry


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with consul_keys() as made:
        yield made


async def test_what_is_fired_goes_to_the_daemon(lab: Lab) -> None:
    fired = (await lab.call("PUT", "/v1/event/fire/deploy?node=h&service=s&tag=t", b"\xff")).json()
    assert fired["LTime"] == 0
    (entry,) = [each for each in lab.daemon.engine.feed._entries.values() if each.user_event]
    assert entry.user_event == UserEvent(
        id=fired["ID"],
        name="deploy",
        payload=b"\xff",
        node_filter="h",
        service_filter="s",
        tag_filter="t",
        time=1,
        fired_ms=1,
    )


@pytest.mark.parametrize(
    ("failure", "status"),
    [(Exhausted("64 events"), 500), (Unavailable("not now"), 500), (Invalid("too long"), 400)],
)
async def test_what_nobody_is_told_of_is_refused(lab: Lab, failure: Exception, status: int) -> None:
    lab.daemon.engine.failure = failure
    answer = await lab.call("PUT", "/v1/event/fire/deploy")
    assert answer.status == status
    assert str(failure) in answer.text
    assert (await lab.get("/v1/event/list")).json() == []


def entry(number: int, fired_ms: int = 1, **more: Any) -> Entry:
    values = {"name": f"e{number}", **more}
    event = UserEvent(id=str(uuid.UUID(int=number)), fired_ms=fired_ms, **values)
    ident = f"owner/{event.id}"
    return Entry(revision=1, kind="user_event", id=ident, user_event=event)


async def test_each_event_of_the_feed_is_taken_once() -> None:
    taken: list[Event] = []
    api = KeysApi("/nowhere")
    feed = EventFeed(api, taken.append)

    def table(*entries: Entry) -> None:
        feed.replace({(each.kind, each.id): each for each in entries})

    table(entry(1, 30), entry(2, 20), entry(3, 10))
    assert [event.name for event in taken] == ["e3", "e2", "e1"]
    feed.change(None, entry(4, time=9, payload=b"x"))
    assert taken[-1] == Event(id=entry(4).id[6:], name="e4", payload=b"x", time=9)
    table(entry(1), entry(4), entry(5))  # the daemon was away
    assert [event.name for event in taken[4:]] == ["e5"]
    feed.change(entry(5), entry(5))
    assert len(taken) == 5
    feed.change(entry(5), Entry(revision=2, kind="user_event", id=entry(5).id))
    table(entry(1), entry(4))
    assert len(taken) == 5
    await api.close()


async def test_who_waits_on_another_host_is_woken(lab: Lab) -> None:
    """And what it fires then is later than what it has heard of."""
    waiting = asyncio.get_running_loop().create_task(lab.get("/v1/event/list?index=1&wait=9s"))
    await asyncio.sleep(0)
    lab.keys.event_feed.change(None, entry(7, payload=b"v2", time=41))
    (event,) = (await waiting).json()
    assert (event["Name"], event["Payload"], event["LTime"]) == ("e7", "djI=", 41)
    lab.keys.event_feed.change(None, entry(8, node_filter="elsewhere"))
    await lab.put("/v1/event/fire/answer")
    listed = (await lab.get("/v1/event/list")).json()
    assert [(each["Name"], each["LTime"]) for each in listed] == [("e7", 41), ("answer", 42)]
