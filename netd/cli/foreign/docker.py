"""Docker's networks: answers of its API to GET /networks and GET /containers/json?all=1.

https://docs.docker.com/reference/api/engine/
"""

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
)

_PREDEFINED: Final = ("bridge", "host", "none")
_BRIDGE: Final = "com.docker.network.bridge."
_MTU: Final = ("com.docker.network.driver.mtu", "com.docker.network.mtu")
_TRUE: Final = ("true", "1", "t", "T", "TRUE", "True")  # as Go's strconv.ParseBool
_MODES: Final = {"macvlan": "macvlan_mode", "ipvlan": "ipvlan_mode"}


def networks(
    documents: Iterable[Mapping[str, Any]], containers: Iterable[Mapping[str, Any]]
) -> list[Found]:
    """What users have made; networks of netd's own driver are netd's already."""
    held = list(containers)
    named = sorted((str(document.get("Name", "?")), document) for document in documents)
    return read_each(named, lambda document: _network(document, held))


def _network(document: Mapping[str, Any], containers: list[Mapping[str, Any]]) -> Found | None:
    name, driver = document["Name"], document["Driver"]
    if name in _PREDEFINED or driver == "netd" or document.get("Ingress"):
        return None
    if driver not in ("bridge", "macvlan", "ipvlan"):
        raise Unfit(f"driver {driver} is not taken over: bridge, macvlan and ipvlan are")
    notes: list[str] = []
    spec: dict[str, Any] = {"name": name_in_netd(name), "driver": driver}
    kept = _addressing(document, spec, notes)
    if document.get("Internal"):
        spec["internal"] = True
    options = dict(document.get("Options") or {})
    for key in _MTU:
        if key in options:
            spec["mtu"] = int(options.pop(key))
    link = ""
    if driver == "bridge":
        link = options.pop(f"{_BRIDGE}name", "") or f"br-{document['Id'][:12]}"
        _bridge(options, spec)
    else:
        _on_parent(driver, options, spec)
    notes += [f"option {key}={value} is not taken over" for key, value in sorted(options.items())]
    if labels := document.get("Labels"):
        spec["labels"] = dict(labels)
    kept += _addresses(name, containers)
    return Found(
        name,
        spec,
        "",
        tuple(notes),
        tuple(kept),
        link,
        shlex.join(["docker", "network", "rm", name]),
    )


def _addressing(document: Mapping[str, Any], spec: dict[str, Any], notes: list[str]) -> list[Kept]:
    ipam = document.get("IPAM") or {}
    if ipam.get("Driver", "default") not in ("default", "null"):
        raise Unfit(f"the addresses are given by the IPAM driver {ipam['Driver']}")
    configs = ipam.get("Config") or []
    subnets = [config["Subnet"] for config in configs]
    check_families(subnets)
    gateways = [config["Gateway"].partition("/")[0] for config in configs if config.get("Gateway")]
    if subnets:
        spec["subnets"] = subnets
    if gateways and not document.get("Internal"):
        spec["gateways"] = gateways
    ranges(spec, [config["IPRange"] for config in configs if config.get("IPRange")], notes)
    return [
        Kept(address, label)
        for config in configs
        for label, address in sorted((config.get("AuxiliaryAddresses") or {}).items())
    ]


def _bridge(options: dict[str, str], spec: dict[str, Any]) -> None:
    """Take out of `options` what netd has, too, and what says no more than its default."""
    if options.pop(f"{_BRIDGE}enable_icc", "true") not in _TRUE:
        raise Unfit("enable_icc=false: containers of one network of netd reach each other")
    if options.pop(f"{_BRIDGE}enable_ip_masquerade", "true") not in _TRUE:
        spec.setdefault("options", {})["masquerade"] = False
    if options.get(f"{_BRIDGE}host_binding_ipv4") == "0.0.0.0":  # noqa: S104 - the default
        del options[f"{_BRIDGE}host_binding_ipv4"]


def _on_parent(driver: str, options: dict[str, str], spec: dict[str, Any]) -> None:
    if not options.get("parent"):
        raise Unfit("it has no parent, so its containers reach nothing but each other")
    spec["parent"] = options.pop("parent")
    if mode := options.pop(_MODES[driver], ""):
        spec.setdefault("options", {})["mode"] = mode


def _addresses(network: str, containers: list[Mapping[str, Any]]) -> list[Kept]:
    """What users have chosen for containers; what Docker has chosen may be any other."""
    kept = []
    for container in containers:
        on = ((container.get("NetworkSettings") or {}).get("Networks") or {}).get(network) or {}
        chosen = on.get("IPAMConfig") or {}
        names = container.get("Names") or [container["Id"][:12]]
        holder = names[0].removeprefix("/")
        both = (chosen.get("IPv4Address"), chosen.get("IPv6Address"))
        kept += [Kept(address, holder) for address in both if address]
    return kept
