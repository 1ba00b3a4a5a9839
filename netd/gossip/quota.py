"""How much this node may tell: the rest is withheld from the others until there is room for it."""

from netd.gossip.log import RecordKey, size_bytes
from netd.gossip.parts import Parts
from netd.gossip.problems import Problems
from netd.gossip.replica import Replica
from netd.gossip.replication import RECORDS_EXCEEDED, Replication
from netd.gossip.values import Scope


class Quota:
    """Writes what is published, as far as it fits. Others keep more than that of one owner, so
    that they never have to refuse what is written here.

    A value that does not fit is no record for the others, also where they had an earlier one:
    rather none than a wrong one.
    """

    def __init__(
        self, parts: Parts, replica: Replica, replication: Replication, problems: Problems
    ) -> None:
        self._parts = parts
        self._replica = replica
        self._replication = replication
        self._problems = problems
        self._withheld: dict[tuple[Scope, RecordKey], bytes] = {}  # the longest ago first

    def __len__(self) -> int:
        return len(self._withheld)

    def publish(self, scope: Scope, table: str, key: str, value: bytes | None) -> None:
        """Set an own record, or delete it with None."""
        self._withheld.pop((scope, (table, key)), None)
        if value is not None and not self._fits(scope, table, key, value):
            self._withheld[scope, (table, key)] = value
            value = None
        self._replication.write(scope, table, key, value)
        self._settle()

    def leave(self, scope: Scope) -> None:
        """Nothing is published in the scope any more."""
        for item in [item for item in self._withheld if item[0] == scope]:
            del self._withheld[item]
        self._settle()

    def _fits(self, scope: Scope, table: str, key: str, value: bytes) -> bool:
        settings = self._parts.settings
        logs = self._replica.own
        rows = 1 + sum(log.live_rows for log in logs.values())
        size = size_bytes(table, key, value) + sum(log.live_bytes for log in logs.values())
        before = logs[scope].entries.get((table, key)) if scope in logs else None
        if before is not None and before.value is not None:
            rows -= 1
            size -= size_bytes(table, key, before.value)
        return rows <= settings.own_records_max and size <= settings.own_bytes_max

    def _settle(self) -> None:
        """Make use of the room there is now, and tell whether it is enough."""
        while self._withheld:
            scope, (table, key) = item = next(iter(self._withheld))
            if not self._fits(scope, table, key, self._withheld[item]):
                break
            self._replication.write(scope, table, key, self._withheld.pop(item))
        self._thin_tombstones()
        settings, me = self._parts.settings, self._parts.me
        if self._withheld:
            self._problems.set(
                RECORDS_EXCEEDED,
                me.id,
                f"this host has more to tell than {settings.own_records_max} records or "
                f"{settings.own_bytes_max >> 20} MiB: the others are not told the rest",
            )
        else:
            self._problems.clear(RECORDS_EXCEEDED, me.id)

    def _thin_tombstones(self) -> None:
        """Drop the older half of a log's where there are as many as records may be: whoever has
        not seen those has the log anew.
        """
        logs = self._replica.own
        settings = self._parts.settings
        while (many := sum(log.tombstones for log in logs.values())) and (
            many > settings.own_records_max
            or sum(log.size_bytes for log in logs.values()) > 2 * settings.own_bytes_max
        ):
            scope = max(logs, key=lambda scope: logs[scope].tombstones)
            self._replica.drop_tombstones(scope, logs[scope].middle_tombstone())
