"""Addresses of networks that span hosts, whoever has them to give: hosts, or etcd."""

import asyncio
import ipaddress
from collections.abc import Sequence
from contextlib import suppress

import pytest
from msgspec.structs import replace

from netd.engine.blocks import fencing
from netd.etcd.gateway import Gateway
from netd.etcd.networks import EtcdNetworks
from netd.model.endpoint import Endpoint
from netd.model.errors import Conflict, Exhausted, Unavailable
from netd.model.network import Network
from netd.plan.space import NOWHERE, Space
from tests.contract.etcd_lab import Etcd
from tests.contract.networks_fixture import by_gossip, etcd, host_ns, in_etcd, often, world
from tests.contract.networks_lab import World, has_copy, in_etcd_of, ledger_of, overlay, until
from tests.spaces import disjoint
from tests.unit.engine_fixture import Host

__all__ = ["by_gossip", "etcd", "host_ns", "in_etcd", "often", "world"]

SUBNET = "10.20.0.0/26"
USABLE = 61  # without the subnet's own addresses and the gateway


async def blue(world: World, subnet: str = SUBNET) -> Network:
    network = await overlay(world.hosts[0], subnets=(subnet,))
    known = has_copy if world.etcd is not None else lambda host: bool(host.engine.networks())
    await until(lambda: all(map(known, world.hosts)))
    return network


async def attach(host: Host, count: int) -> list[Endpoint]:
    names = [f"{host.settings.node}-{number}" for number in range(count)]
    return list(await asyncio.gather(*(host.attach("blue", name) for name in names)))


async def fill(host: Host, prefix: str = "") -> list[Endpoint]:
    """Attach until there are no more addresses."""
    made: list[Endpoint] = []
    for number in range(70):
        try:
            made.append(await host.attach("blue", f"{prefix}{host.settings.node}-{number}"))
        except (Exhausted, Unavailable):
            return made
    raise AssertionError("more endpoints than addresses")


async def idle(host: Host) -> None:
    """Return when it gets nothing in the background."""
    await until(lambda: not host.engine._blocks._busy)


def addresses(endpoints: Sequence[Endpoint]) -> list[str]:
    return [endpoint.addresses[0].partition("/")[0] for endpoint in endpoints]


async def check(world: World, network: Network, *but: Host) -> None:
    """No address has two owners, and nobody uses what etcd does not know to be his."""
    hosts = [host for host in world.hosts if host not in but]
    for host in hosts:
        await idle(host)
    owned = {host.settings.node: ledger_of(host, network) for host in hosts}
    assert disjoint(list(owned.values()))
    if world.etcd is not None:
        known = await in_etcd_of(world, network)
        assert disjoint(list(known.values()))
        assert not [node for node in owned if owned[node] - known.get(node, NOWHERE)]


# What both promise


async def test_hosts_that_take_addresses_at_once_take_none_twice(world: World) -> None:
    network = await blue(world)
    made = await asyncio.gather(*(attach(host, 15) for host in world.hosts))
    taken = [address for found in made for address in addresses(found)]
    assert len(set(taken)) == 45
    await check(world, network)
    more = [await fill(host, "more-") for host in world.hosts]
    taken += [address for found in more for address in addresses(found)]
    assert len(set(taken)) == len(taken)
    used = USABLE if world.etcd is not None else 58
    assert len(taken) + len(world.hosts) >= used, "each host has an address itself"
    with pytest.raises(Exhausted, match="have none to spare"):
        await world.hosts[0].attach("blue", "one-more")
    await check(world, network)


async def test_a_host_has_after_its_restart_what_it_had(world: World) -> None:
    one, two, _ = world.hosts
    network = await blue(world)
    await attach(one, 2)
    [web] = await attach(two, 1)
    await idle(two)
    before = ledger_of(two, network)
    await world.restart(two)
    assert ledger_of(two, network) == before
    await two.engine.detach(web.id)
    [again] = await attach(two, 1)
    assert again.addresses == web.addresses
    await check(world, network)


async def test_an_address_that_is_asked_for_is_got_unless_it_is_in_use(world: World) -> None:
    one, two, three = world.hosts
    network = await blue(world)
    [web] = await attach(one, 1)
    await attach(two, 1)
    [address] = addresses([web])
    with pytest.raises(Conflict, match=f"{address} is in use on host node-1"):
        await two.attach("blue", "db", addresses=(address,))
    await one.engine.detach(web.id)
    assert (await two.attach("blue", "db", addresses=(address,))).addresses[0].startswith(address)
    spare = next(
        str(a)
        for a in map(ipaddress.ip_address, range(0x0A140002, 0x0A14003F))
        if all(a not in ledger_of(host, network) for host in (two, three))
    )
    await three.attach("blue", "x", addresses=(spare,))
    assert ipaddress.ip_address(spare) in ledger_of(three, network)
    await check(world, network)


