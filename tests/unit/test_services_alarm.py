"""The alarm: in order, not before its time, and hardly after it."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.engine.clock import SystemClock
from netd.engine.services.alarm import AT_ONCE_MAX, Alarm, Due
from tests.unit.engine_fixture import ManualClock


def due(number: int) -> Due:
    return Due("expiry", f"web-{number}", "beat")


async def test_it_rings_in_time_and_in_order() -> None:
    rung: list[tuple[Due, float]] = []
    last = asyncio.Event()

    def ring(key: Due) -> None:
        rung.append((key, time.monotonic() - began_s))
        if key == due(1):
            last.set()

    alarm = Alarm(SystemClock(), ring)
    began_s = time.monotonic()
    alarm.set(due(1), 0.15)
    alarm.set(due(2), 0.05)
    alarm.set(due(3), 0.02)
    alarm.clear(due(3))
    alarm.set(due(2), 0.10)
    async with asyncio.timeout(5):
        await last.wait()
    assert [key for key, _ in rung] == [due(2), due(1)]
    assert [at_s >= wanted_s for (_, at_s), wanted_s in zip(rung, (0.10, 0.15), strict=True)] == [
        True,
        True,
    ]
    assert due(1) not in alarm


async def test_what_rings_may_set_and_clear() -> None:
    clock = ManualClock()
    rung: list[Due] = []

    def ring(key: Due) -> None:
        rung.append(key)
        if key == due(1):
            alarm.clear(due(2))
            alarm.set(due(1), 10)

    alarm = Alarm(clock, ring)
    alarm.set(due(1), 1)
    alarm.set(due(2), 2)
    clock.now_s += 5
    alarm.ring_due()
    assert rung == [due(1)]
    clock.now_s += 10
    alarm.ring_due()
    assert rung == [due(1), due(1)]
    alarm.stop()


async def test_a_failure_of_one_does_not_silence_the_others() -> None:
    clock = ManualClock()
    rung: list[Due] = []

    def ring(key: Due) -> None:
        rung.append(key)
        if key == due(1):
            raise RuntimeError("no")

    alarm = Alarm(clock, ring)
    alarm.set(due(1), 1)
    alarm.set(due(2), 1)
    clock.now_s += 2
    with pytest.raises(RuntimeError):
        alarm.ring_due()
    alarm.ring_due()
    assert rung == [due(1), due(2)]
    alarm.stop()


async def test_many_at_once_let_the_loop_do_something_else() -> None:
    clock = ManualClock()
    rung: list[Due] = []
    alarm = Alarm(clock, rung.append)
    for number in range(AT_ONCE_MAX + 5):
        alarm.set(due(number), 1)
    clock.now_s += 1
    alarm.ring_due()
    assert len(rung) == AT_ONCE_MAX
    async with asyncio.timeout(5):
        while len(rung) < AT_ONCE_MAX + 5:
            await asyncio.sleep(0)


async def test_stopped_it_rings_no_more() -> None:
    rung: list[Due] = []
    alarm = Alarm(SystemClock(), rung.append)
    alarm.set(due(1), 0)
    alarm.stop()
    await asyncio.sleep(0.02)
    assert rung == []


@given(
    st.lists(
        st.tuples(st.sampled_from(["set", "clear", "go on"]), st.integers(0, 4), st.integers(0, 9)),
        max_size=300,
    )
)
def test_it_is_as_a_table_of_times(steps: list[tuple[str, int, int]]) -> None:
    async def run() -> None:
        clock = ManualClock()
        times: dict[Due, float] = {}
        rung: list[Due] = []
        alarm = Alarm(clock, rung.append)
        for verb, number, amount in steps:
            match verb:
                case "set":
                    alarm.set(due(number), amount)
                    times[due(number)] = clock.now_s + amount
                case "clear":
                    alarm.clear(due(number))
                    times.pop(due(number), None)
                case _:
                    clock.now_s += amount
                    alarm.ring_due()
                    over = sorted((at, key) for key, at in times.items() if at <= clock.now_s)
                    assert sorted(rung) == sorted(key for _, key in over)
                    assert [times[key] for key in rung] == [at for at, _ in over]
                    for key in rung:
                        del times[key]
                    rung.clear()
            assert len(alarm._heap) <= 2 * 5 + 65
        alarm.stop()

    asyncio.run(run())
