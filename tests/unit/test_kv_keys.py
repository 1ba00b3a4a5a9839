"""Keys, sessions and locks, case by case: what clients of Consul rely on."""

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from netd.kv import draft as drafts
from netd.kv import keys, sessions
from netd.kv.draft import Draft
from netd.kv.sessions import Deadlines
from netd.kv.space import Numbers, Space, Stored
from netd.model.errors import Exhausted, Invalid
from netd.model.kv import (
    KEY_MAX_BYTES,
    OPERATIONS_MAX,
    VALUE_MAX_BYTES,
    Entry,
    Operation,
    Outcome,
    Session,
    SessionSpec,
    Verb,
)


class Shop:
    """A space and a clock."""

    def __init__(self) -> None:
        self.space = Space(Stored(numbers=Numbers(index=0)))
        self.now_s = 1000.0

    def transact(self, *operations: Operation) -> Outcome:
        draft, outcome = keys.transact(self.space, operations, self.now_s)
        self.space.take(draft.stored(), self.now_s)
        return outcome

    def do(self, verb: Verb, key: str, **fields: Any) -> Outcome:
        return self.transact(Operation(verb=verb, key=key, **fields))

    def done(self, verb: Verb, key: str, **fields: Any) -> bool:
        return not self.do(verb, key, **fields).failures

    def fault(self, verb: Verb, key: str, **fields: Any) -> str:
        (failure,) = self.do(verb, key, **fields).failures
        return f"{failure.fault}: {failure.detail}"

    def session(self, session_id: str = "s1", **fields: Any) -> Session:
        draft = Draft(self.space, self.now_s)
        session = sessions.create(draft, session_id, SessionSpec(**{"node": "n", **fields}))
        self.space.take(draft.stored(), self.now_s)
        return session

    def end(self, session_id: str) -> None:
        draft = Draft(self.space, self.now_s)
        sessions.end(draft, session_id)
        self.space.take(draft.stored(), self.now_s)

    def entry(self, key: str) -> Entry:
        entry = self.space.entry(key)
        assert entry is not None
        return entry

    @property
    def index(self) -> int:
        return self.space.numbers.index


@pytest.fixture
def shop() -> Shop:
    return Shop()


def test_a_key_has_the_indexes_of_its_writes(shop: Shop) -> None:
    shop.do("set", "a", value=b"1", flags=2**64 - 1)
    shop.do("set", "b", value=b"1")
    outcome = shop.do("set", "a", value=b"2", flags=7)
    assert outcome == Outcome(
        index=3, results=(Entry(key="a", flags=7, create_index=1, modify_index=3),)
    )
    assert shop.entry("a") == Entry(
        key="a", value=b"2", flags=7, create_index=1, modify_index=3, lock_index=0
    )


def test_what_is_written_again_as_it_is_changes_no_index(shop: Shop) -> None:
    shop.do("set", "a", value=b"1")
    assert shop.do("set", "a", value=b"1").index == 1
    assert shop.index == 1
    shop.do("set", "a", value=b"1", flags=1)
    assert shop.index == 2


def test_cas(shop: Shop) -> None:
    assert shop.done("cas", "a", value=b"1", index=0)
    assert shop.fault("cas", "a", index=0) == "exists: key 'a' exists"
    assert shop.fault("cas", "a", index=2) == "stale: failed to set key 'a', index is stale"
    assert shop.fault("cas", "b", index=2) == "stale: failed to set key 'b', index is stale"
    assert shop.index == 1
    assert shop.done("cas", "a", value=b"2", index=1)
    assert shop.entry("a").modify_index == 2


def test_delete_cas_of_what_is_not_there_succeeds(shop: Shop) -> None:
    assert shop.done("delete-cas", "a", index=5)
    shop.do("set", "a")
    assert shop.fault("delete-cas", "a", index=5).startswith("stale: failed to delete key 'a'")
    assert shop.done("delete-cas", "a", index=1)
    assert shop.space.entry("a") is None


def test_deleting_nothing_changes_no_index(shop: Shop) -> None:
    shop.do("set", "a")
    assert shop.done("delete", "b")
    assert shop.done("delete-tree", "b")
    assert shop.index == 1


