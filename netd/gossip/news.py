"""Statements about members on their way to everybody: the epidemic's queue."""

from netd.gossip.codec import encode
from netd.gossip.messages import Statement
from netd.gossip.values import NodeId


class _Item:
    __slots__ = ("data", "sent")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.sent = 0


class News:
    """One statement for each member, the newest; those least often sent go first.

    A statement that was sent `copies` times is done. When more than `limit` are queued, the one
    most often sent is dropped: comparing the tables brings it later.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: dict[NodeId, _Item] = {}
        self._introductions: dict[NodeId, _Item] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items) + len(self._introductions)

    def put(self, about: NodeId, statement: Statement) -> None:
        """Queue what is newest about a member in place of what was queued before."""
        self._put(self._items, about, statement)

    def introduce(self, about: NodeId, introduction: Statement) -> None:
        """Queue an introduction; it goes beside what else is said of the member."""
        self._put(self._introductions, about, introduction)

    def clear(self) -> None:
        self._items.clear()
        self._introductions.clear()

    def drop(self, about: NodeId) -> None:
        self._items.pop(about, None)
        self._introductions.pop(about, None)

    def take(self, room_bytes: int, copies: int, *, fresh_only: bool = False) -> list[bytes]:
        """Messages that fit into `room_bytes`, each counted as sent once more."""
        taken: list[bytes] = []
        for queue in (self._introductions, self._items):
            if not queue:
                continue
            items = sorted(queue.items(), key=_sent_of) if len(queue) > 1 else list(queue.items())
            for about, item in items:
                if fresh_only and item.sent >= _FRESH:
                    break
                if len(item.data) > room_bytes:
                    continue
                room_bytes -= len(item.data)
                taken.append(item.data)
                item.sent += 1
                if item.sent >= copies:
                    del queue[about]
        return taken

    def _put(self, queue: dict[NodeId, _Item], about: NodeId, statement: Statement) -> None:
        queue.pop(about, None)
        queue[about] = _Item(encode(statement))
        if len(queue) > self._limit:
            worn = max(queue.items(), key=_sent_of)[0]
            del queue[worn]
            self.dropped += 1


_FRESH = 3  # a burst of news goes to as many


def _sent_of(item: tuple[NodeId, _Item]) -> int:
    return item[1].sent
