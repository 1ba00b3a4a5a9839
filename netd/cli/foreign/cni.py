"""Networks of CNI configurations, and the addresses that `host-local` has given.

https://www.cni.dev/plugins/current/main/bridge/, .../macvlan/, .../ipam/host-local/
"""

import ipaddress
import shlex
from collections.abc import Iterable, Mapping
from typing import Any, Final

from netd.cli.foreign.found import (
    Found,
    Kept,
    Unfit,
    check_families,
    name_in_netd,
    ranges,
    read_each,
    span_of,
)

_MAIN: Final = ("bridge", "macvlan", "ipvlan")
_OWN: Final = "netd-cni"
_PODMAN: Final = "cni-podman"  # what the names of its bridges begin with
_SEEN: Final = {  # by plugin: what is taken over, or says nothing of netd's network
    "bridge": {"bridge", "isGateway", "isDefaultGateway", "forceAddress", "ipMasq", "hairpinMode"},
    "macvlan": {"master", "mode"},
    "ipvlan": {"master", "mode"},
}
_ALWAYS: Final = {"type", "name", "cniVersion", "cniVersions", "ipam", "mtu", "capabilities"}


def networks(
    documents: Iterable[tuple[str, Any]], leases: Mapping[str, Iterable[tuple[str, str]]]
) -> list[Found]:
    """From configurations by file; `leases` has, by network, names and texts of lease files."""
    return read_each(documents, lambda document: _network(document, leases))


def _network(
    document: Mapping[str, Any], leases: Mapping[str, Iterable[tuple[str, str]]]
) -> Found | None:
    name = str(document["name"])
    plugins = document.get("plugins", [document])
    if plugins[0]["type"] == _OWN:
        return None
    main = plugins[0]
    kind = main["type"]
    if kind not in _MAIN:
        raise Unfit(f"plugin {kind} is not taken over: {', '.join(_MAIN)} are")
    notes: list[str] = []
    spec: dict[str, Any] = {"name": name_in_netd(name), "driver": kind}
    _addressing(main.get("ipam") or {}, spec, notes)
    if main.get("mtu"):
        spec["mtu"] = int(main["mtu"])
    link = removal = ""
    if kind == "bridge":
        link = str(main.get("bridge", "cni0"))
        removal = _removal(name, link)
        _bridge(main, spec, notes)
    else:
        if not main.get("master"):
            raise Unfit("it names no master")
        spec["parent"] = main["master"]
        if "mode" in main:
            spec.setdefault("options", {})["mode"] = main["mode"]
    if labels := (document.get("args") or {}).get("podman_labels"):
        spec["labels"] = dict(labels)
    unknown = sorted(set(main) - _SEEN[kind] - _ALWAYS)
    notes += [f"{key} is not taken over" for key in unknown if main[key]]
    kept = _leases(leases.get(name, ()))
    return Found(name, spec, "", tuple(notes), tuple(kept), link, removal)


def _removal(name: str, link: str) -> str:
    """What takes the old network away. Podman makes the bridges of its networks anew."""
    if link.startswith(_PODMAN):
        return shlex.join(["podman", "network", "rm", name])
    return shlex.join(["ip", "link", "del", link])


def _bridge(main: Mapping[str, Any], spec: dict[str, Any], notes: list[str]) -> None:
    if not (main.get("isGateway") or main.get("isDefaultGateway")):
        spec["internal"] = True
        notes.append("its bridge has no address; that of an internal network of netd has one")
    elif not main.get("ipMasq"):
        spec.setdefault("options", {})["masquerade"] = False
    if main.get("hairpinMode"):
        spec.setdefault("options", {})["hairpin"] = True


def _addressing(ipam: Mapping[str, Any], spec: dict[str, Any], notes: list[str]) -> None:
    if ipam.get("type") != "host-local":
        raise Unfit(f"its addresses are given by {ipam.get('type') or 'nobody'}, not host-local")
    flat = [ipam] if "subnet" in ipam else []
    sets = [[each] for each in flat] + list(ipam.get("ranges") or [])
    parts = [part for ranges_ in sets for part in ranges_]
    if not parts:
        raise Unfit("it has no subnet")
    subnets = [str(ipaddress.ip_network(part["subnet"], strict=False)) for part in parts]
    check_families(subnets)
    spec["subnets"] = subnets
    if gateways := [part["gateway"] for part in parts if part.get("gateway")]:
        spec["gateways"] = gateways
    spans = []
    for part in parts:
        first, last = part.get("rangeStart"), part.get("rangeEnd")
        if first and last and (span := span_of(first, last)):
            spans.append(span)
        elif first or last:
            notes.append(f"the range {first or ''}-{last or ''} is no subnet: not taken over")
    ranges(spec, spans, notes)
    default = ("0.0.0.0/0", "::/0")
    routes = [route["dst"] for route in ipam.get("routes") or () if route["dst"] not in default]
    notes += [f"the route to {route} is not taken over" for route in routes]


def _leases(files: Iterable[tuple[str, str]]) -> list[Kept]:
    """A lease is a file called as the address, with the container's id in its first line."""
    kept = []
    for name, text in files:
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            continue  # the lock, and what was given last
        kept.append((address, text.strip().splitlines()))
    kept.sort(key=lambda lease: (lease[0].version, int(lease[0])))
    return [Kept(str(address), lines[0].strip() if lines else "") for address, lines in kept]
