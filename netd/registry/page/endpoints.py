"""The section on endpoints: those of all hosts, as far as this one knows."""

from collections.abc import Iterator

from netd.model.endpoint import PortMapping
from netd.registry.page.holdings import EndpointKey
from netd.registry.page.html import NONE, Content, Markup, listed
from netd.registry.page.parts import code, level, section, sift, table
from netd.registry.page.view import View


def endpoints(view: View) -> Markup:
    held = view.holdings
    own = view.facts.endpoints or {}

    def make(key: EndpointKey) -> tuple[Content, ...]:
        network, node, name, endpoint_id = key
        entry, more = held.endpoints[endpoint_id], own.get(endpoint_id)
        state: Content = NONE
        if more is not None:
            state = level("degraded" if more.conditions else "ready")
        return (
            name,
            network,
            listed(entry.addresses),
            node,
            code(_short(entry.container_id)),
            listed(entry.aliases),
            listed([_port(port) for port in more.ports]) if more is not None else NONE,
            state,
        )

    def values(key: EndpointKey) -> Iterator[str]:
        entry = held.endpoints[key[3]]
        yield from (*key, entry.container_id, *entry.addresses, *entry.aliases)

    heads = ("Endpoint", "Network", "Addresses", "Host", "Container", "Aliases", "Ports", "State")
    rows = sift(held.endpoint_order, "endpoints", view.query, values, make)
    shown = table("endpoints", "Endpoints by network and host", heads, rows, view.query)
    return section("endpoints", "Endpoints", shown, count=len(held.endpoint_order))


def _short(container_id: str) -> str:
    return container_id if len(container_id) <= 16 else container_id[:12] + "…"


def _port(port: PortMapping) -> str:
    where = f"{port.host_ip}:" if port.host_ip else ""
    inside = _range(port.container_port, port.count)
    return f"{where}{_range(port.host_port, port.count)} → {inside}/{port.protocol}"


def _range(first: int, count: int) -> str:
    return str(first) if count == 1 else f"{first}-{first + count - 1}"
