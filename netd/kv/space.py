"""All keys, sessions and locks as they are."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from netd.model.kv import Entry, Session

KEYS_MAX: Final = 1_000_000
BYTES_MAX: Final = 256 << 20  # of keys and values
SESSIONS_MAX: Final = 100_000
GRAVES_MAX: Final = 65_536  # deleted keys whose index is remembered
FEW: Final = 16  # keys, which are cheaper to move one by one


class Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """Indexes: of the last write, of the last that changed a key or a session; `reaped` is that
    of the last deletion that is not remembered any more.

    The first write has index 2: who reads before it gets 1, as 0 would not let him wait.
    """

    index: int = 1
    keys: int = 0
    sessions: int = 0
    reaped: int = 0


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A space as a whole, or (None: deleted) what has changed of one.

    `graves` has the indexes of deletions by key, `delays` for how many seconds keys cannot be
    acquired after the session that held them has ended.
    """

    numbers: Numbers = Numbers()
    entries: Mapping[str, Entry | None] = {}
    sessions: Mapping[str, Session | None] = {}
    graves: Mapping[str, int | None] = {}
    delays: Mapping[str, float | None] = {}


NOTHING: Final = Stored()


class Space:
    """What is so. Changed by `take` alone."""

    def __init__(self, stored: Stored = NOTHING, now_s: float = 0.0) -> None:
        """Take up what was stored. Delays begin anew: how long ago they began was not."""
        self.numbers = Numbers()
        self.size = 0  # bytes of keys and values
        self._entries: dict[str, Entry] = {}
        self._order: list[str] = []  # keys, sorted
        self._held: defaultdict[str, set[str]] = defaultdict(set)
        self._sessions: dict[str, Session] = {}
        self._graves: dict[str, int] = {}  # in the order of their indexes
        self._grave_order: list[str] = []
        self._delays: dict[str, tuple[float, float]] = {}  # until when, and how long in all
        self.take(stored, now_s)

    @property
    def count(self) -> int:
        return len(self._entries)

    @property
    def session_count(self) -> int:
        return len(self._sessions)

    def entry(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def keys(self, prefix: str = "") -> list[str]:
        """Keys that begin with `prefix`, sorted."""
        return _range(self._order, prefix)

    def session(self, session_id: str) -> Session | None:
        return self._sessions.get(session_id)

    def session_ids(self) -> list[str]:
        return sorted(self._sessions)

    def held(self, session_id: str) -> set[str]:
        """The keys that the session holds."""
        return set(self._held.get(session_id, ()))

    def delayed(self, key: str, now_s: float) -> bool:
        """Whether the key cannot be acquired yet."""
        delay = self._delays.get(key)
        return delay is not None and now_s < delay[0]

    def delays_over(self, now_s: float) -> list[str]:
        """The keys whose delay has passed."""
        return [key for key, (until_s, _) in self._delays.items() if until_s <= now_s]

    def next_delay_s(self) -> float | None:
        """When the next delay passes."""
        return min((until_s for until_s, _ in self._delays.values()), default=None)

    def grave_index(self, prefix: str) -> int:
        """The index of the last deletion of a key that begins with `prefix`, as remembered."""
        graves = (self._graves[key] for key in _range(self._grave_order, prefix))
        return max(graves, default=0)

    def key_grave_index(self, key: str) -> int:
        return self._graves.get(key, 0)

    def oldest_graves(self, count: int) -> list[tuple[str, int]]:
        """Those of the earliest deletions, and all of the same index as the last of them."""
        found: list[tuple[str, int]] = []
        for key, index in self._graves.items():
            if len(found) >= count and index != found[-1][1]:
                break
            found.append((key, index))
        return found

    @property
    def grave_count(self) -> int:
        return len(self._graves)

    def stored(self) -> Stored:
        """All of it."""
        return Stored(
            numbers=self.numbers,
            entries=dict(self._entries),
            sessions=dict(self._sessions),
            graves=dict(self._graves),
            delays={key: length_s for key, (_, length_s) in self._delays.items()},
        )

    def take(self, stored: Stored, now_s: float) -> None:
        """Have what has changed be so."""
        fresh = sorted(
            key for key, entry in stored.entries.items() if entry and key not in self._entries
        )
        gone = {key for key, entry in stored.entries.items() if entry is None}
        _remove(self._order, gone & self._entries.keys())
        for key, entry in stored.entries.items():
            self._put(key, entry)
        _insert(self._order, fresh)
        for session_id, session in stored.sessions.items():
            if session is None:
                self._sessions.pop(session_id, None)
            else:
                self._sessions[session_id] = session
        self._bury(stored.graves)
        for key, length_s in stored.delays.items():
            if length_s is None:
                self._delays.pop(key, None)
            else:
                self._delays[key] = (now_s + length_s, length_s)
        self.numbers = stored.numbers

    def _put(self, key: str, entry: Entry | None) -> None:
        before = self._entries.get(key)
        if before is not None:
            self.size -= size_of(before)
            if before.session:
                self._held[before.session].discard(key)
                if not self._held[before.session]:
                    del self._held[before.session]
        if entry is not None:
            self._entries[key] = entry
            self.size += size_of(entry)
            if entry.session:
                self._held[entry.session].add(key)
        elif before is not None:
            del self._entries[key]

    def _bury(self, graves: Mapping[str, int | None]) -> None:
        fresh = sorted(key for key, index in graves.items() if index and key not in self._graves)
        gone = {key for key, index in graves.items() if index is None}
        _remove(self._grave_order, gone & self._graves.keys())
        for key, index in sorted(graves.items(), key=lambda grave: grave[1] or 0):
            self._graves.pop(key, None)
            if index is not None:
                self._graves[key] = index  # at the end: they lie in the order of their indexes
        _insert(self._grave_order, fresh)


def size_of(entry: Entry) -> int:
    """What of BYTES_MAX it takes."""
    return len(entry.key) + len(entry.value)


def _range(order: list[str], prefix: str) -> list[str]:
    """The part of a sorted list that begins with `prefix`."""
    if not prefix:
        return order[:]
    return order[slice(*_bounds(order, prefix))]


def _bounds(order: list[str], prefix: str) -> Iterator[int]:
    first = bisect_left(order, prefix)
    yield first
    yield bisect_left(order, True, lo=first, key=lambda key: not key.startswith(prefix))


def _remove(order: list[str], gone: set[str]) -> None:
    """Take keys out of a sorted list: one by one, or all at once where they are many."""
    if len(gone) > FEW:
        order[:] = [key for key in order if key not in gone]
    else:
        for key in gone:
            del order[bisect_left(order, key)]


def _insert(order: list[str], fresh: list[str]) -> None:
    """Put sorted keys into a sorted list, as `_remove` takes them out."""
    if len(fresh) > FEW:
        order += fresh
        order.sort()  # takes sorted runs as they are
    else:
        for key in fresh:
            insort(order, key)
