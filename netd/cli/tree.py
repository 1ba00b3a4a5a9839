"""A topology as a tree of text: hosts, on each its networks, on each its endpoints."""

from collections.abc import Iterator
from typing import Any

from netd.cli.output import text

Json = dict[str, Any]


def tree(topology: Json) -> Iterator[str]:
    """The lines."""
    for host in topology["hosts"]:
        yield _title(host)
        networks = [n for n in topology["networks"] if host["id"] in n["hosts"]]
        for network, is_last in _with_last(networks):
            yield f"{'`-' if is_last else '|-'} {_network(network, host, topology)}"
            endpoints = [
                end
                for end in topology["endpoints"]
                if (end["host"], end["network"]) == (host["id"], network["id"])
            ]
            for end, is_end in _with_last(endpoints):
                branch = "   " if is_last else "|  "
                yield f"{branch}{'`-' if is_end else '|-'} {_endpoint(end)}"
    idle = [network for network in topology["networks"] if not network["hosts"]]
    if idle:
        yield "on no host"
    for network, is_last in _with_last(idle):
        yield f"{'`-' if is_last else '|-'} {_network(network, None, topology)}"


def _title(host: Json) -> str:
    parts = [text(host["name"])]
    if host["address"]:
        parts.append(text(host["address"]))
    if host["own"]:
        parts.append("this host")
    else:
        parts.append(text(host["state"]))
        if host["rtt_ms"] is not None:
            parts.append(f"{host['rtt_ms']:.1f} ms")
    return "  ".join(parts)


def _network(network: Json, host: Json | None, topology: Json) -> str:
    parts = [text(network["name"]), text(network["driver"])]
    if network["subnets"]:
        parts.append(text(network["subnets"]))
    if network["vni"] is not None:
        parts.append(f"VNI {text(network['vni'])}")
    if host is not None and network["driver"] == "overlay":
        names = [
            text(other["name"])
            for other in topology["hosts"]
            if other["id"] in network["hosts"] and other["id"] != host["id"]
        ]
        parts.append(f"=== {', '.join(names)}" if names else "=== no other host")
    return "  ".join(parts)


def _endpoint(endpoint: Json) -> str:
    addresses = [address.partition("/")[0] for address in endpoint["addresses"]]
    return "  ".join([text(endpoint["name"]), *([text(addresses)] if addresses else [])])


def _with_last(things: list[Json]) -> Iterator[tuple[Json, bool]]:
    for number, thing in enumerate(things, start=1):
        yield thing, number == len(things)
