"""Networks that span hosts, whoever decides which there are: gossip, or etcd."""

import asyncio
import ipaddress
from itertools import combinations

import pytest

from netd.engine.overlay import catalogue, deciding
from netd.model.errors import Conflict, NotFound, Unavailable
from netd.model.network import Network, NetworkSpec
from tests.contract.etcd_lab import Etcd
from tests.contract.networks_fixture import by_gossip, etcd, host_ns, in_etcd, often, world
from tests.contract.networks_lab import World, has_copy, overlay, until
from tests.unit.engine_fixture import Host

__all__ = ["by_gossip", "etcd", "host_ns", "in_etcd", "often", "world"]

SUBNET = "10.20.0.0/24"
COPIES = (deciding.AUTHORITY, catalogue.DECIDED)  # facts in the store


def spec_of(subnet: str) -> NetworkSpec:
    return NetworkSpec(name="blue", driver="overlay", subnets=(subnet,))


def names(host: Host) -> list[str]:
    return [network.name for network in host.engine.networks()]


def ids(world: World, name: str = "blue") -> set[str]:
    return {host.engine.network(name).id for host in world.hosts}


def disjoint(networks: list[Network]) -> bool:
    subnets = [ipaddress.ip_network(text) for network in networks for text in network.subnets]
    return not any(
        one.version == other.version and one.overlaps(other)
        for one, other in combinations(subnets, 2)
    )


# What both promise


async def test_a_network_is_the_same_on_all_hosts(world: World) -> None:
    one, two, _ = world.hosts
    network, created = await one.engine.create_network(spec_of(SUBNET))
    assert created
    again, created = await two.engine.create_network(spec_of(SUBNET))
    assert not created
    assert again == network
    await until(lambda: all(names(host) == ["blue"] for host in world.hosts))
    assert ids(world) == {network.id}
    with pytest.raises(Conflict, match="exists in the cluster with internal false"):
        await overlay(two, internal=True)
    with pytest.raises(Conflict, match="overlaps network 'blue'"):
        await overlay(two, "red", subnets=("10.20.0.128/25",))
    with pytest.raises(Conflict, match=f"vni {network.vni} is that of network 'blue'"):
        await overlay(two, "red", vni=network.vni)


async def test_of_two_networks_of_a_name_made_at_once_one_holds(world: World) -> None:
    one, two, _ = world.hosts
    made = await asyncio.gather(
        overlay(one, internal=True), overlay(two, internal=False), return_exceptions=True
    )
    found = {network.id for network in made if isinstance(network, Network)}
    refused = [error for error in made if not isinstance(error, Network)]
    assert all(isinstance(error, Conflict) for error in refused)
    await until(lambda: all(names(host) == ["blue"] for host in world.hosts))
    [holds] = ids(world)
    assert holds in found
    if world.etcd is not None:  # by gossip, both may have been told that they have it
        assert len(refused) == 1


async def test_the_same_network_made_at_once_is_one(world: World) -> None:
    made = await asyncio.gather(
        *(host.engine.create_network(spec_of(SUBNET)) for host in world.hosts)
    )
    assert len({network.id for network, _ in made}) == 1
    if world.etcd is not None:
        assert [created for _, created in made].count(True) == 1


async def test_a_deleted_network_is_gone_and_its_name_free(world: World) -> None:
    one, two, three = world.hosts
    first = await overlay(one)
    await until(lambda: names(two) == ["blue"])
    await three.attach("blue", "web")
    with pytest.raises(Conflict, match="node-3"):
        await two.engine.delete_network("blue")
    await three.engine.detach_container("web")
    await until(lambda: "blue" not in three.text())
    await two.engine.delete_network("blue")
    await two.engine.delete_network("blue")
    await until(lambda: not any(names(host) for host in world.hosts))
    second = await overlay(three)
    assert second.id != first.id
    await until(lambda: all(names(host) == ["blue"] for host in world.hosts))
    assert ids(world) == {second.id}


async def test_a_network_in_use_outlives_who_made_it(world: World) -> None:
    one, two, three = world.hosts
    await overlay(one)
    await until(lambda: names(two) == ["blue"])
    db = await two.attach("blue", "db")
    await world.dies(one)
    web = await three.attach("blue", "web")
    assert db.addresses != web.addresses
    assert await overlay(three) == three.engine.network("blue")


async def test_a_host_knows_after_its_restart_what_it_knew(world: World) -> None:
    one, two, _ = world.hosts
    network = await overlay(one)
    await until(lambda: names(two) == ["blue"])
    await two.attach("blue", "db")
    for host in (one, two):
        await world.restart(host)
        assert names(host) == ["blue"]
    assert two.engine.network("blue").id == network.id
    await two.attach("blue", "another")


# What etcd alone promises


async def test_hosts_that_cannot_hear_each_other_make_no_two_networks(in_etcd: World) -> None:
    one, two, three = in_etcd.hosts
    in_etcd.part(one)
    network = await overlay(one, subnets=(SUBNET,), vni=5000)
    with pytest.raises(Conflict, match="internal"):
        await overlay(two, internal=True)
    with pytest.raises(Conflict, match="overlaps network 'blue'"):
        await overlay(two, "red", subnets=("10.20.0.0/16",))
    with pytest.raises(Conflict, match="vni 5000"):
        await overlay(three, "red", vni=5000)
    assert (await overlay(two, subnets=(SUBNET,))).id == network.id
    await until(lambda: names(three) == ["blue"])
    other = await overlay(three, "red")
    await until(lambda: names(one) == ["blue", "red"])
    in_etcd.heal(one)
    for host in in_etcd.hosts:
        assert host.engine.network("red") == other
        assert host.engine.network("blue").conditions == ()


