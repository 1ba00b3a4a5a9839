"""Health checks as a part of the registry: fed by the directory, reported through the API."""

import asyncio
from collections.abc import Iterator, Sequence

from netd.model.directory import Count, Entry
from netd.registry.api import Api
from netd.registry.checks.checks import Checks
from netd.registry.checks.names import Names
from netd.registry.checks.reports import DaemonReports
from netd.registry.feed import Entries, Reader
from netd.registry.names import Names as Directory


class Health(Reader):
    """Runs the checks that are in the directory, from `start` on."""

    def __init__(self, api: Api, directory: Directory) -> None:
        self._directory = directory
        self._reports = DaemonReports(api)
        self._entries: Entries = {}
        self._checks = Checks(
            self._reports,
            Names(self._own_name),
            self._addresses_of,
            asyncio.get_running_loop().time,
        )

    def start(self) -> None:
        self._reports.start()

    async def stop(self) -> None:
        await self._checks.stop()
        await self._reports.stop()

    def counts(self) -> Iterator[Count]:
        yield from self._checks.counts()
        yield from self._reports.counts()

    # As a reader of the feed

    def replace(self, entries: Entries) -> None:
        self._entries = entries
        zone = entries.get(("zone", ""))
        if zone is not None:
            self._configure(zone)
        self._checks.replace(entry.service for entry in entries.values() if entry.service)

    def change(self, old: Entry | None, new: Entry) -> None:
        if new.kind == "zone":
            self._configure(new)
        elif new.kind == "service" and new.service is not None:
            self._checks.apply(new.service)
        elif new.kind == "service":
            self._checks.remove(new.id)

    def _configure(self, entry: Entry) -> None:
        if entry.zone is not None:
            self._checks.scripts = entry.zone.settings.script_checks

    # What checks ask

    def _addresses_of(self, endpoint_id: str) -> Sequence[str]:
        entry = self._entries.get(("endpoint", endpoint_id))
        return entry.endpoint.addresses if entry is not None and entry.endpoint is not None else ()

    def _own_name(self, name: str) -> Sequence[str] | None:
        """What the host would get to hear of `name`, of netd's own knowledge."""
        scope = self._directory.scope_of(None)
        found: list[str] = []
        for kind in ("A", "AAAA"):
            answer = self._directory.look_up(name.lower().rstrip("."), kind, scope)
            if answer.rcode == "FORWARD":
                return None
            found += [record.data for record in answer.records if record.type == kind]
        return found
