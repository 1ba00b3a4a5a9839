"""Which status of an instance holds, and how a registry is summed up."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from netd.registry.eureka.instances import UNKNOWN

_OF_LEASE: Final = ("UP", "OUT_OF_SERVICE")


def effective(own: str, override: str, leased: str, *, replicated: bool) -> str:
    """What holds: the instance's own DOWN or STARTING; else what somebody has set instead; else
    what its lease says already, if UP or OUT_OF_SERVICE and not told by another registry; else
    its own word. UNKNOWN is nothing, for `override` and `leased`.
    """
    if own in ("DOWN", "STARTING"):
        return own
    if override != UNKNOWN:
        return override
    if leased in _OF_LEASE and not replicated:
        return leased
    return own


def hashcode(statuses: Iterable[str]) -> str:
    """`STATUS_count_` for each status that there is, in order of their names."""
    counts = Counter(statuses)
    return "".join(f"{status}_{counts[status]}_" for status in sorted(counts))
