"""Statements about members on their way to everybody: the epidemic's queue."""

from collections.abc import Iterator

from netd.gossip.codec import encode
from netd.gossip.messages import Statement
from netd.gossip.values import NodeId

_FRESH = 3  # a burst of news goes to as many


class _Queue:
    """One message for each member, in order of how often it was sent."""

    __slots__ = ("_by_sent", "_sent", "size_bytes")

    def __init__(self) -> None:
        self.size_bytes = 0
        self._by_sent: list[dict[NodeId, bytes]] = [{}]
        self._sent: dict[NodeId, int] = {}

    def __len__(self) -> int:
        return len(self._sent)

    def put(self, about: NodeId, data: bytes) -> None:
        self.drop(about)
        self._by_sent[0][about] = data
        self._sent[about] = 0
        self.size_bytes += len(data)

    def drop(self, about: NodeId) -> None:
        sent = self._sent.pop(about, None)
        if sent is not None:
            self.size_bytes -= len(self._by_sent[sent].pop(about))

    def drop_worn(self) -> None:
        """Drop one of those that were sent most often."""
        for messages in reversed(self._by_sent):
            if messages:
                self.drop(next(iter(messages)))
                return

    def take(self, room_bytes: int, copies: int, sent_below: int) -> Iterator[bytes]:
        """Those that fit and were sent less than `sent_below` times; each is sent once more."""
        taken: list[tuple[NodeId, int]] = []
        for sent in range(min(sent_below, len(self._by_sent))):
            for about, data in self._by_sent[sent].items():
                if len(data) > room_bytes:
                    break  # nearly all are of one size
                room_bytes -= len(data)
                taken.append((about, sent))
                yield data
        for about, sent in taken:
            data = self._by_sent[sent].pop(about)
            del self._sent[about]
            if sent + 1 < copies:
                if sent + 1 == len(self._by_sent):
                    self._by_sent.append({})
                self._by_sent[sent + 1][about] = data
                self._sent[about] = sent + 1
            else:
                self.size_bytes -= len(data)
        # The cluster may have become smaller since, and with it the number of copies.
        for worn in self._by_sent[copies:]:
            for about in list(worn):
                self.drop(about)


class News:
    """One statement for each member, the newest; those least often sent go first.

    A statement that was sent `copies` times is done. When more than `limit` are queued, one of
    those most often sent is dropped: comparing the tables brings it later.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._statements = _Queue()
        self._introductions = _Queue()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._statements) + len(self._introductions)

    def put(self, about: NodeId, statement: Statement) -> None:
        """Queue what is newest about a member in place of what was queued before."""
        self._put(self._statements, about, statement)

    def introduce(self, about: NodeId, introduction: Statement) -> None:
        """Queue an introduction; it goes beside what else is said of the member."""
        self._put(self._introductions, about, introduction)

    def clear(self) -> None:
        self._statements = _Queue()
        self._introductions = _Queue()

    def drop(self, about: NodeId) -> None:
        self._statements.drop(about)
        self._introductions.drop(about)

    def take(self, room_bytes: int, copies: int, *, fresh_only: bool = False) -> list[bytes]:
        """Messages that fit into `room_bytes`, each counted as sent once more.

        Introductions come first, as what is said of strangers is lost; where many join, they
        leave half of the room, so that deaths do not wait for all of them.
        """
        sent_below = _FRESH if fresh_only else copies
        taken: list[bytes] = []
        if self._introductions:
            room = room_bytes - min(self._statements.size_bytes, room_bytes // 2)
            taken += self._introductions.take(room, copies, sent_below)
        if self._statements:
            room = room_bytes - sum(map(len, taken))
            taken += self._statements.take(room, copies, sent_below)
        return taken

    def _put(self, queue: _Queue, about: NodeId, statement: Statement) -> None:
        queue.put(about, encode(statement))
        if len(queue) > self._limit:
            queue.drop_worn()
            self.dropped += 1
