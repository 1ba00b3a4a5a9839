"""What keys, sessions and locks mean, whoever holds them: a host of the cluster, or etcd."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from netd.engine.clock import SystemClock
from netd.engine.kv import KeyCases
from netd.engine.kv.changes import Changes, Interest
from netd.engine.kv.health import Health
from netd.engine.services.catalogue import Catalogue
from netd.etcd import layout
from netd.etcd.gateway import Gateway
from netd.etcd.keys import EtcdKeys
from netd.etcd.transactions import span
from netd.model.errors import Invalid, NotFound, Unavailable
from netd.model.kv import VALUE_MAX_BYTES, KeyDone, KeyPut, Operation, SessionSpec
from netd.model.service import Check, CheckStatus, Service
from tests.contract.etcd_lab import Etcd, three_members
from tests.unit.kv_lab import Lab, until
from tests.unit.memory_cluster import MemoryCluster, Mesh


class World:
    """Two hosts, and the ways to pass time and to have checks fail on the first."""

    def __init__(self, here: KeyCases, there: KeyCases, catalogue: Catalogue) -> None:
        self.here = here
        self.there = there
        self.catalogue = catalogue
        self.lab: Lab | None = None
        self.cluster: MemoryCluster | None = None

    async def pass_s(self, seconds: float) -> None:
        if self.lab is None:
            await asyncio.sleep(seconds + 0.5)
            return
        for host in self.lab.hosts:
            host.later(seconds)


class EtcdHost:
    """One netd's keys in etcd."""

    def __init__(self, etcd: Etcd, cluster: MemoryCluster) -> None:
        changes = Changes()
        clock = SystemClock()
        self.catalogue = Catalogue(cluster)
        health = Health(cluster, self.catalogue, clock)
        self.gateway = Gateway(etcd.urls)
        self.keys = EtcdKeys(self.gateway, clock, changes, health, node=cluster.name)
        self.cases = KeyCases(self.keys, changes, cluster.name)

    async def start(self) -> None:
        self.catalogue.start()
        self.cases.start()
        await until(self.cases.changes.live.is_set)

    async def stop(self) -> None:
        self.cases.end_streams()
        await self.cases.stop()
        self.catalogue.stop()


@pytest.fixture(autouse=True)
def host_ns() -> None:
    """No namespace for each test: all are in the one in which etcd is."""


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with three_members(tmp_path_factory.mktemp("etcd")) as etcd:
        yield etcd


@pytest.fixture
async def in_etcd(etcd: Etcd) -> AsyncIterator[World]:
    mesh = Mesh()
    here, there = mesh.node("a", bytes(32)), mesh.node("b", bytes(32))
    await there.join([here.address], None)
    hosts = [EtcdHost(etcd, here), EtcdHost(etcd, there)]
    for host in hosts:
        await host.start()
    world = World(hosts[0].cases, hosts[1].cases, hosts[0].catalogue)
    await clean(world, hosts[0].gateway)
    yield world
    for host in hosts:
        await host.stop()


async def clean(world: World, gateway: Gateway) -> None:
    for session in (await world.here.sessions("")).sessions:
        await world.here.destroy_session(session.id)
    await world.here.delete_tree("")
    await gateway.write("/v3/kv/deleterange", span(layout.DELAYS))


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[World]:
    lab = Lab(tmp_path)
    a, b = await lab.cluster("a", "b")
    world = World(a.cases, b.cases, a.catalogue)
    world.lab = lab
    world.cluster = b.cluster
    yield world
    await lab.close()


@pytest.fixture(params=["embedded", "etcd"])
def world(request: pytest.FixtureRequest) -> World:
    name = "in_etcd" if request.param == "etcd" else "embedded"
    world: World = request.getfixturevalue(name)
    return world


async def put(cases: KeyCases, key: str, value: bytes = b"", **fields: int | str) -> KeyDone:
    return await cases.put(key, KeyPut(value=value, **fields))  # type: ignore[arg-type]


async def new_session(cases: KeyCases, **fields: float | str | tuple[str, ...]) -> str:
    return (await cases.create_session(SessionSpec(**fields))).id  # type: ignore[arg-type]


async def holder(cases: KeyCases, key: str) -> str:
    entry = (await cases.read(key)).entry
    return entry.session if entry else ""


async def test_what_is_written_is_read_on_both_hosts(world: World) -> None:
    done = await put(world.here, "a/é", b"\x00\xff", flags=2**64 - 1)
    reading = await world.there.read("a/é")
    assert reading.entry is not None
    assert (reading.entry.value, reading.entry.flags) == (b"\x00\xff", 2**64 - 1)
    assert reading.index == reading.entry.modify_index == reading.entry.create_index == done.index
    again = await put(world.there, "a/é", b"2")
    entry = (await world.here.read("a/é")).entry
    assert entry is not None
    assert entry.modify_index == again.index > done.index
    assert (entry.create_index, entry.flags) == (done.index, 0)


