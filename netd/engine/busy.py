"""Which owners a use case is working on, so that the reconciler leaves them alone."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Busy:
    """Owners (endpoint and network ids) in work now, or since a mark."""

    def __init__(self) -> None:
        self._active: Counter[str] = Counter()
        self._finished: list[tuple[int, str]] = []
        self._serial = 0
        self._marks: set[int] = set()

    @contextmanager
    def work_on(self, *owners: str) -> Iterator[None]:
        self._active.update(owners)
        try:
            yield
        finally:
            self._active -= Counter(owners)  # drops those that nobody works on any more
            if self._marks:
                self._finished += [(self._serial, owner) for owner in owners]

    @contextmanager
    def since_now(self) -> Iterator["Mark"]:
        """Remember who is worked on from now until the block ends."""
        self._serial += 1
        mark = self._serial
        self._marks.add(mark)
        try:
            yield Mark(self, mark)
        finally:
            self._marks.remove(mark)
            oldest = min(self._marks, default=self._serial + 1)
            self._finished = [entry for entry in self._finished if entry[0] >= oldest]

    def touched_since(self, mark: int) -> frozenset[str]:
        finished = {owner for serial, owner in self._finished if serial >= mark}
        return frozenset(finished | set(self._active))


class Mark:
    """A point in time; tells who was worked on since."""

    def __init__(self, busy: Busy, serial: int) -> None:
        self._busy = busy
        self._serial = serial

    def touched(self) -> frozenset[str]:
        return self._busy.touched_since(self._serial)
