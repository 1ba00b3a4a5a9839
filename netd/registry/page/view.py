"""What a reader asks for, and what the page is made of for them."""

from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import urlencode

from netd.registry.http.call import Target
from netd.registry.page.facts import Facts
from netd.registry.page.history import History
from netd.registry.page.holdings import Holdings

WORDS_MAX: Final = 100  # characters of what is searched for
START_MAX: Final = 1_000_000_000
PAGED: Final = ("members", "networks", "endpoints", "services", "virtuals", "conditions")


class Query(NamedTuple):
    """`words` is what rows have in them, in lower case; `starts` are the first rows to show of
    the sections that have more. `reload`: the page comes again by itself, for who has no script.
    """

    words: str = ""
    starts: tuple[tuple[str, int], ...] = ()
    reload: bool = True

    @classmethod
    def of(cls, target: Target) -> "Query":
        """What cannot be is taken for nothing."""
        starts = tuple(
            (name, start) for name in PAGED if (start := _number(target.first(f"{name}-from")))
        )
        words = target.first("q").strip()[:WORDS_MAX]
        return cls(words.lower(), starts, target.first("reload") != "no")

    @property
    def is_plain(self) -> bool:
        return not self.words and not self.starts

    def start(self, section: str) -> int:
        return dict(self.starts).get(section, 0)

    def link(self, section: str, start: int) -> str:
        """The address of the page with another part of one section."""
        starts = {**dict(self.starts), section: start}
        fields = {f"{name}-from": str(at) for name, at in starts.items() if at > 0}
        if self.words:
            fields["q"] = self.words
        if not self.reload:
            fields["reload"] = "no"
        return f"/?{urlencode(fields)}#{section}"

    def matches(self, values: Iterable[str]) -> bool:
        return not self.words or self.words in "\n".join(values).lower()


class View(NamedTuple):
    """`connected`: what the feed has told is what the daemon says now. `history` is of checks."""

    facts: Facts
    holdings: Holdings
    history: History
    connected: bool = True
    query: Query = Query()


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        return 0
    return min(int(text), START_MAX)
