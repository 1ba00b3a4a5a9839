"""The worker thread: order, results, failures, cancellation, end."""

import asyncio
import threading
from functools import partial

import pytest

from netd.worker import Worker


@pytest.fixture
def worker() -> "Worker":
    return Worker("test")


async def test_results_and_exceptions_come_back(worker: Worker) -> None:
    assert await worker.call(lambda: 6 * 7) == 42
    with pytest.raises(ZeroDivisionError):
        await worker.call(lambda: 1 // 0)
    worker.close()


async def test_calls_run_in_order_on_one_other_thread(worker: Worker) -> None:
    seen: list[tuple[int, str]] = []

    def note(n: int) -> None:
        seen.append((n, threading.current_thread().name))

    await asyncio.gather(*(worker.call(partial(note, n)) for n in range(100)))
    assert seen == [(n, "test") for n in range(100)]
    worker.close()


async def test_work_of_a_cancelled_call_is_done_all_the_same(worker: Worker) -> None:
    begin = threading.Event()
    done: list[int] = []
    first = worker.call(begin.wait)
    second = worker.call(lambda: done.append(1))
    second.cancel()
    begin.set()
    assert await first
    await worker.call(lambda: None)
    assert done == [1]
    worker.close()


async def test_close_waits_for_what_was_called_for(worker: Worker) -> None:
    done: list[int] = []
    calls = [worker.call(partial(done.append, n)) for n in range(10)]
    worker.close()
    assert done == list(range(10))
    await asyncio.gather(*calls)
    with pytest.raises(RuntimeError, match="has ended"):
        worker.call(lambda: None)


def test_a_result_after_the_loop_was_closed_ends_nothing() -> None:
    worker = Worker("late")
    begin = threading.Event()

    async def leave_without_waiting() -> None:
        worker.call(begin.wait)

    asyncio.run(leave_without_waiting())
    begin.set()

    async def use_again() -> int:
        return await worker.call(lambda: 7)

    assert asyncio.run(use_again()) == 7
    worker.close()
