"""What annotations ask for, as attaches: `netd.network` and what goes with it.

With several networks an annotation holds for the one whose name is in it, `netd.ip.blue`, or for
the first where it has none.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PREFIX = "netd."
KEYS = ("network", "ip", "mac", "ports", "aliases", "name", "ifname", "labels", "bandwidth")
PORTS_MAX = 4096  # of one container on one network
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


class Wrong(Exception):
    """An annotation that cannot be done; the text says which and why."""


def wishes_of(container: str, annotations: Mapping[str, str]) -> list[tuple[str, dict[str, Any]]]:
    """Networks, and for each the body of its attach without the namespace, in the order in which
    they are asked for; none where nothing is. Raises `Wrong`.
    """
    networks = _words(annotations.get("netd.network", ""))
    own = {key: text for key, text in annotations.items() if key.startswith(PREFIX)}
    own.pop("netd.network", None)
    if own and not networks:
        raise Wrong(f"{min(own)}: there is no netd.network for it")
    bodies: list[tuple[str, dict[str, Any]]] = []
    for number, network in enumerate(networks):
        wanted = {}
        for key in KEYS[1:]:
            text = own.pop(f"netd.{key}.{network}", None)
            if number == 0:
                text = own.pop(f"netd.{key}", text)
            if text:
                wanted[key] = text
        bodies.append((network, _body(container, number, wanted)))
    for key in own:
        if key.removeprefix(PREFIX).split(".")[0] in KEYS:
            raise Wrong(f"{key}: the container is on no such network")
    if own:
        bodies[0][1]["labels"] |= own  # such as netd.service
    return bodies


def _body(container: str, number: int, wanted: dict[str, str]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "container_id": container,
        "ifname": wanted.get("ifname", f"eth{number}"),
        "labels": _labels(wanted.get("labels", "")),
    }
    if "name" in wanted:
        body["name"] = wanted["name"]
    if "mac" in wanted:
        body["mac"] = wanted["mac"]
    if "ip" in wanted:
        body["addresses"] = _words(wanted["ip"])
    if "aliases" in wanted:
        body["aliases"] = _words(wanted["aliases"])
    if "ports" in wanted:
        body["ports"] = _all_ports(wanted["ports"])
    if "bandwidth" in wanted:
        body["bandwidth"] = _bandwidth(wanted["bandwidth"])
    return body


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _labels(text: str) -> dict[str, str]:
    labels = {}
    for word in _words(text):
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise Wrong(f"netd.labels: {word!r} is not of the form KEY=VALUE")
        labels[key] = value
    return labels


def _all_ports(text: str) -> list[dict[str, Any]]:
    ports: list[dict[str, Any]] = []
    for word in _words(text):
        ports += _ports(word)
        if len(ports) > PORTS_MAX:
            raise Wrong(f"netd.ports: more than {PORTS_MAX} ports of one container")
    return ports


def _ports(text: str) -> list[dict[str, Any]]:
    """`[ADDRESS:]HOST[-HOST]:CONTAINER[-CONTAINER][/PROTOCOL]`, an IPv6 address in brackets."""
    rest, slash, protocol = text.partition("/")
    address = ""
    if rest.startswith("["):
        address, _, rest = rest[1:].partition("]:")
    elif rest.count(":") == 2:
        address, _, rest = rest.partition(":")
    outer, colon, inner = rest.partition(":")
    first, last = _span(outer, text)
    target, target_last = _span(inner, text)
    if not colon or last - first != target_last - target or (slash and not protocol):
        raise Wrong(f"netd.ports: {text!r} is not of the form [ADDRESS:]HOST:CONTAINER[/PROTOCOL]")
    if last - first >= PORTS_MAX:
        raise Wrong(f"netd.ports: {text!r} has more than {PORTS_MAX} ports")
    ports = []
    for offset in range(last - first + 1):
        port: dict[str, Any] = {
            "host_port": first + offset,
            "container_port": target + offset,
            "protocol": protocol or "tcp",
        }
        if address:
            port["host_ip"] = address
        ports.append(port)
    return ports


def _span(text: str, whole: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise Wrong(f"netd.ports: {whole!r} has no number of a port where one belongs")
    span = int(first), int(last) if dash else int(first)
    if span[1] < span[0]:
        raise Wrong(f"netd.ports: {whole!r} has a range that ends before it begins")
    return span


def _bandwidth(text: str) -> dict[str, int]:
    """`ingress=10m,egress=5m`, in bits a second."""
    limits = {}
    for word in _words(text):
        way, _, rate = word.partition("=")
        number, unit = (rate, "") if rate[-1:].isdecimal() else (rate[:-1], rate[-1:].lower())
        if way not in ("ingress", "egress") or unit not in _UNITS or not number.isdecimal():
            raise Wrong(f"netd.bandwidth: {word!r} is not of the form ingress=10m or egress=10m")
        limits[f"{way}_bps"] = int(number) * _UNITS[unit]
    return limits
