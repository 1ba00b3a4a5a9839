"""Changes of records on their way to everybody: the other queue of the epidemic."""

from collections.abc import Sequence

from netd.gossip.codec import encode
from netd.gossip.log import Log, LogId
from netd.gossip.member import Member
from netd.gossip.messages import Head
from netd.gossip.parts import Parts
from netd.gossip.replica import Replica
from netd.gossip.values import GLOBAL, NodeId, Scope

TAIL_MAX = 32  # versions of one log on their way; of more only the head is told


def head_of(log_id: LogId, log: Log) -> Head:
    """That the log has a version, without what is in it."""
    return Head(*log_id, log.epoch, log.version, log.mark if log.withheld else None)


class _Tail:
    """Versions of one log in one epoch, ascending, and how often each was sent."""

    __slots__ = ("epoch", "sent", "versions")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.versions: list[int] = []
        self.sent: list[int] = []

    def least(self) -> int:
        return min(self.sent)


class Changes:
    """Implements `spreading.Cargo`. A log's versions that were sent `copies` times are done.

    What is sent of a log has no gaps: from the first version that is still on its way.
    """

    def __init__(self, parts: Parts, replica: Replica) -> None:
        self._parts = parts
        self._replica = replica
        self._tails: dict[LogId, _Tail] = {}
        self.dropped = 0

    def __bool__(self) -> bool:
        return bool(self._tails)

    def __len__(self) -> int:
        return len(self._tails)

    def clear(self) -> None:
        self._tails.clear()

    def put(self, log_id: LogId, versions: list[int]) -> None:
        """These versions, ascending, were learned and have to go on."""
        if not versions or versions[-1] == 0:
            return  # a log in which nothing was written so far
        slot = self._replica.get(log_id)
        if slot is None or slot.head is None:
            return
        tail = self._tails.get(log_id)
        if tail is not None and tail.epoch != slot.head.epoch:
            del self._tails[log_id]
            tail = None
        if tail is None:
            if len(self._tails) >= self._parts.settings.logs_queued_max:
                worn = max(self._tails, key=lambda other: self._tails[other].least())
                del self._tails[worn]
                self.dropped += 1
            tail = self._tails[log_id] = _Tail(slot.head.epoch)
        last = tail.versions[-1] if tail.versions else 0
        for version in versions:
            if version > last:
                tail.versions.append(version)
                tail.sent.append(0)
        # Of more than fit only the head is told: which they are does not matter any more.
        del tail.versions[: -TAIL_MAX - 1], tail.sent[: -TAIL_MAX - 1]

    def drop(self, log_id: LogId) -> None:
        self._tails.pop(log_id, None)

    def drop_owner(self, owner: NodeId) -> None:
        for log_id in [log_id for log_id in self._tails if log_id[0] == owner]:
            del self._tails[log_id]

    def _drop_scope(self, scope: Scope) -> None:
        """Nobody else is in the scope. Whoever comes in asks for all there is."""
        for log_id in [log_id for log_id in self._tails if log_id[1] == scope]:
            del self._tails[log_id]

    def peers(self, fresh_only: bool) -> list[Member]:
        """Some members for each scope in which there is something to tell."""
        parts = self._parts
        scopes: dict[Scope, None] = {}
        for (_, scope), tail in self._tails.items():
            if not fresh_only or tail.least() < parts.settings.fanout:
                scopes[scope] = None
        found: list[Member] = []
        for scope in scopes:
            if scope == GLOBAL:
                found += parts.members.pick(parts.random, parts.settings.fanout)
            else:
                some = parts.members.pick_in(scope, parts.random, parts.settings.fanout)
                if not some:
                    self._drop_scope(scope)
                found += some
        return found

    def fill(
        self, peer: Member, room_bytes: int, fresh_only: bool, further: Sequence[int] = ()
    ) -> list[bytes]:
        """Own changes first, then those sent least often.

        `further` are the bytes of packets that may follow: what does not fit into one goes on in
        the next, so that many changes at once, of one log or of many, take no longer than one.
        """
        me = self._parts.me
        order = list(self._tails.items())
        if len(order) > 1:
            order.sort(key=lambda item: (item[0][0] != me.id, item[1].least()))
        messages: list[bytes] = []
        rooms = [room_bytes, *further]
        for log_id, tail in order:
            owner, scope = log_id
            if scope != GLOBAL and scope not in peer.scopes:
                continue
            if fresh_only and tail.least() >= self._parts.settings.fanout:
                continue
            if owner == peer.id:
                # It has them; where there are few others, all would be waited for in vain.
                self._count(log_id, tail, tail.versions[-1])
                continue
            messages += self._messages(log_id, tail, rooms)
        return messages

    def _messages(self, log_id: LogId, tail: _Tail, rooms: list[int]) -> list[bytes]:
        """What fits of one log. `rooms` is what is left in packets: full ones are taken off."""
        slot = self._replica.get(log_id)
        log = slot.head if slot is not None else None
        if log is None or log.epoch != tail.epoch or log.version < tail.versions[-1]:
            self.drop(log_id)  # the log was replaced by one of another epoch
            return []
        few = len(tail.versions) <= TAIL_MAX and tail.versions[0] > log.floor
        if few and not log.withheld:
            deltas, end = self._deltas(log_id, tail, log, rooms)
            if deltas:
                self._count(log_id, tail, end)
                return deltas
            if rooms[0] < self._parts.settings.packet_max_bytes // 2:
                return []  # another packet may have room for it
        return self._head(log_id, tail, log, rooms)

    def _deltas(
        self, log_id: LogId, tail: _Tail, log: Log, rooms: list[int]
    ) -> tuple[list[bytes], int]:
        """As many as there is room for, each following the one before, and where they end."""
        found: list[bytes] = []
        end = tail.versions[0] - 1
        while end < tail.versions[-1]:
            data, until = _encoded(log_id, log, end, rooms[0])
            if data:
                found.append(data)
                rooms[0] -= len(data)
                end = until
            elif len(rooms) > 1 and _encoded(log_id, log, end, rooms[-1])[0]:
                del rooms[0]
            else:
                break
        return found, end

    def _head(self, log_id: LogId, tail: _Tail, log: Log, rooms: list[int]) -> list[bytes]:
        data = encode(head_of(log_id, log))
        if len(data) > rooms[0]:
            return []
        rooms[0] -= len(data)
        self._count(log_id, tail, log.version)
        return [data]

    def _count(self, log_id: LogId, tail: _Tail, end: int) -> None:
        """Versions up to `end` were sent once more."""
        copies = self._parts.settings.record_copies
        kept = []
        for index, version in enumerate(tail.versions):
            sent = tail.sent[index] + (version <= end)
            if sent < copies:
                kept.append((version, sent))
        if kept:
            tail.versions = [version for version, _ in kept]
            tail.sent = [sent for _, sent in kept]
        else:
            self._tails.pop(log_id, None)


def _encoded(log_id: LogId, log: Log, start: int, room_bytes: int) -> tuple[bytes, int]:
    """What follows version `start`, as much as fits, and where that ends; b"" if nothing does."""
    delta = log.delta(*log_id, start, room_bytes, news=True)
    data = encode(delta) if delta is not None else b""
    return (data, delta.end) if delta is not None and len(data) <= room_bytes else (b"", start)
