"""How far hosts are: from what gossip has measured to what Consul's clients are told."""

import itertools
import math
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from netd.engine import distances
from netd.engine.directory import Following
from netd.engine.distances import TABLE, read
from netd.engine.interfaces import GLOBAL_SCOPE, Record
from netd.engine.positions import beginning, is_news, moved
from netd.engine.round_trips import is_other
from netd.model.directory import Entry, NodeEntry
from netd.model.position import DIMENSIONS, FARTHEST_S, Position, Vector
from netd.naming.directory import Directory
from tests.unit.consul_lab import HOST, Lab, consul
from tests.unit.engine_fixture import Host
from tests.unit.registry_lab import free_port
from tests.unit.service_lab import until
from tests.unit.test_engine_cluster import HIGH, facts, joined


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with consul(tmp_path, free_port()) as running:
        yield running


def measured(lab: Lab, node: str, rtt_ms: float | None) -> None:
    lab.daemon.put("node", node, NodeEntry(node_id=node, addresses=(HOST,), rtt_ms=rtt_ms))


@pytest.mark.parametrize(
    ("told_ms", "now_ms", "news"),
    [
        (None, 0.0, True),
        (10.0, 11.9, False),
        (10.0, 12.1, True),
        (10.0, 7.9, True),
        (0.2, 0.29, False),  # a fifth of little is nothing
        (0.2, 0.31, True),
    ],
)
def test_what_is_news(told_ms: float | None, now_ms: float, news: bool) -> None:
    assert is_other(told_ms, now_ms) is news


def drained(following: Following) -> list[tuple[str, float | None]]:
    return [
        (entry.id, entry.node.rtt_ms) for entry in following.take(1000) if entry.node is not None
    ]


async def test_the_registry_is_told_of_times_that_are_others_and_of_no_more(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distances, "EACH_S", 0.001)
    await host.restart()
    other = await joined(host)
    following = host.engine.directory(watch=True)
    told: list[tuple[str, float | None]] = []

    def has(*last: tuple[str, float | None]) -> bool:
        told.extend(drained(following))
        return told[-len(last) :] == list(last)

    await until(lambda: has(("node-2", 0.5)))
    assert ("node-1", None) in told  # this host is no way off
    del told[:]
    other.rtt_ms = 0.59  # no news, while all else about the host is
    other.publish([facts("192.0.2.21")])
    await until(lambda: has(("node-2", 0.5)))
    other.rtt_ms = 30.0
    await until(lambda: has(("node-2", 30.0)))
    assert told == [("node-2", 0.5), ("node-2", 30.0)]
    other.becomes("dead")
    other.rtt_ms = 1.0
    other.becomes("alive")
    await until(lambda: has(("node-2", 1.0)))
    assert other.id == HIGH


async def test_how_far_a_host_is_changes_no_answer_and_wakes_nobody(lab: Lab) -> None:
    lab.daemon.service("a-1", "a", node="host-2", address="10.0.0.2")
    measured(lab, "host-2", None)
    indexes = lab.catalog.indexes
    topics = ("nodes", "instances", "node/host-2", "service/a", "health/a", "health/consul")
    before = [indexes.of(topic) for topic in topics]
    index = indexes.of("coordinates")
    measured(lab, "host-2", 30.0)
    assert [indexes.of(topic) for topic in topics] == before
    assert indexes.of("coordinates") > index
    index = indexes.of("coordinates")
    measured(lab, "host-2", 30.0)
    assert indexes.of("coordinates") == index
    lab.daemon.put("node", "host-2")
    assert indexes.of("coordinates") > index
    assert lab.catalog.rtt_s("host-2") is None


def test_names_do_not_depend_on_how_far_hosts_are() -> None:
    directory = Directory()
    node = NodeEntry(node_id="a", addresses=("10.0.0.1",))
    assert directory.apply(Entry(revision=1, kind="node", id="a", node=node)) != ()
    far = NodeEntry(node_id="a", addresses=("10.0.0.1",), rtt_ms=30.0)
    assert directory.apply(Entry(revision=2, kind="node", id="a", node=far)) == ()


def position(*vector: float, error: float = 0.1) -> Position:
    return Position(vector=(*vector, *[0.0] * (DIMENSIONS - len(vector))), error=error)


