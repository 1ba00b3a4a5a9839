"""What happens to clusters. `SCENARIOS` has all, by name."""

from tests.sim.scenarios import (
    faults,
    identities,
    membership,
    partitions,
    records,
    security,
)
from tests.sim.scenarios.registry import SCENARIOS

__all__ = [
    "SCENARIOS",
    "faults",
    "identities",
    "membership",
    "partitions",
    "records",
    "security",
]
