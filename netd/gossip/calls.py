"""Requests over streams: which are under way, and what is done with their replies."""

from collections import deque
from collections.abc import Callable
from typing import Final

from netd.gossip.codec import encode
from netd.gossip.requests import Request
from netd.gossip.values import Address, Call, NodeId

Answered = Callable[[bytes | None], None]
WAITING_MAX: Final = 256


class Calls:
    """At most `limit` are under way, and `WAITING_MAX` wait; there are no more than that."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._number = 0
        self._running: dict[int, Answered] = {}
        self._waiting: deque[tuple[Call, Answered]] = deque()
        self.out: list[Call] = []

    def __len__(self) -> int:
        return len(self._running) + len(self._waiting)

    def make(
        self,
        to: Address,
        node: NodeId | None,
        request: Request,
        answered: Answered,
        timeout_s: float,
    ) -> bool:
        """Send `request`; `answered` gets the reply's bytes, or None, later. False: too many wait
        already, and nothing comes of it.
        """
        if len(self._running) >= self._limit and len(self._waiting) >= WAITING_MAX:
            return False
        self._number += 1
        call = Call(self._number, to, node, encode(request), timeout_s)
        if len(self._running) < self._limit:
            self._start(call, answered)
        else:
            self._waiting.append((call, answered))
        return True

    def complete(self, number: int, reply: bytes | None) -> None:
        answered = self._running.pop(number, None)
        if self._waiting and len(self._running) < self._limit:
            self._start(*self._waiting.popleft())
        if answered is not None:
            answered(reply)

    def _start(self, call: Call, answered: Answered) -> None:
        self._running[call.number] = answered
        self.out.append(call)
