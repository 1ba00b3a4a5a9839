"""Logs of others: what gets in, what does not, and what is seen of it."""

import random

import msgspec
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from netd.gossip.core import Gossip
from netd.gossip.log import ATTACHMENT, Log
from netd.gossip.logs import row_of
from netd.gossip.messages import Delta, Entry, LogRow, Want
from netd.gossip.settings import Settings
from netd.gossip.values import GLOBAL, RecordChanged
from tests.unit.gossip_cores import (
    START_S,
    Lab,
    Puppet,
    core_of,
    identity_of,
    introduced,
    replayed,
    values,
)

OWNER, OTHER = Puppet(2), Puppet(3)
SCOPE = b"scope--1"


def scene(**settings: int) -> Gossip:
    core = core_of(identity_of(1), Settings(**settings))
    introduced(core, OWNER, OTHER)
    return core


def tell(core: Gossip, *deltas: Delta, by: Puppet = OTHER) -> list[Want]:
    """What is asked for then."""
    asked = []
    for delta in deltas:
        asked += [m for m in by.say(core, delta, now_s=core._parts.now_s) if isinstance(m, Want)]
    return asked


def row(core: Gossip, owner: Puppet = OWNER, scope: bytes = GLOBAL) -> tuple[int, int]:
    found = row_of((owner.id, scope), core._replica.get((owner.id, scope)))
    return found.epoch, found.version


def seen(core: Gossip, owner: Puppet = OWNER, scope: bytes = GLOBAL) -> dict[str, bytes | None]:
    return {key[3]: value for key, value in values(core).items() if key[:2] == (owner.id, scope)}


def test_deltas_are_taken_over_in_order_and_repetitions_are_nothing() -> None:
    core = scene()
    first = OWNER.delta((1, "a", b"1"), (2, "b", b"1"))
    second = OWNER.delta((3, "a", b"2"), (5, "b", None), start=2)
    tell(core, first, second, first, second)
    assert row(core) == (1, 5)
    assert seen(core) == {"a": b"2"}
    events = [event for event in core.take().events if isinstance(event, RecordChanged)]
    assert events == []


def test_what_is_missing_is_asked_for_once_in_a_while() -> None:
    core = scene()
    late = OWNER.delta((3, "a", b"3"), start=2)
    (want,) = tell(core, late)
    assert want.rows == (LogRow(OWNER.id, GLOBAL, 0, 0),)
    assert tell(core, late) == []
    assert row(core) == (0, 0)
    tell(core, OWNER.delta((1, "a", b"1")))
    core._parts.now_s += 1.0
    (want,) = tell(core, late)
    assert want.rows == (LogRow(OWNER.id, GLOBAL, 1, 1),)
    tell(core, OWNER.delta((3, "a", b"3"), start=1))
    assert seen(core) == {"a": b"3"}


def _forgeries() -> list[Delta]:
    good = OWNER.delta((3, "a", b"3"), start=2)
    (entry,) = good.entries
    other = OTHER.delta((3, "a", b"3"), start=2)
    elsewhere = OWNER.delta((3, "a", b"3"), start=2, scope=SCOPE)
    earlier = OWNER.delta((3, "a", b"3"), start=2, epoch=2)

    def with_entry(*entries: Entry) -> Delta:
        return msgspec.structs.replace(good, entries=entries)

    replace = msgspec.structs.replace
    return [
        with_entry(replace(entry, value=b"4")),
        with_entry(replace(entry, value=None)),
        with_entry(replace(entry, key="b")),
        with_entry(replace(entry, table="u")),
        with_entry(replace(entry, version=4)),
        with_entry(replace(entry, signature=bytes(64))),
        with_entry(other.entries[0]),
        with_entry(elsewhere.entries[0]),
        with_entry(earlier.entries[0]),
        with_entry(entry, replace(entry, version=4)),
        with_entry(entry, entry),
        replace(good, epoch=2),
        replace(good, start=9, end=3),
        # To wipe a log, or to put it out of its owner's reach, takes the owner's signature.
        replace(good, epoch=2, start=0, end=10**15, entries=()),
        replace(good, mark=replace(good.mark, version=10**15), end=10**15, entries=()),
        replace(good, mark=replace(good.mark, floor=10**15)),
        replace(good, mark=replace(good.mark, baseline=10**15)),
        replace(good, end=2**40),
    ]


