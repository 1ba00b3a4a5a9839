"""The feed: what the registry has to know, as entries, and each change of them.

A change is with the followers before whoever makes it goes on: `Feed.put` has them called. So
what is answered after an attach knows of it.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from netd.model.directory import Entry, EntryKind, NetworkEntry, ZoneEntry
from netd.naming.directory import Directory

BACKLOG: Final = 10_000  # changes that a follower may be behind

Key = tuple[EntryKind, str]


class Feed:
    """Entries by kind and id. Revisions go on growing when they begin with a time.

    `directory` is made of the same entries, and answers the daemon's own look-ups.
    """

    def __init__(self, zone: ZoneEntry, begins: int) -> None:
        self.directory = Directory()
        self.revision = begins
        self._entries: dict[Key, Entry] = {}
        self._changes: deque[Entry] = deque(maxlen=BACKLOG)
        self._followers: dict[Following, bool] = {}  # whether they watch
        self._closed = False
        self.put(Entry(revision=0, kind="zone", zone=zone))

    @property
    def watched(self) -> bool:
        """Whether somebody follows the changes."""
        return any(self._followers.values())

    def put(self, entry: Entry) -> int:
        """Take an entry in, or its new version; the revision that has it."""
        key = entry.kind, entry.id
        known = self._entries.get(key)
        if known is not None and known == msgspec.structs.replace(entry, revision=known.revision):
            return known.revision
        new = msgspec.structs.replace(entry, revision=self.revision + 1)
        self._entries[key] = new
        self._tell(new)
        return self.revision

    def network(self, name: str) -> NetworkEntry | None:
        """What was told last of a network."""
        known = self._entries.get(("network", name))
        return None if known is None else known.network

    def has(self, kind: EntryKind, ident: str) -> bool:
        return (kind, ident) in self._entries

    def revision_of(self, kind: EntryKind, ident: str) -> int:
        """That of what was told last of something, 0 where there is none."""
        known = self._entries.get((kind, ident))
        return 0 if known is None else known.revision

    def drop(self, kind: EntryKind, ident: str) -> None:
        """There is no such thing any more, or there never was."""
        if self._entries.pop((kind, ident), None) is not None:
            self._tell(Entry(revision=self.revision + 1, kind=kind, id=ident))

    def follow(self, watch: bool) -> "Following":
        """All entries as they are now, then a `sync`; with `watch`, then each change."""
        following = Following(self, list(self._entries.values()), watch)
        self._followers[following] = watch
        return following

    def close(self) -> None:
        """Followers end when they have what there is."""
        self._closed = True
        for following in tuple(self._followers):
            following.on_news()

    @property
    def closed(self) -> bool:
        return self._closed

    def leave(self, following: "Following") -> None:
        self._followers.pop(following, None)

    def since(self, revision: int, most: int) -> list[Entry] | None:
        """The changes after a revision, at most so many; None: they are not all known any more."""
        behind = self.revision - revision
        if behind > len(self._changes):
            return None
        start = len(self._changes) - behind
        return [self._changes[at] for at in range(start, min(start + most, len(self._changes)))]

    def _tell(self, entry: Entry) -> None:
        self.revision = entry.revision
        self._changes.append(entry)
        self.directory.apply(entry)
        for following in tuple(self._followers):
            following.on_news()


class Following:
    """What one follower has not got yet."""

    def __init__(self, feed: Feed, entries: list[Entry], watch: bool) -> None:
        self.on_news: Callable[[], None] = lambda: None
        self._feed = feed
        self._entries = entries
        self._next = 0  # of the entries
        self._at = feed.revision
        self._watch = watch
        self._synced = False
        self._too_slow = False

    @property
    def ended(self) -> bool:
        """Nothing will come any more, or there were more changes than are kept."""
        if self._too_slow:
            return True
        done = self._synced and self._at == self._feed.revision
        return (self._synced and not self._watch) or (self._feed.closed and done)

    def take(self, most: int) -> list[Entry]:
        """The next ones; none when there are none now."""
        if self.ended:
            return []
        if not self._synced:
            return self._take_entries(most)
        changes = self._feed.since(self._at, most)
        if changes is None:
            self._too_slow = True
            return []
        if changes:
            self._at = changes[-1].revision
        return changes

    def close(self) -> None:
        self._entries = []
        self._feed.leave(self)

    def _take_entries(self, most: int) -> list[Entry]:
        part = self._entries[self._next : self._next + most]
        self._next += len(part)
        if self._next >= len(self._entries):
            self._entries = []
            self._synced = True
            part.append(Entry(revision=self._at, kind="sync"))
        return part
