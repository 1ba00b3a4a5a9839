"""Sections on services: instances with their checks and how these have been, virtual addresses."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from netd.model.service import Check, Service, Virtual, VirtualPort
from netd.registry.page.history import Spell
from netd.registry.page.holdings import ServiceKey
from netd.registry.page.html import (
    NONE,
    NOTHING,
    Attributes,
    Content,
    Markup,
    element,
    joined,
    listed,
)
from netd.registry.page.parts import code, level, moment, section, sift, table
from netd.registry.page.view import View

CHECKS_MAX: Final = 8  # of one instance that are shown
LISTED_MAX: Final = 10  # changes of a check
OUTPUT_MAX: Final = 160  # characters
_BAR: Final = 7  # pixels from one bar to the next
_HEIGHT: Final = 16
_HEIGHTS: Final = {"passing": 16, "warning": 11, "critical": 6}
_REMEMBERED: Final = 1024  # histories that need not be drawn again


def services(view: View) -> Markup:
    held = view.holdings

    def make(key: ServiceKey) -> tuple[Content, ...]:
        service = held.services[key[2]]
        port = f":{service.port}" if service.port else ""
        address = f"[{service.address}]" if ":" in service.address and port else service.address
        return (
            service.name,
            code(service.id),
            level(service.status),
            held.drawn_once(service.id, lambda: _checks(view, service)),
            service.node,
            f"{address}{port}",
            service.network or NONE,
            listed(service.tags),
        )

    def values(key: ServiceKey) -> Iterator[str]:
        service = held.services[key[2]]
        yield from (*key, service.status, service.address, service.network, *service.tags)

    heads = ("Service", "Instance", "Status", "Checks", "Host", "Address", "Network", "Tags")
    rows = sift(held.service_order, "services", view.query, values, make)
    shown = table("services", "Instances of services of all hosts", heads, rows, view.query)
    return section("services", "Services", shown, count=len(held.service_order))


def virtuals(view: View) -> Markup:
    found = [view.holdings.virtuals[name] for name in sorted(view.holdings.virtuals)]

    def make(virtual: Virtual) -> tuple[Content, ...]:
        ports = listed([_port(port) for port in virtual.ports])
        affinity = NONE if virtual.affinity == "none" else virtual.affinity
        return virtual.id, listed(virtual.addresses), ports, affinity, virtual.instances

    def values(virtual: Virtual) -> Iterator[str]:
        yield from (virtual.id, *virtual.addresses)

    heads = ("Service", "Addresses", "Ports", "Affinity", "Instances")
    rows = sift(found, "virtuals", view.query, values, make)
    shown = table("virtuals", "Services with virtual addresses", heads, rows, view.query)
    return section("virtuals", "Virtual addresses", shown, count=len(found))


@lru_cache(maxsize=_REMEMBERED)
def bars(spells: tuple[Spell, ...]) -> Markup:
    """A check's spells, the oldest first, as bars: the higher the better. Who cannot see them
    hears the same.
    """
    width = _BAR * len(spells)
    shapes: dict[str, str] = {}  # one for all bars of a status: there may be thousands on a page
    for number, spell in enumerate(spells):
        height = _HEIGHTS.get(spell.status, 6)
        shape = f"M{number * _BAR} {_HEIGHT - height}h{_BAR - 2}v{height}h{2 - _BAR}z"
        shapes[spell.status] = shapes.get(spell.status, "") + shape
    paths = (element("path", {"class": name, "d": drawn}) for name, drawn in shapes.items())
    told = "; ".join(
        f"{spell.status} since {spell.since}" if spell.since else f"{spell.status} at first"
        for spell in spells
    )
    attributes: Attributes = {
        "class": "bars",
        "role": "img",
        "aria-label": f"History: {told}",
        "viewBox": f"0 0 {width} {_HEIGHT}",
        "width": width,
        "height": _HEIGHT,
    }
    return element("svg", attributes, *paths)


@lru_cache(maxsize=_REMEMBERED)
def changes(spells: tuple[Spell, ...]) -> Markup:
    """The last of them as a list, the newest first."""
    last = spells[: -LISTED_MAX - 1 : -1]
    return joined(element("li", None, _told(spell)) for spell in last)


def _checks(view: View, service: Service) -> Markup:
    if not service.checks:
        return NONE
    shown = joined(
        element("li", None, *_check(view, service, check)) for check in service.checks[:CHECKS_MAX]
    )
    more = len(service.checks) - CHECKS_MAX
    rest = element("li", None, f"and {more} more") if more > 0 else NOTHING
    return element("ul", {"class": "checks"}, shown, rest)


def _check(view: View, service: Service, check: Check) -> Iterator[Content]:
    spells = view.history.of(service.id, check)
    yield level(check.status)
    yield " "
    yield element("strong", None, check.name or check.id)
    yield f" {check.kind} "
    yield bars(spells)
    if spells[-1].since:
        yield " "
        yield element("span", {"class": "since"}, "since ", moment(spells[-1].since))
    if check.output:
        said = check.output.strip()
        short = said if len(said) <= OUTPUT_MAX else said[: OUTPUT_MAX - 1] + "…"
        yield element("div", {"class": "output"}, short)
    if len(spells) > 1:
        count = len(spells) - 1
        summary = element("summary", None, f"{count} {'change' if count == 1 else 'changes'}")
        key: Attributes = {"data-key": f"{service.id}/{check.id}"}
        yield element("details", key, summary, element("ol", None, changes(spells)))


def _told(spell: Spell) -> Markup:
    if not spell.since:
        return joined((spell.status, " at first"))
    return joined((spell.status, " since ", moment(spell.since)))


def _port(port: VirtualPort) -> str:
    to = "" if port.target_port is None else f" → {port.target_port}"
    return f"{port.port}/{port.protocol}{to}"
