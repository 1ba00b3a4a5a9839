"""What hosts ask each other about keys. Questions and answers are MessagePack."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec

from netd.engine.interfaces import Cluster
from netd.kv.commands import Command, Settled
from netd.model.errors import Invalid, Unavailable
from netd.model.kv import KeyChange

TOPIC: Final = "kv"  # of questions
TABLE: Final = "kv"  # of records; key: "holder"
ANSWER_S: Final = 8.0  # a commit of a busy disk, and two ways
PART_MAX_BYTES: Final = 900 << 10  # of what does not fit into one answer or question


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """Which member holds the keys, by id and name.

    `origin` has first held them, from `stamp_ms` (Unix time) on; `term` counts the holders since.
    """

    stamp_ms: int
    origin: str
    term: int
    holder: str
    name: str

    def beats(self, other: "Holding | None") -> bool:
        """Whether this one is in force for who knows both.

        Of keys that began apart the earlier ones are, of the same keys those of the last term.
        """
        if other is None:
            return True
        ours, theirs = (self.stamp_ms, self.origin), (other.stamp_ms, other.origin)
        return ours < theirs or (ours == theirs and self.term > other.term)

    def continues(self, other: "Holding") -> bool:
        """Whether both are of the same keys."""
        return (self.stamp_ms, self.origin) == (other.stamp_ms, other.origin)


class Batch(msgspec.Struct, frozen=True, tag="batch"):
    commands: tuple[Command, ...]


class More(msgspec.Struct, frozen=True, tag="more"):
    """The part at `offset` of an answer that did not fit."""

    token: str
    offset: int


class Follow(msgspec.Struct, frozen=True, tag="follow"):
    """What changes after an index, as soon as it does; None: only where the index is."""

    since: int | None
    wait_s: float


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """Hold the keys if nobody does."""


class Agree(msgspec.Struct, frozen=True, tag="agree"):
    """May I be the first to hold the keys? Who agrees does not agree to another for a while."""


class Stage(msgspec.Struct, frozen=True, tag="stage"):
    """A part of all keys, which are to be held by whom they are sent to; the first has offset 0."""

    offset: int
    part: bytes


class Take(msgspec.Struct, frozen=True, tag="take"):
    """Hold what was staged (`size` bytes of it), or with `empty` nothing yet."""

    holding: Holding
    size: int = 0
    empty: bool = False


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Never take this over, unless it was already."""

    holding: Holding


class Who(msgspec.Struct, frozen=True, tag="who"):
    """Who holds the keys?"""


Question = Batch | More | Follow | Begin | Agree | Stage | Take | Cancel | Who


class Results(msgspec.Struct, frozen=True, tag="results"):
    results: tuple[Settled, ...]


class Part(msgspec.Struct, frozen=True, tag="part"):
    """The beginning, or another part, of an answer of `size` bytes; more for `token`."""

    part: bytes
    size: int
    token: str


class Changed(msgspec.Struct, frozen=True, tag="changed"):
    change: KeyChange


class Seen(msgspec.Struct, frozen=True, tag="seen"):
    """Whom the host that is asked takes for the holder.

    With `elsewhere` the question was not answered, as it is another one's to answer.
    """

    holding: Holding | None
    elsewhere: bool = False


class Counts(msgspec.Struct, frozen=True, tag="counts"):
    """What the holder holds."""

    holding: Holding
    index: int
    keys: int
    bytes: int
    sessions: int


Answer = Results | Part | Changed | Seen | Counts

encode = msgspec.msgpack.encode
_questions: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)

AnswerKind = TypeVar("AnswerKind", bound=Answer)


def decode_question(body: bytes) -> Question:
    """Raises `Invalid`."""
    try:
        return _questions.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Invalid(f"this cannot be understood: {error}") from None


def decode_answer(body: bytes) -> Answer:
    """Raises `Unavailable`."""
    try:
        return _answers.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Unavailable(f"the answer cannot be understood: {error}") from None


async def put(
    cluster: Cluster, member: str, question: Question, timeout_s: float = ANSWER_S
) -> Answer:
    """Ask a member, and for all parts of a long answer. Raises `NetdError`."""
    answer = await _ask(cluster, member, question, timeout_s)
    if not isinstance(answer, Part):
        return answer
    whole = bytearray(answer.part)
    while len(whole) < answer.size:
        part = await _ask(cluster, member, More(answer.token, len(whole)), timeout_s)
        if not isinstance(part, Part) or not part.part:
            raise Unavailable("the rest of a long answer is not there any more; ask again")
        whole += part.part
    return decode_answer(bytes(whole))


async def _ask(cluster: Cluster, member: str, question: Question, timeout_s: float) -> Answer:
    return decode_answer(await cluster.ask(member, TOPIC, encode(question), timeout_s))


Reply = Callable[[str, Question], Awaitable[Answer]]
