"""What the registry is told: entries, each change of them, and what waits for its word."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from netd.engine import directory as directory_module
from netd.engine import entries as entries_module
from netd.engine import registry as registry_module
from netd.engine.directory import Feed, Following
from netd.model.directory import Count, Entry, NetworkEntry, RegistryReport, ZoneEntry
from netd.model.endpoint import EndpointPatch
from netd.model.network import NetworkSpec
from netd.model.service import Service
from tests.unit.engine_fixture import NODE_ID, SETTINGS, Host
from tests.unit.memory_cluster import Mesh
from tests.unit.test_engine_overlay import settled

ZONE = ZoneEntry(zone="netd.internal", node="node-1", node_id="1")


def take_all(following: Following) -> list[Entry]:
    """What there is until now."""
    found: list[Entry] = []
    while lines := following.take(7):
        found += lines
    return found


def table(host: Host) -> dict[tuple[str, str], Any]:
    """All entries by kind and id; the last line is the mark."""
    *lines, sync = take_all(host.engine.directory(watch=False))
    assert sync.kind == "sync"
    return {(line.kind, line.id): getattr(line, line.kind) for line in lines}


def network_entry(name: str, **more: Any) -> Entry:
    return Entry(revision=0, kind="network", id=name, network=NetworkEntry(**more))


def report(host: Host, revision: int | None = None, **more: Any) -> None:
    at = host.engine._parts.feed.revision if revision is None else revision
    host.engine.take_report(RegistryReport(revision=at, pid=7, **more))


# The feed


def test_all_entries_a_mark_and_then_each_change() -> None:
    feed = Feed(ZONE, begins=100)
    feed.put(network_entry("blue"))
    following = feed.follow(watch=True)
    feed.put(network_entry("red"))  # after the table was taken
    assert [(line.kind, line.id, line.revision) for line in take_all(following)] == [
        ("zone", "", 101),
        ("network", "blue", 102),
        ("sync", "", 102),
        ("network", "red", 103),
    ]
    feed.put(network_entry("red", internal=True))
    feed.drop("network", "blue")
    assert [(line.id, line.network is None) for line in take_all(following)] == [
        ("red", False),
        ("blue", True),
    ]
    assert not following.ended
    assert take_all(following) == []


def test_what_is_the_same_is_no_change() -> None:
    feed = Feed(ZONE, begins=0)
    told: list[None] = []
    following = feed.follow(watch=True)
    following.on_news = lambda: told.append(None)
    at = feed.put(network_entry("blue"))
    assert feed.put(network_entry("blue")) == at == feed.revision
    feed.drop("network", "none")
    assert len(told) == 1


def test_followers_are_told_before_put_returns() -> None:
    feed = Feed(ZONE, begins=0)
    following = feed.follow(watch=True)
    take_all(following)
    got: list[Entry] = []
    following.on_news = lambda: got.extend(take_all(following))
    feed.put(network_entry("blue"))
    assert [line.id for line in got] == ["blue"]
    following.close()
    feed.put(network_entry("red"))
    assert [line.id for line in got] == ["blue"]


def test_without_watch_the_table_is_all() -> None:
    feed = Feed(ZONE, begins=0)
    following = feed.follow(watch=False)
    assert [line.kind for line in take_all(following)] == ["zone", "sync"]
    assert following.ended
    assert not feed.watched


def test_a_follower_that_is_too_slow_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins anew, or it would miss a change."""
    monkeypatch.setattr(directory_module, "BACKLOG", 4)
    feed = Feed(ZONE, begins=0)
    slow, quick = feed.follow(watch=True), feed.follow(watch=True)
    for following in (slow, quick):
        take_all(following)
    for number in range(4):
        feed.put(network_entry(f"n{number}"))
    assert len(take_all(quick)) == 4
    feed.put(network_entry("n4"))
    assert [line.id for line in take_all(quick)] == ["n4"]
    assert take_all(slow) == []
    assert slow.ended
    assert not quick.ended


