"""Hosts that share a network's addresses: several engines in one cluster, each with a store."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from netd.engine.blocks import Blocks, fencing, getting
from netd.engine.blocks.questions import TABLE, Prepare, Told, encode
from netd.engine.interfaces import GLOBAL_SCOPE, Change, Record
from netd.kernel.faults import Crash
from netd.model.blocks import Epoch, Ledger
from netd.model.endpoint import Endpoint
from netd.model.errors import Conflict, Exhausted, NotFound, Unavailable
from netd.model.network import Network
from netd.plan import ledger as ledgers
from netd.plan.space import NOWHERE, Space
from tests.spaces import disjoint
from tests.unit.engine_fixture import Gate, Host
from tests.unit.memory_cluster import Mesh

SUBNET = "10.20.0.0/26"  # slices of 16 for three hosts; one of them has two
WHOLE = Space.of([SUBNET])


class Hosts:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mesh = Mesh()
        self.all: list[Host] = []

    async def add(self, node_id: str = "") -> Host:
        number = len(self.all) + 1
        folder = self.folder / f"{number}"
        folder.mkdir()
        name = f"node-{number}"
        host = Host(folder, self.mesh, node=name, node_id=node_id or str(number) * 32)
        await host.start()
        host.cluster.bound = True
        if self.all:
            await host.engine.cluster.join([self.all[0].cluster.address], None)
        self.all.append(host)
        return host

    async def back(self, host: Host) -> None:
        """Its daemon is started again, after its end."""
        host.cluster.group.remove(host.cluster)
        await host.start()
        host.cluster.bound = True
        peer = next(other for other in self.all if other is not host)
        await host.engine.cluster.join([peer.cluster.address], None)

    def cut(self, host: Host, *others: Host) -> None:
        for other in others or [other for other in self.all if other is not host]:
            self.mesh.cut(host.cluster, other.cluster)

    def heal(self, host: Host, *others: Host) -> None:
        for other in others or [other for other in self.all if other is not host]:
            self.mesh.heal(host.cluster, other.cluster)

    def owned(self) -> list[Space]:
        return [owned(host) for host in self.all]

    def check(self) -> None:
        """Each address has one owner, and none is lost."""
        assert disjoint(self.owned()), self.owned()
        whole = NOWHERE
        for space in self.owned():
            whole |= space
        assert whole == WHOLE, WHOLE - whole


@pytest.fixture
async def hosts(tmp_path: Path) -> AsyncIterator[Hosts]:
    hosts = Hosts(tmp_path)
    yield hosts
    for host in hosts.all:
        await host.stop()


@pytest.fixture
async def three(hosts: Hosts) -> list[Host]:
    """Three seeds with an endpoint each."""
    for _ in range(3):
        await hosts.add()
    await hosts.all[0].network("blue", "overlay", subnets=(SUBNET,))
    for host in hosts.all:
        await host.attach("blue", "first")
    return hosts.all


def blocks(host: Host) -> Blocks:
    return host.engine._blocks


def network(host: Host) -> Network:
    return host.engine.network("blue")


def ledger(host: Host) -> Ledger:
    found = blocks(host)._books.find(network(host).id)
    assert found is not None
    return found


def owned(host: Host) -> Space:
    return blocks(host)._books.owned(network(host).id)


def addresses(endpoints: Iterable[Endpoint]) -> list[str]:
    return [endpoint.addresses[0].partition("/")[0] for endpoint in endpoints]


def free_of(host: Host, *besides: str) -> str:
    """An address that a host owns and nobody has."""
    pool = host.engine._parts.intent.pools[network(host).id][0]
    free = owned(host) - pool.held_space() - pool.reserved - Space.of(besides)
    return free.prefixes()[-1].partition("/")[0]


async def fill(host: Host) -> list[Endpoint]:
    """Attach until there are no more."""
    made = []
    for number in range(70):
        try:
            made.append(await host.attach("blue", f"{host.settings.node}-{number}"))
        except Exhausted:
            return made
    raise AssertionError("more endpoints than addresses")


async def becomes(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.005)


# Getting addresses


async def test_all_addresses_are_used_by_who_needs_them_and_none_twice(
    hosts: Hosts, three: list[Host]
) -> None:
    hosts.check()
    made = [endpoint for host in three for endpoint in await fill(host)]
    everything = addresses(made)
    assert len(set(everything)) == len(everything)
    # All but the gateway, two of the subnet, an own one and the first container of each host.
    assert len(everything) == 64 - 3 - 6
    hosts.check()


async def test_a_host_that_comes_later_gets_a_block(hosts: Hosts, three: list[Host]) -> None:
    late = await hosts.add()
    endpoint = await late.attach("blue", "web")
    assert ipaddress.ip_interface(endpoint.addresses[0]).ip in owned(late)
    assert owned(late).size >= 2
    hosts.check()
    record = (GLOBAL_SCOPE, TABLE, network(late).id)
    told = msgspec.json.decode(late.cluster.published[record], type=Told)
    assert Space.of(told.prefixes) == owned(late)


async def test_more_is_got_before_it_is_needed(hosts: Hosts, three: list[Host]) -> None:
    one = three[2]
    before = owned(one).size
    pool = one.engine._parts.intent.pools[network(one).id][0]
    number = 0
    while pool.available(0) * 4 > pool.size and number < 40:
        await one.attach("blue", f"c{number}")
        number += 1
    await becomes(lambda: owned(one).size > before)
    hosts.check()


async def test_hosts_that_were_cut_off_a_moment_ago_are_not_said_to_have_none(
    hosts: Hosts, three: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are taken for alive for some seconds more."""
    one, two, _ = three
    await fill(two)

    async def no_answer(member: str, topic: str, body: bytes, timeout_s: float) -> bytes:
        raise Unavailable("no answer within 3 s")

    with monkeypatch.context() as cut:
        cut.setattr(one.cluster, "ask", no_answer)
        await fill(one)
        with pytest.raises(Exhausted) as caught:
            await one.attach("blue", "one-too-many")
    detail = caught.value.detail
    assert "none to spare" not in detail
    assert "did not answer: node-" in detail
    for name in ("node-2 (", "node-3 ("):
        assert name in detail
    assert "netctl doctor" in detail
    assert "reclaim" not in detail, "they may have given some away meanwhile"

    await fill(one)
    with pytest.raises(Exhausted) as caught:
        await one.attach("blue", "one-too-many")
    assert "none to spare" in caught.value.detail
    assert "did not answer" not in caught.value.detail
    hosts.check()


