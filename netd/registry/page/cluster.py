"""Sections on the cluster: its hosts, its networks, and the picture of both."""

from collections.abc import Iterator
from typing import Any, Final

from netd.client.picture import drawing
from netd.model.network import Network
from netd.model.views import Member
from netd.registry.page.html import NONE, Content, Markup, element, joined, listed
from netd.registry.page.parts import level, moment, quiet, scrolled, section, sift, table, unknown
from netd.registry.page.view import View

# What is drawn: the picture is to be looked at, the tables have all.
HOSTS_MAX: Final = 12
FEW_HOSTS: Final = 6
NETWORKS_MAX: Final = 24
ENDPOINTS_MAX: Final = 5  # of one network on one host
_TAGS_MAX: Final = 6


def members(view: View) -> Markup:
    found = view.facts.members
    if found is None:
        return section("members", "Hosts", unknown())

    def make(member: Member) -> tuple[Content, ...]:
        own = element("span", {"class": "quiet"}, " this host") if member is found[0] else ""
        reach = "" if member.reachable else " not reached from here"
        return (
            joined((member.name, own)),
            joined((level(member.state), reach)),
            member.address or NONE,
            NONE if member.rtt_ms is None else f"{member.rtt_ms:.2f}",
            member.version or NONE,
            _pairs(member.tags),
            moment(member.since),
        )

    def values(member: Member) -> Iterator[str]:
        yield from (member.name, member.id, member.state, member.address, member.version)
        yield from (f"{key}={value}" for key, value in member.tags.items())

    heads = ("Host", "State", "Address", "Round trip, ms", "netd", "Tags", "Since")
    rows = sift(found, "members", view.query, values, make)
    shown = table("members", "Hosts of the cluster", heads, rows, view.query)
    return section("members", "Hosts", shown, count=len(found))


def networks(view: View) -> Markup:
    found = view.facts.networks
    if found is None:
        return section("networks", "Networks", unknown())

    def make(network: Network) -> tuple[Content, ...]:
        kinds = ["internal"] if network.internal else []
        kinds += [] if network.isolated else ["open to others"]
        vni = "" if network.vni is None else f" {network.vni}"
        state = level("degraded" if network.conditions else "ready")
        return (
            network.name,
            f"{network.driver}{vni}",
            listed(network.subnets),
            listed(network.gateways),
            NONE if network.mtu is None else network.mtu,
            view.holdings.count_on(network.name),
            listed(kinds),
            state,
        )

    def values(network: Network) -> Iterator[str]:
        yield from (network.name, network.id, network.driver, *network.subnets)

    heads = ("Network", "Driver", "Subnets", "Gateways", "MTU", "Endpoints", "Kind", "State")
    ordered = sorted(found, key=lambda network: network.name)
    rows = sift(ordered, "networks", view.query, values, make)
    shown = table("networks", "Networks that this host knows of", heads, rows, view.query)
    return section("networks", "Networks", shown, count=len(found))


def topology(view: View) -> Markup:
    if view.facts.members is None or view.facts.networks is None:
        return section("topology", "Topology", unknown())
    drawn = picture_of(view)
    left_out = _left_out(view)
    # What is small enough to be read is made to fit where there is nearly room for it.
    width = "few" if len(drawn["hosts"]) <= FEW_HOSTS else "many"
    picture = scrolled("Topology", element("div", {"class": width}, Markup(drawing(drawn))))
    notes = [quiet(left_out)] if left_out else []
    return section("topology", "Topology", picture, *notes)


def picture_of(view: View) -> dict[str, Any]:
    """What is drawn, in the form of `GET /v1/topology`: names serve as ids."""
    held = view.holdings
    hosts = [
        {
            "id": member.name,
            "name": member.name,
            "address": member.address,
            "state": member.state,
            "own": number == 0,
        }
        for number, member in enumerate((view.facts.members or ())[:HOSTS_MAX])
    ]
    own = held.zone.node
    found, ends = [], []
    for network in _drawn_networks(view):
        nodes = held.nodes_of(network.name)
        entry = held.networks.get(network.name)
        is_here = network.driver != "overlay" or (entry is not None and bool(entry.resolvers))
        places = [*dict.fromkeys((*((own,) if is_here else ()), *nodes))]
        found.append(
            {
                "id": network.name,
                "name": network.name,
                "driver": network.driver,
                "subnets": list(network.subnets),
                "vni": network.vni,
                "hosts": places,
            }
        )
        for host in hosts:
            ends += _ends(view, network.name, str(host["name"]))
    return {"hosts": hosts, "networks": found, "endpoints": ends}


def _drawn_networks(view: View) -> list[Network]:
    """Those with the most endpoints, by name."""
    found = sorted(view.facts.networks or (), key=lambda each: each.name)
    if len(found) > NETWORKS_MAX:
        held = view.holdings
        found.sort(key=lambda network: -held.count_on(network.name))
        found = sorted(found[:NETWORKS_MAX], key=lambda each: each.name)
    return found


def _ends(view: View, network: str, host: str) -> list[dict[str, Any]]:
    order = view.holdings.endpoints_at(network, host)
    shown = [
        {
            "host": host,
            "network": network,
            "name": name,
            "addresses": list(view.holdings.endpoints[endpoint_id].addresses),
        }
        for _, _, name, endpoint_id in order[:ENDPOINTS_MAX]
    ]
    if len(order) > ENDPOINTS_MAX:
        more = f"and {len(order) - ENDPOINTS_MAX:,} more"
        shown.append({"host": host, "network": network, "name": more, "addresses": []})
    return shown


def _left_out(view: View) -> str:
    hosts = max(0, len(view.facts.members or ()) - HOSTS_MAX)
    networks = max(0, len(view.facts.networks or ()) - NETWORKS_MAX)
    parts = [f"{hosts} more hosts"] if hosts else []
    parts += [f"{networks} more networks"] if networks else []
    return f"Not drawn: {' and '.join(parts)}." if parts else ""


def _pairs(tags: dict[str, str]) -> Markup:
    return listed([f"{key}={value}" for key, value in sorted(tags.items())], _TAGS_MAX)
