"""The whole page, around its sections."""

from collections.abc import Callable, Mapping
from typing import Final

from netd.registry.page.assets import ASSETS
from netd.registry.page.cluster import members, networks, topology
from netd.registry.page.endpoints import endpoints
from netd.registry.page.html import NOTHING, Attributes, Markup, element, joined, void
from netd.registry.page.overview import checks, conditions, drift, overview
from netd.registry.page.services import services, virtuals
from netd.registry.page.view import WORDS_MAX, Query, View

RELOAD_S: Final = 10  # where there is no script

# In the order of the page.
SECTIONS: Final[Mapping[str, tuple[str, Callable[[View], Markup]]]] = {
    "overview": ("At a glance", overview),
    "conditions": ("Conditions", conditions),
    "topology": ("Topology", topology),
    "members": ("Hosts", members),
    "networks": ("Networks", networks),
    "endpoints": ("Endpoints", endpoints),
    "services": ("Services", services),
    "virtuals": ("Virtual addresses", virtuals),
    "drift": ("Drift", drift),
    "checks": ("Checks of the host", checks),
}


def section_of(name: str, version: int, content: Markup) -> Markup:
    """A section as it is sent. `version` is of what is shown in it."""
    attributes: Attributes = {
        "id": name,
        "data-version": version,
        "aria-labelledby": f"{name}-title",
    }
    return element("section", attributes, content)


def document(node: str, zone: str, sections: Markup, query: Query, run: str) -> Markup:
    """`run` tells this process from an earlier one, whose script may be another."""
    title = f"netd on {node}" if node else "netd"
    head = element("head", None, *_head(title, query))
    body = element(
        "body",
        None,
        element("a", {"class": "skip", "href": "#main"}, "Skip to the sections"),
        element("header", None, _heading(title, zone, query), _search(query)),
        _contents(),
        element("main", {"id": "main"}, sections),
        element("footer", None, "netd shows what it knows and changes nothing from here."),
    )
    html = element("html", {"lang": "en", "data-run": run}, head, body)
    return Markup("<!DOCTYPE html>\n" + html)


def _head(title: str, query: Query) -> list[Markup]:
    parts = [
        void("meta", {"charset": "utf-8"}),
        void("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        void("meta", {"name": "color-scheme", "content": "light dark"}),
        element("title", None, title),
        void("link", {"rel": "stylesheet", "href": ASSETS.style.href}),
        void("link", {"rel": "icon", "type": "image/svg+xml", "href": ASSETS.icon.href}),
        element("script", {"src": ASSETS.script.href, "defer": ""}),
    ]
    if query.reload:
        again = void("meta", {"http-equiv": "refresh", "content": RELOAD_S})
        parts.append(element("noscript", None, again))
    return parts


def _heading(title: str, zone: str, query: Query) -> Markup:
    if query.reload:
        link = element("a", {"href": query._replace(reload=False).link("main", 0)}, "stop that")
        without_script = joined((f"This page comes again each {RELOAD_S} s; ", link, "."))
    else:
        link = element("a", {"href": query._replace(reload=True).link("main", 0)}, "have it do so")
        without_script = joined(("This page does not come again by itself; ", link, "."))
    live = element("span", {"id": "live", "role": "status"})
    about = element("p", {"class": "quiet"}, f"{zone} · times are UTC · " if zone else "", live)
    return element(
        "div",
        {"class": "title"},
        element("h1", None, title),
        about,
        element("noscript", None, element("p", {"class": "quiet"}, without_script)),
    )


def _search(query: Query) -> Markup:
    field = void(
        "input",
        {
            "type": "search",
            "id": "q",
            "name": "q",
            "value": query.words,
            "maxlength": WORDS_MAX,
            "autocomplete": "off",
        },
    )
    everything = element("a", {"href": "/"}, "show all") if query.words else NOTHING
    keep = NOTHING
    if not query.reload:
        keep = void("input", {"type": "hidden", "name": "reload", "value": "no"})
    return element(
        "form",
        {"method": "get", "action": "/", "role": "search"},
        element("label", {"for": "q"}, "Rows with"),
        field,
        keep,
        element("button", {"type": "submit"}, "Find"),
        everything,
    )


def _contents() -> Markup:
    links = joined(
        element("li", None, element("a", {"href": f"#{name}"}, title))
        for name, (title, _) in SECTIONS.items()
    )
    return element("nav", {"aria-label": "Sections"}, element("ul", None, links))