async def test_nobody_is_asked_for_longer_than_a_caller_waits(
    hosts: Hosts, three: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = three[0]
    asked = []

    async def late(member: str, topic: str, body: bytes, timeout_s: float) -> bytes:
        asked.append(member)
        raise Unavailable("no answer within 3 s")

    await fill(one)
    monkeypatch.setattr(getting, "ASKING_S", -1.0)
    monkeypatch.setattr(one.cluster, "ask", late)
    with pytest.raises(Exhausted):
        await one.attach("blue", "one-too-many")
    assert not asked


async def test_a_cut_off_host_gives_what_it_has_and_then_says_why_not(
    hosts: Hosts, three: list[Host]
) -> None:
    one, two, _ = three
    hosts.cut(one)
    mine = owned(one)
    made = await fill(one)
    assert owned(one) == mine
    with pytest.raises(Exhausted) as caught:
        await one.attach("blue", "one-too-many")
    detail = caught.value.detail
    assert f"all of the {mine.size} addresses of {SUBNET} that this host owns" in detail
    assert "node-2 (" in detail
    assert "node-3 (" in detail
    assert "netctl network reclaim blue node-" in detail
    again = made[0]
    await one.engine.detach(again.id)
    assert (await one.attach("blue", again.container_id)).addresses == again.addresses
    theirs = await fill(two)
    assert not set(addresses(made)) & set(addresses(theirs))
    hosts.heal(one)
    await one.engine.detach(made[1].id)
    hosts.check()


async def test_an_address_that_is_asked_for_is_got_from_its_owner(
    hosts: Hosts, three: list[Host]
) -> None:
    one, two, three_ = three
    wanted = free_of(two)
    endpoint = await one.attach("blue", "web", addresses=(wanted,))
    assert addresses([endpoint]) == [wanted]
    assert ipaddress.ip_address(wanted) not in owned(two)
    hosts.check()
    with pytest.raises(Conflict, match="in use on host node-1"):
        await three_.attach("blue", "web", addresses=(wanted,))
    away = free_of(two)
    hosts.cut(one, two)
    with pytest.raises(Unavailable, match="owned by host node-2, which is not reachable"):
        await one.attach("blue", "db", addresses=(away,))
    hosts.check()


# What fails on the way


async def test_a_giver_that_cannot_write_gives_nothing(hosts: Hosts, three: list[Host]) -> None:
    one, two, _ = three
    wanted = free_of(two)
    two.store.full = True
    with pytest.raises(Unavailable):
        await one.attach("blue", "web", addresses=(wanted,))
    hosts.check()
    two.store.full = False
    await one.attach("blue", "web", addresses=(wanted,))
    hosts.check()


async def test_a_giver_killed_before_it_answers_gives_the_same_once_more(
    hosts: Hosts, three: list[Host]
) -> None:
    one, two, _ = three
    wanted = free_of(two)
    two.store.crash_after = 1
    with pytest.raises((Unavailable, Crash)):
        await one.attach("blue", "web", addresses=(wanted,))
    assert [request.wanted for request in ledger(one).requests] == [wanted]
    await two.killed()
    await hosts.back(two)
    assert ipaddress.ip_address(wanted) not in owned(two)
    await becomes(lambda: ipaddress.ip_address(wanted) in owned(one))
    hosts.check()
    assert ledger(one).requests == ()


async def test_a_lost_answer_is_asked_for_again(hosts: Hosts, three: list[Host]) -> None:
    one, two, _ = three
    wanted = free_of(two)
    answered = two.cluster._answers.reply

    async def lost(member: str, asked: object) -> object:
        reply = await answered(member, asked)  # type: ignore[arg-type]
        hosts.cut(one, two)
        return reply

    two.cluster._answers.reply = lost  # type: ignore[assignment,method-assign]
    with pytest.raises(Unavailable):
        await one.attach("blue", "web", addresses=(wanted,))
    two.cluster._answers.reply = answered  # type: ignore[method-assign]
    assert ipaddress.ip_address(wanted) not in owned(one) | owned(two)
    hosts.heal(one, two)
    await becomes(lambda: ipaddress.ip_address(wanted) in owned(one))
    hosts.check()


async def test_a_recipient_killed_before_it_has_written_asks_again(
    hosts: Hosts, three: list[Host]
) -> None:
    one, two, _ = three
    wanted = free_of(two)
    one.store.crash_before = 2  # the request, then what was got
    with pytest.raises(Crash):
        await one.attach("blue", "web", addresses=(wanted,))
    await one.killed()
    await hosts.back(one)
    await becomes(lambda: ipaddress.ip_address(wanted) in owned(one))
    hosts.check()


async def test_a_recipient_that_cannot_write_has_got_nothing(
    hosts: Hosts, three: list[Host]
) -> None:
    one, two, _ = three
    wanted = free_of(two)
    answered = two.cluster._answers.reply

    async def fills(member: str, asked: object) -> object:
        one.store.full = True
        return await answered(member, asked)  # type: ignore[arg-type]

    two.cluster._answers.reply = fills  # type: ignore[assignment,method-assign]
    with pytest.raises(Unavailable, match="disk is full"):
        await one.attach("blue", "web", addresses=(wanted,))
    assert ipaddress.ip_address(wanted) not in owned(one)
    two.cluster._answers.reply = answered  # type: ignore[method-assign]
    one.store.full = False
    await one.attach("blue", "web", addresses=(wanted,))
    hosts.check()


async def test_a_step_ends_though_nobody_waits_for_it(hosts: Hosts, three: list[Host]) -> None:
    one, two, _ = three
    wanted = free_of(two)
    gate = one.store.gate = Gate()
    attach = asyncio.create_task(one.attach("blue", "web", addresses=(wanted,)))
    await gate.reached.wait()
    attach.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attach
    assert ledger(one).requests == ()
    gate.opened.set()
    await becomes(lambda: bool(ledger(one).requests))
    assert ledger(one) in (await one.store.load()).blocks


async def test_what_is_owned_outlives_a_restart(hosts: Hosts, three: list[Host]) -> None:
    one = three[0]
    late = await hosts.add()
    web = await late.attach("blue", "web")
    before = owned(late)
    await late.stop()
    await hosts.back(late)
    assert owned(late) == before
    assert late.engine.endpoint(web.id) == web
    await late.engine.detach(web.id)
    assert (await late.attach("blue", "web")).addresses == web.addresses
    assert owned(one)
    hosts.check()


async def test_what_another_member_owned_is_not_this_ones(hosts: Hosts, three: list[Host]) -> None:
    """A copy of a host, or a host with a new identity."""
    one = three[0]
    had = owned(one)
    await one.stop()
    one.cluster.group.remove(one.cluster)
    one.node_id = "9" * 32
    await one.start()
    one.cluster.bound = True
    await one.engine.cluster.join([three[1].cluster.address], None)
    assert owned(one) == NOWHERE
    assert [condition.code for e in one.engine.endpoints() for condition in e.conditions] == [
        "blocks-lost"
    ]
    web = await one.attach("blue", "web")
    assert ipaddress.ip_interface(web.addresses[0]).ip not in had


# Taking over


async def test_what_a_dead_host_owned_is_taken_over_and_it_is_told(
    hosts: Hosts, three: list[Host]
) -> None:
    one, two, dead = three
    theirs = owned(dead)
    await dead.stop()
    got = await blocks(one).reclaim(network(one), ["node-3"])
    assert Space.of(got) == theirs
    assert owned(one) & theirs == theirs
    assert ledger(one).epoch > Epoch()
    await becomes(lambda: ledger(two).epoch == ledger(one).epoch)
    assert ledger(two).fences == ()
    for number in range(8):
        await one.attach("blue", f"c{number}")
    await hosts.back(dead)
    await becomes(lambda: ledger(dead).epoch == ledger(one).epoch)
    hosts.check()
    (first,) = dead.engine.endpoints()
    assert [condition.code for condition in first.conditions] == ["blocks-lost"]
    assert [condition.code for condition in network(dead).conditions] == ["blocks-lost"]
    new = await dead.attach("blue", "new")
    assert addresses([new])[0] not in addresses(one.engine.endpoints())
    await dead.engine.detach(first.id)
    await dead.engine.detach(new.id)
    await dead.attach("blue", "first")  # the network is opened anew, with another own address
    assert network(dead).conditions == ()
    hosts.check()


async def test_only_dead_members_are_taken_over_and_only_when_all_others_say_so(
    hosts: Hosts, three: list[Host]
) -> None:
    one, two, dead = three
    late = await hosts.add()
    with pytest.raises(NotFound, match="no one member"):
        await blocks(one).reclaim(network(one), ["nobody"])
    with pytest.raises(Conflict, match="node-3 is alive"):
        await blocks(one).reclaim(network(one), ["node-3"])
    await dead.stop()
    hosts.cut(one, late)
    with pytest.raises(Unavailable, match="netctl network reclaim blue node-3 node-4"):
        await blocks(one).reclaim(network(one), ["node-3"])
    await becomes(lambda: not ledger(two).fences)
    assert ledger(one).fences == ()
    assert ledger(one).epoch == ledger(two).epoch == Epoch()
    hosts.heal(one, late)
    await blocks(one).reclaim(network(one), ["node-3"])
    assert disjoint([owned(one), owned(two)])


async def test_a_reclaim_that_cannot_be_written_changes_nothing(
    hosts: Hosts, three: list[Host]
) -> None:
    one, two, dead = three
    await dead.stop()
    before = owned(one), owned(two)
    answered = two.cluster._answers.reply

    async def fills(member: str, asked: object) -> object:
        one.store.full = True
        return await answered(member, asked)  # type: ignore[arg-type]

    two.cluster._answers.reply = fills  # type: ignore[assignment,method-assign]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fencing, "FENCE_S", 0.05)
        with pytest.raises(Unavailable, match="disk is full"):
            await blocks(one).reclaim(network(one), ["node-3"])
        assert ledger(one).fences  # as long as that may be on the disk
        two.cluster._answers.reply = answered  # type: ignore[method-assign]
        one.store.full = False
        await becomes(lambda: not ledger(one).fences and not ledger(two).fences)
    assert (owned(one), owned(two)) == before
    hosts.check()


async def test_nobody_waits_for_who_died_while_it_took_over(
    hosts: Hosts, three: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fencing, "FENCE_S", 0.05)
    one, two, dead = three
    await dead.stop()
    one.store.crash_before = 2
    with pytest.raises(Crash):
        await blocks(one).reclaim(network(one), ["node-3"])
    assert ledger(two).fences
    await one.killed()
    one.cluster.becomes("dead")
    got = await blocks(two).reclaim(network(two), ["node-1", "node-3"])
    assert Space.of(got) | owned(two) == WHOLE
    await hosts.back(one)
    await becomes(lambda: ledger(one).epoch == ledger(two).epoch)
    assert owned(one) == NOWHERE
    assert owned(two) == WHOLE


async def test_a_fence_whose_maker_forgot_it_goes(
    hosts: Hosts, three: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fencing, "FENCE_S", 0.05)
    one, two, _ = three
    fence = ledgers.fence(ledger(one), ["8" * 32], "x")
    question = encode(Prepare(network_id=network(one).id, fence=fence))
    await one.cluster.ask(two.cluster.id, "blocks", question, 1.0)
    assert ledger(two).fences == (fence,)
    await becomes(lambda: not ledger(two).fences)
    assert owned(two)


# What should not be


async def test_what_two_hosts_own_is_given_by_neither(hosts: Hosts, three: list[Host]) -> None:
    one, two, _ = three
    other = ledger(two)
    both = Space.of([free_of(one)])
    doubled = replace(other, prefixes=(ledgers.owned(other) | both).prefixes())
    blocks(two)._books._ledgers[other.network_id] = doubled  # as of a restored database
    blocks(two)._books._tell(doubled, other.network_id)
    await becomes(lambda: bool(network(one).conditions))
    assert [condition.code for condition in network(one).conditions] == ["blocks-overlap"]
    text = both.prefixes()[0].partition("/")[0]
    with pytest.raises(Conflict, match="claimed by another host"):
        await one.attach("blue", "web", addresses=(text,))
    blocks(two)._books._ledgers[other.network_id] = other
    blocks(two)._books._tell(other, other.network_id)
    await becomes(lambda: not network(one).conditions)
    await one.attach("blue", "web", addresses=(text,))


async def test_a_record_that_is_late_is_no_overlap(hosts: Hosts, three: list[Host]) -> None:
    one, two, _ = three
    stale = Told(prefixes=(free_of(one),))
    value = msgspec.json.encode(stale)
    two.cluster.publish([Record(table=TABLE, key=network(one).id, value=value)])
    await becomes(lambda: not blocks(one)._busy)
    assert network(one).conditions == ()


async def test_what_cannot_be_understood_is_refused(hosts: Hosts, three: list[Host]) -> None:
    one, two, _ = three
    for nonsense in (b"", b"{}", b'{"type":"look"}'):
        with pytest.raises(Exception, match="cannot be understood"):
            await one.cluster.ask(two.cluster.id, "blocks", nonsense, 1.0)
    for value in (b"nonsense", b'{"prefixes":["300.0.0.0/8"]}'):
        two.cluster.publish([Record(table=TABLE, key=network(one).id, value=value)])
    assert blocks(one)._owners.ignored == 2
    hosts.check()


async def test_of_a_deleted_network_nothing_is_told_but_all_is_kept(
    hosts: Hosts, three: list[Host]
) -> None:
    one = three[0]
    known = network(one)
    for host in three:
        for endpoint in host.engine.endpoints():
            await host.engine.detach(endpoint.id)
    before = owned(one)
    await one.engine.delete_network("blue")
    await becomes(
        lambda: all((GLOBAL_SCOPE, TABLE, known.id) not in h.cluster.published for h in three)
    )
    (row,) = (await one.store.load()).blocks
    assert Space.of(row.prefixes) == before


async def test_the_store_keeps_ledgers(hosts: Hosts) -> None:
    host = await hosts.add()
    row = Ledger(
        network_id="1" * 16, member="1" * 32, prefixes=("10.0.0.0/28",), floors={"2" * 32: 4}
    )
    await host.store.commit(Change(put_blocks=(row,)))
    row = replace(row, prefixes=("10.0.0.0/29",))
    await host.store.commit(Change(put_blocks=(row,)))
    assert (await host.store.load()).blocks == (row,)
