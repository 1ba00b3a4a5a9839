"""Each invariant is broken by a history that breaks it, and by none that does not."""

from collections.abc import Callable

import pytest

from netd.gossip.values import GLOBAL, RecordChanged, State
from tests.sim.invariants import Violation
from tests.sim.invariants.membership import (
    Agreement,
    DeathIsNoticed,
    NeverOlder,
    NoFalseDeath,
    NoLastingMistake,
    OldRunsAreOver,
    OwnWordOnly,
)
from tests.sim.invariants.records import (
    Convergence,
    HiddenWithOwner,
    ScopesAreKept,
    ValidHistory,
    Watermark,
    WrittenByOwner,
    key_of,
)
from tests.sim.invariants.traffic import Bounds, NoProbeFails, NothingChanges, Quiet

X, Y = b"x" * 16, b"y" * 16
SCOPE = b"networkA"


def breaks(number: int, act: Callable[[], object]) -> None:
    with pytest.raises(Violation) as caught:
        act()
    assert caught.value.number == number


def record(value: bytes | None, key: str = "k") -> RecordChanged:
    return RecordChanged(X, GLOBAL, "t", key, value)


def test_1_an_incarnation_goes_down() -> None:
    check = NeverOlder()
    check.see("a", X, (1, 5))
    check.see("a", X, (2, 0))
    check.see("b", X, (1, 1))
    breaks(1, lambda: check.see("a", X, (1, 9)))
    check.begins("a")
    check.see("a", X, (1, 9))


def test_2_somebody_invents_an_incarnation() -> None:
    check = OwnWordOnly()
    check.itself(X, (1, 3))
    check.see("a", X, (1, 3))
    breaks(2, lambda: check.see("a", X, (1, 4)))
    breaks(2, lambda: check.see("a", Y, (0, 0)))


def test_3_a_death_of_an_old_run_counts() -> None:
    check = OldRunsAreOver()
    check.see("a", X, State.DEAD, 1)
    check.see("a", X, State.ALIVE, 2)
    breaks(3, lambda: check.see("a", X, State.DEAD, 1))
    breaks(3, lambda: check.see("a", X, State.LEFT, 1))
    check.see("a", X, State.DEAD, 2)


@pytest.mark.parametrize("number", [4, 8])
def test_4_and_8_views_stay_different(number: int) -> None:
    check = Agreement(number)
    views = {"a": {X, Y}, "b": {X}}
    assert not check.see(1.0, 5.0, views)
    assert check.see(6.0, 5.0, {"a": {X}, "b": {X}})
    breaks(number, lambda: check.see(5.1, 5.0, views))


def test_5_a_crash_stays_unnoticed() -> None:
    check = DeathIsNoticed()
    assert check.see(9.0, 5.0, "x", {"a": State.DEAD, "b": None})
    assert not check.see(4.0, 5.0, "x", {"a": State.SUSPECT})
    breaks(5, lambda: check.see(5.1, 5.0, "x", {"a": State.DEAD, "b": State.SUSPECT}))


def test_6_a_living_node_stays_dead() -> None:
    check = NoLastingMistake(10.0)
    check.see(0.0, "a", X, dead=True, well=True)
    check.see(9.0, "a", X, dead=False, well=True)
    check.see(10.0, "a", X, dead=True, well=True)
    check.see(20.0, "a", X, dead=True, well=True)
    check.see(20.5, "b", X, dead=True, well=True)
    breaks(6, lambda: check.see(20.5, "a", X, dead=True, well=True))


def test_7_a_living_node_is_declared_dead() -> None:
    check = NoFalseDeath()
    check.see("a", X, State.DEAD, well=False)
    check.see("a", X, State.SUSPECT, well=True)
    breaks(7, lambda: check.see("a", X, State.DEAD, well=True))
    check.strict = False
    check.see("a", X, State.DEAD, well=True)
    assert check.deaths == 2


def test_9_a_packet_or_a_queue_is_too_large() -> None:
    check = Bounds(1232, {"queue": 10})
    check.packet(1232)
    check.level("a", {"queue": 10, "other": 99})
    breaks(9, lambda: check.packet(1233))
    breaks(9, lambda: check.level("a", {"queue": 11}))


def test_10_a_quiet_cluster_talks() -> None:
    check = Quiet(6.0, 600.0)
    check.see("a", 10.0, 60, 6_000)
    breaks(10, lambda: check.see("a", 10.0, 61, 1_000))
    breaks(10, lambda: check.see("a", 10.0, 40, 6_001))


def test_11_a_value_comes_from_nowhere() -> None:
    check = WrittenByOwner()
    check.write(key_of(record(b"1")), b"1")
    check.see("a", record(b"1"), hidden=False)
    breaks(11, lambda: check.see("a", record(b"2"), hidden=False))
    breaks(11, lambda: check.see("a", record(b"1", "other"), hidden=False))