async def test_networks_made_at_once_have_nothing_in_common(in_etcd: World) -> None:
    hosts = in_etcd.hosts
    for host in hosts[1:]:
        in_etcd.part(host)
    wanted = [(host, f"{host.settings.node}-{number}") for host in hosts for number in range(3)]
    made = await asyncio.gather(*(overlay(host, name) for host, name in wanted))
    assert disjoint(list(made))
    assert len({network.vni for network in made}) == len(made)
    same = await asyncio.gather(
        *(overlay(host, host.settings.node, subnets=(SUBNET,)) for host in hosts),
        return_exceptions=True,
    )
    assert sorted(type(found).__name__ for found in same) == ["Conflict", "Conflict", "Network"]


async def test_a_network_that_nobody_uses_outlives_who_made_it(in_etcd: World) -> None:
    one, two, three = in_etcd.hosts
    network = await overlay(one)
    await until(lambda: has_copy(two))
    await in_etcd.dies(one)
    assert two.engine.network("blue") == network
    await in_etcd.restart(three)
    await until(lambda: names(three) == ["blue"])
    await three.engine.delete_network("blue")
    await until(lambda: names(two) == [])
    with pytest.raises(NotFound):
        two.engine.network("blue")


async def test_without_etcd_nothing_is_decided_and_what_there_is_goes_on(in_etcd: World) -> None:
    one, two, _ = in_etcd.hosts
    network = await overlay(one, subnets=(SUBNET,))
    await until(lambda: has_copy(two))
    in_etcd.part(two)
    in_etcd.line(two).cut = True
    with pytest.raises(Unavailable, match=r"etcd decides .* does not answer"):
        await overlay(two, "red")
    with pytest.raises(Unavailable, match="etcd decides"):
        await two.engine.delete_network("blue")
    with pytest.raises(Unavailable, match="etcd decides"):
        await two.engine.delete_network("unknown")
    assert await overlay(two, subnets=(SUBNET,)) == network
    await until(lambda: [c.code for c in two.engine.status().conditions] == ["networks-undecided"])
    await in_etcd.restart(two)
    assert two.engine.network("blue") == network

    await one.engine.delete_network("blue")
    other = await overlay(one, internal=True)
    in_etcd.line(two).cut = False
    await until(lambda: two.engine.network("blue").id == other.id)
    await until(lambda: two.engine.status().conditions == ())
    await overlay(two, "red")


async def test_a_decision_whose_answer_is_lost_is_made_once(in_etcd: World) -> None:
    one, two, _ = in_etcd.hosts
    in_etcd.line(one).deaf = 2
    network, created = await one.engine.create_network(spec_of(SUBNET))
    assert created
    await until(lambda: names(two) == ["blue"])
    assert two.engine.network("blue").id == network.id
    in_etcd.line(two).deaf = 1
    await two.engine.delete_network("blue")
    await until(lambda: names(one) == [])


async def test_the_loss_of_a_member_loses_nothing(in_etcd: World, etcd: Etcd) -> None:
    one, two, three = in_etcd.hosts
    network = await overlay(one)
    etcd.kill(0)
    try:
        for host in (two, three):
            assert (await overlay(host)).id == network.id
        red = await overlay(two, "red")
        await until(lambda: names(three) == ["blue", "red"])
        assert disjoint([network, red])
    finally:
        etcd.start(0)


async def test_another_etcd_is_not_believed(in_etcd: World) -> None:
    one, two, _ = in_etcd.hosts
    await overlay(one)
    await until(lambda: has_copy(two))
    facts = (await two.store.load()).facts
    assert facts[deciding.AUTHORITY] == in_etcd.line(two).cluster
    in_etcd.line(two).cluster = "1"  # as if the one that answers now had been made anew
    with pytest.raises(Unavailable, match="a member of another cluster of etcd"):
        await overlay(two, "red")
    assert names(two) == ["blue"]


async def test_networks_of_gossip_go_on_where_etcd_decides(in_etcd: World) -> None:
    one, two, three = in_etcd.hosts
    make = one.make_authority
    one.make_authority = lambda: None
    await in_etcd.restart(one)
    old = await overlay(one, "old", subnets=(SUBNET,))
    one.make_authority = make
    await in_etcd.restart(one)
    assert two.engine.network("old") == old
    assert await overlay(two, "old", subnets=(SUBNET,)) == old
    with pytest.raises(Conflict, match="overlaps network 'old'"):
        await overlay(two, "new", subnets=(SUBNET,))
    await three.attach("old", "web")
    await three.engine.detach_container("web")
    await until(lambda: "old" not in three.text())
    await two.engine.delete_network("old")
    assert not any(names(host) for host in in_etcd.hosts)


async def test_where_gossip_decides_again_the_copies_are_forgotten(in_etcd: World) -> None:
    one, two, three = in_etcd.hosts
    await overlay(one, subnets=(SUBNET,))
    await until(lambda: all(map(has_copy, in_etcd.hosts)))
    two.make_authority = lambda: None
    await in_etcd.restart(two)
    assert names(two) == ["blue"], "its maker says so"
    await in_etcd.dies(one)
    assert (names(two), names(three)) == ([], ["blue"])
    async with asyncio.timeout(10):
        while [fact for fact in (await two.store.load()).facts if fact.startswith(COPIES)]:
            await asyncio.sleep(0.01)
