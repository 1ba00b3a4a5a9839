"""Getting back to the others: configured addresses and the peers of the last run."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import pytest

from netd.cluster import rejoin
from netd.cluster.addresses import Place, is_loopback
from netd.cluster.rejoin import Rejoin
from netd.gossip.values import Address
from netd.model.errors import Unavailable

OWN = ("192.0.2.1", 7940)
ANYWHERE = ("0.0.0.0", 7940)


class World:
    """Who answers, who is a member, and who was asked."""

    def __init__(self) -> None:
        self.answering: set[Address] = set()
        self.others: set[Address] = set()
        self.asked: list[Address] = []
        self.changed = asyncio.Event()

    async def join(self, addresses: Sequence[Address]) -> Mapping[Address, str]:
        self.asked.extend(addresses)
        self.changed.set()
        found = set(addresses) & self.answering
        self.others |= found
        return {address: "" if address in found else "no answer" for address in addresses}

    async def asked_times(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.asked) < count:
                self.changed.clear()
                await self.changed.wait()

    @asynccontextmanager
    async def running(
        self, seeds: Sequence[Place] = (), peers: Sequence[Address] = ()
    ) -> AsyncIterator[Rejoin]:
        made = Rejoin(seeds, peers, "0.0.0.0", {OWN, ANYWHERE}, self.join, lambda: self.others)
        task = asyncio.ensure_future(made.run())
        try:
            yield made
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejoin, "AGAIN_S", 0.02)
    monkeypatch.setattr(rejoin, "ALONE_AGAIN_S", 0.005)
    # Whatever addresses the host has that the test runs on.
    monkeypatch.setattr(rejoin, "leads_here", is_loopback)


def seed(n: int) -> Place:
    return Place(f"192.0.2.{n}", 7940)


def address(n: int) -> Address:
    return f"192.0.2.{n}", 7940


async def test_seeds_are_asked_until_they_are_members() -> None:
    world = World()
    async with world.running([seed(2), seed(3)]) as made:
        await world.asked_times(6)
        assert set(made.unanswered) == {"192.0.2.2:7940", "192.0.2.3:7940"}
        assert made.unanswered["192.0.2.2:7940"] == "no answer"
        world.answering = {address(2), address(3)}
        async with asyncio.timeout(10):
            while made.unanswered:
                await asyncio.sleep(0.005)
        count = len(world.asked)
        await asyncio.sleep(0.1)  # several rounds: members are not asked
        assert len(world.asked) == count
        world.others = set()  # all are lost
        await world.asked_times(count + 2)


async def test_one_seed_that_is_missing_is_asked_though_others_are_there() -> None:
    world = World()
    world.answering = {address(2)}
    async with world.running([seed(2), seed(3)]) as made:
        await world.asked_times(8)
        assert world.asked.count(address(2)) == 1
        assert set(made.unanswered) == {"192.0.2.3:7940"}


async def test_a_seed_that_is_a_member_by_another_address_is_left_in_peace() -> None:
    world = World()
    async with world.running([seed(2)]):

        async def by_another(addresses: Sequence[Address]) -> Mapping[Address, str]:
            world.others.add(("198.51.100.9", 7940))
            return dict.fromkeys(addresses, "")

        world.join = by_another  # type: ignore[method-assign]
        await world.asked_times(1)
    made = Rejoin([seed(2)], (), "0.0.0.0", {OWN}, by_another, lambda: world.others)
    task = asyncio.ensure_future(made.run())
    async with asyncio.timeout(10):
        while not made._answered_s:
            await asyncio.sleep(0)
    asked = len(world.asked)
    await asyncio.sleep(0.1)
    assert len(world.asked) == asked
    task.cancel()


async def test_a_node_does_not_ask_itself() -> None:
    world = World()
    async with world.running([Place(*OWN), seed(2)], [OWN]):
        await world.asked_times(3)
    assert OWN not in world.asked


async def test_a_node_does_not_ask_itself_by_another_address_of_its_host() -> None:
    world = World()
    async with world.running([Place("127.0.1.1", 7940), Place("127.0.1.1", 7941), seed(2)]) as made:
        await world.asked_times(6)
    assert set(world.asked) == {("127.0.1.1", 7941), address(2)}  # another netd of this host
    assert made.unanswered.keys() == {"127.0.1.1:7941", "192.0.2.2:7940"}


async def test_peers_of_the_last_run_are_asked_in_turn_until_one_answers() -> None:
    world = World()
    peers = [("203.0.113.9", port) for port in range(1, 31)]
    world.answering = {peers[29]}
    async with world.running(peers=peers):
        async with asyncio.timeout(10):
            while not world.others:
                await asyncio.sleep(0.005)
        count = len(world.asked)
        assert count <= 4 * rejoin.PEERS_AT_ONCE
        assert len(set(world.asked)) == count or count > 30  # nobody twice before all once
        await asyncio.sleep(0.1)
        assert len(world.asked) == count


async def test_with_nobody_to_ask_it_ends() -> None:
    made = Rejoin((), (), "0.0.0.0", {OWN}, World().join, set)
    await asyncio.wait_for(made.run(), 5)


async def test_a_name_that_is_not_found_is_told_and_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    names: dict[str, list[Address]] = {}

    async def resolve(place: Place, _bound: str) -> list[Address]:
        if place.host not in names:
            raise Unavailable(f"{place.host}: unknown")
        return names[place.host]

    monkeypatch.setattr(rejoin, "resolve", resolve)
    async with world.running([Place("later", 7940)]) as made:
        async with asyncio.timeout(10):
            while not made.unanswered:
                await asyncio.sleep(0)
        assert made.unanswered == {"later:7940": "later: unknown"}
        names["later"] = [("192.0.2.7", 7940)]
        await world.asked_times(1)
        assert world.asked[0] == ("192.0.2.7", 7940)