def test_a_lock(shop: Shop) -> None:
    shop.session("s1")
    shop.session("s2")
    assert shop.done("lock", "a", session="s1", value=b"1")
    assert shop.entry("a").lock_index == 1
    assert shop.entry("a").session == "s1"
    assert shop.fault("lock", "a", session="s2") == (
        "held: failed to lock key 'a', lock is already held"
    )
    # Who holds it may write by acquiring it again, which is no new acquisition.
    assert shop.done("lock", "a", session="s1", value=b"2")
    assert shop.entry("a").lock_index == 1
    # Locks are advice: who does not ask for them writes.
    assert shop.done("set", "a", value=b"3")
    assert shop.entry("a").session == "s1"
    assert shop.fault("unlock", "a", session="s2").startswith("not-held: ")
    assert shop.done("unlock", "a", session="s1", value=b"4")
    assert (shop.entry("a").session, shop.entry("a").value) == ("", b"4")
    # To release is no reason for a delay.
    assert shop.done("lock", "a", session="s2")
    assert shop.entry("a").lock_index == 2


@pytest.mark.parametrize(
    ("verb", "session", "fault"),
    [
        ("lock", "nobody", "no-session: failed to lock key 'a', invalid session"),
        ("lock", "", "no-session: failed to lock key 'a', no session was given"),
        ("unlock", "nobody", "not-held: "),
        ("unlock", "", "not-held: "),
    ],
)
def test_locks_need_a_session(shop: Shop, verb: Verb, session: str, fault: str) -> None:
    assert shop.fault(verb, "a", session=session).startswith(fault)
    shop.do("set", "a")
    assert shop.fault(verb, "a", session=session).startswith(fault)


def test_a_session_that_ends_releases_its_keys_with_a_delay(shop: Shop) -> None:
    shop.session("s1", lock_delay_s=15)
    shop.session("s2")
    shop.do("lock", "a", session="s1", value=b"1")
    shop.do("set", "b")
    shop.end("s1")
    assert shop.entry("a") == Entry(
        key="a", value=b"1", create_index=3, modify_index=5, lock_index=1
    )
    assert shop.entry("b").modify_index == 4
    shop.now_s += 14.9
    assert shop.fault("lock", "a", session="s2") == (
        "delayed: failed to lock key 'a' due to lock delay"
    )
    assert shop.done("set", "a", value=b"2")
    shop.now_s += 0.1
    assert shop.done("lock", "a", session="s2")


def test_a_session_may_take_its_keys_along(shop: Shop) -> None:
    shop.session("s1", behavior="delete", lock_delay_s=5)
    shop.session("s2", lock_delay_s=0)
    shop.do("lock", "a", session="s1")
    shop.end("s1")
    assert shop.space.entry("a") is None
    assert keys.read(shop.space, "a").index == 4
    assert shop.fault("lock", "a", session="s2").startswith("delayed: ")
    shop.now_s += 5
    shop.do("lock", "a", session="s2")
    shop.end("s2")
    shop.session("s3")
    assert shop.done("lock", "a", session="s3")


def test_delays_begin_anew_with_a_restart(shop: Shop) -> None:
    shop.session("s1", lock_delay_s=15)
    shop.session("s2")
    shop.do("lock", "a", session="s1")
    shop.end("s1")
    shop.now_s = 5.0  # of another boot's clock
    shop.space = Space(shop.space.stored(), shop.now_s)
    assert shop.space.next_delay_s() == 20.0
    assert shop.fault("lock", "a", session="s2").startswith("delayed: ")
    shop.now_s = 20.0
    assert shop.space.delays_over(20.0) == ["a"]
    assert shop.done("lock", "a", session="s2")


def test_a_session_that_is_not_there_ends_without_a_trace(shop: Shop) -> None:
    shop.end("s1")
    assert shop.index == 0


def test_a_transaction_has_one_index_and_sees_what_it_has_done(shop: Shop) -> None:
    shop.do("set", "x/1", value=b"1")
    outcome = shop.transact(
        Operation(verb="set", key="x/2", value=b"2"),
        Operation(verb="get-tree", key="x/"),
        Operation(verb="delete", key="x/1"),
        Operation(verb="check-not-exists", key="x/1"),
        Operation(verb="get-or-empty", key="x/1"),
        Operation(verb="check-index", key="x/2", index=2),
    )
    assert outcome == Outcome(
        index=2,
        results=(
            Entry(key="x/2", create_index=2, modify_index=2),
            Entry(key="x/1", value=b"1", create_index=1, modify_index=1),
            Entry(key="x/2", value=b"2", create_index=2, modify_index=2),
            Entry(key="x/1"),
            Entry(key="x/2", create_index=2, modify_index=2),
        ),
    )


