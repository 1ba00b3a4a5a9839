"""How checks have been: the last changes of each, as long as this process has seen them."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from netd.model.directory import Entry
from netd.model.service import Check, CheckStatus, Service
from netd.registry.feed import Entries, Reader

SPELLS_MAX: Final = 32  # of one check, with the one that lasts
# That have changed at all; those that changed longest ago go first. All of them are 20 MB at most.
CHECKS_MAX: Final = 5_000


def rfc3339_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Spell(NamedTuple):
    """That a check has been so, from `since` (RFC 3339) to the beginning of the next spell; "":
    since before it was followed.
    """

    since: str
    status: CheckStatus


class History(Reader):
    """Kept for instances of all hosts, by the services of the feed, with the time `now` at which
    a change came. While `enabled` is not set nothing is kept.
    """

    def __init__(self, now: Callable[[], str] = rfc3339_now, checks_max: int = CHECKS_MAX) -> None:
        self.enabled = True
        self._now = now
        self._checks_max = checks_max
        self._spells: dict[tuple[str, str], tuple[Spell, ...]] = {}
        self._last: dict[str, Service] = {}

    def __len__(self) -> int:
        """How many checks have changed."""
        return len(self._spells)

    def of(self, instance_id: str, check: Check) -> tuple[Spell, ...]:
        """The spells of a check, the oldest first; the last one lasts."""
        return self._spells.get((instance_id, check.id)) or (Spell("", check.status),)

    def replace(self, entries: Entries) -> None:
        known, self._last = self._last, {}
        if not self.enabled:
            self._spells.clear()
            return
        for entry in entries.values():
            if entry.service is not None:
                self._follow(known.pop(entry.id, None), entry.service)
        for gone in known.values():
            self._forget(gone)

    def change(self, old: Entry | None, new: Entry) -> None:
        if new.kind != "service" or not self.enabled:
            return
        known = self._last.pop(new.id, None)
        if new.service is not None:
            self._follow(known, new.service)
        elif known is not None:
            self._forget(known)

    def _follow(self, old: Service | None, new: Service) -> None:
        self._last[new.id] = new
        if old is None or old.checks == new.checks:
            return
        now = {check.id: check for check in new.checks}
        for check in old.checks:
            key = (new.id, check.id)
            follower = now.get(check.id)
            if follower is None:
                self._spells.pop(key, None)
            elif follower.status != check.status:
                before = self._spells.pop(key, None) or (Spell("", check.status),)
                spells = (*before, Spell(self._now(), follower.status))
                self._spells[key] = spells[-SPELLS_MAX:]
        while len(self._spells) > self._checks_max:
            del self._spells[next(iter(self._spells))]

    def _forget(self, gone: Service) -> None:
        for check in gone.checks:
            self._spells.pop((gone.id, check.id), None)
