"""How far other hosts are, as the registry is told of it: seldom, as nothing is done at once."""

from typing import Final

_PART: Final = 0.2  # of the last word: a smaller change is none
_LEAST_MS: Final = 0.1  # on one switch, times of this size come and go


def is_other(told_ms: float | None, now_ms: float) -> bool:
    """Whether a time there and back is another than the one that was told last."""
    if told_ms is None:
        return True
    return abs(now_ms - told_ms) > max(_LEAST_MS, told_ms * _PART)
