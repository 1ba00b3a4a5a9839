"""The catalogue as Eureka's clients see it, kept in step with the directory."""

import time
from collections.abc import Callable, Iterable, Iterator

from netd.indexes import discard
from netd.model.directory import Entry
from netd.model.service import Service
from netd.naming.values import Scope
from netd.registry.eureka.changes import Changes
from netd.registry.eureka.coming import Apps, Coming, counting, show
from netd.registry.eureka.seen import Key, Name, Seen
from netd.registry.feed import Entries, Reader


class View(Reader):
    """All instances. `version` grows with each change that a client could see, from the Unix time
    in milliseconds: clients compare the version of another host's, or an earlier one, with it.

    `settled` is called with the key of an instance of which the registrations have changed.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.node = ""
        self.ready = False
        self.version = time.time_ns() // 1_000_000
        self.changes = Changes(clock)
        self.settled: Callable[[Key], None] = _ignore
        self._services: dict[str, Seen] = {}
        self._of_key: dict[Key, dict[str, Seen]] = {}  # by the service's id
        self._keys: dict[Name, set[Key]] = {}  # of these
        self._shown: dict[Key, Seen] = {}
        self._apps: Apps = {}  # of what is shown
        self.begin()

    # What there is

    def shown(self, scope: Scope) -> Iterator[Seen]:
        """Application by application."""
        for app in self._apps.values():
            for several in app.values():
                seen = _first(several, scope)
                if seen is not None:
                    yield seen

    def application(self, app: str, scope: Scope) -> list[Seen]:
        known = self._apps.get(app.upper(), {}).values()
        return [seen for several in known if (seen := _first(several, scope)) is not None]

    def instance(self, app: str, instance_id: str, scope: Scope) -> Seen | None:
        return _first(self.called((app, instance_id)), scope)

    def called(self, name: Name) -> tuple[Seen, ...]:
        """What is shown under a name, in all networks."""
        return self._apps.get(name[0].upper(), {}).get(name[1], ())

    def by_id(self, instance_id: str, scope: Scope) -> Seen | None:
        """The first instance of that id, of any application."""
        found = (_first(app.get(instance_id, ()), scope) for app in self._apps.values())
        return next((seen for seen in found if seen is not None), None)

    def keys(self, name: Name) -> frozenset[Key]:
        """Of what there is of a name, whether it is shown or not."""
        return frozenset(self._keys.get(name, ()))

    def registered(self, key: Key) -> list[Seen]:
        """What clients of Eureka's have registered as this instance: the one that counts first."""
        found = [
            seen for seen in self._of_key.get(key, {}).values() if seen.registration is not None
        ]
        return sorted(found, key=lambda seen: seen.rank, reverse=True)

    def own(self, service_id: str) -> Service | None:
        """A service of this host."""
        seen = self._services.get(service_id)
        return seen.service if seen is not None and seen.service.node == self.node else None

    def __len__(self) -> int:
        return len(self._shown)

    # As a reader of the feed

    def begin(self) -> None:
        self._next = Coming(self._services, self.node)

    def add(self, entry: Entry) -> None:
        self._next.add(entry)

    def replace(self, entries: Entries) -> None:
        """Most of it was done entry by entry: this is in the way of all who ask."""
        if self._next.taken != len(entries):  # an entry has come twice, or has gone again
            self.begin()
            for entry in entries.values():
                self.add(entry)
        new, before = self._next, self._shown
        self.node = new.node
        self._services, self._of_key, self._keys = new.services, new.of_key, new.keys
        self._shown, self._apps = new.shown, new.apps
        for key, old in before.items():
            if key not in self._shown:
                self._tell(key, old, None)
        for key, seen in self._shown.items():
            self._tell(key, before.get(key), seen)
        self.ready = True
        self.begin()
        for key in list(self._of_key):
            self.settled(key)

    def change(self, old: Entry | None, new: Entry) -> None:
        if new.zone is not None:
            self.node = new.zone.node
        elif new.kind == "service":
            for key in self._put(new.id, new.service):
                self.settled(key)

    def _put(self, service_id: str, service: Service | None) -> Iterable[Key]:
        """The keys of instances that this has to do with."""
        old = self._services.pop(service_id, None)
        new = None if service is None else Seen(service)
        if old is not None:
            of_key = self._of_key[old.key]
            del of_key[service_id]
            if not of_key:
                del self._of_key[old.key]
                discard(self._keys, old.key[:2], old.key)
        if new is not None:
            self._services[service_id] = new
            self._of_key.setdefault(new.key, {})[service_id] = new
            self._keys.setdefault(new.key[:2], set()).add(new.key)
        keys = {seen.key for seen in (old, new) if seen is not None}
        for key in keys:
            self._settle(key)
        return keys

    def _settle(self, key: Key) -> None:
        """Show of what is registered under this key that which counts."""
        old = self._shown.get(key)
        new = counting(self._of_key.get(key, {}).values())
        show(key, new, self._shown, self._apps)
        self._tell(key, old, new)

    def _tell(self, key: Key, old: Seen | None, new: Seen | None) -> None:
        """What is shown as this instance was `old`, and is `new`."""
        if new is old:
            return
        if new is None:
            assert old is not None
            self.changes.note(key, "DELETED", old)
        elif old is not None and new.is_as(old):
            new.keep_written(old)
            return
        else:
            self.changes.note(key, "ADDED" if old is None else "MODIFIED", new)
        self.version += 1


def _first(several: Iterable[Seen], scope: Scope) -> Seen | None:
    return next((seen for seen in several if scope.sees(seen.service.network)), None)


def _ignore(key: Key) -> None:
    """Nobody wants to know."""