async def test_what_a_dead_host_owned_is_taken_over_and_it_is_told(world: World) -> None:
    one, two, dead = world.hosts
    network = await blue(world)
    for host in (one, two):
        await attach(host, 1)
    await attach(dead, 5)
    await idle(dead)
    theirs = ledger_of(dead, network)
    with pytest.raises(Conflict, match="node-3 is alive"):
        await one.engine.reclaim("blue", ["node-3"])
    await world.dies(dead)
    got = await one.engine.reclaim("blue", ["node-3"])
    assert Space.of(got.prefixes) == theirs
    await fill(one)
    await fill(two)
    assert (ledger_of(one, network) | ledger_of(two, network)) & theirs
    await check(world, network, dead)

    dead.cluster.group.remove(dead.cluster)
    dead.kernel.process_ended()
    await world.start(dead)
    await until(lambda: not ledger_of(dead, network) & theirs)
    assert {c.code for e in dead.engine.endpoints() for c in e.conditions} == {"blocks-lost"}
    with pytest.raises(Exhausted):
        await dead.attach("blue", "new")
    await one.engine.detach_container("node-1-3")
    await one.engine.detach_container("node-1-4")
    one.clock.now_s += 3600  # whoever had them is forgotten
    [new] = addresses([await dead.attach("blue", "new")])
    others = [*one.engine.endpoints(), *two.engine.endpoints()]
    assert new not in addresses([e for e in others if e.node != "node-3"])
    await check(world, network)


async def test_addresses_are_got_before_they_are_needed(world: World) -> None:
    one, _, three = world.hosts
    network = await blue(world, "10.20.0.0/24")
    late = await world.add()
    await until(lambda: bool(late.engine.networks()))
    await late.attach("blue", "web-0")
    for number in range(1, 40):
        before = ledger_of(late, network).size
        await late.attach("blue", f"web-{number}")
        await idle(late)
        if ledger_of(late, network).size > before and number > 1:
            break
    pool = late.engine._parts.intent.pools[network.id][0]
    assert pool.available(late.clock.wall_s()) > 0
    assert one.engine.network("blue") == three.engine.network("blue")
    await check(world, network)


# What etcd alone promises


async def test_nobody_has_to_be_there_to_give_addresses(in_etcd: World) -> None:
    one, two, three = in_etcd.hosts
    network = await blue(in_etcd)
    assert await in_etcd_of(in_etcd, network) == {}, "who makes a network owns nothing of it"
    await attach(two, 3)
    await in_etcd.dies(two)
    await in_etcd.dies(one)
    late = await in_etcd.add()
    await until(lambda: has_copy(late))
    made = await asyncio.gather(attach(three, 10), attach(late, 10))
    taken = [address for found in made for address in addresses(found)]
    assert len(set(taken)) == 20
    await check(in_etcd, network, one, two)


async def test_without_etcd_a_host_gives_what_it_has_and_what_others_spare(
    in_etcd: World,
) -> None:
    one, two, _ = in_etcd.hosts
    network = await blue(in_etcd)
    [web] = await attach(one, 1)
    await idle(one)
    in_etcd.part(one)
    in_etcd.line(one).cut = True
    had = ledger_of(one, network).size
    made = await fill(one, "cut-")
    assert len(made) == had - 2, "its own, and web's"
    with pytest.raises(Unavailable, match="etcd has the addresses of network 'blue', and cannot"):
        await one.attach("blue", "more")
    for host in in_etcd.hosts[1:]:
        await attach(host, 8)
    await check(in_etcd, network)
    in_etcd.heal(one)
    more = await one.attach("blue", "more")  # of a host that reaches etcd
    assert addresses([more])[0] not in addresses([web, *made, *two.engine.endpoints()])
    await check(in_etcd, network)


async def test_a_block_whose_answer_is_lost_is_not(in_etcd: World) -> None:
    one, _, _ = in_etcd.hosts
    network = await blue(in_etcd)
    in_etcd.line(one).deaf = 1
    await attach(one, 1)
    await idle(one)
    assert (await in_etcd_of(in_etcd, network))["node-1"] == ledger_of(one, network)


async def test_a_host_that_cannot_write_uses_nothing_and_finds_it_again(in_etcd: World) -> None:
    one, _, _ = in_etcd.hosts
    network = await blue(in_etcd)
    await attach(one, 1)
    await idle(one)
    one.store.full = True
    with pytest.raises(Unavailable, match="disk is full"):
        await fill_until_it_fails(one)
    had, known = ledger_of(one, network), (await in_etcd_of(in_etcd, network))["node-1"]
    assert not had - known
    one.store.full = False
    await in_etcd.restart(one)
    await attach(one, 12)
    await idle(one)
    assert (await in_etcd_of(in_etcd, network))["node-1"] == ledger_of(one, network)
    assert not known - ledger_of(one, network)
    await check(in_etcd, network)


