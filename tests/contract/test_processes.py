"""Processes that are watched: their end is told, once and at once."""

import asyncio

import pytest

from netd.model.errors import NotFound
from tests.contract.lab import Lab


async def heard(ended: asyncio.Event) -> None:
    async with asyncio.timeout(5):
        await ended.wait()


async def settled(lab: Lab) -> None:
    """Whatever could have been told before this is told now: another process's end is."""
    ended = asyncio.Event()
    pid = lab.world.process()
    lab.kernel.watch_process(pid, None, ended.set)
    lab.world.end_process(pid)
    await heard(ended)


async def test_the_end_of_a_process_is_told_once(lab: Lab) -> None:
    pid, other = lab.world.process(), lab.world.process()
    ended = asyncio.Event()
    told: list[int] = []

    def over() -> None:
        told.append(pid)
        ended.set()

    lab.kernel.watch_process(pid, None, over)
    lab.kernel.watch_process(other, None, lambda: told.append(other))
    await settled(lab)
    assert told == []
    lab.world.end_process(pid)
    await heard(ended)
    await settled(lab)
    assert told == [pid]


async def test_each_of_several_who_watch_a_process_is_told(lab: Lab) -> None:
    pid = lab.world.process()
    first, second = asyncio.Event(), asyncio.Event()
    watched = lab.kernel.watch_process(pid, None, first.set)
    assert lab.kernel.watch_process(pid, watched.start_ticks, second.set).start_ticks == (
        watched.start_ticks
    )
    lab.world.end_process(pid)
    await heard(first)
    await heard(second)


async def test_who_has_stopped_watching_is_told_nothing(lab: Lab) -> None:
    pid = lab.world.process()
    told: list[str] = []
    kept = asyncio.Event()
    watched = lab.kernel.watch_process(pid, None, lambda: told.append("stopped"))
    lab.kernel.watch_process(pid, None, kept.set)
    late = lab.kernel.watch_process(pid, None, lambda: told.append("stopped late"))
    watched.stop()
    watched.stop()
    lab.world.end_process(pid)
    late.stop()
    await heard(kept)
    await settled(lab)
    assert told == []


async def test_a_process_that_has_ended_is_not_found(lab: Lab) -> None:
    pid = lab.world.process()
    lab.world.end_process(pid)
    with pytest.raises(NotFound, match=f"no process {pid}") as caught:
        lab.kernel.watch_process(pid, None, lambda: None)
    assert caught.value.field == "pid"


async def test_another_process_with_the_pid_is_not_taken_for_it(lab: Lab) -> None:
    pid = lab.world.process()
    ended = asyncio.Event()
    ticks = lab.kernel.watch_process(pid, None, ended.set).start_ticks
    with pytest.raises(NotFound):
        lab.kernel.watch_process(pid, ticks - 1, lambda: None)
    lab.world.end_process(pid)
    await heard(ended)
