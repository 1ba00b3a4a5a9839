"""One seed is one run: the same bytes at the same times, in whatever process."""

import subprocess
import sys

import pytest

from tests.sim.runner import run
from tests.sim.scenarios import SCENARIOS

EVENTFUL = ("churn", "flapping-partition", "key-rotation-with-one-cut-off", "stalls")


def digest(name: str, seed: int, hash_seed: str) -> str:
    command = [sys.executable, "-m", "tests.sim", name, "--seed", str(seed)]
    environment = {"PYTHONHASHSEED": hash_seed, "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    return ended.stdout.split()[-1]


@pytest.mark.parametrize("name", EVENTFUL)
def test_a_seed_is_the_same_run_whatever_python_hashes_with(name: str) -> None:
    first = digest(name, 3, "1")
    assert first == digest(name, 3, "2")
    assert first == run(SCENARIOS[name], 3).digest
    assert first != digest(name, 4, "1")