async def fill_until_it_fails(host: Host) -> None:
    for number in range(70):
        await host.attach("blue", f"x-{number}")


async def test_who_comes_back_and_hears_of_a_fence_gives_nothing_before_etcd_has_spoken(
    in_etcd: World,
) -> None:
    one, two, dead = in_etcd.hosts
    network = await blue(in_etcd)
    for host in in_etcd.hosts:
        await attach(host, 2)
    await in_etcd.dies(dead)
    await one.engine.reclaim("blue", ["node-3"])
    await until(lambda: two.engine._blocks._books.epoch(network.id).number == 1)
    in_etcd.line(dead).cut = True
    dead.cluster.group.remove(dead.cluster)
    dead.kernel.process_ended()
    await in_etcd.start(dead)
    with pytest.raises(Unavailable, match="were taken over from hosts"):
        await dead.attach("blue", "new")
    assert [c.code for e in one.engine.endpoints() for c in e.conditions] == []
    in_etcd.line(dead).cut = False
    async with asyncio.timeout(10):
        while "new" not in {endpoint.container_id for endpoint in dead.engine.endpoints()}:
            await asyncio.sleep(0.02)  # etcd is not asked again at once
            with suppress(Unavailable):
                await dead.attach("blue", "new")
    await check(in_etcd, network)


async def test_who_comes_back_and_hears_nobody_goes_on_until_etcd_has_spoken(
    in_etcd: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fencing, "HEARING_S", 0.1)
    one, _, dead = in_etcd.hosts
    network = await blue(in_etcd)
    [old] = await attach(dead, 1)
    await idle(dead)
    await in_etcd.dies(dead)
    await one.engine.reclaim("blue", ["node-3"])
    in_etcd.line(dead).cut = True
    dead.cluster.group.remove(dead.cluster)
    dead.kernel.process_ended()
    await dead.start()
    await dead.attach("blue", "new")
    assert dead.engine.endpoint(old.id).conditions == ()
    in_etcd.line(dead).cut = False
    await until(lambda: bool(dead.engine.endpoint(old.id).conditions))
    assert dead.engine.endpoint(old.id).conditions[0].code == "blocks-lost"
    await check(in_etcd, network)


async def test_the_loss_of_a_member_stops_nobody(in_etcd: World, etcd: Etcd) -> None:
    network = await blue(in_etcd)
    etcd.kill(1)
    try:
        made = await asyncio.gather(*(attach(host, 8) for host in in_etcd.hosts))
    finally:
        etcd.start(1)
    assert len({address for found in made for address in addresses(found)}) == 24
    await check(in_etcd, network)


async def test_a_deleted_network_leaves_nothing_in_etcd(in_etcd: World) -> None:
    one, two, _ = in_etcd.hosts
    network = await blue(in_etcd)
    await attach(two, 1)
    await two.engine.detach_container("node-2-0")
    await until(lambda: two.text() == "")
    await one.engine.delete_network("blue")
    again = await blue(in_etcd)
    assert again.id != network.id
    assert await in_etcd_of(in_etcd, again) == {}
    await attach(two, 1)
    await check(in_etcd, again)


async def test_a_host_that_does_not_use_etcd_gets_what_others_spare(in_etcd: World) -> None:
    one, two, _ = in_etcd.hosts
    network = await blue(in_etcd)
    await attach(one, 1)
    two.make_authority = lambda: None
    await in_etcd.restart(two)
    await two.attach("blue", "db")
    await check(in_etcd, network)
    with pytest.raises(Unavailable, match=r"does not use it \(kv.networks\)"):
        await fill_until_it_fails(two)
    with pytest.raises(Unavailable, match=r"does not use it \(kv.networks\)"):
        await two.engine.reclaim("blue", ["node-3"])
    await check(in_etcd, network)


async def test_what_a_host_owned_that_nobody_remembers_is_free_by_its_id(in_etcd: World) -> None:
    one, _, _ = in_etcd.hosts
    network = await blue(in_etcd)
    assert in_etcd.etcd is not None
    forgotten = "f" * 32
    authority = EtcdNetworks(Gateway(in_etcd.etcd.urls))
    await authority.allot(
        "blue", network.id, lambda known: replace(known, owned={forgotten: ("10.20.0.32/27",)})
    )
    await authority.close()
    made = await fill(one)
    assert len(made) < 30
    got = await one.engine.reclaim("blue", ["ffff"])
    assert got.prefixes == ("10.20.0.32/27",)
    await fill(one, "more-")
    assert Space.of(got.prefixes) & ledger_of(one, network)
    await check(in_etcd, network)
