"""The log of one owner in one scope: its records by version."""

from collections.abc import Iterator
from typing import Final

from netd.gossip.codec import encode
from netd.gossip.messages import Delta, Entry, Mark
from netd.gossip.values import NodeId, Scope

RecordKey = tuple[str, str]  # table, key
LogId = tuple[NodeId, Scope]

# A table in the global scope. Its keys are the scopes that the owner is in, in hex; a value is the
# version that the owner's log in that scope had when it came in, in digits.
ATTACHMENT: Final = "attachment"
DELTA_BYTES: Final = 192  # of a delta without entries, at the most
_ENTRY_BYTES: Final = 96  # of an entry beside table, key and value, encoded
_NO_MARK: Final = Mark(0, 0, 0, bytes(64))


class Log:
    """What is known of the log in one epoch: everything up to `version`, without gaps.

    A later value replaces an earlier one, a tombstone takes its place until `floor` passes it.
    `mark` is the latest that the owner has signed of it: it may be ahead of `version`, and its
    floor of this one's, while the log is fetched in parts. `size_bytes` is what its entries have,
    `live_bytes` those of them, `live_rows` many, that are no tombstones.

    Of a log that is `withheld`, as it is larger than one may be, nothing is kept but the version.
    """

    __slots__ = (
        "_order",
        "entries",
        "epoch",
        "floor",
        "live_bytes",
        "live_rows",
        "mark",
        "size_bytes",
        "version",
        "withheld",
    )

    def __init__(self, epoch: int, mark: Mark = _NO_MARK) -> None:
        self.epoch = epoch
        self.version = 0
        self.mark = mark
        self.floor = mark.floor
        self.withheld = False
        self.live_rows = 0
        self.live_bytes = 0
        self.size_bytes = 0
        self.entries: dict[RecordKey, Entry] = {}
        self._order: dict[int, Entry] = {}  # by version, ascending

    @property
    def complete(self) -> bool:
        """Whether it tells the whole state that its owner began this run with."""
        return not self.withheld and self.version >= max(self.mark.baseline, self.floor)

    @property
    def tombstones(self) -> int:
        return len(self.entries) - self.live_rows

    def put(self, entry: Entry) -> None:
        """Add a record whose version is above all others; the log's own follows later."""
        key = (entry.table, entry.key)
        before = self.entries.get(key)
        if before is not None:
            del self._order[before.version]
            self._weigh(before, -1)
        self.entries[key] = entry
        self._order[entry.version] = entry
        self._weigh(entry, 1)

    def _weigh(self, entry: Entry, times: int) -> None:
        size = times * size_bytes(entry.table, entry.key, entry.value)
        self.size_bytes += size
        if entry.value is not None:
            self.live_bytes += size
            self.live_rows += times

    def drop_tombstones(self, floor: int) -> None:
        """Forget tombstones up to `floor`; who has not seen them needs all records anew."""
        if floor <= self.floor:
            return
        self.floor = floor
        gone = [
            entry
            for entry in self.entries.values()
            if entry.value is None and entry.version <= floor
        ]
        for entry in gone:
            del self.entries[entry.table, entry.key]
            del self._order[entry.version]
            self._weigh(entry, -1)

    def middle_tombstone(self) -> int:
        """A version up to which half of the tombstones are; 0 where there are none."""
        versions = [entry.version for entry in self._order.values() if entry.value is None]
        return versions[len(versions) // 2] if versions else 0

    def above(self, version: int) -> Iterator[Entry]:
        """Records with higher versions, in their order."""
        if version == 0:
            return iter(self._order.values())
        newer = []
        for number in reversed(self._order):
            if number <= version:
                break
            newer.append(self._order[number])
        return reversed(newer)

    def delta(
        self,
        owner: NodeId,
        scope: Scope,
        start: int,
        room_bytes: int,
        *,
        news: bool,
        floor: int = 0,
    ) -> Delta | None:
        """What follows version `start`, as much as fits; None if not even one record does.

        From below the floor there is no way forward but from the beginning, unless whoever is
        at `start` has begun there already, when the floor was at `floor`.
        """
        if start < self.floor and floor < self.floor:
            start = 0
        room_bytes -= DELTA_BYTES
        entries: list[Entry] = []
        end = self.version
        for entry in self.above(start):
            room_bytes -= len(encode(entry))
            if room_bytes < 0 or len(entries) == _ENTRIES_MAX:
                if not entries:
                    return None
                end = entries[-1].version
                break
            entries.append(entry)
        return Delta(
            owner,
            scope,
            self.epoch,
            self.mark,
            start,
            end,
            news,
            tuple(entries),
        )


_ENTRIES_MAX = 4_096


def size_bytes(table: str, key: str, value: bytes | None) -> int:
    """What a record counts for where bytes are bounded: about what it has on the wire."""
    return _ENTRY_BYTES + len(table) + len(key) + len(value or b"")


class Slot:
    """The log that is in force, and the one that will replace it once it is complete.

    So an owner that starts anew, and publishes all its records again, is never seen half.
    """

    __slots__ = ("current", "fingerprint", "following")

    def __init__(self) -> None:
        self.current: Log | None = None
        self.following: Log | None = None
        self.fingerprint = 0

    @property
    def head(self) -> Log | None:
        """The one that is furthest."""
        return self.following or self.current
