"""Retired links go in batches: after a silence, at once when there are many or on demand."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from netd.engine import reaper as reaper_module
from netd.engine.reaper import BATCH, LONGEST_S, QUIET_S, Reaper
from netd.model.errors import KernelFailure
from tests.unit.engine_fixture import Gate, ManualClock


class Kernel:
    """Only `reap`, with an answer that can be held back or be a failure."""

    def __init__(self) -> None:
        self.calls = 0
        self.called = asyncio.Event()
        self.gate: Gate | None = None
        self.failure = ""

    async def reap(self) -> int:
        self.calls += 1
        self.called.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.failure:
            raise KernelFailure(self.failure)
        return 1


class Bench:
    def __init__(self) -> None:
        self.kernel = Kernel()
        self.clock = ManualClock()
        self.reaper = Reaper(self.kernel, self.clock)  # type: ignore[arg-type]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    running = asyncio.create_task(bench.reaper.run())
    yield bench
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def called(bench: Bench) -> None:
    async with asyncio.timeout(5):
        await bench.kernel.called.wait()
    bench.kernel.called.clear()


async def test_it_waits_for_a_silence(bench: Bench) -> None:
    bench.reaper.retired(2)
    assert bench.reaper._delay_s() == pytest.approx(QUIET_S)
    bench.clock.now_s += QUIET_S / 2
    bench.reaper.retired()
    assert bench.reaper._delay_s() == pytest.approx(QUIET_S)
    bench.clock.now_s += QUIET_S
    await called(bench)
    assert (bench.kernel.calls, bench.reaper.waiting) == (1, 0)


async def test_it_does_not_wait_for_a_silence_for_ever(bench: Bench) -> None:
    for _ in range(BATCH // 2):
        bench.reaper.retired()
        bench.clock.now_s += LONGEST_S / (BATCH // 2)
    assert bench.reaper._delay_s() <= 1e-6
    await called(bench)


async def test_many_go_at_once(bench: Bench) -> None:
    bench.reaper.retired(BATCH)  # the clock stands still
    await called(bench)
    assert bench.reaper.waiting == 0


async def test_on_demand(bench: Bench) -> None:
    bench.reaper.retired(3)
    await bench.reaper.remove_now()
    await bench.reaper.remove_now()
    assert (bench.kernel.calls, bench.reaper.waiting) == (1, 0)


async def test_who_asks_while_they_are_removed_waits_for_that(bench: Bench) -> None:
    bench.kernel.gate = Gate()
    bench.reaper.retired()
    first = asyncio.create_task(bench.reaper.remove_now())
    await bench.kernel.gate.reached.wait()
    second = asyncio.create_task(bench.reaper.remove_now())
    await asyncio.sleep(0)
    assert not second.done()
    bench.kernel.gate.opened.set()
    await asyncio.gather(first, second)
    assert bench.kernel.calls == 1


async def test_what_was_not_removed_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper_module, "RETRY_S", 0.01)
    bench.kernel.failure = "no"
    bench.reaper.retired(2)
    bench.clock.now_s += 1
    await called(bench)
    bench.kernel.failure = ""
    await called(bench)
    assert (bench.kernel.calls, bench.reaper.waiting) == (2, 0)


async def test_a_failure_on_demand_is_told(bench: Bench) -> None:
    bench.kernel.failure = "no"
    bench.reaper.retired(2)
    with pytest.raises(KernelFailure, match="no"):
        await bench.reaper.remove_now()
    assert bench.reaper.waiting == 2
