"""Locks by key."""

import asyncio

from netd.locks import KeyedLocks


async def test_one_at_a_time_for_each_key() -> None:
    locks: KeyedLocks[str] = KeyedLocks()
    order: list[str] = []

    async def work(name: str, key: str, until_then: asyncio.Event) -> None:
        async with locks.hold(key):
            order.append(f"{name} begins")
            await until_then.wait()
            order.append(f"{name} ends")

    gate, open_gate = asyncio.Event(), asyncio.Event()
    open_gate.set()
    async with asyncio.TaskGroup() as group:
        group.create_task(work("a", "x", gate))
        await asyncio.sleep(0)
        waiting = group.create_task(work("b", "x", open_gate))
        group.create_task(work("c", "x", open_gate))
        group.create_task(work("d", "y", open_gate))
        for _ in range(5):
            await asyncio.sleep(0)
        assert order == ["a begins", "d begins", "d ends"]
        waiting.cancel()
        await asyncio.sleep(0)
        gate.set()
    assert order[3:] == ["a ends", "c begins", "c ends"]
    assert len(locks) == 0


async def test_who_wants_several_does_not_wait_for_who_waits_for_one_of_them() -> None:
    locks: KeyedLocks[str] = KeyedLocks()
    done: list[str] = []

    async def work(*keys: str) -> None:
        async with locks.hold_all(keys):
            await asyncio.sleep(0)
            done.append("".join(keys))

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for keys in ("xy", "yx", "zyx", "xxz"):
            group.create_task(work(*keys))
    assert sorted(done) == ["xxz", "xy", "yx", "zyx"]
    assert len(locks) == 0
