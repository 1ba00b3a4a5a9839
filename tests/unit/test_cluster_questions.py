"""Questions between whole nodes: they are answered, or there is an error in time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netd.cluster import asker, desk, questions
from netd.cluster.desk import Desk
from netd.cluster.questions import Answered, Answers, Question, Refused
from netd.cluster.service import ClusterService
from netd.gossip.settings import PROTOCOL_QUESTIONS
from netd.model.errors import Exhausted, Invalid, NetdError, NotFound, Unavailable
from tests.unit.service_lab import Lab, joined, new_lab, sees, until


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with new_lab(tmp_path) as made:
        yield made


async def echo(asker_id: str, body: bytes) -> bytes:
    return asker_id.encode() + b":" + body


class Gate:
    """Answers when the test opens it; counts those who wait."""

    def __init__(self) -> None:
        self.waiting = 0
        self.cancelled = 0
        self.open = asyncio.Event()

    async def answer(self, _asker: str, body: bytes) -> bytes:
        self.waiting += 1
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return body


async def asking(here: ClusterService, there: ClusterService, gate: Gate) -> "asyncio.Task[bytes]":
    """A question under way, which the other is answering."""
    there.answer("gate", gate.answer)
    task = asyncio.create_task(here.ask(there.id, "gate", b"x", 30))
    await until(lambda: gate.waiting)
    return task


async def test_members_answer_each_other_and_know_who_asks(lab: Lab) -> None:
    a, b = await lab.pair()
    a.answer("echo", echo)
    b.answer("echo", echo)
    largest = bytes(questions.BODY_MAX_BYTES)
    assert await a.ask(b.id, "echo", b"1", 10) == a.id.encode() + b":1"
    assert await b.ask(a.id, "echo", b"2", 10) == b.id.encode() + b":2"

    async def same(_asker: str, body: bytes) -> bytes:
        return body

    a.answer("echo", same)
    assert await b.ask(a.id, "echo", largest, 10) == largest
    answers = await asyncio.gather(
        *(b.ask(a.id, "echo", b"%d" % number, 10) for number in range(40))
    )
    assert answers == [b"%d" % number for number in range(40)]
    assert a.counters()["questions_received"] == 42


async def test_questions_share_connections(lab: Lab) -> None:
    a, b = await lab.pair()
    b.answer("echo", echo)
    before = b.counters().get("stream_connections", 0)
    for number in range(50):
        assert await a.ask(b.id, "echo", b"%d" % number, 10) == a.id.encode() + b":%d" % number
    assert b.counters()["stream_connections"] - before <= 2  # gossip has its own


async def test_a_connection_that_has_ended_meanwhile_is_replaced(lab: Lab) -> None:
    a, b = await lab.pair()
    b.answer("echo", echo)
    assert await a.ask(b.id, "echo", b"1", 10)
    running = b._participation.running
    assert running is not None

    async def end_all() -> None:
        await running.node._server._tasks.stop()

    await running.run(end_all())
    asking = a._participation.running
    assert asking is not None
    lines = asking.node._asker._lines
    (line,) = (line for idle in lines._idle.values() for line in idle)
    await until(lambda: not line.lasts(1))
    assert await a.ask(b.id, "echo", b"2", 10) == a.id.encode() + b":2"


async def test_whoever_answers_runs_on_the_loop_of_its_engine(lab: Lab) -> None:
    a, b = await lab.pair()
    loops = set()

    async def note(_asker: str, _body: bytes) -> bytes:
        loops.add(asyncio.get_running_loop())
        return await a.ask(b.id, "echo", b"and you?", 10)  # it may ask, even who asks it

    a.answer("note", note)
    b.answer("echo", echo)
    assert await b.ask(a.id, "note", b"", 10) == a.id.encode() + b":and you?"
    assert loops == {asyncio.get_running_loop()}


async def test_a_node_asks_itself_also_on_its_own(lab: Lab) -> None:
    a = await lab.start("a", key=False, bind=None)
    a.answer("echo", echo)
    assert await a.ask(a.id, "echo", b"1", 10) == a.id.encode() + b":1"
    gate = Gate()
    a.answer("gate", gate.answer)
    with pytest.raises(Unavailable, match=r"within 0\.01 s"):
        await a.ask(a.id, "gate", b"", 0.01)
    assert gate.cancelled == 1


@pytest.mark.parametrize("error", [Exhausted("no more", field="a.b"), NotFound("not here")])
async def test_errors_travel_as_they_are(lab: Lab, error: NetdError) -> None:
    async def fail(_asker: str, _body: bytes) -> bytes:
        raise error

    a, b = await lab.pair()
    a.answer("fail", fail)
    for here in (a, b):
        with pytest.raises(type(error)) as told:
            await here.ask(a.id, "fail", b"", 10)
        assert (told.value.detail, told.value.field) == (error.detail, error.field)
    assert a.counters()["questions_refused"] == 1


async def test_what_goes_wrong_in_an_answer_is_not_told_but_logged(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_asker: str, body: bytes) -> bytes:
        if body == b"much":
            return bytes(questions.BODY_MAX_BYTES + 1)
        raise KeyError("secret")

    a, b = await lab.pair()
    a.answer("fail", fail)
    with pytest.raises(Unavailable, match="its log") as told:
        await b.ask(a.id, "fail", b"", 10)
    assert "secret" not in told.value.detail
    assert "secret" in caplog.text
    with pytest.raises(Unavailable, match="more than"):
        await b.ask(a.id, "fail", b"much", 10)


async def test_nobody_answers_what_nobody_knows(lab: Lab) -> None:
    a, b = await lab.pair()
    with pytest.raises(Unavailable, match="topic 'unknown'"):
        await a.ask(b.id, "unknown", b"", 10)
    with pytest.raises(Unavailable, match="not a member"):
        await a.ask("ab" * 16, "unknown", b"", 10)
    for member, topic, body, timeout_s, field in [
        ("no id", "t", b"", 1.0, "member"),
        (b.id, "", b"", 1.0, "topic"),
        (b.id, "t" * 33, b"", 1.0, "topic"),
        (b.id, "t", bytes((64 << 10) + 1), 1.0, "body"),
        (b.id, "t", b"", 0.0, "timeout_s"),
    ]:
        with pytest.raises(Invalid) as refused:
            await a.ask(member, topic, body, timeout_s)
        assert refused.value.field == field


async def test_who_does_not_answer_in_time_is_given_up_on_both_sides(lab: Lab) -> None:
    a, b = await lab.pair()
    gate = Gate()
    b.answer("gate", gate.answer)
    with pytest.raises(Unavailable, match="answer"):
        await a.ask(b.id, "gate", b"", 1)
    await until(lambda: gate.cancelled == gate.waiting == 1)


async def test_a_dead_member_is_not_even_asked(lab: Lab) -> None:
    a, b = await lab.pair()
    c = await lab.start("c")
    assert await joined(c, a)
    await sees(b, "c")
    await c.close()
    await sees(a, "c", "dead")
    with pytest.raises(Unavailable, match="c cannot be asked: it is dead"):
        await a.ask(c.id, "echo", b"", 10)
    await b.leave()
    await sees(a, "b", "left")
    with pytest.raises(Unavailable, match="b cannot be asked: it is left"):
        await a.ask(b.id, "echo", b"", 10)
    with pytest.raises(Unavailable, match="on its own"):
        await b.ask(a.id, "echo", b"", 10)


async def test_an_older_member_is_said_to_be_one(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = await lab.pair()
    monkeypatch.setattr(asker, "PROTOCOL_QUESTIONS", PROTOCOL_QUESTIONS + 1)
    with pytest.raises(Unavailable, match=r"b runs an older netd \(1\.2\.3\)"):
        await a.ask(b.id, "echo", b"", 10)


@pytest.mark.parametrize("how", ["leave", "close"])
async def test_whoever_stops_taking_part_hears_so_at_once(lab: Lab, how: str) -> None:
    a, b = await lab.pair()
    task = await asking(a, b, gate := Gate())
    await getattr(a, how)()
    with pytest.raises(Unavailable):
        await task
    gate.open.set()


@pytest.mark.parametrize("how", ["leave", "close"])
async def test_a_member_that_goes_leaves_no_question_hanging(lab: Lab, how: str) -> None:
    a, b = await lab.pair()
    task = await asking(a, b, gate := Gate())
    await getattr(b, how)()
    with pytest.raises(Unavailable):
        await task
    await until(lambda: gate.cancelled)


async def test_a_member_that_was_restarted_is_asked_again(lab: Lab) -> None:
    a, b = await lab.pair()
    await b.close()
    again = await lab.open("b")
    again.answer("echo", echo)
    await again.start()
    await until(
        lambda: any(m.name == "b" and m.address == again.health().bound for m in a.members())
    )
    assert await a.ask(b.id, "echo", b"1", 10) == a.id.encode() + b":1"


async def test_one_slow_member_does_not_keep_this_node_from_asking_others(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asker, "AT_ONCE", asker.OF_MEMBER_AT_ONCE + 1)
    a, b = await lab.pair()
    c = await lab.start("c")
    assert await joined(c, a)
    gate = Gate()
    b.answer("gate", gate.answer)
    c.answer("echo", echo)
    waiting = [
        asyncio.create_task(a.ask(b.id, "gate", b"%d" % number, 30))
        for number in range(asker.OF_MEMBER_AT_ONCE + 3)
    ]
    await until(lambda: gate.waiting == asker.OF_MEMBER_AT_ONCE)
    assert await a.ask(c.id, "echo", b"1", 10) == a.id.encode() + b":1"
    await until(lambda: a.levels()["questions_asking"] == len(waiting))
    await until(lambda: b.levels()["questions_answering"] == asker.OF_MEMBER_AT_ONCE)
    gate.open.set()
    assert await asyncio.gather(*waiting) == [b"%d" % number for number in range(len(waiting))]


# The desk


def asked(topic: str = "gate", wait_s: float = 30) -> bytes:
    return questions.encode(questions.question(topic, b"x", wait_s))


async def test_who_asks_too_much_is_refused_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, answers = Gate(), Answers()
    answers.put("gate", gate.answer)
    here = Desk(answers, Counter())
    many = [
        asyncio.create_task(here.serve(asked(), b"m" * 16)) for _ in range(desk.OF_MEMBER_AT_ONCE)
    ]
    await until(lambda: gate.waiting == len(many))
    refused = questions.decode_reply(await here.serve(asked(), b"m" * 16))
    assert isinstance(refused, Refused)
    assert refused.code == "unavailable"
    other = asyncio.create_task(here.serve(asked(), b"o" * 16))
    await until(lambda: gate.waiting == len(many) + 1)
    monkeypatch.setattr(desk, "AT_ONCE", here.answering)
    assert isinstance(questions.decode_reply(await here.serve(asked(), b"p" * 16)), Refused)
    gate.open.set()
    replies = await asyncio.gather(*many, other)
    assert {questions.decode_reply(reply) for reply in replies} == {Answered(b"x")}
    assert here.answering == 0


@given(st.binary(max_size=100))
@example(b"\x93\xa4\x80\x80\x80\x80")  # a topic that is not UTF-8
async def test_whatever_is_asked_there_is_a_reply(data: bytes) -> None:
    reply = questions.decode_reply(await Desk(Answers(), Counter()).serve(data, bytes(16)))
    assert isinstance(reply, Refused)


@given(st.binary(max_size=100))
@example(b"\x93\xa7Refused\xa4\x80\x80\x80\x80\xa0")
def test_bytes_are_a_reply_or_malformed(data: bytes) -> None:
    try:
        reply = questions.decode_reply(data)
    except questions.Malformed:
        return
    assert questions.decode_reply(questions.encode(reply)) == reply


@given(
    st.text(min_size=1, max_size=32),
    st.binary(max_size=questions.BODY_MAX_BYTES),
    st.floats(min_value=0.0001, max_value=1e9),
)
def test_a_question_arrives_as_it_was_asked(topic: str, body: bytes, wait_s: float) -> None:
    asked = questions.question(topic, body, wait_s)
    assert questions.decode_question(questions.encode(asked)) == asked
    assert asked == Question(topic, body, asked.wait_ms)
    assert 1 <= asked.wait_ms <= questions.WAIT_MAX_S * 1000


def test_an_error_of_a_newer_netd_is_one_that_may_pass() -> None:
    with pytest.raises(Unavailable, match="for reasons unknown"):
        questions.body_of(Refused("unheard-of", "for reasons unknown", None))


def test_the_longest_error_fits_into_a_reply() -> None:
    refused = Refused.of(Invalid("\N{GRINNING FACE}" * 10_000, field="\N{GRINNING FACE}" * 10_000))
    assert questions.decode_reply(questions.encode(refused)) == refused
    assert len(questions.encode(refused)) < 80 << 10
