"""Keys, sessions and locks against a model that keeps each version of everything."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from netd.kv import keys, sessions
from netd.kv.draft import Draft
from netd.kv.space import NOTHING, Space
from netd.model.kv import Entry, Operation, Session, SessionSpec, Verb

KEYS = ("a", "a/", "a/b", "a/b/c", "ab", "b", "b/a", "é/\x00", "\U0001f600")
PREFIXES = ("", "a", "a/", "a/b", "b", "c", "é", "\U0001f600")
IDS = ("s1", "s2", "s3")
VERBS: tuple[Verb, ...] = (
    "set",
    "cas",
    "lock",
    "unlock",
    "get",
    "get-or-empty",
    "get-tree",
    "check-index",
    "check-session",
    "check-not-exists",
    "delete",
    "delete-tree",
    "delete-cas",
)

operations = st.builds(
    Operation,
    verb=st.sampled_from(VERBS),
    key=st.sampled_from(KEYS),
    value=st.sampled_from((b"", b"x", b"yy")),
    flags=st.sampled_from((0, 1, 2**64 - 1)),
    index=st.integers(0, 12),
    session=st.sampled_from(("", *IDS)),
)


class Naive:
    """One dict for each version, copied whole, and which keys and sessions it has changed."""

    def __init__(self) -> None:
        self.versions: list[tuple[dict[str, Entry], dict[str, Session]]] = [({}, {})] * 2
        self.changed: list[set[str]] = [set()] * 2
        self.touched: set[str] = set()
        self.delays: dict[str, float] = {}
        self.now_s = 0.0

    @property
    def index(self) -> int:
        return len(self.versions) - 1

    @property
    def entries(self) -> dict[str, Entry]:
        return self.versions[-1][0]

    @property
    def sessions(self) -> dict[str, Session]:
        return self.versions[-1][1]

    def key_index(self, prefix: str, *, exact: bool = False) -> int:
        """The newest version that has changed a key with that prefix."""
        for number in range(self.index, 0, -1):
            for name in self.changed[number]:
                key = name.removeprefix("key ")
                if name != key and (key == prefix if exact else key.startswith(prefix)):
                    return number
        return 1

    def session_index(self) -> int:
        changed = (
            number
            for number in range(self.index, 0, -1)
            if any(name.startswith("session ") for name in self.changed[number])
        )
        return next(changed, 1)

    def advance(self, entries: dict[str, Entry], held_by: dict[str, Session]) -> None:
        """A new version, if anything was touched."""
        if self.touched:
            self.versions.append((entries, held_by))
            self.changed.append(self.touched)
            self.touched = set()

    def apply(self, asked: tuple[Operation, ...]) -> tuple[list[Entry], list[int]]:
        """The results and the numbers of the operations that failed."""
        entries = dict(self.entries)
        results: list[Entry] = []
        failed: list[int] = []
        for number, operation in enumerate(asked):
            done = self._step(entries, operation)
            if done is None:
                failed.append(number)
            else:
                results += done
        if failed:
            self.touched = set()
            return [], failed
        self.advance(entries, self.sessions)
        return results, []

    def _step(self, entries: dict[str, Entry], op: Operation) -> list[Entry] | None:
        at = self.index + 1
        old = entries.get(op.key)

        def write(**changes: Any) -> list[Entry]:
            base = old or Entry(key=op.key, create_index=at, modify_index=at)
            new = replace(base, value=op.value, flags=op.flags, **changes)
            if new != old or old is None:
                new = replace(new, modify_index=at)
                self.touched.add(f"key {op.key}")
            entries[op.key] = new
            return [replace(new, value=b"")]

        match op.verb:
            case "set":
                return write()
            case "cas":
                return write() if op.index == (old.modify_index if old else 0) else None
            case "lock":
                if op.session not in self.sessions or self.delays.get(op.key, 0) > self.now_s:
                    return None
                if old and old.session not in ("", op.session):
                    return None
                again = old is not None and old.session == op.session
                times = (old.lock_index if old else 0) + (0 if again else 1)
                return write(session=op.session, lock_index=times)
            case "unlock":
                mine = old is not None and op.session and old.session == op.session
                return write(session="") if mine else None
            case "get":
                return [old] if old else None
            case "get-or-empty":
                return [old or Entry(key=op.key)]
            case "get-tree":
                return [entries[key] for key in sorted(entries) if key.startswith(op.key)]
            case "check-index":
                return [replace(old, value=b"")] if old and old.modify_index == op.index else None
            case "check-session":
                return [replace(old, value=b"")] if old and old.session == op.session else None
            case "check-not-exists":
                return None if old else []
            case "delete":
                self._delete(entries, op.key)
            case "delete-tree":
                for key in [key for key in entries if key.startswith(op.key)]:
                    self._delete(entries, key)
            case "delete-cas":
                if old and old.modify_index != op.index:
                    return None
                self._delete(entries, op.key)
        return []

    def _delete(self, entries: dict[str, Entry], key: str) -> None:
        if entries.pop(key, None) is not None:
            self.touched.add(f"key {key}")

    def end(self, session_id: str) -> None:
        left = dict(self.sessions)
        session = left.pop(session_id, None)
        if session is None:
            return
        self.touched.add(f"session {session_id}")
        entries = dict(self.entries)
        for key, entry in self.entries.items():
            if entry.session == session_id:
                self.touched.add(f"key {key}")
                if session.behavior == "delete":
                    del entries[key]
                else:
                    entries[key] = replace(entry, session="", modify_index=self.index + 1)
                if session.lock_delay_s:
                    self.delays[key] = self.now_s + session.lock_delay_s
        self.advance(entries, left)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.space = Space()
        self.batch = Draft(self.space, 0.0)
        self.naive = Naive()
        self.stored = NOTHING

    @initialize()
    def begin(self) -> None:
        self.naive.now_s = 100.0
        self.batch = Draft(self.space, 100.0)

    @rule(asked=st.lists(operations, min_size=1, max_size=4).map(tuple))
    def transact(self, asked: tuple[Operation, ...]) -> None:
        draft, outcome = keys.transact(self.batch, asked, self.naive.now_s)
        results, failed = self.naive.apply(asked)
        assert [failure.operation for failure in outcome.failures] == failed
        assert list(outcome.results) == results
        self.batch.take(draft)

    @rule(key=st.sampled_from(KEYS), session=st.sampled_from(IDS))
    def acquire(self, key: str, session: str) -> None:
        """More often than chance has it."""
        self.transact((Operation(verb="lock", key=key, session=session),))

    @rule(
        session_id=st.sampled_from(IDS),
        behavior=st.sampled_from(("release", "delete")),
        delay_s=st.sampled_from((0.0, 5.0)),
    )
    def create(self, session_id: str, behavior: Any, delay_s: float) -> None:
        if session_id in self.naive.sessions:
            return
        spec = SessionSpec(node="n", behavior=behavior, lock_delay_s=delay_s)
        draft = Draft(self.batch, self.naive.now_s)
        session = sessions.create(draft, session_id, spec)
        self.batch.take(draft)
        self.naive.touched.add(f"session {session_id}")
        self.naive.advance(self.naive.entries, {**self.naive.sessions, session_id: session})
        assert session.create_index == self.naive.index

    @rule(session_id=st.sampled_from(IDS))
    def end(self, session_id: str) -> None:
        draft = Draft(self.batch, self.naive.now_s)
        sessions.end(draft, session_id)
        self.batch.take(draft)
        self.naive.end(session_id)

    @rule(seconds=st.floats(0.5, 4.0))
    def wait(self, seconds: float) -> None:
        self.commit()
        self.naive.now_s += seconds
        draft = Draft(self.space, self.naive.now_s)
        for key in self.space.delays_over(self.naive.now_s):
            draft.delay(key, None)
        self.space.take(draft.stored(), self.naive.now_s)
        self.batch = Draft(self.space, self.naive.now_s)

    @rule()
    def commit(self) -> None:
        self.space.take(self.batch.stored(), self.naive.now_s)
        self.batch = Draft(self.space, self.naive.now_s)

    @rule()
    def restart(self) -> None:
        self.commit()
        self.space = Space(self.space.stored(), self.naive.now_s)
        self.batch = Draft(self.space, self.naive.now_s)
        delayed = {key for key, until_s in self.naive.delays.items() if until_s > self.naive.now_s}
        self.naive.delays = dict.fromkeys(delayed, self.naive.now_s + 5.0)

    @invariant()
    def same(self) -> None:
        assert [self.batch.entry(key) for key in KEYS] == [
            self.naive.entries.get(key) for key in KEYS
        ]
        for session_id in IDS:
            assert self.batch.session(session_id) == self.naive.sessions.get(session_id)
            held = {k for k, entry in self.naive.entries.items() if entry.session == session_id}
            assert self.batch.held(session_id) == held
        assert self.batch.numbers.index == self.naive.index
        assert self.batch.count == len(self.naive.entries)
        assert self.batch.session_count == len(self.naive.sessions)
        for prefix in PREFIXES:
            wanted = sorted(key for key in self.naive.entries if key.startswith(prefix))
            assert self.batch.keys(prefix) == wanted

    @rule(prefix=st.sampled_from(PREFIXES))
    def read(self, prefix: str) -> None:
        """What is read has exactly the index of the last change of what was asked for."""
        self.commit()
        listing = keys.list_entries(self.space, prefix)
        assert [entry.key for entry in listing.entries] == self.space.keys(prefix)
        assert listing.index == self.naive.key_index(prefix)
        assert keys.list_keys(self.space, prefix, "").index == listing.index
        reading = keys.read(self.space, prefix)
        assert reading.entry == self.naive.entries.get(prefix)
        assert reading.index == self.naive.key_index(prefix, exact=True)
        assert sessions.list_all(self.space, "").index == self.naive.session_index()
        size = sum(len(key) + len(entry.value) for key, entry in self.naive.entries.items())
        assert self.space.size == size


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
