"""Every scenario for many seeds; `python -m tests.sim` runs them outside of pytest."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.sim.runner import describe, pool, run_many, seeds_wanted
from tests.sim.scenarios import SCENARIOS


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessPoolExecutor]:
    with pool() as processes:
        yield processes


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str, workers: ProcessPoolExecutor) -> None:
    outcomes = list(run_many(workers, name, range(seeds_wanted())))
    failures = [describe(name, outcome) for outcome in outcomes if outcome.error]
    assert not failures, "\n".join(failures[:3])