def test_forged_entries_change_nothing() -> None:
    core = scene()
    tell(core, OWNER.delta((1, "a", b"1"), (2, "b", b"1")))
    core.take()
    before = values(core), core._digests(core.member(OTHER.id)), core.levels()["logs"]
    for forgery in _forgeries():
        tell(core, forgery)
        assert (values(core), core._digests(core.member(OTHER.id)), core.levels()["logs"]) == before
    assert core.counters["refused_signature"] + core.counters["refused_malformed"] >= 10
    tell(core, OWNER.delta((3, "a", b"3"), start=2))
    assert seen(core) == {"a": b"3", "b": b"1"}


def test_nothing_is_taken_over_of_this_node_or_of_strangers() -> None:
    core = scene()
    me, stranger = Puppet(1), Puppet(9)
    before = core._replica.own_log(GLOBAL).version
    tell(core, me.delta((90, "a", b"1")), stranger.delta((1, "a", b"1")))
    assert core._replica.own_log(GLOBAL).version == before
    assert values(core) == {}
    assert core.levels()["logs"] == 1


def test_scopes_that_this_node_is_not_in_are_refused() -> None:
    core = scene()
    tell(core, OWNER.delta((1, "a", b"1"), scope=SCOPE))
    assert core.counters["refused_scope"] == 1
    assert core.levels()["logs"] == 1


# Epochs


def test_a_new_run_replaces_the_old_one_when_all_of_it_is_there() -> None:
    core = scene()
    tell(core, OWNER.delta((1, "a", b"1"), (2, "b", b"1")))
    core.take()
    first = OWNER.delta((1, "a", b"1"), epoch=2, baseline=3)
    tell(core, first)
    assert seen(core) == {"a": b"1", "b": b"1"}
    assert row(core) == (2, 1)
    # What is still said of the old run comes too late.
    tell(core, OWNER.delta((3, "c", b"1"), start=2))
    slot = core._replica.get((OWNER.id, GLOBAL))
    assert slot is not None
    assert slot.current is not None
    assert slot.current.version == 2
    core.take()
    core.receive(
        OTHER.packet(OWNER.delta((2, "c", b"2"), (3, "d", b"2"), start=1, epoch=2, baseline=3)),
        OTHER.address,
        START_S,
    )
    assert seen(core) == {"a": b"1", "c": b"2", "d": b"2"}
    told = {e.key: e.value for e in core.take().events if isinstance(e, RecordChanged)}
    assert told == {"b": None, "c": b"2", "d": b"2"}  # `a` is the same in both
    tell(core, OWNER.delta((9, "z", b"1"), start=0, epoch=1))
    assert row(core) == (2, 3)


# Tombstones


def test_who_has_missed_dropped_tombstones_takes_the_log_from_its_beginning() -> None:
    core = scene()
    tell(core, OWNER.delta((1, "a", b"1"), (2, "b", b"1")))
    # 3 and 4 were deletions of both, and are dropped by now.
    (want,) = tell(core, OWNER.delta((5, "c", b"1"), start=4, floor=4))
    assert want.rows == (LogRow(OWNER.id, GLOBAL, 1, 2),)
    assert seen(core) == {"a": b"1", "b": b"1"}
    tell(core, OWNER.delta((5, "c", b"1"), start=0, floor=4))
    assert seen(core) == {"c": b"1"}
    assert row(core) == (1, 5)


def test_a_log_from_its_beginning_is_seen_only_when_it_is_past_the_floor() -> None:
    core = scene()
    tell(core, OWNER.delta((1, "a", b"1"), (2, "b", b"1"), (3, "c", b"1")))
    tell(core, OWNER.delta((2, "b", b"1"), start=0, floor=6, baseline=0))
    assert seen(core) == {"a": b"1", "b": b"1", "c": b"1"}
    tell(core, OWNER.delta((3, "c", b"1"), (7, "d", b"1"), start=2, floor=6))
    assert seen(core) == {"b": b"1", "c": b"1", "d": b"1"}


