"""What others do to an overlay network's tunnel is repaired; what netd does is no news."""

from collections.abc import Callable, Iterable, Sequence

import pytest

from netd.kernel.hands import Hands
from netd.plan.objects import Object
from netd.plan.tunnels import FdbEntry, Neighbour
from tests.unit.engine_fixture import Host
from tests.unit.test_engine_overlay import hosts, overlay, settled

__all__ = ["hosts"]

Damage = Callable[[Hands, FdbEntry, Neighbour], None]

DAMAGES: dict[str, Damage] = {
    "entry led elsewhere": lambda hands, entry, _: hands.set_fdb_entry(
        entry.link, entry.mac, "192.0.2.66"
    ),
    "bridge's half of an entry": lambda hands, entry, _: hands.delete_fdb_half("bridge", entry),
    "link's half of an entry": lambda hands, entry, _: hands.delete_fdb_half("link", entry),
    "an entry too many": lambda hands, entry, _: hands.set_fdb_entry(
        entry.link, "0e:00:00:00:00:99", entry.destination
    ),
    "neighbour": lambda hands, _, it: hands.delete_neighbour(it.link, it.address),
    "neighbour's MAC": lambda hands, _, it: hands.set_neighbour(
        it.link, it.address, "0e:00:00:00:00:99"
    ),
    "a neighbour too many": lambda hands, _, it: hands.set_neighbour(
        it.link, "10.20.99.99", it.mac
    ),
    "tunnel": lambda hands, entry, _: hands.delete_link(entry.link),
    "tunnel down": lambda hands, entry, _: hands.set_link(entry.link, up=False),
    "tunnel's MTU": lambda hands, entry, _: hands.set_link(entry.link, mtu=1300),
    "tunnel's MAC": lambda hands, entry, _: hands.set_link(entry.link, mac="0e:00:00:00:00:99"),
    "tunnel out of its bridge": lambda hands, entry, _: hands.set_link(entry.link, master=""),
    "tunnel not quiet": lambda hands, entry, _: hands.spoil_port(entry.link),
    "bridge": lambda hands, _, it: hands.delete_link(it.link),
    "bridge down": lambda hands, _, it: hands.set_link(it.link, up=False),
}


def of_kind(objects: Iterable[Object], kind: type[Object], mac: str) -> Object:
    """The one for that MAC."""
    return next(obj for obj in objects if isinstance(obj, kind) and getattr(obj, "mac", "") == mac)


@pytest.mark.parametrize("name", sorted(DAMAGES))
async def test_damage_is_repaired_by_itself(hosts: list[Host], name: str) -> None:
    one, two, _ = hosts
    await overlay(one)
    await one.attach("blue", "web")
    db = await two.attach("blue", "db")
    await settled(hosts)
    before = one.state()
    entry = of_kind(before.values(), FdbEntry, db.mac)
    neighbour = of_kind(before.values(), Neighbour, db.mac)
    assert isinstance(entry, FdbEntry)
    assert isinstance(neighbour, Neighbour)
    one.forget_events()

    DAMAGES[name](one.kernel.by_hand, entry, neighbour)
    assert one.state() != before
    await one.happened("drift.repaired")
    await settled(hosts)

    assert one.state() == before
    assert await one.engine.plan() == ()


async def test_what_others_announce_asks_for_no_look(hosts: Sequence[Host]) -> None:
    one, two, _ = hosts
    await overlay(one)
    await one.attach("blue", "web")
    await two.attach("blue", "db")
    await settled(hosts)
    passes = one.engine._reconciler.passes
    endpoints = [await two.attach("blue", f"c{number}") for number in range(20)]
    await settled(hosts)
    assert all(endpoint.mac in one.text() for endpoint in endpoints)
    for endpoint in endpoints:
        await two.engine.detach(endpoint.id)
    await settled(hosts)
    assert not any(endpoint.mac in one.text() for endpoint in endpoints)
    assert one.engine._reconciler.passes == passes
