"""What Eureka's clients will see of a table that comes, made entry by entry."""

from collections.abc import Iterable, Mapping

from netd.model.directory import Entry
from netd.registry.eureka.seen import Key, Name, Seen

# By instance id. What several networks have of one is in the order of `Seen`.
Apps = dict[str, dict[str, tuple[Seen, ...]]]


class Coming:
    """`known` are the services there are now: those that stay as they are, are the same. `taken`
    counts entries.
    """

    def __init__(self, known: Mapping[str, Seen], node: str) -> None:
        self.taken = 0
        self.node = node
        self.services: dict[str, Seen] = {}
        self.of_key: dict[Key, dict[str, Seen]] = {}  # by the service's id
        self.keys: dict[Name, set[Key]] = {}  # of these
        self.shown: dict[Key, Seen] = {}
        self.apps: Apps = {}
        self._known = known

    def add(self, entry: Entry) -> None:
        self.taken += 1
        if entry.zone is not None:
            self.node = entry.zone.node
        elif entry.service is not None:
            seen = self._known.get(entry.id)
            if seen is None or seen.service != entry.service:
                seen = Seen(entry.service)
            self.keys.setdefault(seen.key[:2], set()).add(seen.key)
            of_key = self.of_key.setdefault(seen.key, {})
            self.services[entry.id] = of_key[entry.id] = seen
            show(seen.key, counting(of_key.values()), self.shown, self.apps)


def counting(candidates: Iterable[Seen]) -> Seen | None:
    """Of what is registered under one key that which counts; None: nothing is shown of it."""
    found = max(candidates, key=lambda seen: seen.rank, default=None)
    return None if found is None or found.instance is None else found


def show(key: Key, seen: Seen | None, shown: dict[Key, Seen], apps: Apps) -> None:
    """Have `seen` in both under this key, or nothing."""
    if seen is None and shown.pop(key, None) is None:
        return
    if seen is not None:
        shown[key] = seen
    app, instance_id, _ = key
    known = apps.setdefault(app, {})
    several = [each for each in known.get(instance_id, ()) if each.key != key]
    if seen is not None:
        several.append(seen)
    if several:
        known[instance_id] = tuple(sorted(several, key=lambda each: each.order))
        return
    del known[instance_id]
    if not known:
        del apps[app]