def test_a_transaction_that_fails_has_done_nothing(shop: Shop) -> None:
    shop.do("set", "a", value=b"1")
    before = shop.space.stored()
    outcome = shop.transact(
        Operation(verb="set", key="a", value=b"2"),
        Operation(verb="get", key="b"),
        Operation(verb="delete-tree", key=""),
        Operation(verb="check-session", key="a", session="s"),
    )
    assert [(failure.operation, failure.fault) for failure in outcome.failures] == [
        (1, "missing"),
        (3, "missing"),
    ]
    assert outcome.results == ()
    assert outcome.index == 1
    assert shop.space.stored() == before


@pytest.mark.parametrize(
    ("verb", "fields", "detail"),
    [
        ("get", {"key": "b"}, "key 'b' doesn't exist"),
        (
            "check-index",
            {"key": "a", "index": 9},
            "failed index check for key 'a', current modify index 1 != 9",
        ),
        (
            "check-session",
            {"key": "a", "session": "s"},
            "failed session check for key 'a', current session '' != 's'",
        ),
        ("check-not-exists", {"key": "a"}, "key 'a' exists"),
    ],
)
def test_what_is_checked(shop: Shop, verb: Verb, fields: dict[str, Any], detail: str) -> None:
    shop.do("set", "a")
    (failure,) = shop.do(verb, **fields).failures
    assert failure.detail == detail


@pytest.mark.parametrize(
    ("prefix", "separator", "found"),
    [
        ("", "", ["a/b", "a/c/d", "a/c/e", "b"]),
        ("", "/", ["a/", "b"]),
        ("a/", "/", ["a/b", "a/c/"]),
        ("a/c", "/", ["a/c/"]),
        ("a", "c/", ["a/b", "a/c/"]),
        ("z", "/", []),
    ],
)
def test_keys_up_to_a_separator(
    shop: Shop, prefix: str, separator: str, found: Sequence[str]
) -> None:
    for key in ("a/b", "a/c/d", "a/c/e", "b"):
        shop.do("set", key)
    assert list(keys.list_keys(shop.space, prefix, separator).keys) == found


def test_a_deletion_is_seen_by_who_looks_at_a_prefix_of_it_and_by_nobody_else(shop: Shop) -> None:
    for key in ("a/1", "a/2", "b/1"):
        shop.do("set", key)
    shop.do("delete-tree", "a/")
    assert keys.list_entries(shop.space, "a/").index == 4
    assert keys.list_entries(shop.space, "a/1").index == 4
    assert keys.list_entries(shop.space, "b/").index == 3
    assert keys.read(shop.space, "a/2").index == 4
    assert keys.read(shop.space, "a/3").index == 1
    shop.do("set", "a/1")
    assert keys.read(shop.space, "a/1").index == 5
    assert keys.read(shop.space, "a/2").index == 4


def test_deletions_that_are_forgotten_leave_the_index_of_the_last(shop: Shop) -> None:
    for key in ("a", "b", "c", "d"):
        shop.do("set", key)
    shop.do("delete", "a")
    shop.transact(Operation(verb="delete", key="b"), Operation(verb="delete", key="c"))
    shop.do("delete", "d")
    graves = shop.space.oldest_graves(2)
    assert graves == [("a", 5), ("b", 6), ("c", 6)]
    draft = Draft(shop.space, shop.now_s)
    draft.reap(graves)
    assert draft.changed
    shop.space.take(draft.stored(), shop.now_s)
    assert shop.space.grave_count == 1
    assert shop.index == 7
    # Who has seen index 5 may have missed what is forgotten, and is told so.
    assert keys.read(shop.space, "b").index == 6
    assert keys.read(shop.space, "never").index == 6
    assert keys.list_entries(shop.space, "a").index == 6
    assert keys.read(shop.space, "d").index == 7


