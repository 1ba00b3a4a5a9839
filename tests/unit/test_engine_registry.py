"""What an attach waits for of the registry, and for how long."""

import asyncio

import pytest

from netd.engine import registry as module
from netd.engine.directory import Feed
from netd.engine.registry import Registry
from netd.model.directory import Entry, NetworkEntry, RegistryReport, ZoneEntry
from tests.unit.engine_fixture import ManualClock


def feed() -> Feed:
    return Feed(ZoneEntry(zone="netd.internal", node="h", node_id="0" * 16), begins=1000)


def report(revision: int) -> RegistryReport:
    return RegistryReport(revision=revision, pid=1)


async def waits(registry: Registry) -> "asyncio.Task[None]":
    """An attach that waits."""
    task = asyncio.get_running_loop().create_task(registry.listening("blue"))
    await asyncio.sleep(0.02)
    return task


async def test_who_wants_no_registry_waits_for_none() -> None:
    made = Registry(ManualClock(), feed(), wanted=False)
    assert (await waits(made)).done()


async def test_the_first_attach_waits_for_the_registry_to_come() -> None:
    told = feed()
    made = Registry(ManualClock(), told, wanted=True)
    task = await waits(made)
    made.take(report(7))  # of the daemon before
    await asyncio.sleep(0.02)
    assert not task.done()
    begun = told.revision
    told.put(Entry(revision=0, kind="network", id="blue", network=NetworkEntry()))
    made.take(report(begun))
    async with asyncio.timeout(5):
        await task
    assert (await waits(made)).done()


async def test_nobody_waits_for_a_registry_that_does_not_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ARRIVAL_S", 0.1)
    made = Registry(ManualClock(), feed(), wanted=True)
    task = await waits(made)
    assert not task.done()
    async with asyncio.timeout(5):
        await task
    assert (await waits(made)).done()