async def test_the_same_again_changes_no_index(world: World) -> None:
    first = await put(world.here, "k", b"1", flags=1)
    await put(world.here, "k", b"1", flags=1)
    assert (await world.here.read("k")).index == first.index


async def test_cas(world: World) -> None:
    assert not (await put(world.here, "k", cas=7)).done
    assert (await put(world.here, "k", b"1", cas=0)).done
    assert not (await put(world.there, "k", b"2", cas=0)).done
    index = (await world.there.read("k")).index
    assert not (await put(world.there, "k", b"2", cas=index + 1)).done
    assert (await world.there.read("k")).index == index
    assert (await put(world.there, "k", b"2", cas=index)).done
    assert not (await world.here.delete("k", index)).done
    assert (await world.here.delete("k", (await world.here.read("k")).index)).done
    assert (await world.here.delete("k", 5)).done
    assert (await world.there.read("k")).entry is None


async def test_one_of_many_cas_wins(world: World) -> None:
    for round_ in range(5):
        index = (await world.here.read("k")).entry
        cas = index.modify_index if index else 0
        tries = [
            put(cases, "k", f"{round_} {cases is world.here} {number}".encode(), cas=cas)
            for number in range(4)
            for cases in (world.here, world.there)
        ]
        assert [done.done for done in await asyncio.gather(*tries)].count(True) == 1


async def test_lists(world: World) -> None:
    for key in ("a/b", "a/c/d", "a/c/e", "b", "a/\U0001f600", "a\x00"):
        await put(world.here, key, key.encode())
    listing = await world.there.entries("a/")
    assert [entry.key for entry in listing.entries] == ["a/b", "a/c/d", "a/c/e", "a/\U0001f600"]
    assert listing.entries[0].value == b"a/b"
    assert (await world.there.names("a/", "/")).keys == ("a/b", "a/c/", "a/\U0001f600")
    assert (await world.there.names("", "/")).keys == ("a\x00", "a/", "b")
    assert (await world.there.names("z", "")).keys == ()


async def test_trees_are_deleted(world: World) -> None:
    for number in range(200):
        await put(world.here, f"t/{number}")
    await put(world.here, "u")
    await world.there.delete_tree("t")
    assert (await world.here.names("", "")).keys == ("u",)


async def test_values_have_an_end(world: World) -> None:
    assert (await put(world.here, "k", bytes(VALUE_MAX_BYTES))).done
    with pytest.raises(Invalid):
        await put(world.here, "k", bytes(VALUE_MAX_BYTES + 1))
    reading = await world.there.read("k")
    assert reading.entry is not None
    assert len(reading.entry.value) == VALUE_MAX_BYTES


async def test_a_transaction_is_all_or_nothing(world: World) -> None:
    await put(world.here, "x/1", b"1")
    outcome = await world.there.transact(
        (
            Operation(verb="set", key="x/2", value=b"2"),
            Operation(verb="get-tree", key="x/"),
            Operation(verb="delete", key="x/1"),
            Operation(verb="check-not-exists", key="x/1"),
            Operation(verb="get-or-empty", key="x/1"),
        )
    )
    assert [(entry.key, entry.value) for entry in outcome.results] == [
        ("x/2", b""),
        ("x/1", b"1"),
        ("x/2", b"2"),
        ("x/1", b""),
    ]
    written = (await world.here.read("x/2")).entry
    assert written is not None
    assert written.modify_index == outcome.results[0].modify_index == outcome.index
    failed = await world.there.transact(
        (
            Operation(verb="set", key="x/3"),
            Operation(verb="check-index", key="x/2", index=1),
            Operation(verb="delete-tree", key=""),
            Operation(verb="get", key="gone"),
        )
    )
    assert [(failure.operation, failure.fault) for failure in failed.failures] == [
        (1, "stale"),
        (3, "missing"),
    ]
    assert (await world.here.names("", "")).keys == ("x/2",)


async def test_a_tree_is_deleted_and_written_in_one_transaction(world: World) -> None:
    for key in ("t/1", "t/2", "t/3"):
        await put(world.here, key)
    await world.here.transact(
        (
            Operation(verb="delete-tree", key="t/"),
            Operation(verb="set", key="t/2", value=b"new"),
            Operation(verb="set", key="t/4"),
            Operation(verb="delete-tree", key="t/4"),
        )
    )
    assert (await world.there.names("", "")).keys == ("t/2",)


