"""Questions that members ask each other, and who answers them here."""

import asyncio
import logging
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from netd.engine.interfaces import Answer
from netd.model.errors import Invalid, NetdError, Unavailable

TOPIC_MAX_CHARS: Final = 32
BODY_MAX_BYTES: Final = 64 << 10
LARGE_MAX_BYTES: Final = 1 << 20
LARGE_TOPICS: Final = frozenset({"kv"})  # whose questions and answers may have that many
WAIT_MAX_S: Final = 30.0  # for an answer; who asks gives less
DETAIL_MAX_CHARS: Final = 2048
FIELD_MAX_CHARS: Final = 256

_BY_CODE: Final = {kind.code: kind for kind in NetdError.__subclasses__()}

log = logging.getLogger(__name__)


class Malformed(ValueError):
    """Bytes that are no question, or no reply."""


Topic = Annotated[str, Meta(min_length=1, max_length=TOPIC_MAX_CHARS)]
Body = Annotated[bytes, Meta(max_length=LARGE_MAX_BYTES)]


class Question(msgspec.Struct, array_like=True, frozen=True):
    """What one member asks another; it waits for the answer so long, and no longer."""

    topic: Topic
    body: Body
    wait_ms: Annotated[int, Meta(ge=1, le=int(WAIT_MAX_S * 1000))]


class Answered(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """The answer."""

    body: Body


class Refused(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """There is no answer: the error with this code."""

    code: Annotated[str, Meta(max_length=32)]
    detail: Annotated[str, Meta(max_length=DETAIL_MAX_CHARS)]
    field: Annotated[str, Meta(max_length=FIELD_MAX_CHARS)] | None

    @classmethod
    def of(cls, error: NetdError) -> "Refused":
        field = error.field[:FIELD_MAX_CHARS] if error.field is not None else None
        return cls(error.code, error.detail[:DETAIL_MAX_CHARS], field)


Reply = Answered | Refused

_question_decoder = msgspec.msgpack.Decoder(Question)
_reply_decoder: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def body_max_bytes(topic: str) -> int:
    return LARGE_MAX_BYTES if topic in LARGE_TOPICS else BODY_MAX_BYTES


def encode(message: Question | Reply) -> bytes:
    return msgspec.msgpack.encode(message)


def decode_question(data: bytes) -> Question:
    """Raises `Malformed`."""
    try:
        question = _question_decoder.decode(data)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise Malformed(str(error)) from None
    if len(question.body) > body_max_bytes(question.topic):
        raise Malformed(f"it has {len(question.body)} bytes")
    return question


def decode_reply(data: bytes) -> Reply:
    """Raises `Malformed`."""
    try:
        return _reply_decoder.decode(data)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise Malformed(str(error)) from None


def question(topic: str, body: bytes, timeout_s: float) -> Question:
    """Raises `Invalid` for one that cannot be asked."""
    if not 0 < len(topic) <= TOPIC_MAX_CHARS:
        raise Invalid(f"a topic has 1 to {TOPIC_MAX_CHARS} characters", field="topic")
    if len(body) > body_max_bytes(topic):
        raise Invalid(
            f"the question has {len(body)} bytes, of at most {body_max_bytes(topic)}",
            field="body",
        )
    if timeout_s <= 0:
        raise Invalid("there is no time for an answer", field="timeout_s")
    return Question(topic, body, max(1, int(min(timeout_s, WAIT_MAX_S) * 1000)))


def body_of(reply: Reply) -> bytes:
    """The answer, or the error raised that it is."""
    if isinstance(reply, Answered):
        return reply.body
    raise _BY_CODE.get(reply.code, Unavailable)(reply.detail, field=reply.field)


class Answers:
    """Who answers what. On the engine's loop."""

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}

    def put(self, topic: str, answer: Answer) -> None:
        self._answers[topic] = answer

    async def reply(self, asker: str, asked: Question) -> Reply:
        """Have a question of the member `asker` answered in time. Does not raise."""
        answer = self._answers.get(asked.topic)
        if answer is None:
            return Refused.of(Unavailable(f"questions of topic {asked.topic!r} are not answered"))
        wait_s = asked.wait_ms / 1000
        deadline = asyncio.timeout(wait_s)
        try:
            async with deadline:
                body = await answer(asker, asked.body)
        except NetdError as error:
            return Refused.of(error)
        except Exception as error:
            if isinstance(error, TimeoutError) and deadline.expired():
                return Refused.of(Unavailable(f"it was not answered within {wait_s:g} s"))
            log.exception("a question of topic %r cannot be answered", asked.topic)
            return Refused.of(Unavailable("netd has failed there; its log says how"))
        most = body_max_bytes(asked.topic)
        if len(body) > most:
            log.error("an answer of topic %r has %d bytes", asked.topic, len(body))
            return Refused.of(Unavailable(f"the answer has more than {most} bytes"))
        return Answered(body)