def test_who_is_past_the_floor_drops_the_tombstones_too() -> None:
    core = scene()
    tell(core, OWNER.delta((1, "a", b"1"), (2, "a", None)))
    slot = core._replica.get((OWNER.id, GLOBAL))
    assert slot is not None
    assert slot.current is not None
    assert len(slot.current.entries) == 1
    tell(core, OWNER.delta((3, "b", b"1"), start=2, floor=2))
    assert [entry.key for entry in slot.current.entries.values()] == ["b"]


operations = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.none() | st.binary(max_size=2)), max_size=40
)


@given(operations, st.data())
def test_any_cut_into_deltas_gives_the_owners_table(
    done: list[tuple[str, bytes | None]], data: st.DataObject
) -> None:
    """With drops of tombstones in between, and receivers that come by now and then."""
    core = scene()
    log, table = Log(1), dict[str, bytes]()
    for key, value in done:
        if table.get(key) == value:
            continue
        log.version += 1
        log.put(OWNER.signer.record(GLOBAL, 1, log.version, "t", key, value))
        if value is None:
            del table[key]
        else:
            table[key] = value
        if data.draw(st.booleans(), "drop tombstones"):
            log.drop_tombstones(log.version)
        if data.draw(st.booleans(), "send"):
            _send(core, log, data.draw(st.integers(330, 700), "room"))
            if row(core) == (1, log.version):
                assert seen(core) == table
    for _ in range(60):
        _send(core, log, 500)
    assert seen(core) == table
    assert row(core) == (1, log.version)


def _send(core: Gossip, log: Log, room: int) -> None:
    log.mark = OWNER.signer.mark(GLOBAL, 1, log.version, 0, log.floor)
    at = row_of((OWNER.id, GLOBAL), core._replica.get((OWNER.id, GLOBAL)))
    delta = log.delta(OWNER.id, GLOBAL, at.version, room, news=False, floor=at.floor)
    if delta is not None:
        tell(core, delta)


# Bounds


def test_logs_and_records_are_bounded() -> None:
    core = scene(logs_max=3, own_records_max=5, kept_mult=1)
    records = [(number, f"k{number}", b"v") for number in range(1, 7)]
    tell(core, OWNER.delta(*records))
    assert seen(core) == {}
    assert core.counters["refused_records"] == 1
    for number in range(10, 13):
        puppet = Puppet(number)
        introduced(core, puppet)
        tell(core, puppet.delta((1, "a", b"1")))
    assert core.levels()["logs"] == 3
    assert core.counters["refused_logs"] == 2


# Hiding, scopes, forgetting


def test_an_owner_that_is_gone_is_hidden_and_back_at_once() -> None:
    core = scene(confirm_s=0)  # a death is believed at once
    tell(core, OWNER.delta((1, "a", b"1")))
    accusers = (bytes(16), OTHER.id)
    OTHER.say(core, OWNER.suspect(0, *accusers), OWNER.dead(0, *accusers), now_s=START_S)
    assert seen(core) == {}
    tell(core, OWNER.delta((2, "b", b"2"), start=1))
    assert seen(core) == {}
    OTHER.say(core, OWNER.alive(1), now_s=START_S)
    assert seen(core) == {"a": b"1", "b": b"2"}
    OTHER.say(core, OWNER.left(1), now_s=START_S)
    assert seen(core) == {}


def test_records_of_a_scope_are_with_those_who_are_in_it_only() -> None:
    lab = Lab()
    one, two, outside = lab.cluster(3)
    for core in (one, two):
        core.subscribe(SCOPE, lab.now_s)
    one.publish(SCOPE, "t", "k", b"secret", lab.now_s)
    lab.run(10.0)
    assert values(two) == {(one.id, SCOPE, "t", "k"): b"secret"}
    assert values(outside) == {}
    assert not [log for log, _ in outside._replica.items() if log[1] == SCOPE]
    two.unsubscribe(SCOPE, lab.now_s)
    lab.run(10.0)
    assert values(two) == {}
    assert not [log for log, _ in two._replica.items() if log == (one.id, SCOPE)]
    two.subscribe(SCOPE, lab.now_s)
    lab.run(10.0)
    assert values(two) == {(one.id, SCOPE, "t", "k"): b"secret"}
    one.unsubscribe(SCOPE, lab.now_s)
    lab.run(5.0)
    assert values(two) == {}
    one.subscribe(SCOPE, lab.now_s)
    one.publish(SCOPE, "t", "k", b"again", lab.now_s)
    lab.run(5.0)
    assert values(two) == {(one.id, SCOPE, "t", "k"): b"again"}


