"""The keyring and its rotation: install everywhere, use everywhere, remove everywhere.

Each node tells in a record of its own which keys it has. Who hears of a later ring fetches it, and
merges it with its own; the keys themselves travel over streams only.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from netd.gossip.codec import Malformed, decode_reply
from netd.gossip.parts import Parts
from netd.gossip.replication import Replication
from netd.gossip.requests import FetchRing, RingReply, RingRow
from netd.gossip.ring import KEY_BYTES, KEYS_MAX, Age, Ring, key_id
from netd.gossip.sealing import Sealer
from netd.gossip.values import GLOBAL, NodeId, RingChanged
from netd.gossip.view import View

TABLE: Final = "keyring"
RECORD: Final = "ring"
GRACE_S: Final = 10.0  # packets that a removed key has sealed are opened for this long
_AGAIN_S: Final = 2.0
_TIMEOUT_S: Final = 10.0
# A ring that is later than this node's clock by more is not believed: a stamp at the end of its
# range would leave none for the next change. A clock that begins in 1970 is no reason.
AHEAD_MAX_MS: Final = 1_000 * 365 * 86_400_000
# A later ring is fetched at a random time in this long for each member, and at the most: it costs
# whoever has it a handshake, some milliseconds, and all learn of it in the same moment.
_FETCH_MEMBER_S: Final = 0.005
_FETCH_MAX_S: Final = 5.0


class RingConflict(Exception):
    """The step would lock members out; nothing was changed. `nodes` are those it waits for."""

    def __init__(self, detail: str, nodes: tuple[NodeId, ...] = ()) -> None:
        super().__init__(detail)
        self.nodes = nodes


class RingNotice(msgspec.Struct, array_like=True, frozen=True):
    """What a node tells of its ring."""

    stamp: int
    author: bytes
    primary: bytes
    ids: tuple[bytes, ...]


_decode = msgspec.msgpack.Decoder(RingNotice).decode
_encode = msgspec.msgpack.Encoder().encode


class Keys:
    """Holds the ring, tells of it, and takes over later ones."""

    def __init__(
        self, parts: Parts, sealer: Sealer, replication: Replication, view: View, ring: Ring
    ) -> None:
        self._parts = parts
        self._sealer = sealer
        self._replication = replication
        self._view = view
        self.ring = ring
        self._fetching = False
        self._late: dict[bytes, float] = {}  # removed secrets, and until when they open packets

    def tell(self) -> None:
        ring = self.ring
        notice = RingNotice(ring.stamp, ring.author, ring.primary, ring.ids)
        self._replication.write(GLOBAL, TABLE, RECORD, _encode(notice))

    def row(self) -> RingRow:
        ring = self.ring
        return RingRow(
            ring.keys,
            ring.primary,
            ring.stamp,
            ring.author,
            ring.changes,
            ring.used,
            ring.floor,
        )

    def notices(self) -> dict[NodeId, RingNotice]:
        """What the members tell of their rings, this node included."""
        found = {}
        for record in self._view.records_of(GLOBAL, TABLE):
            if record.key == RECORD and record.value is not None:
                notice = _read(record.value)
                if notice is not None:
                    found[record.owner] = notice
        return found

    # What an operator asks for here

    def install(self, secret: bytes) -> bytes:
        """Have every node accept this key too; its id. Raises `RingConflict`."""
        if len(secret) != KEY_BYTES:
            raise RingConflict(f"a key has {KEY_BYTES} bytes, not {len(secret)}")
        new = key_id(secret)
        if new in self.ring.ids:
            return new
        if len(self.ring.keys) >= KEYS_MAX:
            raise RingConflict(f"there are {KEYS_MAX} keys already: remove one first")
        self._take(self.ring.with_key(secret, self._next_age()))
        return new

    def use(self, wanted: bytes) -> None:
        """Have every node seal with this key. Raises `RingConflict`, also for an unknown id."""
        self._demand(wanted)
        self._demand_of_all(
            lambda notice: wanted in notice.ids, "these members do not have the key yet"
        )
        if self.ring.primary != wanted:
            self._take(self.ring.with_primary(wanted, self._next_age()))

    def remove(self, unwanted: bytes) -> None:
        """Have no node accept this key any more. Raises `RingConflict`."""
        self._demand(unwanted)
        if self.ring.primary == unwanted:
            raise RingConflict("the key is in use: use another one first", (self._parts.me.id,))
        self._demand_of_all(
            lambda notice: notice.primary != unwanted, "these members still use the key"
        )
        self._take(self.ring.without_key(unwanted, self._next_age()))

    def _demand(self, wanted: bytes) -> None:
        if wanted not in self.ring.ids:
            raise RingConflict(f"there is no key {wanted.hex()}")

    def _demand_of_all(self, is_so: Callable[[RingNotice], bool], otherwise: str) -> None:
        """Raise `RingConflict` unless it is known to be so of all live members."""
        notices = self.notices()
        live = [member.id for member in self._parts.members if member.live]
        silent = tuple(node for node in live if node not in notices)
        if silent:
            raise RingConflict("these members have not told yet which keys they have", silent)
        others = tuple(node for node in live if not is_so(notices[node]))
        if others:
            raise RingConflict(otherwise, others)

    def _next_age(self) -> Age:
        return max(self._parts.wall_ms(), self.ring.stamp + 1), self._parts.me.id

    # What is heard from others

    def adopt(self, ring: Ring) -> None:
        """Take over what of a ring is later than this node's."""
        if not ring.is_sound() or not self._is_believable(ring.stamp):
            return
        merged = self.ring.merged(ring)
        if merged != self.ring:
            self._take(merged)

    def _is_believable(self, stamp: int) -> bool:
        return stamp <= self._parts.wall_ms() + AHEAD_MAX_MS

    def _take(self, ring: Ring) -> None:
        mine, self.ring = self.ring, ring
        # Packets sealed before the others knew are still under way.
        for secret in mine.keys:
            self._late[secret] = self._parts.now_s + GRACE_S
        self._use()
        self._parts.after(GRACE_S, self._use)
        self._parts.events.append(RingChanged())
        self.tell()

    def _use(self) -> None:
        """Seal and open with the ring, and open with what was removed from it just now."""
        ring, now_s = self.ring, self._parts.now_s
        self._late = {
            secret: until_s
            for secret, until_s in self._late.items()
            if until_s > now_s and secret not in ring.keys
        }
        self._sealer.use(Ring(keys=(*ring.keys, *self._late), primary=ring.primary))

    def hear(self, value: bytes | None) -> None:
        """A member tells of its ring; a later one is fetched soon, from whoever has it by then."""
        notice = _read(value) if value is not None else None
        if notice is None or not self._is_later(notice) or self._fetching:
            return
        self._fetching = True
        parts = self._parts
        within_s = min(_FETCH_MAX_S, _FETCH_MEMBER_S * parts.members.live_count)
        parts.after(within_s * parts.random.random(), self._fetch)

    def _fetch(self) -> None:
        """Ask one of those that tell of a later ring for it: not of the latest, which may be one
        that nobody gets.
        """
        parts = self._parts
        holders = [node for node, notice in self.notices().items() if self._is_later(notice)]
        if not holders:
            self._fetching = False
            return
        (holder,) = parts.random.sample(holders, 1)
        member = parts.members.get(holder)
        if member is None or not parts.calls.make(
            member.address, holder, FetchRing(), self._fetched, _TIMEOUT_S
        ):
            parts.after(_AGAIN_S, self._fetch)

    def _fetched(self, reply: bytes | None) -> None:
        before = self.ring
        ring = self._ring_in(reply)
        if ring is not None:
            self.adopt(ring)
        if self.ring is not before:
            self._fetch()  # in case that a still later one was told of meanwhile
        else:
            self._parts.after(_AGAIN_S, self._fetch)

    def _ring_in(self, reply: bytes | None) -> Ring | None:
        if reply is None:
            return None
        try:
            answer = decode_reply(reply)
        except Malformed:
            self._parts.counters["refused_malformed"] += 1
            return None
        if not isinstance(answer, RingReply):
            return None
        return ring_of(answer.ring)

    def _is_later(self, notice: RingNotice) -> bool:
        age = notice.stamp, notice.author
        return age > self.ring.age and self._is_believable(notice.stamp)


def ring_of(row: RingRow) -> Ring:
    return Ring(
        keys=row.keys,
        primary=row.primary,
        stamp=row.stamp,
        author=row.author,
        changes=row.changes,
        used=row.used,
        floor=row.floor,
    )


def _read(value: bytes) -> RingNotice | None:
    try:
        return _decode(value)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