async def test_a_lock_is_held_by_one(world: World) -> None:
    first = await new_session(world.here, lock_delay_s=0)
    second = await new_session(world.there)
    assert (await put(world.here, "l", b"1", acquire=first)).done
    assert not (await put(world.there, "l", b"2", acquire=second)).done
    assert (await put(world.here, "l", b"3", acquire=first)).done
    entry = (await world.there.read("l")).entry
    assert entry is not None
    assert (entry.session, entry.value, entry.lock_index) == (first, b"3", 1)
    assert not (await put(world.there, "l", release=second)).done
    assert (await put(world.there, "l", b"4", release=first)).done
    assert (await put(world.there, "l", b"5", acquire=second)).done
    entry = (await world.here.read("l")).entry
    assert entry is not None
    assert entry.lock_index == 2
    with pytest.raises(Invalid, match="no session"):
        await put(world.here, "l", acquire="nobody")


async def test_all_want_the_lock_at_once(world: World) -> None:
    ids = [await new_session(cases) for cases in (world.here, world.there) for _ in range(3)]
    tries = [
        put(cases, "l", acquire=session_id)
        for session_id, cases in zip(ids, (world.here, world.there) * 3, strict=True)
    ]
    assert [done.done for done in await asyncio.gather(*tries)].count(True) == 1
    assert await holder(world.here, "l") in ids


@pytest.mark.parametrize("behavior", ["release", "delete"])
async def test_a_session_that_is_destroyed_releases_or_deletes(world: World, behavior: str) -> None:
    session = await new_session(world.here, behavior=behavior, lock_delay_s=2.0)
    other = await new_session(world.there)
    for number in range(40):
        await put(world.here, f"l/{number}", b"1", acquire=session)
    await put(world.here, "free", b"1")
    await world.there.destroy_session(session)
    found = (await world.here.entries("l/")).entries
    assert len(found) == (40 if behavior == "release" else 0)
    assert {entry.session for entry in found} <= {""}
    assert {entry.lock_index for entry in found} <= {1}
    assert not (await put(world.there, "l/7", acquire=other)).done
    assert (await put(world.there, "free", acquire=other)).done
    await world.pass_s(3.0)
    assert (await put(world.there, "l/7", acquire=other)).done
    await world.there.destroy_session(session)


async def test_sessions_are_shown(world: World) -> None:
    made = await world.here.create_session(SessionSpec(name="web", ttl_s=20.0, lock_delay_s=1.0))
    assert (made.node, made.name, made.ttl_s) == ("a", "web", 20.0)
    assert (await world.there.session(made.id)).sessions == (made,)
    other = await new_session(world.there)
    assert {one.id for one in (await world.here.sessions("")).sessions} == {made.id, other}
    assert (await world.here.sessions("a")).sessions == (made,)
    assert await world.there.renew_session(made.id) == made
    await world.here.destroy_session(made.id)
    assert (await world.there.session(made.id)).sessions == ()
    with pytest.raises(NotFound):
        await world.there.renew_session(made.id)
    with pytest.raises(Invalid):
        await new_session(world.here, ttl_s=9.0)
    with pytest.raises(Invalid):
        await new_session(world.here, node="nowhere")


async def test_a_session_that_is_not_renewed_ends(world: World) -> None:
    session = await new_session(world.here, ttl_s=10.0, lock_delay_s=0, node_checks=())
    other = await new_session(world.there)
    assert (await put(world.here, "l", acquire=session)).done
    await world.pass_s(6.0)
    await world.there.renew_session(session)
    began_s = time.monotonic()
    await world.pass_s(9.0)
    assert not (await put(world.there, "l", acquire=other)).done
    await world.pass_s(7.0)
    async with asyncio.timeout(max(1.0, 20 - (time.monotonic() - began_s))):
        while not (await put(world.there, "l", acquire=other)).done:
            await asyncio.sleep(0.1)
    assert (await world.here.session(session)).sessions == ()


def service(status: CheckStatus) -> Service:
    check = Check(id="alive", name="", kind="ttl", status=status)
    return Service(id="web-1", name="web", node="a", address="192.0.2.1", checks=(check,))


async def test_a_session_ends_with_its_check(world: World) -> None:
    with pytest.raises(Invalid, match="no check"):
        await new_session(world.here, service_checks=("alive",))
    world.catalogue.put(service("passing"))
    session = await new_session(world.here, service_checks=("alive",), lock_delay_s=0)
    assert (await put(world.here, "l", acquire=session)).done
    world.catalogue.put(service("critical"))

    async def released() -> bool:
        return await holder(world.there, "l") == ""

    await until(released)
    assert (await world.there.session(session)).sessions == ()