def test_one_who_enters_a_scope_has_its_records_without_waiting() -> None:
    lab = Lab()
    *inside, late = lab.cluster(6)
    for core in inside:
        core.subscribe(SCOPE, lab.now_s)
        core.publish(SCOPE, "t", "k", b"value", lab.now_s)
    lab.run(5.0)
    late.subscribe(SCOPE, lab.now_s)
    lab.settle()
    assert values(late) == {(core.id, SCOPE, "t", "k"): b"value" for core in inside}


def test_one_who_enters_a_scope_gets_over_a_lost_packet() -> None:
    lab = Lab()
    one, two = lab.cluster(2)
    one.subscribe(SCOPE, lab.now_s)
    one.publish(SCOPE, "t", "k", b"value", lab.now_s)
    lab.run(5.0)
    lab.packets = lambda _source, _to: False
    two.subscribe(SCOPE, lab.now_s)
    lab.settle()
    assert values(two) == {}, "who is asked does not know yet that it may show it"
    lab.packets = lambda _source, _to: True
    lab.run(1.0)
    assert values(two) == {(one.id, SCOPE, "t", "k"): b"value"}


def test_one_who_is_not_in_a_scope_gets_nothing_of_it_by_asking() -> None:
    lab = Lab()
    one, two = lab.cluster(2)
    for core in (one, two):
        core.subscribe(SCOPE, lab.now_s)
    one.publish(SCOPE, "t", "k", b"secret", lab.now_s)
    lab.run(5.0)
    introduced(one, OTHER, now_s=lab.now_s)
    asked = Want((LogRow(one.id, SCOPE, 0, 0), LogRow(one.id, GLOBAL, 0, 0)))
    heard = OTHER.say(one, asked, now_s=lab.now_s)
    assert {m.scope for m in heard if isinstance(m, Delta)} == {GLOBAL}


def test_a_run_without_records_ends_those_of_the_run_before() -> None:
    lab = Lab()
    one, two = lab.cluster(2)
    for core in (one, two):
        core.subscribe(SCOPE, lab.now_s)
    two.publish(SCOPE, "t", "k", b"old", lab.now_s)
    lab.run(5.0)
    assert len(values(one)) == 1
    (again,) = lab.add(2, epoch=2)
    again.subscribe(SCOPE, lab.now_s)
    again.join([("192.0.2.1", 7946)], lab.now_s)
    lab.run(10.0)
    assert values(one) == {}


