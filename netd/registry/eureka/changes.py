"""What has changed lately: what `apps/delta` tells."""

from collections.abc import Callable, Iterator
from typing import Final, Literal, NamedTuple

from netd.registry.eureka.seen import Key, Seen

KEPT_S: Final = 180.0
CHANGES_MAX: Final = 50_000

Action = Literal["ADDED", "MODIFIED", "DELETED"]


class Change(NamedTuple):
    """What has become of an instance last. `seen` is how it is, or how it last was."""

    action: Action
    seen: Seen
    at_s: float


class Changes:
    """The last change of each instance within `KEPT_S`.

    Of more than `CHANGES_MAX` the oldest are forgotten. Who misses one sees by the hash code that
    something is missing, and asks for all.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.forgotten = 0
        self._last: dict[Key, Change] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._last)

    def __iter__(self) -> Iterator[Change]:
        return iter(self._last.values())

    def note(self, key: Key, action: Action, seen: Seen) -> None:
        self._last.pop(key, None)
        if len(self._last) >= CHANGES_MAX:
            del self._last[next(iter(self._last))]
            self.forgotten += 1
        self._last[key] = Change(action, seen, self._clock())

    def expire(self) -> bool:
        """Forget what is too old; whether there was any."""
        horizon_s = self._clock() - KEPT_S
        some = False
        while self._last:
            key = next(iter(self._last))
            if self._last[key].at_s > horizon_s:
                break
            del self._last[key]
            some = True
        return some
