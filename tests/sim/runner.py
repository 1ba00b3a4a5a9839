"""Runs scenarios for many seeds, on all processors."""

import gc
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import connection, get_context, parent_process
from typing import NamedTuple

from tests.sim.cluster import Cluster

SEEDS = 200
CHUNK = 10
FAILURES_MAX = 5

Scenario = Callable[[int], Cluster]


class Outcome(NamedTuple):
    """Of one run: `error` is empty if all was well."""

    seed: int
    error: str
    digest: str
    virtual_s: float
    real_s: float


def run(scenario: Scenario, seed: int) -> Outcome:
    """One run; never raises."""
    start_s = time.perf_counter()
    try:
        cluster = scenario(seed)
    except Exception:  # noqa: BLE001 - whatever it is, it belongs to this seed
        took_s = time.perf_counter() - start_s
        return Outcome(seed, traceback.format_exc(), "", 0.0, took_s)
    took_s = time.perf_counter() - start_s
    return Outcome(seed, "", cluster.trace.digest, cluster.now_s, took_s)


def seeds_wanted() -> int:
    """How many seeds of each scenario the tests run."""
    return int(os.environ.get("NETD_SIM_SEEDS", str(SEEDS)))


def pool() -> ProcessPoolExecutor:
    """Processes to run scenarios in, one for each processor; they end with this one."""
    return ProcessPoolExecutor(
        max_workers=os.cpu_count(), mp_context=get_context("spawn"), initializer=_begin
    )


def _begin() -> None:
    """In each process of the pool."""
    _end_with_parent()
    # Clusters are garbage as a whole: looking for it often finds nothing, and takes a tenth.
    gc.set_threshold(200_000, 20, 100)


def _end_with_parent() -> None:
    """A worker waits for work for ever; whoever killed its parent does not know of it."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_chunk(name: str, seeds: Sequence[int]) -> list[Outcome]:
    """In a process of the pool, which knows scenarios by name."""
    from tests.sim.scenarios import ENDURANCE, SCENARIOS

    scenario = (SCENARIOS | ENDURANCE)[name]
    return [run(scenario, seed) for seed in seeds]


def run_many(
    workers: ProcessPoolExecutor, name: str, seeds: range, *, chunk: int = CHUNK
) -> Iterator[Outcome]:
    """The outcome of each seed, in any order; ends early after `FAILURES_MAX` failures."""
    chunks = [seeds[first : first + chunk] for first in range(0, len(seeds), chunk)]
    jobs = [workers.submit(run_chunk, name, chunk) for chunk in chunks]
    failures = 0
    try:
        for job in as_completed(jobs):
            for outcome in job.result():
                failures += bool(outcome.error)
                yield outcome
            if failures >= FAILURES_MAX:
                return
    finally:
        for job in jobs:
            job.cancel()


def describe(name: str, outcome: Outcome) -> str:
    """A failure, and how to see it again."""
    return f"python -m tests.sim {name} --seed {outcome.seed}\n{outcome.error}"
