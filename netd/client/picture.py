"""A topology as a picture: a column for each host, a band across them for each overlay network.

`picture` is one file without scripts and without anything from elsewhere. Its colours follow
whether its reader prefers a light or a dark page. `drawing` is the same without colours, for a page
that has a style of its own for the classes in it.
"""

from __future__ import annotations

from html import escape

from netd.client.printable import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Json = dict[str, Any]
    Ends = dict[tuple[str, str], list[Json]]  # endpoints by host and network

_COLUMN = 250  # all lengths are in pixels
_GAP = 30
_MARGIN = 24
_TITLE = 56
_HEAD = 30  # the name of a network
_BOX = 44  # an endpoint
_SPACE = 10
_LETTERS = 30  # that have room in a column
_STYLE = """
  svg { color-scheme: light dark; background: #ffffff; }
  text { font: 13px system-ui, sans-serif; fill: #1c2733; }
  .small { font-size: 11px; fill: #5a6b7b; }
  .strong { font-weight: 600; }
  .host { fill: #f4f6f8; stroke: #b6c2cd; }
  .away { stroke-dasharray: 5 4; }
  .overlay { fill: #d8e8fb; stroke: #4a86c8; fill-opacity: .8; }
  .local { fill: #e6efe4; stroke: #7ba070; }
  .endpoint { fill: #ffffff; stroke: #93a4b3; }
  @media (prefers-color-scheme: dark) {
    svg { background: #12181f; }
    text { fill: #e4ebf2; }
    .small { fill: #9fb0c0; }
    .host { fill: #1a222b; stroke: #44525f; }
    .overlay { fill: #1d3a5c; stroke: #5b9be0; }
    .local { fill: #22331f; stroke: #6f9a63; }
    .endpoint { fill: #232e39; stroke: #596b7b; }
  }
"""


def picture(topology: Json) -> str:
    """What `GET /v1/topology` says, as an SVG document."""
    return _document(topology, 'role="img"', f"<style>{_STYLE}</style>\n") + "\n"


def drawing(topology: Json) -> str:
    """The same as an element of a page, of the class `picture`."""
    return _document(topology, 'class="picture" role="img"', "")


def _document(topology: Json, attributes: str, style: str) -> str:
    ends: Ends = {}
    for end in topology["endpoints"]:
        ends.setdefault((end["host"], end["network"]), []).append(end)
    rows = list(_rows(topology, ends))
    height = _MARGIN + _TITLE + sum(row.height + _SPACE for row in rows) + _MARGIN
    width = 2 * _MARGIN + len(topology["hosts"]) * (_COLUMN + _GAP) - _GAP
    parts = [*_hosts(topology, height)]
    top = _MARGIN + _TITLE
    for row in rows:
        parts += row.shapes(top)
        top += row.height + _SPACE
    body = "\n".join(parts)
    count = len(topology["hosts"])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" {attributes}>\n'
        f"<title>Networks of {count} {'host' if count == 1 else 'hosts'}</title>\n"
        f"{style}{body}\n</svg>"
    )


class _Row:
    """One network, or several that are each on another host, at one height."""

    def __init__(self, topology: Json, ends: Ends, cells: list[tuple[int, int, Json]]) -> None:
        """`cells` are networks with the first and the last of the columns they take."""
        self._hosts = topology["hosts"]
        self._ends = ends
        self._cells = cells
        most = max(
            len(ends.get((host["id"], network["id"]), ()))
            for first, last, network in cells
            for host in self._hosts[first : last + 1]
        )
        self.height = _HEAD + most * (_BOX + _SPACE) + (_SPACE if most else 0)

    def shapes(self, top: int) -> Iterator[str]:
        for first, last, network in self._cells:
            kind = "overlay" if network["driver"] == "overlay" else "local"
            left = _left(first) + _SPACE
            width = _left(last) + _COLUMN - _SPACE - left
            yield _rectangle(left, top, width, self.height, kind)
            yield _text(left + 10, top + 20, network["name"], "strong")
            yield _text(left + width - 10, top + 20, _about(network), "small", at_end=True)
            for column in range(first, last + 1):
                place = (self._hosts[column]["id"], network["id"])
                for number, endpoint in enumerate(self._ends.get(place, ())):
                    yield from _endpoint(column, top + _HEAD + number * (_BOX + _SPACE), endpoint)


def _rows(topology: Json, ends: Ends) -> Iterator[_Row]:
    """Overlays first, each from its first host to its last; then what is on one host only."""
    columns = {host["id"]: number for number, host in enumerate(topology["hosts"])}
    alone: dict[int, list[Json]] = {}
    for network in topology["networks"]:
        places = [columns[host] for host in network["hosts"] if host in columns]
        if not places:
            continue
        if network["driver"] == "overlay":
            yield _Row(topology, ends, [(min(places), max(places), network)])
        else:
            alone.setdefault(places[0], []).append(network)
    for level in range(max(map(len, alone.values()), default=0)):
        cells = [(at, at, found[level]) for at, found in alone.items() if level < len(found)]
        yield _Row(topology, ends, cells)


def _hosts(topology: Json, height: int) -> Iterator[str]:
    for column, host in enumerate(topology["hosts"]):
        left = _left(column)
        away = "" if host["state"] in ("alive", "suspect") else " away"
        yield _rectangle(left, _MARGIN, _COLUMN, height - 2 * _MARGIN, f"host{away}")
        yield _text(left + 14, _MARGIN + 24, host["name"], "strong")
        state = "this host" if host["own"] else host["state"]
        yield _text(left + 14, _MARGIN + 42, f"{host['address']}  {state}".strip(), "small")


def _endpoint(column: int, top: int, endpoint: Json) -> Iterator[str]:
    left = _left(column) + 2 * _SPACE
    yield _rectangle(left, top, _COLUMN - 4 * _SPACE, _BOX, "endpoint")
    yield _text(left + 10, top + 18, endpoint["name"])
    addresses = ", ".join(address.partition("/")[0] for address in endpoint["addresses"])
    yield _text(left + 10, top + 35, addresses, "small")


def _about(network: Json) -> str:
    vni = "" if network["vni"] is None else f" {network['vni']}"
    return f"{network['driver']}{vni}  {next(iter(network['subnets']), '')}".strip()


def _left(column: int) -> int:
    return _MARGIN + column * (_COLUMN + _GAP)


def _rectangle(left: int, top: int, width: int, height: int, kind: str) -> str:
    size = f'x="{left}" y="{top}" width="{width}" height="{height}"'
    return f'<rect class="{kind}" {size} rx="6"/>'


def _text(left: int, top: int, words: str, kind: str = "", *, at_end: bool = False) -> str:
    """Words as they are but for what would not be words: markup, and what does not print."""
    shown = clean(str(words))
    short = shown if len(shown) <= _LETTERS else f"{shown[: _LETTERS - 1]}…"
    style = f' class="{kind}"' if kind else ""
    anchor = ' text-anchor="end"' if at_end else ""
    title = f"<title>{escape(shown)}</title>" if short != shown else ""
    return f'<text x="{left}" y="{top}"{style}{anchor}>{title}{escape(short)}</text>'
