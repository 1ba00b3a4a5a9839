"""Podman's networks, as it keeps them in a file each.

https://github.com/containers/common/blob/main/libnetwork/types/network.go
"""

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from netd.cli.foreign.found import (
    Found,
    Unfit,
    check_families,
    name_in_netd,
    ranges,
    read_each,
    span_of,
)


def networks(documents: Iterable[tuple[str, Any]]) -> list[Found]:
    """From network files; networks of netd's own driver are netd's already."""
    return read_each(documents, _network)


def _network(document: Mapping[str, Any]) -> Found | None:
    name, driver = str(document["name"]), document["driver"]
    if driver == "netd":
        return None
    if driver not in ("bridge", "macvlan", "ipvlan"):
        raise Unfit(f"driver {driver} is not taken over: bridge, macvlan and ipvlan are")
    notes: list[str] = []
    spec: dict[str, Any] = {"name": name_in_netd(name), "driver": driver}
    _addressing(document, spec, notes)
    if document.get("internal"):
        spec["internal"] = True
    options = dict(document.get("options") or {})
    if "mtu" in options:
        spec["mtu"] = int(options.pop("mtu"))
    link = str(document.get("network_interface") or "")
    if driver == "bridge":
        # netd keeps networks apart unless told otherwise; Podman does it the other way round.
        if options.pop("isolate", "false") not in ("true", "1", "strict"):
            spec["isolated"] = False
    else:
        if not (parent := options.pop("parent", "") or link):
            raise Unfit("it has no parent: Podman takes the link of the default route")
        spec["parent"], link = parent, ""
        if "mode" in options:
            spec.setdefault("options", {})["mode"] = options.pop("mode")
    notes += [f"option {key}={value} is not taken over" for key, value in sorted(options.items())]
    notes += [
        f"the route to {route['destination']} is not taken over" for route in _routes(document)
    ]
    if labels := document.get("labels"):
        spec["labels"] = dict(labels)
    removal = shlex.join(["podman", "network", "rm", name])
    return Found(name, spec, "", tuple(notes), (), link, removal)


def _addressing(document: Mapping[str, Any], spec: dict[str, Any], notes: list[str]) -> None:
    driver = (document.get("ipam_options") or {}).get("driver") or "host-local"
    if driver != "host-local":
        raise Unfit(f"its addresses are given by {driver}, not host-local")
    entries = document.get("subnets") or []
    subnets = [entry["subnet"] for entry in entries]
    check_families(subnets)
    if subnets:
        spec["subnets"] = subnets
    if gateways := [entry["gateway"] for entry in entries if entry.get("gateway")]:
        spec["gateways"] = gateways
    spans = []
    for entry in entries:
        lease = entry.get("lease_range") or {}
        first, last = lease.get("start_ip"), lease.get("end_ip")
        if first and last and (span := span_of(first, last)):
            spans.append(span)
        elif first or last:
            notes.append(f"the range {first or ''}-{last or ''} is no subnet: not taken over")
    ranges(spec, spans, notes)


def _routes(document: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    routes: Iterable[Mapping[str, Any]] = document.get("routes") or ()
    return routes
