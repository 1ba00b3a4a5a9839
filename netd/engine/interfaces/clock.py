"""Time and randomness."""

from typing import Protocol


class Clock(Protocol):
    """Time and randomness. `wall_s` is Unix time, `monotonic_s` only ever grows."""

    def wall_s(self) -> float: ...
    def monotonic_s(self) -> float: ...
    def new_id(self) -> str:
        """16 hexadecimal digits that no other call returns."""
        ...
