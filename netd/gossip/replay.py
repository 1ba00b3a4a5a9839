"""Which packets of a sender have been seen: a sliding window as in RFC 6479, on one integer."""

from typing import Final

WINDOW: Final = 2_048  # packets


class ReplayWindow:
    """`accept` is True once for each counter, never for one older than the window."""

    __slots__ = ("_highest", "_seen")

    def __init__(self) -> None:
        self._highest = -1
        self._seen = 0  # bit i stands for the counter `_highest - i`

    def accept(self, counter: int) -> bool:
        ahead = counter - self._highest
        if ahead > 0:
            self._seen = (self._seen << ahead | 1) & _MASK if ahead < WINDOW else 1
            self._highest = counter
            return True
        if ahead <= -WINDOW:
            return False
        bit = 1 << -ahead
        if self._seen & bit:
            return False
        self._seen |= bit
        return True


_MASK: Final = (1 << WINDOW) - 1