async def test_who_waits_is_woken_by_what_he_waits_for(world: World) -> None:
    await put(world.here, "w/1")
    await put(world.here, "v")
    for step in range(2):
        tree = (await world.there.entries("w/")).index
        lone = (await world.there.read("w/2")).index
        other = (await world.there.read("v")).index
        of_tree = asyncio.create_task(world.there.entries("w/", tree, 15))
        of_one = asyncio.create_task(world.there.read("w/2", lone, 15))
        calm = asyncio.create_task(world.there.read("v", other, 2.0))
        await until(lambda: world.there.changes.waiting == 3)
        await asyncio.sleep(0.2)
        began_s = time.monotonic()
        await put(world.here, "x")
        if step == 0:
            await put(world.here, "w/2")
        else:
            await world.here.delete("w/2", None)
        async with asyncio.timeout(5):
            assert (await of_tree).index > tree
            assert (await of_one).index > lone
        assert time.monotonic() - began_s < 1.5
        assert (await calm).index == other


async def test_who_waits_for_sessions_is_woken(world: World) -> None:
    index = (await world.there.sessions("")).index
    waiting = asyncio.create_task(world.there.sessions("", index, 15))
    await until(lambda: world.there.changes.waiting == 1)
    session = await new_session(world.here)
    async with asyncio.timeout(5):
        found = await waiting
        while not found.sessions:  # what woke it was the end of a session before this test
            found = await world.there.sessions("", found.index, 15)
        assert [one.id for one in found.sessions] == [session]


# What only etcd does


async def test_etcd_goes_on_without_one_member_and_not_without_two(
    in_etcd: World, etcd: Etcd
) -> None:
    world = in_etcd
    await put(world.here, "k", b"1")
    session = await new_session(world.here, node_checks=())
    assert (await put(world.here, "l", acquire=session)).done
    try:
        etcd.kill(0)
        written = await until_written(world, b"2")
        assert written == b"2"
        etcd.pause(1)
        with pytest.raises(Unavailable):
            await put(world.here, "k", b"3")
        with pytest.raises(Unavailable):
            await world.there.read("k")
        assert (await world.here.status()).state == "unreachable"
        etcd.go_on(1)
        await until_written(world, b"4")
    finally:
        etcd.start(0)
    assert await holder(world.there, "l") == session
    reading = await world.there.read("k")
    assert reading.entry is not None
    assert reading.entry.value == b"4"


@pytest.mark.parametrize("what", ["sessions", "a tree"])
async def test_nothing_is_missed_that_happens_while_it_is_read(
    in_etcd: World, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = in_etcd.here, in_etcd.there
    await put(here, "w/1")
    read = Gateway.read

    async def read_late(self: Gateway, path: str, body: dict[str, object]) -> dict[str, object]:
        """An answer that comes after the news of a later change."""
        answer = await read(self, path, body)
        monkeypatch.setattr(Gateway, "read", read)
        interest = Interest("sessions") if what == "sessions" else Interest("prefix", "w/")
        with there.changes.subscribe(interest) as news:
            await (new_session(here) if what == "sessions" else here.delete("w/1", None))
            await news.wait()
        return answer

    monkeypatch.setattr(Gateway, "read", read_late)
    async with asyncio.timeout(10):
        if what == "sessions":
            index = (await there.sessions("")).index
            assert len((await there.sessions("", index, 60)).sessions) == 1
        else:
            index = (await there.entries("w/")).index
            assert (await there.entries("w/", index, 60)).entries == ()


async def until_written(world: World, value: bytes) -> bytes:
    """While a leader is chosen, nothing is written."""
    async with asyncio.timeout(30):
        while True:
            try:
                await put(world.there, "k", value)
                entry = (await world.here.read("k")).entry
            except Unavailable:
                continue
            return entry.value if entry else b""


async def test_no_count_is_lost_while_members_of_etcd_come_and_go(
    in_etcd: World, etcd: Etcd
) -> None:
    world = in_etcd
    stop = asyncio.Event()
    done: list[bool] = []
    unknown: list[Unavailable] = []

    async def count(cases: KeyCases) -> None:
        while not stop.is_set():
            try:
                entry = (await cases.read("count")).entry
                value = int(entry.value) if entry else 0
                cas = entry.modify_index if entry else 0
            except Unavailable:
                continue
            try:
                done.append((await put(cases, "count", b"%d" % (value + 1), cas=cas)).done)
            except Unavailable as error:
                unknown.append(error)

    tasks = [asyncio.create_task(count(cases)) for cases in (world.here, world.there)]
    for number in (0, 1, 2):
        await asyncio.sleep(0.5)
        etcd.kill(number)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(etcd.start, number)
    await asyncio.sleep(0.5)
    stop.set()
    await asyncio.gather(*tasks)
    entry = (await world.here.read("count")).entry
    assert entry is not None
    assert done.count(True) > 50
    assert done.count(True) <= int(entry.value) <= done.count(True) + len(unknown)