def test_11_an_older_value_follows_a_newer() -> None:
    check = WrittenByOwner()
    for value in (b"1", b"2"):
        check.write(key_of(record(value)), value)
    check.see("a", record(b"2"), hidden=False)
    check.see("b", record(b"1"), hidden=False)
    breaks(11, lambda: check.see("a", record(b"1"), hidden=False))
    check.write(key_of(record(b"1")), b"1")  # once more, by a later run
    check.see("a", record(b"1"), hidden=False)


def test_12_a_replica_lacks_what_its_version_promises() -> None:
    check = Watermark()
    log = (X, GLOBAL, 7)
    check.owner(log, 1, {("t", "k"): b"1"})
    check.owner(log, 2, {("t", "k"): b"1", ("t", "l"): b"2"})
    check.replica("a", log, 1, {("t", "k"): b"1"})
    breaks(12, lambda: check.replica("a", log, 2, {("t", "k"): b"1"}))
    breaks(12, lambda: check.replica("a", log, 2, {("t", "k"): b"0", ("t", "l"): b"2"}))
    breaks(12, lambda: check.replica("a", log, 1, {}))
    breaks(12, lambda: check.replica("a", log, 3, {}))
    check.owner(log, 3, {("t", "l"): b"2"})
    check.replica("a", log, 2, {("t", "l"): b"2"})  # its deletion has replaced the value
    breaks(12, lambda: check.replica("a", log, 3, {("t", "k"): b"1", ("t", "l"): b"2"}))
    check.replica("a", (Y, GLOBAL, 7), 3, {})  # nothing is known of its owner


def test_13_a_deleted_record_comes_back() -> None:
    check = WrittenByOwner()
    check.write(key_of(record(b"1")), b"1")
    check.see("a", record(b"1"), hidden=False)
    check.see("a", record(None), hidden=True)
    check.see("a", record(b"1"), hidden=False)
    check.see("a", record(None), hidden=False)
    breaks(13, lambda: check.see("a", record(b"1"), hidden=False))
    check.write(key_of(record(b"2")), b"2")
    check.see("a", record(b"2"), hidden=False)


def test_14_a_replica_stays_different() -> None:
    check = Convergence()
    key = key_of(record(b"1"))
    assert check.see(9.0, 5.0, "a", {key: b"1"}, {key: b"1"})
    assert not check.see(5.0, 5.0, "a", {}, {key: b"1"})
    breaks(14, lambda: check.see(5.1, 5.0, "a", {}, {key: b"1"}))
    breaks(14, lambda: check.see(5.1, 5.0, "a", {key: b"1"}, {}))


def test_15_records_of_a_hidden_owner_are_shown() -> None:
    check = HiddenWithOwner()
    check.see(0.0, "a", X, epoch=1, hidden=False, visible=3)
    check.see(1.0, "a", X, epoch=1, hidden=True, visible=0)
    breaks(15, lambda: check.see(2.0, "a", X, epoch=1, hidden=True, visible=1))


def test_15_records_stay_away_when_their_owner_is_back() -> None:
    check = HiddenWithOwner()
    check.see(0.0, "a", X, epoch=1, hidden=False, visible=3)
    check.see(5.0, "a", X, epoch=1, hidden=True, visible=0)
    check.see(6.0, "a", X, epoch=1, hidden=False, visible=0)
    check.see(6.5, "b", X, epoch=1, hidden=False, visible=0)
    breaks(15, lambda: check.see(6.6, "a", X, epoch=1, hidden=False, visible=0))
    check.see(7.2, "a", X, epoch=1, hidden=False, visible=3)
    check.see(9.0, "a", X, epoch=1, hidden=False, visible=2)


def test_16_events_are_no_history() -> None:
    check = ValidHistory()
    check.begins("a")
    breaks(16, lambda: check.told("a", record(None)))
    check.told("a", record(b"1"))
    breaks(16, lambda: check.told("a", record(b"1")))
    check.told("a", record(b"2"))
    check.see("a", [record(b"2")])
    breaks(16, lambda: check.see("a", [record(b"1")]))
    check.told("a", record(None))
    breaks(16, lambda: check.see("a", [record(b"2")]))
    check.see("a", [])


def test_17_a_record_leaves_its_network() -> None:
    check = ScopesAreKept()
    check.told("a", {SCOPE}, SCOPE)
    check.told("a", set(), GLOBAL)
    breaks(17, lambda: check.told("a", set(), SCOPE))
    check.wire("a", {SCOPE}, b"..networkA..")
    check.wire("a", set(), b"..networkA..")
    check.marks.add(SCOPE)
    check.wire("a", {SCOPE}, b"..networkA..")
    breaks(17, lambda: check.wire("a", set(), b"..networkA.."))


def test_18_a_foreign_packet_has_an_effect() -> None:
    check = NothingChanges()
    check.see("junk", 1, 1, 0, 1)
    breaks(18, lambda: check.see("junk", 1, 2, 0, 1))
    breaks(18, lambda: check.see("junk", 1, 1, 1, 1))
    breaks(18, lambda: check.see("junk", 1, 1, 0, 0))


def test_20_a_probe_fails_during_a_rotation() -> None:
    check = NoProbeFails()
    check.see("a", 3, 1)
    check.see("a", 3, 1)
    breaks(20, lambda: check.see("a", 4, 1))
