"""Answers that are longer than one may be, kept until they are fetched part by part."""

from typing import Final

from netd.engine.interfaces import Clock
from netd.engine.kv.messages import PART_MAX_BYTES, Part
from netd.model.errors import NotFound

KEPT_S: Final = 20.0
KEPT_MAX_BYTES: Final = 64 << 20  # the newest one is kept whatever its size


class LongAnswers:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[float, bytes]] = {}  # the oldest first

    @property
    def size(self) -> int:
        return sum(len(answer) for _, answer in self._kept.values())

    def begin(self, answer: bytes) -> Part:
        """Keep an answer; its first part."""
        self._forget()
        token = self._clock.new_id()
        self._kept[token] = (self._clock.monotonic_s(), answer)
        while self.size > KEPT_MAX_BYTES and len(self._kept) > 1:
            del self._kept[next(iter(self._kept))]
        return self.part(token, 0)

    def part(self, token: str, offset: int) -> Part:
        """Raises `NotFound`. The last part is given once."""
        self._forget()
        if token not in self._kept:
            raise NotFound("this answer is not kept any more")
        answer = self._kept[token][1]
        end = offset + PART_MAX_BYTES
        if end >= len(answer):
            del self._kept[token]
        return Part(answer[offset:end], len(answer), token)

    def _forget(self) -> None:
        now_s = self._clock.monotonic_s()
        for token in [token for token, kept in self._kept.items() if now_s - kept[0] > KEPT_S]:
            del self._kept[token]