def placed(lab: Lab, node: str, rtt_ms: float | None, *vector: float) -> None:
    at = position(*vector) if vector else None
    entry = NodeEntry(node_id=node, addresses=(HOST,), rtt_ms=rtt_ms, position=at)
    lab.daemon.put("node", node, entry)


async def test_near_goes_by_what_is_known(lab: Lab) -> None:
    """By what was measured from here; between others, by where they say they are."""
    placed(lab, "host-1", None, 0.0)
    placed(lab, "host-2", 30.0, 0.03)
    placed(lab, "host-3", 0.3, 0.09)  # it says it is far, but is not
    placed(lab, "host-4", 31.0, 0.0, 0.031)
    placed(lab, "host-5", None)
    for number in range(1, 6):
        lab.daemon.service(f"a-{number}", "a", node=f"host-{number}", address="10.0.0.1")

    async def order(path: str) -> str:
        rows = await lab.get(path)
        return "".join(row["Node"]["Node"][-1] for row in rows)

    assert await order("/v1/health/service/a?near=_agent") == "13245"
    assert await order("/v1/health/service/a?near=host-1") == "13245"
    assert await order("/v1/health/service/a?near=host-2") == "21435"
    assert await order("/v1/health/service/a?near=HOST-4") == "41235"
    assert await order("/v1/health/service/a?near=host-5") == "51234"
    placed(lab, "host-3", 40.0)
    assert await order("/v1/health/service/a?near=_agent") == "12435"
    assert await order("/v1/health/service/a?near=host-2") == "21435"


async def test_coordinates_are_those_of_hosts_that_say_where_they_are(lab: Lab) -> None:
    placed(lab, "host-1", None, 0.001)
    placed(lab, "host-2", 30.0, 0.03)
    placed(lab, "host-3", 30.0)
    rows = await lab.get("/v1/coordinate/nodes")
    assert [row["Node"] for row in rows] == ["host-1", "host-2"]
    assert [row["Coord"]["Vec"][0] for row in rows] == [0.001, 0.03]
    assert {len(row["Coord"]["Vec"]) for row in rows} == {8}
    assert rows[0]["Coord"]["Error"] == 0.1
    assert await lab.get("/v1/coordinate/node/HOST-2") == rows[1:]
    for node in ("host-3", "nobody"):
        assert (await lab.ask("GET", f"/v1/coordinate/node/{node}")).status == 404
    (area,) = await lab.get("/v1/coordinate/datacenters")
    assert [row["Node"] for row in area["Coordinates"]] == ["host-1.dc1", "host-2.dc1"]
    assert (await lab.get("/v1/agent/self"))["Coord"] == rows[0]["Coord"]


async def test_who_waits_for_coordinates_is_woken_by_a_new_one(lab: Lab) -> None:
    first = await lab.ask("GET", "/v1/coordinate/nodes")
    assert first.json == []
    placed(lab, "host-2", 30.0, 0.03)
    after = await lab.ask("GET", f"/v1/coordinate/nodes?index={first.index}&wait=4s")
    assert after.index > first.index
    assert [row["Node"] for row in after.json] == ["host-2"]


# Positions


def simulated(
    places: Sequence[Sequence[float]], rounds: int, noise: float = 0.0, seed: int = 1
) -> tuple[list[Position], int]:
    """Hosts that measure and tell as they do, all at once; where they told they are last, and how
    often the last ten rounds had news.
    """
    chance = random.Random(seed)
    own = [beginning(f"host-{number}") for number in range(len(places))]
    told: list[Position | None] = [None] * len(places)
    news: list[int] = []
    for _ in range(rounds):
        before = tuple(told)
        news.append(0)
        for at, here in enumerate(places):
            measured = {
                other: math.dist(here, there) * (1 + chance.uniform(-noise, noise))
                for other, there in enumerate(places)
                if other != at
            }
            known = [
                (each.vector, measured[other])
                for other, each in enumerate(before)
                if each is not None and other != at
            ]
            own[at] = moved(own[at], known)
            if is_news(told[at], own[at], measured.values()):
                told[at] = own[at]
                news[-1] += 1
    return [each for each in told if each is not None], sum(news[-10:])


def wrong(places: Sequence[Sequence[float]], found: Sequence[Position]) -> list[float]:
    """By which part each distance is wrong, the worst last."""
    return sorted(
        abs(math.dist(found[a].vector, found[b].vector) / math.dist(places[a], places[b]) - 1)
        for a, b in itertools.combinations(range(len(places)), 2)
    )


