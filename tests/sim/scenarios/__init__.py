"""What happens to clusters. `SCENARIOS` has all by name, `ENDURANCE` those that are long."""

from tests.sim.scenarios import (
    endurance,
    faults,
    identities,
    membership,
    partitions,
    records,
    security,
)
from tests.sim.scenarios.registry import ENDURANCE, SCENARIOS

__all__ = [
    "ENDURANCE",
    "SCENARIOS",
    "endurance",
    "faults",
    "identities",
    "membership",
    "partitions",
    "records",
    "security",
]
