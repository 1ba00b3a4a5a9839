"""The pieces that sections are put together from: headings, tables, levels, times."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final, NamedTuple, TypeVar

from netd.registry.page.html import NONE, NOTHING, Attributes, Content, Markup, element, joined
from netd.registry.page.view import Query

ROWS_MAX: Final = 100  # of a table at once: more would keep names waiting
SCAN_MAX: Final = 10_000  # rows that are searched

T = TypeVar("T")

# A level is told by a sign and a word, not by its colour alone.
_SIGNS: Final = {
    **dict.fromkeys(("passing", "ok", "alive", "ready"), ("good", "●")),
    **dict.fromkeys(("warning", "suspect", "degraded"), ("fair", "▲")),
    **dict.fromkeys(("critical", "error", "dead", "failed"), ("bad", "■")),
}
_PLAIN: Final = ("plain", "○")


class Rows(NamedTuple):
    """A part of many rows. `more` are how many come after it; `known` is False where not all rows
    have been looked at.
    """

    rows: Sequence[Sequence[Content]]
    start: int
    more: int
    known: bool = True


def section(name: str, title: str, *content: Content, count: int | None = None) -> Markup:
    """A section with its heading. What its version is, is added when it is sent."""
    shown = NOTHING if count is None else element("span", {"class": "count"}, f"{count:,}")
    gap = " " if shown else ""
    return joined((element("h2", {"id": f"{name}-title"}, title, gap, shown), *content))


def table(name: str, caption: str, heads: Sequence[str], rows: Rows, query: Query) -> Markup:
    """A table that can be scrolled where it has no room; the first cell of a row is its name."""
    if not rows.rows and not rows.start:
        what = "Nothing of this has what is searched for." if query.words else "There is none."
        return quiet(what)
    head = joined(element("th", {"scope": "col"}, each) for each in heads)
    body = joined(map(_row, rows.rows))
    inner = joined(
        (
            element("caption", None, caption),
            element("thead", None, element("tr", None, head)),
            element("tbody", None, body),
        )
    )
    return joined((scrolled(caption, element("table", None, inner)), _pager(name, rows, query)))


def scrolled(label: str, content: Markup) -> Markup:
    """Something wide. Who uses the keyboard scrolls it, too, hence the tabindex."""
    frame: Attributes = {"class": "scroll", "tabindex": 0, "role": "region", "aria-label": label}
    return element("div", frame, content)


def pick(items: Iterable[T], start: int, make: Callable[[T], Sequence[Content]]) -> Rows:
    """The rows from `start` on of what is searched already."""
    found = iter(items)
    for _ in islice(found, start):
        pass
    rows = [make(item) for item in islice(found, ROWS_MAX)]
    return Rows(rows, start, sum(1 for _ in found))


def sift(
    items: Sequence[T],
    section_name: str,
    query: Query,
    values: Callable[[T], Iterable[str]],
    make: Callable[[T], Sequence[Content]],
) -> Rows:
    """The rows of a section that have in their values what is searched for."""
    start = query.start(section_name)
    if not query.words:
        shown = [make(item) for item in items[start : start + ROWS_MAX]]
        return Rows(shown, start, max(0, len(items) - start - len(shown)))
    looked_at = (item for item in items[:SCAN_MAX] if query.matches(values(item)))
    return pick(looked_at, start, make)._replace(known=len(items) <= SCAN_MAX)


def level(name: str) -> Markup:
    kind, sign = _SIGNS.get(name, _PLAIN)
    mark = element("span", {"aria-hidden": "true"}, sign)
    return element("span", {"class": f"level {kind}"}, mark, " ", name)


def moment(text: str) -> Markup:
    """A time in RFC 3339 as day and time; all are UTC."""
    if not text:
        return NONE
    day, _, rest = text.partition("T")
    clock = rest.partition(".")[0].removesuffix("Z")
    return element("time", {"datetime": text}, f"{day} {clock}" if clock else text)


def code(text: str) -> Markup:
    return element("code", None, text) if text else NONE


def long(text: Content) -> Markup:
    """A sentence in a table, which is not to become a narrow column of words."""
    return element("div", {"class": "long"}, text)


def quiet(text: str) -> Markup:
    return element("p", {"class": "quiet"}, text)


def unknown() -> Markup:
    """What is shown until the daemon has answered."""
    return quiet("Not known yet.")


def definitions(pairs: Iterable[tuple[str, Content]]) -> Markup:
    """Terms and what they are here, as tiles."""
    tiles = joined(
        element("div", None, element("dt", None, term), element("dd", None, value))
        for term, value in pairs
    )
    return element("dl", {"class": "tiles"}, tiles)


def _row(cells: Sequence[Content]) -> Markup:
    first, *rest = cells
    name = element("th", {"scope": "row"}, first)
    return element("tr", None, name, *(element("td", None, cell) for cell in rest))


def _pager(name: str, rows: Rows, query: Query) -> Markup:
    if not rows.start and not rows.more and rows.known:
        return NOTHING
    parts: list[Content] = []
    if rows.start:
        before = max(0, rows.start - ROWS_MAX)
        parts.append(element("a", {"href": query.link(name, before), "rel": "prev"}, "previous"))
    if rows.rows:
        parts.append(f"{rows.start + 1:,} to {rows.start + len(rows.rows):,}")
    if rows.more:
        after = query.link(name, rows.start + ROWS_MAX)
        parts.append(element("a", {"href": after, "rel": "next"}, f"and {rows.more:,} more"))
    if not rows.known:
        parts.append(f"only the first {SCAN_MAX:,} are searched")
    return element("p", {"class": "pager"}, joined(parts, " · "))
