"""How much clients may have others asked for: each such question costs what dozens of answers of
netd's own cost.
"""

import time
from collections import Counter
from typing import Final

from netd.registry.dns.limits import Bucket

WAITING_MAX: Final = 1024  # questions without an answer yet
WAITING_EACH_MAX: Final = 256  # of them from one client
RATE_EACH: Final = 1000  # questions of one client in a second
CLIENTS_MAX: Final = 4096


class Admission:
    """Counts questions in and out. `waiting` are inside, `refused` were not let in."""

    def __init__(self) -> None:
        self.waiting = 0
        self.refused = 0
        self._waiting: Counter[str] = Counter()  # by client
        self._buckets: dict[str, Bucket] = {}

    def enter(self, client: str) -> bool:
        """Whether a question of this client may be asked; then `leave` has to follow."""
        if (
            self.waiting >= WAITING_MAX
            or self._waiting[client] >= WAITING_EACH_MAX
            or not self._take(client)
        ):
            self.refused += 1
            return False
        self.waiting += 1
        self._waiting[client] += 1
        return True

    def leave(self, client: str) -> None:
        self.waiting -= 1
        self._waiting[client] -= 1
        if not self._waiting[client]:
            del self._waiting[client]

    def _take(self, client: str) -> bool:
        bucket = self._buckets.get(client)
        if bucket is None:
            if len(self._buckets) >= CLIENTS_MAX:  # the oldest half goes
                for old in list(self._buckets)[: CLIENTS_MAX // 2]:
                    del self._buckets[old]
            bucket = self._buckets[client] = Bucket(RATE_EACH, time.monotonic())
        bucket.tokens -= 1
        return bucket.tokens >= 0 or bucket.fill(time.monotonic())
