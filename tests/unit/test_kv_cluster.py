"""Keys, sessions and locks of a cluster: one host holds them, all have them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from netd.engine.interfaces import ClusterHealth
from netd.engine.kv import keeper as keepers
from netd.engine.kv import messages
from netd.engine.kv.changes import Interest
from netd.engine.kv.health import SETTLE_S
from netd.kv.sessions import GRACE_S
from netd.model.errors import Conflict, Exhausted, Invalid, NotFound, Unavailable
from netd.model.kv import (
    VALUE_MAX_BYTES,
    KeyChange,
    KeyMove,
    KeyPut,
    Operation,
    SessionSpec,
)
from netd.model.service import Check, CheckStatus, Service
from tests.unit.engine_fixture import DISK_FULL, Gate
from tests.unit.kv_lab import KeyHost, Lab, publish_junk, until


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    await lab.close()


@pytest.fixture
async def three(lab: Lab) -> list[KeyHost]:
    """Host a holds the keys."""
    hosts = await lab.cluster("a", "b", "c")
    assert await hosts[1].put("first")
    await all_know(hosts)
    return hosts


async def all_know(hosts: list[KeyHost]) -> None:
    """All have heard who holds the keys."""
    await until(lambda: all(host.keys._place.holding is not None for host in hosts))


# One host


async def test_what_was_answered_is_there_after_a_restart(lab: Lab) -> None:
    a = await lab.host("a")
    session = await a.session(lock_delay_s=0)
    assert await a.put("k", b"\x00\xff", flags=2**64 - 1, acquire=session)
    before = await a.cases.read("k")
    await a.restart()
    assert await a.cases.read("k") == before
    assert (await a.write("other")).index == before.index + 1
    assert not await a.put("k", acquire=await a.session())


async def test_a_write_that_cannot_be_stored_has_never_been(lab: Lab) -> None:
    a = await lab.host("a")
    await a.put("k", b"1")
    a.store.full = True
    with pytest.raises(Unavailable, match=DISK_FULL):
        await a.put("k", b"2")
    with pytest.raises(Unavailable, match=DISK_FULL):
        await a.session()
    assert await a.get("k") == b"1"
    a.store.full = False
    assert (await a.write("k", b"3")).index == 3


@pytest.mark.parametrize(("point", "there"), [("crash_before", b"1"), ("crash_after", b"2")])
async def test_a_daemon_that_dies_at_a_commit(lab: Lab, point: str, there: bytes) -> None:
    """Whoever was writing gets no answer that could be wrong."""
    a = await lab.host("a")
    await a.put("k", b"1")
    setattr(a.store, point, 1)
    with pytest.raises(Unavailable, match="has failed"):
        await a.put("k", b"2")
    with pytest.raises(Unavailable, match="has failed"):
        await a.get("k")
    await a.restart()
    assert await a.get("k") == there
    assert await a.put("k", b"3")


async def test_nothing_is_read_that_is_not_stored(lab: Lab) -> None:
    a = await lab.host("a")
    await a.put("k", b"1")
    gate = a.store.gate = Gate()
    writing = asyncio.create_task(a.put("k", b"2"))
    await gate.reached.wait()
    assert await a.get("k") == b"1"
    gate.opened.set()
    assert await writing
    assert await a.get("k") == b"2"


async def test_writes_that_come_together_share_a_commit(lab: Lab) -> None:
    a = await lab.host("a")
    await a.put("k")
    before = a.keys.counters()["kv_commits"]
    gate = a.store.gate = Gate()
    first = asyncio.create_task(a.put("k", b"x"))
    await gate.reached.wait()
    rest = [asyncio.create_task(a.put(f"k{number}")) for number in range(100)]
    await until(lambda: a.keys.levels()["kv_to_write"] == 100)
    gate.opened.set()
    assert all(await asyncio.gather(first, *rest))
    assert a.keys.counters()["kv_commits"] == before + 2


async def test_one_bad_write_does_not_spoil_the_others_of_its_commit(lab: Lab) -> None:
    a = await lab.host("a")
    good, bad, held = await asyncio.gather(
        a.put("k"),
        a.cases.create_session(SessionSpec(node="nowhere")),
        a.put("k", cas=77),
        return_exceptions=True,
    )
    assert (good, held) == (True, False)
    assert isinstance(bad, Invalid)
    assert bad.field == "node"


async def test_writes_are_bounded_while_they_wait(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepers, "QUEUE_MAX", 2)
    a = await lab.host("a")
    await a.put("k")
    gate = a.store.gate = Gate()
    first = asyncio.create_task(a.put("k", b"x"))
    await gate.reached.wait()
    rest = [asyncio.create_task(a.put("k", b"%d" % number)) for number in range(3)]
    with pytest.raises(Unavailable, match="2 writes"):
        await rest[2]
    gate.opened.set()
    assert await asyncio.gather(first, *rest[:2]) == [True] * 3


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (KeyPut(cas=0, acquire="s"), "cas"),
        (KeyPut(acquire="s", release="s"), "cas"),
        (KeyPut(acquire="nobody"), "acquire"),
    ],
)
async def test_puts_that_cannot_be(lab: Lab, asked: KeyPut, field: str) -> None:
    a = await lab.host("a")
    with pytest.raises(Invalid) as caught:
        await a.cases.put("k", asked)
    assert caught.value.field == field
    assert await a.get("k") is None


async def test_keys_have_a_name_and_values_an_end(lab: Lab) -> None:
    a = await lab.host("a")
    with pytest.raises(Invalid):
        await a.put("")
    with pytest.raises(Invalid):
        await a.cases.read("")
    with pytest.raises(Invalid):
        await a.cases.delete("k", 0)
    with pytest.raises(Invalid, match="524289 bytes"):
        await a.put("k", bytes(VALUE_MAX_BYTES + 1))


# Sessions


async def test_a_session_ends_that_is_not_renewed(lab: Lab) -> None:
    a = await lab.host("a")
    session = await a.session(ttl_s=10, lock_delay_s=0)
    await a.put("k", acquire=session)
    a.later(9.9)
    assert (await a.cases.renew_session(session)).id == session
    a.later(10 + GRACE_S - 0.1)
    assert await a.holder_of("k") == session
    a.later(0.2)

    async def released() -> bool:
        return await a.holder_of("k") == ""

    await until(released)
    with pytest.raises(NotFound):
        await a.cases.renew_session(session)
    await a.cases.destroy_session(session)


async def test_a_restart_renews_all_sessions(lab: Lab) -> None:
    a = await lab.host("a")
    session = await a.session(ttl_s=10)
    a.clock.now_s += 14
    await a.restart()
    a.later(14)
    assert (await a.cases.session(session)).sessions
    a.later(2)

    async def ended() -> bool:
        return not (await a.cases.session(session)).sessions

    await until(ended)


async def test_a_session_that_is_being_ended_is_not_renewed_any_more(lab: Lab) -> None:
    a = await lab.host("a")
    session = await a.session(ttl_s=10)
    gate = a.store.gate = Gate()
    a.later(16)
    await gate.reached.wait()
    with pytest.raises(NotFound):
        await a.cases.renew_session(session)
    gate.opened.set()


async def test_a_session_that_could_not_be_ended_is_ended_later(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await lab.host("a")
    session = await a.session(ttl_s=10)
    monkeypatch.setattr(keepers, "RETRY_S", 0.01)
    a.store.full = True
    a.later(16)
    await asyncio.sleep(0.05)
    a.store.full = False

    async def ended() -> bool:
        return not (await a.cases.session(session)).sessions

    await until(ended)


async def test_lock_delay_passes(lab: Lab) -> None:
    a = await lab.host("a")
    first, second = await a.session(lock_delay_s=20), await a.session()
    await a.put("k", acquire=first)
    await a.cases.destroy_session(first)
    assert not await a.put("k", acquire=second)
    a.later(20)
    assert await a.put("k", acquire=second)


async def test_sessions_end_with_their_host(three: list[KeyHost]) -> None:
    a, b, c = three
    bound = await c.session(lock_delay_s=0)
    free = await c.session(node_checks=())
    of_b = await b.session()
    await c.put("k", acquire=bound)
    c.cluster.becomes("suspect")
    assert len((await b.cases.sessions("")).sessions) == 3
    c.cluster.becomes("dead")

    async def left() -> bool:
        return {s.id for s in (await a.cases.sessions("")).sessions} == {free, of_b}

    await until(left)
    assert await a.holder_of("k") == ""
    with pytest.raises(Invalid, match="living member"):
        await a.session(node="c")


def service(node: str, status: CheckStatus) -> Service:
    check = Check(id="alive", name="", kind="ttl", status=status)
    return Service(id=f"web-{node}", name="web", node=node, address="192.0.2.1", checks=(check,))


async def test_sessions_end_with_their_checks(three: list[KeyHost]) -> None:
    a, b, _ = three
    with pytest.raises(Invalid, match="no check 'alive'"):
        await b.session(service_checks=("alive",))
    b.catalogue.put(service("b", "critical"))
    with pytest.raises(Invalid, match="is critical"):
        await b.session(service_checks=("alive",))
    b.catalogue.put(service("b", "passing"))
    bound = await b.session(service_checks=("alive",))
    old_style = await b.session(node_checks=("serfHealth", "alive"))
    other = await a.session()
    b.catalogue.put(service("b", "warning"))
    assert len((await a.cases.sessions("")).sessions) == 3
    b.catalogue.put(service("b", "critical"))

    async def left() -> bool:
        return [s.id for s in (await a.cases.sessions("")).sessions] == [other]

    await until(left)
    assert bound != old_style


async def test_after_a_start_others_have_time_to_answer(lab: Lab) -> None:
    """What is not known yet has not ended."""
    a, b = await lab.cluster("a", "b")
    session = await b.session()
    await a.stop()
    a.cluster.group = [a.cluster]  # it has to find the others again
    await a.start()
    await until(lambda: not a.keys._worse.is_set())  # it has looked
    assert (await a.cases.session(session)).sessions
    a.later(SETTLE_S)
    a.keys._worse.set()

    async def ended() -> bool:
        return not (await a.cases.session(session)).sessions

    await until(ended)


# Which host holds them


async def test_the_first_host_holds_them_for_all(three: list[KeyHost]) -> None:
    a, b, c = three
    assert [await host.state() for host in three] == ["a here", "a elsewhere", "a elsewhere"]
    assert await b.put("k", b"1", cas=0)
    assert not await c.put("k", b"2", cas=0)
    assert await a.get("k") == await c.get("k") == b"1"
    status = await c.cases.status()
    assert (status.keys, status.bytes, status.index) == (2, 7, 3)


async def test_the_named_host_holds_them(lab: Lab) -> None:
    a, b, c = await lab.cluster("a", "b", "c", wanted="b")
    await a.put("k")
    await all_know([a, b, c])
    assert await c.state() == "b elsewhere"
    assert await b.state() == "b here"


@pytest.mark.parametrize("wanted", ["nobody", "c"])
async def test_a_named_host_that_is_not_there(lab: Lab, wanted: str) -> None:
    a, _, c = await lab.cluster("a", "b", "c", wanted=wanted)
    c.cluster.becomes("dead")
    with pytest.raises(Unavailable, match=r"kv\.holder"):
        await a.put("k")
    assert await a.state() == " none"


async def test_all_begin_at_once_and_one_does(lab: Lab) -> None:
    for round_ in range(5):
        hosts = await lab.cluster(*(f"r{round_}{name}" for name in "abc"))
        done = await asyncio.gather(
            *(host.put("k", cas=0) for host in hosts for _ in range(3)), return_exceptions=True
        )
        assert done.count(True) == 1
        await all_know(hosts)
        assert {await host.state() for host in hosts} == {
            f"r{round_}a here",
            f"r{round_}a elsewhere",
        }


async def test_nobody_begins_while_a_member_cannot_be_asked(lab: Lab) -> None:
    a, b, c = await lab.cluster("a", "b", "c")
    c.cluster.becomes("dead")
    with pytest.raises(Unavailable, match="nobody holds the keys"):
        await b.put("k")
    with pytest.raises(Unavailable, match="nobody holds the keys"):
        await a.get("k")
    c.cluster.becomes("alive")
    assert await b.put("k")


async def test_a_named_host_begins_without_those_that_are_dead(lab: Lab) -> None:
    a, b, c = await lab.cluster("a", "b", "c", wanted="b")
    c.cluster.becomes("dead")
    assert await a.put("k")
    c.cluster.becomes("alive")
    await until(lambda: c.keys._place.holding is not None)
    assert await c.state() == "b elsewhere"
    assert await b.state() == "b here"


async def test_nobody_begins_before_it_has_met_whom_it_is_to_join(lab: Lab) -> None:
    a = await lab.host("a")
    a.cluster.known = ClusterHealth(unanswered={"192.0.2.9:7940": "no answer"})
    with pytest.raises(Unavailable, match=r"192\.0\.2\.9"):
        await a.put("k")
    a.cluster.known = None
    assert await a.put("k")


async def test_who_has_agreed_to_one_agrees_to_no_other(three: list[KeyHost], lab: Lab) -> None:
    d = await lab.host("d")
    founding = d.keys._founding
    founding.agree("x")
    founding.agree("x")
    with pytest.raises(Conflict):
        founding.agree("y")
    with pytest.raises(Conflict):
        await d.put("k")  # it has agreed not to
    d.clock.now_s += 15
    assert await d.put("k")


async def test_who_was_agreed_to_too_long_ago_does_not_begin(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await lab.cluster("a", "b")

    async def slow(member: str, body: bytes) -> bytes:
        a.clock.now_s += 8
        return await b.keys._answering.answer(member, body)

    b.cluster.answer(messages.TOPIC, slow)
    with pytest.raises(Unavailable, match="took too long"):
        await a.put("k")
    b.cluster.answer(messages.TOPIC, b.keys._answering.answer)
    assert await a.put("k")


async def test_a_new_host_learns_it_while_the_holder_is_down(
    three: list[KeyHost], lab: Lab
) -> None:
    a, b, _ = three
    await a.kill()
    d = await lab.host("d")
    await d.cluster.join([b.cluster.address], None)
    await until(lambda: d.keys._place.holding is not None)
    with pytest.raises(Unavailable, match="a holds the keys"):
        await d.put("k")
    await a.revive()
    assert await d.put("k")
    assert await a.get("k") == b""


async def test_keys_of_clusters_that_meet_are_those_of_the_older(lab: Lab) -> None:
    a, b = await lab.cluster("a", "b")
    x, y = await lab.cluster("x", "y")
    await x.put("k", b"older")
    a.clock.now_s += 1
    await a.put("k", b"younger")
    await a.put("only", b"younger")
    await b.cluster.join([y.cluster.address], None)
    for host in (a, b, x, y):

        async def settled(host: KeyHost = host) -> bool:
            return (await host.state()).startswith("x ")

        await until(settled)
        assert await host.get("k") == b"older"
        assert await host.get("only") is None
    await a.restart()
    assert await a.get("k") == b"older"


@pytest.mark.parametrize("value", [b"", b"{}", b"[" * 10_000, b'{"stamp_ms": -1}', b"\xff"])
async def test_what_no_host_would_say_of_the_holder_is_ignored(
    three: list[KeyHost], value: bytes
) -> None:
    a, b, c = three
    publish_junk(c, value)
    assert await b.state() == "a elsewhere"
    assert a.keys.counters()["kv_records_ignored"] == 1


@pytest.mark.parametrize("body", [b"", b"\xff", b"\x81\xa4type\xa4none", bytes(1000)])
async def test_questions_that_no_host_would_ask(three: list[KeyHost], body: bytes) -> None:
    a, b, _ = three
    with pytest.raises(Invalid):
        await b.cluster.ask(a.cluster.id, messages.TOPIC, body, 5)


# When it cannot be reached


async def test_without_the_holder_nothing_is_read_or_written(
    three: list[KeyHost], lab: Lab
) -> None:
    a, b, c = three
    await b.put("k", b"1")
    lab.mesh.cut(a.cluster, b.cluster)
    for call in (b.put("k", b"2"), b.get("k"), b.session(), b.cases.entries("")):
        with pytest.raises(Unavailable, match="a holds the keys: a "):
            await call
    assert await b.state() == "a unreachable"
    assert await c.put("k", b"3")
    assert await a.get("k") == b"3"
    lab.mesh.heal(a.cluster, b.cluster)
    assert await b.get("k") == b"3"


async def test_a_holder_that_has_lost_its_disk_is_no_holder(three: list[KeyHost]) -> None:
    a, b, _ = three
    await a.stop()
    a.lose_disk()
    await a.start()
    with pytest.raises(Unavailable, match="may have lost them"):
        await b.put("k")
    await until(lambda: a.keys._place.holding is not None)
    with pytest.raises(Unavailable, match="its database does not have them"):
        await a.put("k")
    assert await b.state() == "a unreachable"


async def test_values_of_any_size_go_both_ways(three: list[KeyHost]) -> None:
    _, b, c = three
    large = bytes(range(256)) * (VALUE_MAX_BYTES // 256)
    for number in range(5):
        assert await b.put(f"big/{number}", large)
    listing = await c.cases.entries("big/")
    assert [entry.value for entry in listing.entries] == [large] * 5
    operations = (Operation(verb="get-tree", key="big/"),) * 3
    outcome = await c.cases.transact(operations)
    assert len(outcome.results) == 15


async def test_long_answers_are_not_kept_for_ever(three: list[KeyHost]) -> None:
    a, b, _ = three
    long = a.keys._long
    part = long.begin(bytes(3 * messages.PART_MAX_BYTES))
    assert a.keys.levels()["kv_long_answers_bytes"] == 3 * messages.PART_MAX_BYTES
    assert len(long.part(part.token, messages.PART_MAX_BYTES).part) == messages.PART_MAX_BYTES
    a.clock.now_s += 21
    with pytest.raises(NotFound):
        long.part(part.token, 0)
    with pytest.raises(NotFound):
        await messages.put(b.cluster, a.cluster.id, messages.More("nothing", 0))


async def test_commands_that_come_together_share_questions(three: list[KeyHost]) -> None:
    _, b, _ = three
    before = b.keys.counters()["kv_questions"]
    await asyncio.gather(*(b.put(f"k{number}") for number in range(500)))
    assert b.keys.counters()["kv_questions"] - before < 10
    before = b.keys.counters()["kv_questions"]
    values = await asyncio.gather(*(b.get("k1") for _ in range(5_000)))
    assert values == [b""] * 5_000
    assert b.keys.counters()["kv_questions"] - before < 5


# Waiting


async def begins(host: KeyHost, count: int = 1) -> None:
    """Calls wait, and are told of changes."""
    await until(lambda: host.cases.changes.waiting == count and host.cases.changes.live.is_set())
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("place", [0, 1])
async def test_a_call_waits_for_its_key(three: list[KeyHost], place: int) -> None:
    host, other = three[place], three[2]
    await other.put("k", b"1")
    index = (await host.cases.read("k")).index
    waiting = asyncio.create_task(host.cases.read("k", index, 30))
    await begins(host)
    await other.put("k2", b"2")
    await other.put("a", b"2")
    assert not waiting.done()
    await other.put("k", b"2")
    async with asyncio.timeout(5):
        reading = await waiting
    assert reading.entry is not None
    assert reading.entry.value == b"2"
    assert reading.index == index + 3


@pytest.mark.parametrize("place", [0, 1])
async def test_a_call_waits_for_a_prefix_and_for_keys_that_come_and_go(
    three: list[KeyHost], place: int
) -> None:
    host, other = three[place], three[2]
    for step in ("put", "delete"):
        index = (await host.cases.entries("p/")).index
        tree = asyncio.create_task(host.cases.names("p/", "", index, 30))
        lone = asyncio.create_task(host.cases.read("p/1", index, 30))
        none = asyncio.create_task(host.cases.entries("q/", index, 1.0))
        await begins(host, 3)
        if step == "put":
            await other.put("p/1")
        else:
            await other.cases.delete_tree("p")
        async with asyncio.timeout(5):
            assert (await tree).keys == (("p/1",) if step == "put" else ())
            assert ((await lone).entry is not None) is (step == "put")
            assert (await none).index <= index
    assert host.cases.changes.waiting == 0
    assert not host.cases.changes.wanted.is_set()


async def test_a_call_waits_for_sessions(three: list[KeyHost]) -> None:
    _, b, c = three
    index = (await b.cases.sessions("")).index
    waiting = asyncio.create_task(b.cases.sessions("", index, 30))
    await begins(b)
    await c.put("k")
    session = await c.session()
    async with asyncio.timeout(5):
        assert [found.id for found in (await waiting).sessions] == [session]


async def test_a_call_waits_for_the_first_write_of_all(lab: Lab) -> None:
    a, b = await lab.cluster("a", "b")
    index = (await b.cases.entries("")).index
    assert index == 1
    waiting = asyncio.create_task(b.cases.entries("", index, 30))
    await begins(b)
    await a.put("k")
    async with asyncio.timeout(5):
        assert [entry.key for entry in (await waiting).entries] == ["k"]


async def test_a_call_that_waits_in_vain_gets_what_there_is(three: list[KeyHost]) -> None:
    _, b, _ = three
    await b.put("k")
    reading = await b.cases.read("k")
    assert await b.cases.read("k", reading.index, 0.05) == reading


async def test_no_change_is_missed_between_reading_and_waiting(three: list[KeyHost]) -> None:
    """One host writes as fast as it can, another sees each state it waits for."""
    _, b, c = three
    await c.put("k", b"0")

    async def write() -> None:
        for number in range(1, 101):
            await c.put("k", b"%d" % number)

    async def see() -> list[int]:
        index, seen = 0, [-1]
        while seen[-1] < 100:
            reading = await b.cases.read("k", index, 30)
            assert reading.entry is not None
            index = reading.index
            seen.append(int(reading.entry.value))
        return seen

    async with asyncio.timeout(20):
        _, seen = await asyncio.gather(write(), see())
    assert seen == sorted(set(seen))


async def test_many_calls_wait_with_one_question(three: list[KeyHost]) -> None:
    a, b, c = three
    indexes = {}
    for number in range(10):
        await c.put(f"k{number}")
        indexes[number] = (await c.cases.read(f"k{number}")).index
    asked: list[object] = []

    async def counted(member: str, body: bytes) -> bytes:
        asked.append(messages.decode_question(body))
        return await a.keys._answering.answer(member, body)

    a.cluster.answer(messages.TOPIC, counted)
    tasks = [
        asyncio.create_task(b.cases.read(f"k{number % 10}", indexes[number % 10], 30))
        for number in range(5_000)
    ]
    await begins(b, 5_000)
    await until(lambda: b.keys.levels()["kv_to_forward"] == 0)
    asked.clear()
    await c.put("k3", b"x")
    async with asyncio.timeout(10):
        done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 500:
            more, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            done |= more
    assert len(done) == 500
    entries = [task.result().entry for task in done]
    assert {entry and entry.value for entry in entries} == {b"x"}
    # The write, the news, and what was read again, once for all.
    kinds = [type(question).__name__ for question in asked]
    assert kinds.count("Follow") <= 2
    assert kinds.count("Batch") <= 4
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def test_waiting_is_bounded(three: list[KeyHost], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netd.engine.kv.changes.WAITING_MAX", 1)
    b = three[1]
    with b.cases.changes.subscribe(Interest("sessions")), pytest.raises(Exhausted):
        await b.cases.read("k", 5, 5)


async def test_who_waits_is_told_when_the_holder_goes(three: list[KeyHost], lab: Lab) -> None:
    a, b, _ = three
    index = (await b.cases.read("first")).index
    waiting = asyncio.create_task(b.cases.read("first", index, 30))
    await begins(b)
    await a.kill()
    with pytest.raises(Unavailable, match="a holds the keys"):
        async with asyncio.timeout(10):
            await waiting


async def test_changes_can_be_followed(three: list[KeyHost]) -> None:
    a, b, c = three
    for host in (a, b):
        changes = host.cases.follow()
        async with asyncio.timeout(5):
            assert (await anext(changes)).lost
        await until(host.cases.changes.live.is_set)
        await c.put("x", host.name.encode())
        async with asyncio.timeout(5):
            while (change := await anext(changes)).lost:
                pass
        assert change.keys == ("x",)
        host.cases.end_streams()
        assert [change async for change in changes] == []
        assert not host.cases.changes.wanted.is_set()


async def test_a_slow_follower_is_told_that_it_has_missed_some(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netd.engine.kv.changes.BACKLOG_MAX", 3)
    a = await lab.host("a")
    await a.put("k")
    changes = a.cases.follow()
    assert (await anext(changes)).lost
    for number in range(5):
        await a.put(f"k{number}")
    assert await anext(changes) == KeyChange(index=6, lost=True)
    assert (await anext(changes)).keys == ("k4",)
    a.cases.end_streams()
    with pytest.raises(StopAsyncIteration):
        await anext(changes)


# Moving


async def test_keys_move_with_all_that_belongs_to_them(three: list[KeyHost]) -> None:
    a, b, c = three
    session = await c.session(ttl_s=10, lock_delay_s=5)
    for number in range(3):
        await b.put(f"big/{number}", bytes(VALUE_MAX_BYTES))
    await b.put("lock", acquire=session)
    await b.cases.delete("first", None)
    index = (await c.cases.entries("")).index
    before = [await c.cases.entries(""), await c.cases.sessions(""), await c.cases.read("first")]
    status = await a.cases.move(KeyMove(node="b"))
    assert (status.holder, status.state, status.term) == ("b", "elsewhere", 2)
    after = [await c.cases.entries(""), await c.cases.sessions(""), await c.cases.read("first")]
    assert after == before
    assert await b.state() == "b here"
    assert (await c.write("new")).index == index + 1
    for host in (a, b):
        await host.restart()
    assert await a.get("new") == b""
    assert await a.holder_of("lock") == session
    assert (await a.store.load()).keys.entries == {}
    # And back, by asking the one that has them.
    with pytest.raises(Unavailable, match="ask it"):
        await c.cases.move(KeyMove(node="a"))
    assert (await b.cases.move(KeyMove(node=a.cluster.id))).term == 3
    assert await a.state() == "a here"
    assert await c.get("new") == b""


async def test_calls_follow_the_keys_while_they_move(three: list[KeyHost]) -> None:
    a, b, c = three
    stop = asyncio.Event()
    written: list[int] = []

    async def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                if await c.put(f"n/{number}"):
                    written.append(number)
            except Unavailable:
                await asyncio.sleep(0.001)

    writing = asyncio.create_task(write())
    await until(lambda: len(written) > 20)
    await a.cases.move(KeyMove(node="b"))
    count = len(written)
    await until(lambda: len(written) > count + 20)
    await b.cases.move(KeyMove(node="c"))
    count = len(written)
    await until(lambda: len(written) > count + 20)
    stop.set()
    await writing
    names = set((await a.cases.names("n/", "")).keys)
    assert {f"n/{number}" for number in written} <= names


async def test_waiting_goes_on_at_the_new_holder(three: list[KeyHost]) -> None:
    a, _, c = three
    index = (await c.cases.read("first")).index
    waiting = asyncio.create_task(c.cases.read("first", index, 30))
    await begins(c)
    await a.cases.move(KeyMove(node="b"))
    await until(c.cases.changes.live.is_set)
    await a.put("first", b"moved")
    async with asyncio.timeout(5):
        reading = await waiting
    assert reading.entry is not None
    assert reading.entry.value == b"moved"


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (KeyMove(node="nobody"), NotFound),
        (KeyMove(node="c"), Unavailable),
        (KeyMove(node="b", abandon=True), Conflict),
    ],
)
async def test_moves_that_cannot_be(
    three: list[KeyHost], asked: KeyMove, error: type[Exception]
) -> None:
    a, _, c = three
    c.cluster.becomes("dead")
    with pytest.raises(error):
        await a.cases.move(asked)
    assert await a.state() == "a here"
    assert await a.put("k")


async def test_to_move_them_where_they_are_does_nothing(three: list[KeyHost]) -> None:
    a = three[0]
    assert (await a.cases.move(KeyMove(node="a"))).term == 1


@pytest.mark.parametrize("lost", ["stage", "take", "answer", "cancel"])
async def test_a_move_that_breaks_off_leaves_one_holder(
    three: list[KeyHost], lab: Lab, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the way to the other host breaks: in the end exactly one has all the keys."""
    monkeypatch.setattr("netd.engine.kv.moving.RETRY_S", 0.01)
    a, b, c = three
    await c.put("k", b"1")

    async def breaking(member: str, body: bytes) -> bytes:
        kind = type(messages.decode_question(body)).__name__.lower()
        if kind == lost:
            lab.mesh.cut(a.cluster, b.cluster)
            raise Unavailable("the way is broken")
        answer = await b.keys._answering.answer(member, body)
        if lost in ("answer", "cancel") and kind == "take":
            lab.mesh.cut(a.cluster, b.cluster)
        return answer

    b.cluster.answer(messages.TOPIC, breaking)
    with pytest.raises(Unavailable, match="does not say whether"):
        await a.cases.move(KeyMove(node="b"))
    with pytest.raises(Unavailable, match=r"being moved|cannot be asked|moved to another"):
        await a.put("k", b"2")
    await a.restart()
    assert "moving" in await a.state() or "unreachable" in await a.state()
    b.cluster.answer(messages.TOPIC, b.keys._answering.answer)
    lab.mesh.heal(a.cluster, b.cluster)

    async def settled() -> bool:
        states = sorted([await host.state() for host in three])
        return states in (
            ["a elsewhere", "a elsewhere", "a here"],
            ["b elsewhere", "b elsewhere", "b here"],
        )

    await until(settled)
    wanted = "b" if lost in ("answer", "cancel") else "a"
    assert (await c.cases.status()).holder == wanted
    assert await c.get("k") == b"1"
    assert await c.put("k", b"3")
    # And it can be tried again.
    if wanted == "a":
        assert (await a.cases.move(KeyMove(node="b"))).holder == "b"
        assert await c.get("k") == b"3"


