"""Overlay networks: several engines, each with a kernel of its own, in one cluster."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from netd.engine.interfaces import MemberChange, Record
from netd.engine.overlay import absences
from netd.engine.overlay.announcing import ANNOUNCED_MAX
from netd.model.endpoint import Endpoint, EndpointPatch
from netd.model.errors import Conflict, NotFound
from netd.model.network import Network
from netd.model.overlay import RemoteEndpoint
from netd.plan.overlay import gateway_mac
from tests.unit.engine_fixture import Gate, Host
from tests.unit.memory_cluster import Mesh

SUBNETS = ("10.20.0.0/16", "fd20::/64")


@pytest.fixture
async def hosts(tmp_path: Path) -> AsyncIterator[list[Host]]:
    """Three hosts in one cluster."""
    mesh = Mesh()
    made = []
    for number in (1, 2, 3):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        host = Host(folder, mesh, node=f"node-{number}", node_id=str(number) * 32)
        await host.start()
        host.cluster.bound = True
        made.append(host)
    for host in made[1:]:
        await host.engine.cluster.join([made[0].cluster.address], None)
    yield made
    for host in made:
        await host.stop()


async def overlay(host: Host, name: str = "blue", **more: object) -> Network:
    return await host.network(name, "overlay", **{"subnets": SUBNETS, **more})


async def settled(hosts: Sequence[Host]) -> None:
    """What is told of has been applied everywhere."""
    for host in hosts:
        await asyncio.sleep(0)
        await host.engine._overlays.idle()
        await host.quiet()


def bare(addresses: Sequence[str]) -> list[str]:
    return [text.partition("/")[0] for text in addresses]


async def test_a_network_made_on_one_host_is_there_on_all(hosts: list[Host]) -> None:
    network = await overlay(hosts[0])
    for host in hosts:
        assert host.engine.network("blue") == network
        assert host.text() == ""
    assert network.vni is not None
    assert network.mtu == 1450, "what it would be"
    assert sorted(network.seeds) == sorted(host.node_id for host in hosts)


async def test_a_network_that_is_not_open_is_shown_with_the_mtu_it_would_have(
    hosts: list[Host],
) -> None:
    one, two, three = hosts
    await overlay(one, mtu=1400)
    assert {host.engine.network("blue").mtu for host in hosts} == {1400}
    await overlay(one, "red", subnets=("10.30.0.0/16",))
    links = tuple(replace(link, mtu=1300) for link in two.facts.links)
    two.boot(replace(two.facts, links=links))
    await two.restart()
    await two.engine.cluster.join([one.cluster.address], None)
    assert (one.engine.network("red").mtu, two.engine.network("red").mtu) == (1450, 1250)
    endpoint = await two.attach("red", "db")
    await settled(hosts)
    assert endpoint.mtu == two.engine.network("red").mtu
    assert three.engine.network("red").mtu == 1250, "what all hosts of it can carry"
    assert await overlay(three, "red", subnets=("10.30.0.0/16",)) == three.engine.network("red")


async def test_a_network_follows_what_the_routes_to_other_hosts_carry(hosts: list[Host]) -> None:
    one, two, _ = hosts
    await overlay(one)
    made = [await host.attach("blue", "web") for host in (one, two)]
    await settled(hosts)
    assert {each.mtu for each in made} == {1450}
    place = two.cluster.address.rpartition(":")[0]
    one.kernel.route_mtus[place] = 1400
    await one.engine.reconcile()  # as after a change of routes
    await settled(hosts)
    assert [host.engine.endpoints()[0].mtu for host in (one, two)] == [1350, 1350]
    one.kernel.route_mtus.clear()
    await one.engine.reconcile()
    await settled(hosts)
    assert [host.engine.endpoints()[0].mtu for host in (one, two)] == [1450, 1450]


async def test_metrics_tell_of_tunnels_other_hosts_and_addresses(hosts: list[Host]) -> None:
    one, two, _ = hosts
    await overlay(one, subnets=("10.20.0.0/24",))  # slices of 64 for three hosts
    assert one.engine.address_levels() == []
    assert one.engine.levels()["overlay_tunnels"] == 0
    await one.attach("blue", "web")
    await two.attach("blue", "db")
    await settled(hosts)
    levels = one.engine.levels()
    assert levels["overlay_tunnels"] == 1
    assert levels["overlay_remotes"] == 2, "an endpoint, and its host"
    assert levels["overlay_remotes_waiting"] == levels["overlay_changes_waiting"] == 0
    [before] = one.engine.address_levels()
    assert (before.network, before.family) == ("blue", 4)
    assert before.free == before.owned - 2, "the endpoint has one, and the host itself"
    await one.attach("blue", "another")
    [after] = one.engine.address_levels()
    assert (after.owned, after.free) == (before.owned, before.free - 1)

    ignored = one.engine.counters()["overlay_records_ignored"]
    for table in ("vtep", "blocks"):
        two.cluster.publish([Record(table=table, key=before.network, value=b"\xff")])
    two.cluster.claim("network", "red/1", b"{}")
    await settled(hosts)
    assert one.engine.counters()["overlay_records_ignored"] == ignored + 3


async def test_endpoints_on_two_hosts_know_of_each_other(hosts: list[Host]) -> None:
    one, two, three = hosts
    network = await overlay(one)
    web = await one.attach("blue", "web")
    db = await two.attach("blue", "db")
    await settled(hosts)
    place = two.cluster.address.partition(":")[0]
    lines = one.text().splitlines()
    assert any(f"fdb {db.mac} dev nx-blue dst {place}" in line for line in lines)
    for address in bare(db.addresses):
        assert any(f"neighbour {address} dev nd-blue address {db.mac}" in line for line in lines)
    assert any(f"neighbour {bare(web.addresses)[0]} " in line for line in two.text().splitlines())
    assert three.text() == ""
    assert web.mtu == 1450
    assert network.id == web.network_id == db.network_id
    assert not set(web.addresses) & set(db.addresses)


async def test_what_becomes_known_on_an_open_network_is_announced_and_nothing_else(
    hosts: list[Host],
) -> None:
    one, two, three = hosts
    await overlay(one)
    web = await one.attach("blue", "web")
    await settled(hosts)
    assert one.kernel.announced == [], "there was nobody yet"
    db = await two.attach("blue", "db")
    await settled(hosts)
    assert set(bare(db.addresses)) <= set(one.kernel.announced)
    before = list(one.kernel.announced)
    await two.engine.update_endpoint(db.id, EndpointPatch(aliases=("store",)))
    await settled(hosts)
    assert one.kernel.announced == before, "it is where it was"
    assert not set(bare(web.addresses)) & set(before)
    assert three.kernel.announced == []


async def test_no_more_is_announced_at_a_time_than_containers_bear(hosts: list[Host]) -> None:
    one, two, _ = hosts
    network = await overlay(one)
    await one.attach("blue", "web")
    await two.attach("blue", "db")
    await settled(hosts)
    for number in range(100):
        told = RemoteEndpoint(
            name=f"c{number}",
            container_id=f"c{number}",
            addresses=(f"10.20.200.{number}/16",),
            mac=f"0e:00:00:00:01:{number:02x}",
        )
        scope = bytes.fromhex(network.id)
        value = msgspec.json.encode(told)
        two.cluster.publish(
            [Record(table="endpoint", key=f"{number:016x}", value=value, scope=scope)]
        )
    await settled(hosts)
    assert one.text().count("neighbour 10.20.200.") == 100
    assert len(one.kernel.announced) == ANNOUNCED_MAX
    one.clock.now_s += 1
    late = await two.attach("blue", "late")
    await settled(hosts)
    assert set(one.kernel.announced[ANNOUNCED_MAX:]) == set(bare(late.addresses))


async def test_the_last_endpoint_takes_everything_along(hosts: list[Host]) -> None:
    one, two, _ = hosts
    await overlay(one)
    web = await one.attach("blue", "web")
    db = await two.attach("blue", "db")
    await one.engine.detach(web.id)
    await settled(hosts)
    assert one.text() == ""
    assert web.mac not in two.text()
    await two.engine.detach(db.id)
    assert two.text() == ""
    await one.engine.delete_network("blue")
    with pytest.raises(NotFound):
        two.engine.network("blue")


async def test_a_network_in_use_elsewhere_is_not_deleted(hosts: list[Host]) -> None:
    one, two, _ = hosts
    await overlay(one)
    await two.attach("blue", "db")
    with pytest.raises(Conflict, match="node-2"):
        await one.engine.delete_network("blue")


async def test_the_same_spec_twice_is_one_network_and_another_is_a_conflict(
    hosts: list[Host],
) -> None:
    one, two, _ = hosts
    network = await overlay(one)
    assert await overlay(two) == network
    with pytest.raises(Conflict, match="exists in the cluster with internal"):
        await overlay(two, internal=True)


@pytest.mark.parametrize("same", [True, False])
async def test_who_makes_a_network_while_an_earlier_one_is_heard_of_gets_that_or_a_conflict(
    hosts: list[Host], same: bool
) -> None:
    one, two, three = hosts
    one.clock.now_s -= 1
    two.store.gate = gate = Gate()
    making = asyncio.create_task(overlay(two, subnets=SUBNETS if same else ("10.30.0.0/16",)))
    await gate.reached.wait()
    first = await overlay(one)
    gate.opened.set()
    if same:
        assert await making == first
    else:
        with pytest.raises(Conflict, match="exists in the cluster with subnets"):
            await making
    await settled(hosts)
    assert {host.engine.network("blue").id for host in hosts} == {first.id}
    web, db = await two.attach("blue", "web"), await three.attach("blue", "db")
    assert web.network_id == db.network_id == first.id


async def test_a_vni_that_is_asked_for_and_taken_is_refused(hosts: list[Host]) -> None:
    one, two, _ = hosts
    taken = (await overlay(one)).vni
    assert taken is not None
    with pytest.raises(Conflict, match=f"vni {taken} is that of network 'blue'") as caught:
        await overlay(two, "red", subnets=("10.30.0.0/16",), vni=taken)
    assert caught.value.field == "vni"
    with pytest.raises(NotFound):
        one.engine.network("red")
    assert (await overlay(two, "red", subnets=("10.30.0.0/16",), vni=taken + 1)).vni == taken + 1


@pytest.mark.parametrize("kind", ["gateway", "host", "outside", "gateway's MAC", "host's MAC"])
async def test_nobody_can_tell_that_he_is_the_gateway_or_this_host(
    hosts: list[Host], kind: str
) -> None:
    one, two, _ = hosts
    network = await overlay(one)
    await one.attach("blue", "web")
    await two.attach("blue", "db")
    await settled(hosts)
    opening = one.engine._overlays.openings.opening(network.id)
    assert opening is not None
    before = one.text()
    addresses: tuple[str, ...] = ("10.20.77.7/16",)
    mac = "0e:16:0a:14:4d:07"
    match kind:
        case "gateway":
            addresses = ("10.20.77.7/16", f"{network.gateways[0]}/16")
        case "host":
            addresses = opening.addresses[:1]
        case "outside":
            addresses = ("10.20.77.7/16", "192.0.2.7/32")
        case "gateway's MAC":
            mac = gateway_mac(network)
        case _:
            mac = opening.mac(network)
    forged = RemoteEndpoint(
        name="evil", container_id="evil", addresses=addresses, mac=mac, since_ms=1 << 50
    )
    scope = bytes.fromhex(network.id)
    value = msgspec.json.encode(forged)
    two.cluster.publish([Record(table="endpoint", key="e" * 16, value=value, scope=scope)])
    await settled(hosts)
    assert one.text() == before
    honest = msgspec.json.encode(
        replace(forged, addresses=("10.20.77.7/16",), mac="0e:16:0a:14:4d:07")
    )
    two.cluster.publish([Record(table="endpoint", key="e" * 16, value=honest, scope=scope)])
    await settled(hosts)
    assert "neighbour 10.20.77.7 dev nd-blue" in one.text()


async def test_a_dead_host_is_forgotten_and_back_at_once(hosts: list[Host]) -> None:
    one, two, _ = hosts
    await overlay(one)
    await one.attach("blue", "web")
    db = await two.attach("blue", "db")
    await settled(hosts)
    alive = one.text()
    two.cluster.becomes("dead")
    await settled(hosts)
    assert db.mac not in one.text()
    assert two.cluster.address.partition(":")[0] not in one.text()
    two.cluster.becomes("alive")
    await settled(hosts)
    assert one.text() == alive


class Trials:
    """What becomes of asking whether hosts are there: until `answers` is set nothing is known."""

    def __init__(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.there = False
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()
        self.answers.set()
        monkeypatch.setattr(host.cluster, "host_answers", self._host_answers)
        monkeypatch.setattr(absences, "RECHECK_S", 0.0)

    async def _host_answers(self, member: str) -> bool:
        self.count += 1
        self.asked.set()
        await self.answers.wait()
        return self.there

    async def hang(self) -> None:
        """From the next time that it is asked on nothing is known."""
        self.answers.clear()
        before = self.count
        async with asyncio.timeout(5):
            while self.count == before:
                await asyncio.sleep(0)


async def two_in_touch(hosts: list[Host]) -> Endpoint:
    """The endpoint of the second host, which the first knows."""
    one, two, _ = hosts
    await overlay(one)
    await one.attach("blue", "web")
    db = await two.attach("blue", "db")
    await settled(hosts)
    return db


async def test_a_suspected_host_that_is_off_is_left_with_the_news_of_its_death(
    hosts: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, _ = hosts
    db = await two_in_touch(hosts)
    before = one.text()
    trials = Trials(one, monkeypatch)
    two.cluster.becomes("suspect")
    await trials.asked.wait()
    await trials.hang()  # it is known by now, and nothing more will be
    await settled(hosts)
    assert one.text() == before, "a suspicion changes nothing"
    two.cluster.becomes("dead")
    await settled(hosts)
    assert db.mac not in one.text()
    assert two.cluster.address.partition(":")[0] not in one.text()


async def test_a_suspected_host_that_is_there_is_kept_until_it_is_not(
    hosts: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, _ = hosts
    db = await two_in_touch(hosts)
    before = one.text()
    trials = Trials(one, monkeypatch)
    trials.there = True
    two.cluster.becomes("suspect")
    await trials.asked.wait()
    two.cluster.becomes("dead")
    await settled(hosts)
    assert one.text() == before
    trials.there = False
    await one.happened("member.dead")
    async with asyncio.timeout(5):
        while db.mac in one.text():
            await asyncio.sleep(0)


async def test_a_host_of_which_nothing_is_known_yet_is_kept_until_it_is(
    hosts: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, _ = hosts
    db = await two_in_touch(hosts)
    before = one.text()
    trials = Trials(one, monkeypatch)
    trials.answers.clear()
    two.cluster.becomes("suspect")
    await trials.asked.wait()
    two.cluster.becomes("dead")
    await settled(hosts)
    assert one.text() == before
    trials.answers.set()
    async with asyncio.timeout(5):
        while db.mac in one.text():
            await asyncio.sleep(0)


async def test_nobody_is_tried_any_more_who_is_not_suspected(
    hosts: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = hosts
    db = await two_in_touch(hosts)
    trials = Trials(one, monkeypatch)
    three.cluster.becomes("suspect")
    await settled(hosts)
    assert not trials.count, "there is nothing of it in the kernel"
    two.cluster.becomes("suspect")
    await trials.asked.wait()
    two.cluster.becomes("alive")
    await settled(hosts)
    tried = trials.count
    await settled(hosts)
    assert trials.count == tried
    assert db.mac in one.text()


async def test_a_host_without_its_daemon_goes_on_being_reached(hosts: list[Host]) -> None:
    one, two, _ = hosts
    await overlay(one)
    await one.attach("blue", "web")
    db = await two.attach("blue", "db")
    gone = await two.attach("blue", "gone")
    await settled(hosts)
    before = one.text()
    two.cluster.host_up = True
    two.cluster.becomes("dead")
    await settled(hosts)
    assert one.text() == before
    two.cluster.published.pop((bytes.fromhex(db.network_id), "endpoint", gone.id))
    two.cluster.becomes("alive")
    await settled(hosts)
    assert one.text() == before
    for absence in one.engine._overlays._absences._absent.copy().values():
        one.engine._overlays._absences._settled(absence)
    await settled(hosts)
    assert db.mac in one.text()
    assert gone.mac not in one.text()


async def test_entries_are_in_the_tunnel_of_a_new_vni_at_once(hosts: list[Host]) -> None:
    one, two, three = hosts
    for other in (two, three):
        one.mesh.cut(one.cluster, other.cluster)
    await overlay(one, "earlier", vni=7000, subnets=("10.30.0.0/16",))
    two.mesh.wall_s += 1
    two.clock.now_s += 1
    await overlay(two, vni=7000)
    await two.attach("blue", "web")
    db = await three.attach("blue", "db")
    await settled(hosts)
    assert "id 7000 " in two.text()
    two.kernel.events = "silent"  # so that nothing but the change itself leads to a look
    for other in (two, three):
        one.mesh.heal(one.cluster, other.cluster)
    await settled(hosts)
    vni = two.engine.network("blue").vni
    assert vni != 7000
    assert f"id {vni} " in two.text()
    place = three.cluster.address.partition(":")[0]
    assert f"fdb {db.mac} dev nx-blue dst {place}" in two.text()
    assert await two.engine.plan() == ()


async def test_tunnels_follow_when_hosts_talk_the_other_ip_version(hosts: list[Host]) -> None:
    one, two, _ = hosts
    await overlay(one)
    await one.attach("blue", "web")
    db = await two.attach("blue", "db")
    await settled(hosts)
    assert "dstport 4789 IPv4 " in one.text()
    one.kernel.events = "silent"
    for number, host in enumerate(hosts, 1):
        host.cluster.moves(f"[2001:db8::{number}]:7940")
        own = host.cluster.seen_by(host.cluster)
        host.cluster.tell(MemberChange(member=own, before="alive"))
    await settled(hosts)
    assert "dstport 4789 IPv6 " in one.text()
    assert f"fdb {db.mac} dev nx-blue dst 2001:db8::2" in one.text()
    assert "10.0.0." not in one.text()
    assert one.engine.endpoints()[0].mtu == 1430
    assert await one.engine.plan() == ()


async def test_a_restart_has_nothing_to_do(hosts: list[Host]) -> None:
    one, two, _ = hosts
    await overlay(one)
    await one.attach("blue", "web")
    await two.attach("blue", "db")
    await settled(hosts)
    before = one.text()
    await one.stop()
    one.kernel.process_ended()
    one.kernel.operations.clear()
    await one.start()
    assert one.text() == before
    assert one.kernel.operations == []
    await one.engine.cluster.join([two.cluster.address], None)
    await settled(hosts)
    assert one.text() == before


async def test_partitioned_hosts_make_the_same_network(hosts: list[Host]) -> None:
    one, two, three = hosts
    for other in (two, three):
        one.mesh.cut(one.cluster, other.cluster)
    mine, theirs = await overlay(one), await overlay(two)
    assert mine.id == theirs.id
    web, db = await one.attach("blue", "web"), await two.attach("blue", "db")
    assert not set(bare(web.addresses)) & set(bare(db.addresses))
    for other in (two, three):
        one.mesh.heal(one.cluster, other.cluster)
    await settled(hosts)
    assert db.mac in one.text()
    assert web.mac in two.text()


async def test_another_network_of_that_name_made_in_a_partition_is_a_conflict(
    hosts: list[Host],
) -> None:
    one, two, three = hosts
    for other in (two, three):
        one.mesh.cut(one.cluster, other.cluster)
    first = await overlay(one)
    two.mesh.wall_s += 1
    two.clock.now_s += 1
    second = await overlay(two, internal=True)
    await two.attach("blue", "db")
    for other in (two, three):
        one.mesh.heal(one.cluster, other.cluster)
    await settled(hosts)
    for host in hosts:
        [shown] = host.engine.networks()
        assert shown.id == first.id == host.engine.network("blue").id
    assert [c.code for c in one.engine.network("blue").conditions] == ["overlay-rival"]
    for ref in ("blue", second.id):
        conditions = two.engine.network(ref).conditions
        assert [condition.code for condition in conditions] == ["overlay-conflict"]
        assert f"--network {second.id}" in conditions[0].remedy
    [db] = two.engine.endpoints(network=second.id)
    for ref in ("blue", first.id):
        with pytest.raises(Conflict, match="still has endpoints on an earlier network"):
            await two.attach(ref, "late")
    assert two.engine.endpoint(db.id).state == "ready"

    await two.engine.detach(db.id)
    await two.happened("network.gone", "another network has its name")
    await settled(hosts)
    for host in hosts:
        assert host.engine.network("blue").conditions == ()
        with pytest.raises(NotFound):
            host.engine.network(second.id)
    assert (await two.attach("blue", "late")).network_id == first.id
    await two.restart()
    assert two.engine.network("blue").id == first.id
