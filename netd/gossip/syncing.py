"""Fetching records over a stream: all that another has more of, or one log."""

from collections import Counter, deque
from itertools import islice
from typing import Final, NamedTuple

from netd.gossip.codec import Malformed, decode_reply
from netd.gossip.log import DELTA_BYTES, LogId
from netd.gossip.logs import is_ahead, row_of
from netd.gossip.member import Member
from netd.gossip.messages import Delta, LogRow
from netd.gossip.parts import Parts
from netd.gossip.replica import Replica
from netd.gossip.replication import Replication, may_show
from netd.gossip.requests import Declined, Sync, SyncReply
from netd.gossip.values import GLOBAL, NodeId, Scope

AT_ONCE_MAX = 2
WAITING_MAX = 64
ROWS_MAX: Final = 17_000  # in one request, beside as many scopes as a node may be in
REST_MAX: Final = 1_024  # logs that a page says are left
RESUMED_MAX: Final = 256  # of them that are asked for at once
_TIMEOUT_S = 20.0


class Rest(NamedTuple):
    """What is left of all that another has more of, and how far he has it; `capped` if that is not
    all. `moved`: something was learned since all of it was asked for.
    """

    rows: dict[LogId, LogRow]
    capped: bool
    moved: bool


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

    def _ask(self, peer: Member, log_id: LogId | None, rest: Rest | None = None) -> bool:
        """Ask for the next page; whether that is under way. Of a rest only the logs in it are
        named again, not all there are.
        """
        parts = self._parts
        resumed = rest is not None and bool(rest.rows)
        if rest is not None and resumed:
            scopes = self._replication.common_scopes(peer)
            rows = [row_of(key, self._replica.get(key)) for key in islice(rest.rows, RESUMED_MAX)]
        elif log_id is None:
            scopes = self._replication.common_scopes(peer)
            rows = self._replica.rows(scopes)
            if len(rows) > ROWS_MAX:
                scopes = self._some(scopes, rows)
                rows = self._replica.rows(scopes)
        else:
            scopes = [log_id[1]] if log_id[1] in parts.me.scopes else []
            rows = [row_of(log_id, self._replica.get(log_id))]
        request = Sync(tuple(scopes), tuple(rows), resumed or log_id is not None)
        parts.counters["syncs"] += 1
        return parts.calls.make(
            peer.address,
            peer.id,
            request,
            lambda reply: self._answered(peer, log_id, reply, rest),
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

    def _answered(
        self, peer: Member, log_id: LogId | None, reply: bytes | None, rest: Rest | None
    ) -> None:
        peer.tcp_ok = reply is not None
        page = self._page(reply)
        if page is not None:
            moved = self._take(page, peer)
            # Without progress another page would be the same one.
            if log_id is None:
                left = self._left(page, moved, rest)
                whole = left.capped and left.moved
                if peer.live and (left.rows or whole) and self._ask(peer, None, left):
                    return
            elif moved:
                if page.more and peer.live and self._ask(peer, log_id):
                    return
                self._replication.announce(log_id)
        self._running.discard(peer.id)
        self._start()

    def _take(self, page: SyncReply, peer: Member) -> set[LogId]:
        """Learn what is in a page; the logs of which something was new."""
        moved = set()
        for delta in page.deltas:
            if may_show(delta.scope, self._parts.me):
                key = (delta.owner, delta.scope)
                before = row_of(key, self._replica.get(key))
                self._replication.learn(delta, peer)
                if _goes_on(row_of(key, self._replica.get(key)), before):
                    moved.add(key)
        return moved

    def _left(self, page: SyncReply, moved: set[LogId], rest: Rest | None) -> Rest:
        """What is left of what this page has told of, or one before it."""
        vain: set[LogId] = set()
        if rest is None or not rest.rows:
            rows = {(row.owner, row.scope): row for row in page.rest}
            capped = page.more and (not rows or len(page.rest) >= REST_MAX)
            progress = bool(moved)
        else:
            rows, capped, progress = rest.rows, rest.capped, rest.moved or bool(moved)
            # What was asked for and brought nothing new will not do so the next time.
            told = {(delta.owner, delta.scope) for delta in page.deltas}
            vain = told - moved if moved else set(islice(rows, RESUMED_MAX))
        rows = {
            key: row
            for key, row in rows.items()
            if key not in vain
            and may_show(key[1], self._parts.me)
            and is_ahead(row, row_of(key, self._replica.get(key)))
        }
        return Rest(rows, capped, progress)

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
        rest: list[LogRow] = []
        room = self._parts.settings.page_max_bytes
        for mine in rows:
            other = theirs.get((mine.owner, mine.scope), LogRow(mine.owner, mine.scope, 0, 0))
            if not is_ahead(mine, other):
                continue
            slot = self._replica.get((mine.owner, mine.scope))
            assert slot is not None
            assert slot.head is not None
            if slot.head.withheld:
                continue  # its owner is the only one to have it from
            if rest or room <= DELTA_BYTES:
                rest.append(mine)
                if len(rest) == REST_MAX:
                    break
                continue
            start, floor = (other.version, other.floor) if other.epoch == mine.epoch else (0, 0)
            # A record may be as large as a page; it must not stop what follows it.
            least = self._parts.settings.page_max_bytes if not deltas else 0
            room_here = max(room, least * 2)
            delta = slot.head.delta(
                mine.owner, mine.scope, start, room_here, news=False, floor=floor
            )
            if delta is None:
                rest.append(mine)
                continue
            room -= DELTA_BYTES + sum(96 + len(entry.value or b"") for entry in delta.entries)
            deltas.append(delta)
            if delta.end < mine.version:
                rest.append(mine)
        # At most once an interval: what cannot be taken over must not be asked for in a circle.
        waited_s = self._parts.now_s - self._returned_s
        if (
            not request.only
            and waited_s >= self._parts.settings.logs_repair_s
            and self._lacks(theirs)
        ):
            self._returned_s = self._parts.now_s
            self.fetch_all(peer)
        return SyncReply(tuple(deltas), bool(rest), tuple(rest))

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
