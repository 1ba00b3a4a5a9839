"""How often something may happen: a burst at once, then so many times a second."""


class Allowance:
    """A token bucket. `now_s` is monotonic time, the first one that of its making."""

    __slots__ = ("_burst", "_left", "_rate_per_s", "_since_s")

    def __init__(self, rate_per_s: float, burst: float, now_s: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._left = burst
        self._since_s = now_s

    def take(self, now_s: float) -> bool:
        """Whether it may happen once more now; if so, it is counted."""
        gained = max(0.0, now_s - self._since_s) * self._rate_per_s
        self._left = min(self._burst, self._left + gained)
        self._since_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def is_full(self, now_s: float) -> bool:
        """Whether it is as a new one would be."""
        return self._left + (now_s - self._since_s) * self._rate_per_s >= self._burst