@pytest.mark.parametrize(
    ("operations", "field"),
    [
        ((), "operations"),
        ((Operation(verb="get", key="a"),) * (OPERATIONS_MAX + 1), "operations"),
        ((Operation(verb="set", key=""),), "operations[0].key"),
        ((Operation(verb="set", key="a", flags=2**64),), "operations[0].flags"),
        ((Operation(verb="get", key="a"), Operation(verb="get", key="")), "operations[1].key"),
        ((Operation(verb="get", key="é" * (KEY_MAX_BYTES // 2 + 1)),), "operations[0].key"),
        (
            (
                Operation(verb="set", key="a", value=bytes(VALUE_MAX_BYTES)),
                Operation(verb="set", key="b", value=b"1"),
            ),
            "operations",
        ),
    ],
)
def test_transactions_that_cannot_be(operations: tuple[Operation, ...], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        keys.check(operations)
    assert caught.value.field == field


def test_the_largest_transaction() -> None:
    keys.check((Operation(verb="set", key="k" * KEY_MAX_BYTES, value=bytes(VALUE_MAX_BYTES)),))
    keys.check((Operation(verb="delete-tree", key=""),) * OPERATIONS_MAX)


def test_there_is_an_end_of_keys_and_bytes(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "KEYS_MAX", 2)
    monkeypatch.setattr(drafts, "BYTES_MAX", 10)
    monkeypatch.setattr(drafts, "SESSIONS_MAX", 1)
    shop.do("set", "a", value=b"1234567")
    shop.do("set", "b", value=b"1")
    before = shop.space.stored()
    with pytest.raises(Exhausted, match="2 keys"):
        shop.do("set", "c")
    with pytest.raises(Exhausted, match="more than"):
        shop.transact(
            Operation(verb="set", key="b", value=b""),
            Operation(verb="set", key="a", value=b"9" * 9),
        )
    assert shop.space.stored() == before
    assert shop.done("set", "a", value=b"7654321")
    shop.session("s1")
    with pytest.raises(Exhausted, match="1 sessions"):
        shop.session("s2")


def test_sessions_are_listed_by_node(shop: Shop) -> None:
    first = shop.session("s2", node="n1", name="web")
    second = shop.session("s1", node="n2")
    assert sessions.list_all(shop.space, "").sessions == (second, first)
    assert sessions.list_all(shop.space, "n1").sessions == (first,)
    assert sessions.read(shop.space, "s2").sessions == (first,)
    assert sessions.read(shop.space, "s3").sessions == ()
    shop.do("set", "a")
    assert sessions.read(shop.space, "s3").index == 2


@pytest.mark.parametrize("ttl_s", [1.0, 9.9])
def test_a_ttl_is_long_enough(ttl_s: float) -> None:
    with pytest.raises(Invalid) as caught:
        sessions.check(SessionSpec(ttl_s=ttl_s))
    assert caught.value.field == "ttl_s"
    sessions.check(SessionSpec(ttl_s=0.0))
    sessions.check(SessionSpec(ttl_s=10.0))


def test_deadlines() -> None:
    deadlines = Deadlines()
    session = Session(id="s1", node="n", ttl_s=10.0)
    deadlines.renew(session, 100.0)
    deadlines.renew(Session(id="s2", node="n"), 100.0)
    assert deadlines.next_s() == 115.0
    deadlines.renew(session, 109.0)
    assert deadlines.next_s() == 124.0
    assert deadlines.due(123.9) == []
    # One that is due stays so until it is known to have ended.
    assert deadlines.due(124.0) == ["s1"]
    assert deadlines.due(124.0) == ["s1"]
    deadlines.renew(session, 124.0)
    assert deadlines.due(124.0) == []
    deadlines.drop("s1")
    assert deadlines.next_s() is None
    assert deadlines.due(1000.0) == []


def test_deadlines_of_many_renewals_take_no_room() -> None:
    deadlines = Deadlines()
    for number in range(10_000):
        deadlines.renew(Session(id=f"s{number % 3}", node="n", ttl_s=10.0), float(number))
    assert len(deadlines._heap) < 100
    assert sorted(deadlines.due(9_999.0 + 15.0)) == ["s0", "s1", "s2"]


def test_a_draft_that_is_forgotten_was_never_there(shop: Shop) -> None:
    shop.session("s1")
    shop.do("lock", "a", session="s1")
    before = shop.space.stored()
    draft = Draft(shop.space, shop.now_s)
    sessions.end(draft, "s1")
    draft.put(Entry(key="b"))
    draft.delete("a")
    assert draft.told().keys == ("a", "b")
    assert draft.told().sessions
    assert shop.space.stored() == before
    assert shop.space.held("s1") == {"a"}
    assert replace(before) == shop.space.stored()


def test_many_keys_are_put_and_deleted_at_once(shop: Shop) -> None:
    draft = Draft(shop.space, shop.now_s)
    names = [f"k{number:03}" for number in range(100)]
    for name in reversed(names):
        draft.put(Entry(key=name))
    shop.space.take(draft.stored(), shop.now_s)
    assert shop.space.keys() == names
    shop.do("delete-tree", "k0")
    assert shop.space.keys("") == []
    assert shop.space.grave_count == 100
