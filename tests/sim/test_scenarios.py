"""Every scenario for many seeds; `python -m tests.sim` runs them outside of pytest."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.sim.runner import describe, pool, run_many, seeds_wanted
from tests.sim.scenarios import ENDURANCE, SCENARIOS
from tests.sim.scenarios.endurance import RUNS
from tests.sim.scenarios.records import joins_a_large_one


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


def test_who_joins_a_network_of_ten_thousand_records_passes_none_on() -> None:
    joins_a_large_one(seed=1, records=10_000)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ENDURANCE)
def test_nobody_dies_of_it_in_100_node_hours(name: str, workers: ProcessPoolExecutor) -> None:
    outcomes = list(run_many(workers, name, range(RUNS), chunk=1))
    failures = [describe(name, outcome) for outcome in outcomes if outcome.error]
    assert not failures, "\n".join(failures)
    assert len(outcomes) == RUNS
