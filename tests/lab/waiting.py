"""Waiting for what no event tells of from outside."""

import time
from collections.abc import Callable
from typing import Final

POLL_S: Final = 0.05
DEADLINE_S: Final = 60.0


def wait_for(
    predicate: Callable[[], object],
    deadline_s: float = DEADLINE_S,
    *,
    what: str = "",
    show: Callable[[], object] | None = None,
) -> float:
    """Ask until `predicate` is true; the seconds that it took.

    After `deadline_s` it fails with what was awaited and what `show` gives.
    """
    began_s = time.monotonic()
    while not predicate():
        waited_s = time.monotonic() - began_s
        if waited_s >= deadline_s:
            shown = "" if show is None else f": {show()}"
            raise AssertionError(f"not within {deadline_s:g} s: {what or predicate}{shown}")
        time.sleep(POLL_S)
    return time.monotonic() - began_s
