"""Room in memory for questions and their answers: so many bytes of all members, and of each."""

import asyncio
from collections import Counter
from types import TracebackType
from typing import Final

from netd.gossip.values import NodeId

ROOM_BYTES: Final = 16 << 20
# A member asks four questions at once, and those that it has given up may still be answered.
ROOM_OF_MEMBER_BYTES: Final = 6 << 20


class Room:
    """Whoever needs more than there is waits until others have left."""

    def __init__(self) -> None:
        self._of_member: Counter[NodeId] = Counter()
        self._left = asyncio.Event()

    @property
    def used_bytes(self) -> int:
        return self._of_member.total()

    async def take(self, node: NodeId, size_bytes: int) -> "Held":
        """Wait for room for so many bytes of a member's question, before it is read."""
        while not self._fits(node, size_bytes):
            await self._left.wait()
        return Held(self, node, size_bytes)

    def put(self, node: NodeId, more_bytes: int) -> None:
        self._of_member[node] += more_bytes
        if not self._of_member[node]:
            del self._of_member[node]
        if more_bytes < 0:
            self._left.set()
            self._left = asyncio.Event()

    def _fits(self, node: NodeId, size_bytes: int) -> bool:
        of_member = self._of_member[node] + size_bytes
        return of_member <= ROOM_OF_MEMBER_BYTES and self.used_bytes + size_bytes <= ROOM_BYTES


class Held:
    """What one question holds, until the end of the `with` that it is given to."""

    def __init__(self, room: Room, node: NodeId, size_bytes: int) -> None:
        self._room = room
        self._node = node
        self._size_bytes = size_bytes
        room.put(node, size_bytes)

    def become(self, size_bytes: int) -> None:
        """The answer takes the place of the question. It is there already, so nothing is waited
        for: if it makes too much, further questions wait.
        """
        more_bytes, self._size_bytes = size_bytes - self._size_bytes, size_bytes
        self._room.put(self._node, more_bytes)

    def __enter__(self) -> "Held":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.become(0)