def test_a_close_ends_followers_after_what_there_is() -> None:
    feed = Feed(ZONE, begins=0)
    following = feed.follow(watch=True)
    woken: list[bool] = []
    following.on_news = lambda: woken.append(following.ended)
    feed.close()
    assert woken == [False]  # there is something left for it
    assert [line.kind for line in take_all(following)] == ["zone", "sync"]
    assert following.ended


def test_the_directory_has_what_was_told() -> None:
    feed = Feed(ZONE, begins=0)
    feed.put(network_entry("blue", subnets=("10.20.0.0/24",)))
    assert feed.directory.scope_of("10.20.0.9").networks == frozenset({"blue"})
    feed.drop("network", "blue")
    assert feed.directory.scope_of("10.20.0.9").networks == frozenset()


# What the engine tells


async def test_the_host_its_networks_and_its_endpoints(host: Host) -> None:
    host.settings = replace(SETTINGS, tags={"rack": "r1"})
    await host.restart()
    await host.network("blue", subnets=("10.20.0.0/24", "fd20::/64"))
    await host.network("inside", subnets=("10.30.0.0/24",), internal=True)
    web = await host.attach("blue", "web", aliases=("www",))
    found = table(host)
    assert found["zone", ""].node_id == NODE_ID
    assert found["node", "node-1"].addresses == ("192.0.2.10",)
    assert found["node", "node-1"].tags == {"rack": "r1"}
    assert found["network", "blue"] == NetworkEntry(
        subnets=("10.20.0.0/24", "fd20::/64"), resolvers=("10.20.0.1", "fd20::1")
    )
    assert found["network", "inside"] == NetworkEntry(subnets=("10.30.0.0/24",), internal=True)
    endpoint = found["endpoint", web.id]
    assert (endpoint.name, endpoint.aliases, endpoint.node) == ("web", ("www",), "node-1")
    assert endpoint.addresses == ("10.20.0.2", "fd20::2")
    assert endpoint.container_id == "web"


async def test_what_changes_is_told(host: Host) -> None:
    await host.network("blue", subnets=("10.20.0.0/24",))
    following = host.engine.directory(watch=True)
    assert isinstance(following, Following)
    take_all(following)
    web = await host.attach("blue", "web")
    first = take_all(following)
    assert [(line.kind, line.id) for line in first] == [("network", "blue"), ("endpoint", web.id)]
    db = await host.attach("blue", "db")
    await host.engine.update_endpoint(db.id, EndpointPatch(aliases=("sql",)))
    await host.engine.detach(db.id)
    await host.engine.detach(web.id)
    rest = take_all(following)
    assert [(line.kind, line.id, line.endpoint is None) for line in rest] == [
        ("endpoint", db.id, False),
        ("endpoint", db.id, False),
        ("endpoint", db.id, True),
        ("endpoint", web.id, True),
        ("network", "blue", True),
    ]
    assert rest[-1].network == NetworkEntry(subnets=("10.20.0.0/24",))
    await host.engine.delete_network("blue")
    (last,) = take_all(following)
    assert (last.kind, last.id, last.network) == ("network", "blue", None)


@pytest.mark.parametrize("driver", ["none", "host", "macvlan"])
async def test_where_there_is_no_address_to_listen_at(host: Host, driver: str) -> None:
    more: dict[str, Any] = {"parent": "eth0", "subnets": ("10.9.0.0/24",)}
    spec = {"name": "n", "driver": driver, **(more if driver == "macvlan" else {})}
    await host.engine.create_network(NetworkSpec(**spec))
    await host.attach("n", "web", **({"netns": None} if driver == "host" else {}))
    assert table(host)["network", "n"].resolvers == ()


async def test_all_is_there_again_after_a_restart(host: Host) -> None:
    await host.network("blue", subnets=("10.20.0.0/24",))
    await host.attach("blue", "web")
    before, at = table(host), host.engine._parts.feed.revision
    host.clock.now_s += 1
    await host.restart()
    assert table(host) == before
    assert host.engine._parts.feed.revision > at


