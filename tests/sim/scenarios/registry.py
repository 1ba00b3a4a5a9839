"""The names of scenarios, and how most of them begin."""

import random
from typing import Any

from tests.sim import expect
from tests.sim.cluster import Cluster
from tests.sim.runner import Scenario

SCENARIOS: dict[str, Scenario] = {}
ENDURANCE: dict[str, Scenario] = {}  # long runs of many nodes, of which a few are enough


def scenario(function: Scenario) -> Scenario:
    """Enter a function under its name."""
    SCENARIOS[function.__name__.replace("_", "-")] = function
    return function


def endurance(function: Scenario) -> Scenario:
    """Enter a long run under its name."""
    ENDURANCE[function.__name__.replace("_", "-")] = function
    return function


def draw(seed: int) -> random.Random:
    """What a scenario decides before it has a cluster."""
    return random.Random(f"{seed} draw")


def sized(seed: int, least: int = 5, most: int = 7, **options: Any) -> Cluster:
    """A cluster of some nodes, which do not run yet; each has something to publish."""
    cluster = Cluster(seed, draw(seed).randint(least, most), **options)
    for node in cluster.nodes:
        cluster.publish(node, "facts")
    return cluster


def settled(seed: int, least: int = 5, most: int = 7, **options: Any) -> Cluster:
    """A cluster that runs and knows itself."""
    cluster = sized(seed, least, most, **options)
    cluster.start(within_s=1.0)
    cluster.run(1.0)
    expect.settled(cluster)
    return cluster
