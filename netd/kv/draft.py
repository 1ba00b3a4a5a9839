"""What keys, sessions and locks are to become.

A draft is laid over a space, or over another draft, and sees through to it. Nothing is changed
until the draft is taken over; one that is not wanted is forgotten. So a transaction is all or
nothing, and what could not be stored has never been.
"""

from collections.abc import Iterable

import msgspec

from netd.kv.space import BYTES_MAX, KEYS_MAX, SESSIONS_MAX, Numbers, Space, Stored, size_of
from netd.model.errors import Exhausted
from netd.model.kv import Entry, KeyChange, Session


class Draft:
    """What is to be so after what lies below it, at the time `now_s` (monotonic).

    What it changes has the index `index`, that of the next write.
    """

    def __init__(self, base: "Space | Draft", now_s: float) -> None:
        self.now_s = now_s
        self.index = base.numbers.index + 1
        self.numbers: Numbers = base.numbers
        self.size: int = base.size
        self.count: int = base.count
        self.session_count: int = base.session_count
        self.changed = False
        self._base = base
        self._entries: dict[str, Entry | None] = {}
        self._sessions: dict[str, Session | None] = {}
        self._graves: dict[str, int | None] = {}
        self._delays: dict[str, float | None] = {}

    # What is seen through it

    def entry(self, key: str) -> Entry | None:
        return self._entries[key] if key in self._entries else self._base.entry(key)

    def keys(self, prefix: str = "") -> list[str]:
        """Keys that begin with `prefix`, sorted."""
        below = self._base.keys(prefix)
        own = {key: entry for key, entry in self._entries.items() if key.startswith(prefix)}
        if not own:
            return below
        kept = {key for key in below if key not in own}
        return sorted(kept | {key for key, entry in own.items() if entry is not None})

    def session(self, session_id: str) -> Session | None:
        if session_id in self._sessions:
            return self._sessions[session_id]
        return self._base.session(session_id)

    def held(self, session_id: str) -> set[str]:
        below = {key for key in self._base.held(session_id) if key not in self._entries}
        own = (entry for entry in self._entries.values() if entry is not None)
        return below | {entry.key for entry in own if entry.session == session_id}

    def delayed(self, key: str, now_s: float) -> bool:
        if key in self._delays:
            return bool(self._delays[key])  # it began with this draft
        return self._base.delayed(key, now_s)

    # What is drafted

    def put(self, entry: Entry) -> None:
        """Raises `Exhausted` when there is too much."""
        before = self.entry(entry.key)
        size = self.size + size_of(entry) - (size_of(before) if before else 0)
        if before is None and self.count >= KEYS_MAX:
            raise Exhausted(f"there are {KEYS_MAX} keys already: delete some")
        if size > BYTES_MAX and size > self.size:
            raise Exhausted(f"keys and values have more than {BYTES_MAX >> 20} MiB: delete some")
        self.size = size
        self.count += before is None
        self._entries[entry.key] = entry
        if before is None:
            self._graves[entry.key] = None
        self._touch_keys()

    def delete(self, key: str) -> None:
        before = self.entry(key)
        if before is None:
            return
        self.size -= size_of(before)
        self.count -= 1
        self._entries[key] = None
        self._graves[key] = self.index
        self._touch_keys()

    def put_session(self, session: Session) -> None:
        """Raises `Exhausted` when there are too many."""
        if self.session_count >= SESSIONS_MAX:
            raise Exhausted(f"there are {SESSIONS_MAX} sessions already: destroy some")
        self.session_count += 1
        self._sessions[session.id] = session
        self._touch_sessions()

    def delete_session(self, session_id: str) -> None:
        self.session_count -= 1
        self._sessions[session_id] = None
        self._touch_sessions()

    def delay(self, key: str, length_s: float | None) -> None:
        """Let nobody acquire the key for so long; None: the delay has passed."""
        self._delays[key] = length_s
        self.changed = True

    def reap(self, graves: Iterable[tuple[str, int]]) -> None:
        """Forget deletions, the earliest ones."""
        reaped = self.numbers.reaped
        for key, index in graves:
            self._graves.setdefault(key, None)
            reaped = max(reaped, index)
        self.numbers = msgspec.structs.replace(self.numbers, reaped=reaped)
        self.changed = True

    def take(self, draft: "Draft") -> None:
        """Take over what is drafted upon this one."""
        self._entries |= draft._entries
        self._sessions |= draft._sessions
        self._graves |= draft._graves
        self._delays |= draft._delays
        self.numbers = draft.numbers
        self.index = draft.numbers.index + 1
        self.size = draft.size
        self.count = draft.count
        self.session_count = draft.session_count
        self.changed |= draft.changed

    def stored(self) -> Stored:
        """What it changes."""
        return Stored(
            numbers=self.numbers,
            entries=self._entries,
            sessions=self._sessions,
            graves=self._graves,
            delays=self._delays,
        )

    def told(self) -> KeyChange:
        """What it changes, for who waits for a change."""
        return KeyChange(
            index=self.numbers.index, keys=tuple(self._entries), sessions=bool(self._sessions)
        )

    def _touch_keys(self) -> None:
        self.numbers = msgspec.structs.replace(self.numbers, index=self.index, keys=self.index)
        self.changed = True

    def _touch_sessions(self) -> None:
        self.numbers = msgspec.structs.replace(self.numbers, index=self.index, sessions=self.index)
        self.changed = True