@pytest.mark.parametrize("wanted", [True, False])
async def test_containers_are_told_whom_to_ask(host: Host, wanted: bool) -> None:
    host.settings = replace(SETTINGS, registry_wanted=wanted)
    await host.restart()
    report(host)
    await host.network("blue", subnets=("10.20.0.0/24", "fd20::/64"))
    await host.network("lan", "macvlan", subnets=("10.9.0.0/24",), parent="eth0")
    web = await host.attach("blue", "web")
    assert web.dns.nameservers == (("10.20.0.1", "fd20::1") if wanted else ())
    assert web.dns.search == ("blue.netd.internal",)
    other = await host.attach("lan", "web", ifname="eth1")
    assert other.dns.nameservers == ()


# Several hosts


@asynccontextmanager
async def two_hosts(folder: Path) -> AsyncIterator[list[Host]]:
    mesh = Mesh()
    made = []
    for number in (1, 2):
        (folder / f"{number}").mkdir()
        host = Host(folder / f"{number}", mesh, node=f"node-{number}", node_id=str(number) * 32)
        host.settings = replace(host.settings, registry_wanted=True)
        await host.start()
        host.cluster.bound = True
        report(host)
        made.append(host)
    await made[1].engine.cluster.join([made[0].cluster.address], None)
    try:
        yield made
    finally:
        for host in made:
            await host.stop()