def test_hosts_find_where_they_are() -> None:
    """Three places 20 to 80 ms apart with eight hosts each, some tenths of a millisecond apart."""
    chance = random.Random(7)
    centres = ((0.0, 0.0), (0.02, 0.0), (0.03, 0.08))
    places = [
        (x + chance.uniform(0, 3e-4), y + chance.uniform(0, 3e-4))
        for x, y in centres
        for _ in range(8)
    ]
    found, news = simulated(places, rounds=40, noise=0.1)
    for a, b in itertools.combinations(range(len(places)), 2):
        apart_s = math.dist(found[a].vector, found[b].vector)
        if a // 8 == b // 8:
            assert apart_s < 0.015  # nearer than any other place
        else:
            assert apart_s == pytest.approx(math.dist(places[a], places[b]), rel=0.25)
    assert news <= 12  # of 240: who has found its place is quiet
    assert all(each.error < 0.3 for each in found)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_few_hosts_find_each_other(count: int) -> None:
    chance = random.Random(count)
    places = [(chance.uniform(0, 0.1), chance.uniform(0, 0.1)) for _ in range(count)]
    found, news = simulated(places, rounds=60)
    assert wrong(places, found)[-1] < 0.2
    assert news == 0


def test_a_host_on_its_own_stays_where_it_begins() -> None:
    assert moved(beginning("x"), []) == beginning("x")
    assert beginning("x") != beginning("y")


@given(
    st.lists(
        st.tuples(st.tuples(*[st.floats(-FARTHEST_S, FARTHEST_S)] * DIMENSIONS), st.floats(0, 1e4)),
        max_size=5,
    )
)
def test_whatever_others_say_a_position_is_one(others: list[tuple[Vector, float]]) -> None:
    own = moved(beginning("x"), others)
    assert read(msgspec.json.encode(own)) == own


def test_two_in_one_place_can_get_apart() -> None:
    own = beginning("x")
    assert moved(own, [(own.vector, 0.01)]) != own


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"[" * 5000,
        b'{"vector": [1, 2], "error": 0.1}',
        b'{"vector": [0, 0, 0, 0, 0, 0, 0, 61], "error": 0.1}',
        b'{"vector": [0, 0, 0, 0, 0, 0, 0, 0], "error": -1}',
        b'{"vector": [0, 0, 0, 0, 0, 0, 0, 1e999], "error": 0.1}',
        b'{"vector": [0, 0, 0, 0, 0, 0, 0, NaN], "error": 0.1}',
    ],
)
async def test_what_is_no_position_is_ignored_and_counted(host: Host, value: bytes) -> None:
    other = await joined(host)
    at = position(0.02)
    other.publish([Record(table=TABLE, key="", value=msgspec.json.encode(at))])
    assert positions(host)["node-2"] == at
    other.publish([Record(table=TABLE, key="", value=value)])
    assert positions(host)["node-2"] is None
    assert host.engine.counters()["cluster_records_ignored"] == 1


async def test_a_host_tells_where_it_is(host: Host) -> None:
    """It moves half of the way that is missing with each look, as two hosts both move."""
    own = host.engine.cluster._distances
    own.look()
    assert positions(host)["node-1"] is not None
    assert (GLOBAL_SCOPE, TABLE, "") not in host.cluster.published  # there is nobody to tell
    other = await joined(host)
    own.look()
    first = positions(host)["node-1"]
    assert first is not None
    assert first == read(host.cluster.published[GLOBAL_SCOPE, TABLE, ""])
    other.rtt_ms = 20.0
    value = msgspec.json.encode(position(0.02))
    other.publish([Record(table=TABLE, key="", value=value)])
    for _ in range(20):
        own.look()
    there = positions(host)["node-1"]
    assert there is not None
    assert math.dist(there.vector, position(0.02).vector) == pytest.approx(0.02, rel=0.1)
    assert there == read(host.cluster.published[GLOBAL_SCOPE, TABLE, ""])
    other.becomes("dead")
    assert "node-2" not in positions(host)
    other.becomes("alive")
    assert positions(host)["node-2"] == position(0.02)


def positions(host: Host) -> dict[str, Position | None]:
    entries = host.engine.directory(watch=False)
    found: dict[str, Position | None] = {}
    while lines := entries.take(100):
        found |= {entry.id: entry.node.position for entry in lines if entry.node is not None}
    return found