async def test_a_move_is_not_made_when_the_other_cannot_store_them(three: list[KeyHost]) -> None:
    a, b, c = three
    b.store.full = True
    with pytest.raises(Unavailable):
        await a.cases.move(KeyMove(node="b"))
    b.store.full = False
    monitored = await c.cases.status()
    assert monitored.holder == "a"

    async def serves() -> bool:
        return await a.state() == "a here"

    await until(serves)
    assert await c.put("k")


async def test_a_holder_that_cannot_store_that_it_moves_keeps_serving(
    three: list[KeyHost],
) -> None:
    a, _, c = three
    a.store.full = True
    with pytest.raises(Unavailable, match=DISK_FULL):
        await a.cases.move(KeyMove(node="b"))
    a.store.full = False
    assert await a.state() == "a here"
    assert await c.put("k")


async def test_keys_that_are_lost_are_begun_anew(three: list[KeyHost]) -> None:
    a, _, c = three
    await c.put("k")
    await a.kill()
    with pytest.raises(Unavailable):
        await c.put("k")
    status = await c.cases.move(KeyMove(node="b", abandon=True))
    assert (status.holder, status.keys) == ("b", 0)
    assert await c.get("k") is None
    assert await c.put("new")
    # Should it come back all the same, it does as the others do.
    await a.revive()
    await until(lambda: a.keys._place.standing.role == "none")
    assert await a.get("new") == b""
    assert await a.state() == "b elsewhere"


async def test_parts_that_do_not_fit_are_not_taken(three: list[KeyHost]) -> None:
    a, b, _ = three
    holding = a.keys._place.holding
    assert holding is not None
    offered = replace(holding, term=2, holder=b.cluster.id, name="b")
    moving = b.keys._moving
    moving.stage(a.cluster.id, messages.Stage(0, b"abc"))
    with pytest.raises(Invalid, match="does not follow"):
        moving.stage(a.cluster.id, messages.Stage(2, b"d"))
    with pytest.raises(Invalid, match="of 4 bytes"):
        await moving.take(a.cluster.id, messages.Take(offered, 4))
    with pytest.raises(Invalid, match="cannot be understood"):
        await moving.take(a.cluster.id, messages.Take(offered, 3))
    with pytest.raises(Invalid, match="another host's"):
        await moving.take(a.cluster.id, messages.Take(holding, empty=True))
    with pytest.raises(Conflict, match="another host holds"):
        await moving.take(a.cluster.id, messages.Take(replace(offered, term=1), empty=True))
    await moving.cancel(messages.Cancel(offered))
    with pytest.raises(Conflict, match="cancelled"):
        await moving.take(a.cluster.id, messages.Take(offered, empty=True))
    assert await b.state() == "a elsewhere"