async def test_networks_and_endpoints_of_other_hosts(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (one, two):
        await one.network("blue", "overlay", subnets=("10.20.0.0/16",))
        assert table(two)["network", "blue"] == NetworkEntry(subnets=("10.20.0.0/16",))
        assert table(two)["node", "node-1"].node_id == "1" * 32
        web = await one.attach("blue", "web")
        db = await two.attach("blue", "db")
        await settled([one, two])
        for host, own in ((one, web), (two, db)):
            found = table(host)
            assert found["network", "blue"].resolvers == ("10.20.0.1",)
            assert own.dns.nameservers == ("10.20.0.1",)
            assert {found["endpoint", end.id].node for end in (web, db)} == {"node-1", "node-2"}
        await two.engine.detach(db.id)
        await settled([one, two])
        assert table(two)["network", "blue"].resolvers == ()
        assert ("endpoint", web.id) not in table(two)


def instance(node: str, network: str) -> Service:
    return Service(id="w1", name="web", node=node, address="10.20.0.2", network=network)


async def test_instances_on_networks_that_only_another_host_has(tmp_path: Path) -> None:
    """A bridge network of the same name here is another one."""
    async with two_hosts(tmp_path) as (one, two):
        await one.network("blue", subnets=("10.20.0.0/24",))
        await two.network("blue", subnets=("10.20.0.0/24",))
        of_two = two.engine._surroundings
        of_two.service_changed("w1", instance("node-1", "blue"))
        assert ("service", "w1") not in table(two)
        of_two.service_changed("w1", instance("node-2", "blue"))
        assert ("service", "w1") in table(two)
        # Known as soon as its network is.
        of_two.service_changed("w1", instance("node-1", "green"))
        assert ("service", "w1") not in table(two)
        await one.network("green", "overlay", subnets=("10.40.0.0/16",))
        assert ("service", "w1") in table(two)
        await one.engine.delete_network("green")
        assert ("service", "w1") not in table(two)
        of_two.service_changed("w1", None)
        of_two.service_changed("w1", instance("node-1", ""))
        assert ("service", "w1") in table(two)


async def test_an_endpoint_that_comes_has_no_instances_looked_at_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attach costs the same however many there are on its network."""
    await host.network("green", "overlay", subnets=("10.40.0.0/16",))
    host.engine._surroundings.service_changed("w1", instance("node-2", "green"))
    assert ("service", "w1") in table(host)
    looked_at: list[str] = []
    tell = entries_module.service_entry

    def counted(service: Service) -> Entry:
        looked_at.append(service.id)
        return tell(service)

    monkeypatch.setattr(entries_module, "service_entry", counted)
    monkeypatch.setattr(host.engine.virtuals, "network_changed", looked_at.append)
    first = await host.attach("green", "web")
    assert looked_at == ["green"]  # it is open here now
    second = await host.attach("green", "db")
    await host.engine.detach(first.id)
    assert looked_at == ["green"]
    await host.engine.detach(second.id)
    assert looked_at == ["green", "green"]


# The registry's word


@pytest.fixture
async def watched(host: Host) -> AsyncIterator[Host]:
    """A host whose registry follows and has reported."""
    host.settings = replace(SETTINGS, registry_wanted=True)
    await host.restart()
    await host.network("blue", subnets=("10.20.0.0/24",))
    following = host.engine.directory(watch=True)
    report(host)
    yield host
    following.close()


async def test_the_first_endpoint_waits_for_the_sockets(
    watched: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "LISTENING_S", 30.0)
    attaching = asyncio.create_task(watched.attach("blue", "web"))
    while ("endpoint", "") not in {(kind, "") for kind, _ in table(watched)}:
        await asyncio.sleep(0)
    for _ in range(50):
        await asyncio.sleep(0)
    assert not attaching.done()
    report(watched, revision=0)  # of before
    for _ in range(50):
        await asyncio.sleep(0)
    assert not attaching.done()
    report(watched, listening=("10.20.0.1:53",))
    async with asyncio.timeout(5):
        await attaching
        await watched.attach("blue", "db")  # there is nothing to open any more
    assert not watched.engine._parts.registry._opening


async def test_it_does_not_wait_long(watched: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "LISTENING_S", 0.05)
    async with asyncio.timeout(5):
        await watched.attach("blue", "web")
        monkeypatch.setattr(registry_module, "LISTENING_S", 30.0)
        await watched.attach("blue", "db")  # what did not come is not waited for again


@pytest.mark.parametrize("gone", ["stream", "reports"])
async def test_without_a_registry_nobody_waits(
    watched: Host, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    monkeypatch.setattr(registry_module, "LISTENING_S", 30.0)
    if gone == "stream":
        for following in tuple(watched.engine._parts.feed._followers):
            following.close()
    else:
        watched.clock.now_s += 16
    async with asyncio.timeout(5):
        await watched.attach("blue", "web")


async def test_how_the_registry_is(host: Host) -> None:
    state = host.engine.registry()
    assert (state.wanted, state.connected, state.reported_at) == (False, False, "")
    host.settings = replace(SETTINGS, registry_wanted=True)
    await host.restart()
    assert await registry_findings(host) == [
        (
            "error",
            "no registry is connected: containers get no names by DNS, and health checks do not "
            "run",
        )
    ]
    following = host.engine.directory(watch=True)
    report(host, listening=("127.0.0.54:53",), counts=(Count(name="queries", value=3),))
    state = host.engine.registry()
    assert (state.connected, state.pid, state.behind) == (True, 7, 0)
    assert state.reported_at == "2023-11-14T22:13:20.000Z"
    assert await registry_findings(host) == [("ok", "names are answered; sockets: 1")]
    report(host, problems={"127.0.0.54:53": "Address already in use"})
    assert await registry_findings(host) == [
        ("warning", "the registry cannot listen at 127.0.0.54:53: Address already in use")
    ]
    await host.network("blue")
    assert host.engine.registry().behind == 1
    following.close()
    assert not host.engine.registry().connected


async def registry_findings(host: Host) -> list[tuple[str, str]]:
    found = await host.engine.doctor()
    return [(each.level, each.detail) for each in found if each.check == "registry"]


async def test_a_stop_ends_followers(host: Host) -> None:
    following = host.engine.directory(watch=True)
    assert isinstance(following, Following)
    take_all(following)
    host.engine.end_streams()
    assert following.ended