class Histories(RuleBasedStateMachine):
    """Two owners write, go, come back and start anew; a third node's events are valid."""

    def __init__(self) -> None:
        super().__init__()
        self.lab = Lab()
        self.reader, self.one, self.two = self.lab.cluster(3)
        self.epochs = {2: 1, 3: 1}
        self.random = random.Random(1)
        for core in (self.reader, self.one, self.two):
            core.subscribe(SCOPE, self.lab.now_s)

    def owner(self, number: int) -> Gossip:
        return self.lab.cores[f"192.0.2.{number}", 7946]

    @rule(
        number=st.sampled_from([2, 3]),
        scope=st.sampled_from([GLOBAL, SCOPE]),
        key=st.sampled_from("abc"),
        value=st.none() | st.binary(max_size=3),
    )
    def write(self, number: int, scope: bytes, key: str, value: bytes | None) -> None:
        self.owner(number).publish(scope, "t", key, value, self.lab.now_s)

    @rule(seconds=st.sampled_from([0.01, 0.3, 2.0]))
    def wait(self, seconds: float) -> None:
        self.lab.run(seconds)

    @rule(number=st.sampled_from([2, 3]))
    def cut(self, number: int) -> None:
        self.lab.cut([self.owner(number)], [self.reader, self.owner(5 - number)])
        self.lab.run(40.0)

    @rule()
    def heal(self) -> None:
        self.lab.heal()
        self.lab.run(15.0)

    @rule(number=st.sampled_from([1, 2, 3]))
    def detach(self, number: int) -> None:
        self.owner(number).unsubscribe(SCOPE, self.lab.now_s)

    @rule(number=st.sampled_from([1, 2, 3]))
    def attach(self, number: int) -> None:
        self.owner(number).subscribe(SCOPE, self.lab.now_s)

    @rule(number=st.sampled_from([2, 3]), anew=st.booleans())
    def restart(self, number: int, anew: bool) -> None:
        """With what it had, or with nothing."""
        before = [] if anew else [r for r in self.owner(number).records() if r.table == "t"]
        self.epochs[number] += 1
        (core,) = self.lab.add(number, epoch=self.epochs[number])
        core.subscribe(SCOPE, self.lab.now_s)
        for record in before:
            if record.owner == core.id:
                core.publish(record.scope, "t", record.key, record.value, self.lab.now_s)
        core.join([("192.0.2.1", 7946)], self.lab.now_s)

    @invariant()
    def events_are_histories_and_their_sum_is_what_is_seen(self) -> None:
        self.lab.settle()
        shown = {r[:4]: r.value for r in self.reader.records()}
        assert replayed(self.lab.events[self.reader.id]) == shown

    def teardown(self) -> None:
        self.heal()
        self.lab.run(20.0)
        for number in (2, 3):
            owner = self.owner(number)
            mine = {k: v for k, v in values(owner).items() if k[0] == owner.id}
            member = self.reader.member(self.reader.id)
            assert member is not None
            if SCOPE not in member.scopes:
                mine = {k: v for k, v in mine.items() if k[1] == GLOBAL}
            found = {k: v for k, v in values(self.reader).items() if k[0] == owner.id}
            assert found == mine


TestHistories = Histories.TestCase
TestHistories.settings = hypothesis(max_examples=60, stateful_step_count=15, deadline=None)


def test_of_scopes_that_a_node_was_once_in_it_keeps_their_versions_only() -> None:
    scopes = [bytes([number]) * 8 for number in range(1, 40)]
    lab = Lab()
    one, two = lab.cluster(2)
    logs = one.levels()["logs"]
    for scope in scopes:
        for core in (one, two):
            core.subscribe(scope, lab.now_s)
        one.publish(scope, "t", "old", b"1", lab.now_s)
        lab.run(0.5)
        one.unsubscribe(scope, lab.now_s)
    lab.run(lab.settings.tombstone_kept_s + 60.0)
    assert one.levels()["logs"] == logs
    assert one._replica._trees.keys() == {GLOBAL}
    # It goes on where it was: who kept the log from then has no old record, and the new one.
    one.subscribe(scopes[0], lab.now_s)
    one.publish(scopes[0], "t", "new", b"2", lab.now_s)
    lab.run(5.0)
    assert one._replica.own[scopes[0]].version == 3
    shown = {key for key in values(two) if key[1] == scopes[0]}
    assert shown == {(one.id, scopes[0], "t", "new")}


def test_a_scope_in_which_nothing_was_ever_written_leaves_nothing() -> None:
    (one,) = Lab().add(1)
    one.subscribe(SCOPE, START_S)
    one.unsubscribe(SCOPE, START_S)
    assert one._replica.own.keys() == {GLOBAL}
    assert not one._replica._versions


def test_a_scope_is_attached_by_one_key_only() -> None:
    lab = Lab()
    one, two = lab.cluster(2)
    written = "aB" * 8
    for key in (written, written.upper(), f" {written.lower()}", "00" * 8, "aa"):
        one.publish(GLOBAL, ATTACHMENT, key, b"0", lab.now_s)
    lab.run(2.0)
    member = two.member(one.id)
    assert member is not None
    assert member.scopes == frozenset()
    one.publish(GLOBAL, ATTACHMENT, written.lower(), b"0", lab.now_s)
    lab.run(2.0)
    assert member.scopes == {bytes.fromhex(written)}
