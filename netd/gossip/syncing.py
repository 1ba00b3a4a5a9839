"""Fetching records over a stream: all that another has more of, or one log."""

from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from netd.gossip.codec import Malformed, decode_reply
from netd.gossip.log import DELTA_BYTES, LogId
from netd.gossip.logs import is_ahead, row_of
from netd.gossip.member import Member
from netd.gossip.messages import Declined, Delta, LogRow, Sync, SyncReply
from netd.gossip.parts import Parts
from netd.gossip.replica import Replica
from netd.gossip.replication import Replication, may_show
from netd.gossip.values import GLOBAL, NodeId, Scope

AT_ONCE_MAX = 2
WAITING_MAX = 64
ROWS_MAX: Final = 17_000  # in one request, beside as many scopes as a node may be in
_TIMEOUT_S = 20.0
Done = Callable[[], None]


class Syncing:
    """At most two are under way, one with each member; replies are asked for page by page."""

    def __init__(self, parts: Parts, replica: Replica, replication: Replication) -> None:
        self._parts = parts
        self._replica = replica
        self._replication = replication
        self._running: set[NodeId] = set()
        self._waiting: deque[tuple[NodeId, LogId | None]] = deque()
        self._returned_s = parts.now_s - parts.settings.logs_repair_s

    def fetch_all(self, peer: Member) -> None:
        """Have everything that `peer` has and this node may have."""
        self._queue(peer, None)

    def fetch(self, peer: Member, log_id: LogId) -> None:
        """Have one log as far as `peer` has it, and tell the others that there is more of it."""
        self._queue(peer, log_id)

    def _queue(self, peer: Member, log_id: LogId | None) -> None:
        if (peer.id, log_id) in self._waiting or len(self._waiting) >= WAITING_MAX:
            return
        self._waiting.append((peer.id, log_id))
        self._start()

    def _start(self) -> None:
        for _ in range(len(self._waiting)):
            if len(self._running) >= AT_ONCE_MAX:
                return
            node, log_id = self._waiting.popleft()
            peer = self._parts.members.get(node)
            if peer is None or not peer.live:
                continue
            if node in self._running:
                self._waiting.append((node, log_id))
                continue
            if self._ask(peer, log_id):
                self._running.add(node)

    def _ask(self, peer: Member, log_id: LogId | None) -> bool:
        """Ask for the next page; whether that is under way."""
        parts = self._parts
        if log_id is None:
            scopes = self._replication.common_scopes(peer)
            rows = self._replica.rows(scopes)
            if len(rows) > ROWS_MAX:
                scopes = self._some(scopes, rows)
                rows = self._replica.rows(scopes)
        else:
            scopes = [log_id[1]] if log_id[1] in parts.me.scopes else []
            rows = [row_of(log_id, self._replica.get(log_id))]
        request = Sync(tuple(scopes), tuple(rows), log_id is not None)
        parts.counters["syncs"] += 1
        return parts.calls.make(
            peer.address,
            peer.id,
            request,
            lambda reply: self._answered(peer, log_id, reply),
            _TIMEOUT_S,
        )

    def _some(self, scopes: list[Scope], rows: list[LogRow]) -> list[Scope]:
        """As many of the scopes as one request has room for the rows of, others each time: what
        differs in the rest is the reason for the next request.
        """
        count = Counter(row.scope for row in rows)
        room = ROWS_MAX - count[GLOBAL]
        chosen = []
        for scope in self._parts.random.sample(scopes, len(scopes)):
            if count[scope] <= room:
                room -= count[scope]
                chosen.append(scope)
        return sorted(chosen)

    def _answered(self, peer: Member, log_id: LogId | None, reply: bytes | None) -> None:
        peer.tcp_ok = reply is not None
        page = self._page(reply)
        if page is not None:
            moved = False
            for delta in page.deltas:
                if may_show(delta.scope, self._parts.me):
                    key = (delta.owner, delta.scope)
                    before = row_of(key, self._replica.get(key))
                    self._replication.learn(delta, peer)
                    moved |= _goes_on(row_of(key, self._replica.get(key)), before)
            # Without progress another page would be the same one.
            if page.more and moved and peer.live and self._ask(peer, log_id):
                return
            if log_id is not None and moved:
                self._replication.announce(log_id)
        self._running.discard(peer.id)
        self._start()

    def _page(self, reply: bytes | None) -> SyncReply | None:
        if reply is None:
            return None
        try:
            page = decode_reply(reply)
        except Malformed:
            self._parts.counters["refused_malformed"] += 1
            return None
        return page if isinstance(page, SyncReply) else None

    def serve(self, request: Sync, peer: Member) -> SyncReply | Declined:
        """One page of what is above the request's rows."""
        theirs = {(row.owner, row.scope): row for row in request.rows}
        scopes = [scope for scope in request.scopes if may_show(scope, peer)]
        if request.only:
            rows = [
                row_of(log_id, self._replica.get(log_id))
                for log_id in theirs
                if may_show(log_id[1], peer)
            ]
        else:
            # From anywhere on: what cannot be taken over does not always stand before the rest.
            rows = self._replica.rows(scopes)
            first = self._parts.random.randrange(len(rows) or 1)
            rows = rows[first:] + rows[:first]
        deltas: list[Delta] = []
        room = self._parts.settings.page_max_bytes
        more = False
        for mine in rows:
            other = theirs.get((mine.owner, mine.scope), LogRow(mine.owner, mine.scope, 0, 0))
            if not is_ahead(mine, other):
                continue
            slot = self._replica.get((mine.owner, mine.scope))
            assert slot is not None
            assert slot.head is not None
            if slot.head.withheld:
                continue  # its owner is the only one to have it from
            start, floor = (other.version, other.floor) if other.epoch == mine.epoch else (0, 0)
            # A record may be as large as a page; it must not stop what follows it.
            least = self._parts.settings.page_max_bytes if not deltas else 0
            room_here = max(room, least * 2)
            delta = slot.head.delta(
                mine.owner, mine.scope, start, room_here, news=False, floor=floor
            )
            if delta is None:
                more = True
                break
            room -= DELTA_BYTES + sum(96 + len(entry.value or b"") for entry in delta.entries)
            deltas.append(delta)
            if delta.end < mine.version or room <= DELTA_BYTES:
                more = True
                break
        # At most once an interval: what cannot be taken over must not be asked for in a circle.
        waited_s = self._parts.now_s - self._returned_s
        if (
            not request.only
            and waited_s >= self._parts.settings.logs_repair_s
            and self._lacks(theirs)
        ):
            self._returned_s = self._parts.now_s
            self.fetch_all(peer)
        return SyncReply(tuple(deltas), more)

    def _lacks(self, theirs: dict[LogId, LogRow]) -> bool:
        """Whether the other has something that this node does not."""
        return any(
            is_ahead(row, row_of(log_id, self._replica.get(log_id)))
            for log_id, row in theirs.items()
            if may_show(row.scope, self._parts.me) and self._parts.members.get(row.owner)
        )


def _goes_on(after: LogRow, before: LogRow) -> bool:
    """Whether something was learned, a new beginning of the log included."""
    return (after.epoch, after.floor, after.version) > (before.epoch, before.floor, before.version)
