"""The names of the directory, as they are when a question is answered."""

from collections.abc import Callable
from typing import Final

from netd.model.directory import Entry
from netd.naming.directory import Directory
from netd.naming.values import EVERYTHING, Answer, Scope, Topics
from netd.registry.dns.limits import party
from netd.registry.feed import Entries, Feed, Reader

_OF_NO_SCOPE: Final = ("service", "virtual")  # what changes nobody's sight


class Names(Reader):
    """Answers from the last complete table. `forget` is told which answers hold no longer, and
    `rescope` that `scope_of` may give something else than before. `special` is asked first, if
    there is one: about names that are made elsewhere.
    """

    def __init__(self, feed: Feed) -> None:
        self.forget: Callable[[Topics], None] = _forget_nothing
        self.rescope: Callable[[], None] = _nothing
        self.special: Callable[[str, str, Scope], Answer | None] | None = None
        self.drain = feed.drain
        self._directory = Directory()
        self._next = Directory()

    def scope_of(self, source: str | None) -> Scope:
        return self._directory.scope_of(source)

    def party_of(self, source: str) -> str:
        """Whom limits count for that asks from an address."""
        return party(source, known=self._directory.knows(source))

    def look_up(self, name: str, kind: str, scope: Scope) -> Answer:
        if self.special is not None:
            answer = self.special(name, kind, scope)
            if answer is not None:
                return answer
        return self._directory.look_up(name, kind, scope)

    def of_instances(
        self, owner: str, kind: str, scope: Scope, service: str, ids: frozenset[str]
    ) -> Answer:
        return self._directory.of_instances(owner, kind, scope, service, ids)

    def begin(self) -> None:
        self._next = Directory()

    def add(self, entry: Entry) -> None:
        self._next.apply(entry)

    def replace(self, entries: Entries) -> None:
        self._directory, self._next = self._next, Directory()
        self.forget((EVERYTHING,))
        self.rescope()

    def change(self, old: Entry | None, new: Entry) -> None:
        topics = self._directory.apply(new)
        if topics:
            self.forget(topics)
        if new.kind not in _OF_NO_SCOPE:
            self.rescope()


def _forget_nothing(topics: Topics) -> None:
    """Nobody keeps answers."""


def _nothing() -> None:
    """Nobody keeps scopes."""
