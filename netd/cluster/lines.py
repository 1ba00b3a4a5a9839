"""Connections that are kept for the next question to the same member.

A handshake costs both sides some milliseconds, and a member lets only so many begin.
"""

import asyncio
import time
from collections import defaultdict
from typing import Final

from netd.gossip.values import Address, NodeId

IDLE_S: Final = 4.0  # the other side ends one that says nothing for 10 s
AGE_S: Final = 50.0  # and any one after 60 s, whatever it waits for then
OF_MEMBER_MAX: Final = 4


class Line:
    """A connection to `node`, which has proved that it is that one."""

    def __init__(
        self, node: NodeId, to: Address, reader: asyncio.StreamReader, transport: asyncio.Transport
    ) -> None:
        self.node = node
        self.to = to
        self.reader = reader
        self.transport = transport
        self.began_s = self.used_s = time.monotonic()

    def lasts(self, seconds: float) -> bool:
        """Whether it is open, and will be for so long."""
        now_s = time.monotonic()
        fresh = now_s - self.used_s < IDLE_S and now_s + seconds < self.began_s + AGE_S
        return fresh and not self.transport.is_closing() and not self.reader.at_eof()


class Lines:
    """Those that nobody uses just now."""

    def __init__(self) -> None:
        self._idle: defaultdict[tuple[NodeId, Address], list[Line]] = defaultdict(list)
        self._closed = False

    def take(self, node: NodeId, to: Address, seconds: float) -> Line | None:
        """One that will be open for so long."""
        idle = self._idle.get((node, to), [])
        while idle:
            line = idle.pop()
            if line.lasts(seconds):
                return line
            line.transport.abort()
        self._idle.pop((node, to), None)
        return None

    def put(self, line: Line) -> None:
        """Keep it for the next question."""
        idle = self._idle[line.node, line.to]
        if self._closed or len(idle) >= OF_MEMBER_MAX:
            line.transport.abort()
            return
        line.used_s = time.monotonic()
        idle.append(line)
        asyncio.get_running_loop().call_later(IDLE_S, self._drop, line)

    def close(self) -> None:
        self._closed = True
        for idle in self._idle.values():
            for line in idle:
                line.transport.abort()
        self._idle.clear()

    def _drop(self, line: Line) -> None:
        """End it unless it was used again."""
        idle = self._idle.get((line.node, line.to), [])
        if line in idle and time.monotonic() - line.used_s >= IDLE_S / 2:
            idle.remove(line)
            line.transport.abort()
            if not idle:
                self._idle.pop((line.node, line.to), None)
