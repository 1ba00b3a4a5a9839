"""Podman's networks as netd's: one of the cluster by the option `network`, or a bridge network of
this host, which is there as long as containers are on it.
"""

from __future__ import annotations

from netd.runtimes.netavark.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# On networks that are Podman's, with its id of the network: those go with their last container.
LABEL = "netd.podman.id"
OPTIONS = (
    *("network", "mtu", "isolate", "range", "subnets", "gateways"),
    *("no_default_route", "no_dns"),
)
_BOOLS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def joined(network: dict[str, Any]) -> str:
    """The name of the network that is netd's already; "" for one of this host."""
    return str(options_of(network).get("network", ""))


def name_of(network: dict[str, Any]) -> str:
    """What netd calls it."""
    return joined(network) or str(network["name"]).lower()


def options_of(network: dict[str, Any]) -> dict[str, str]:
    """The options. Raises `Failure` for one that netd does not know."""
    options: dict[str, str] = network.get("options") or {}
    for key in options:
        if key not in OPTIONS:
            raise Failure(f"option {key!r} is not known; there are {', '.join(OPTIONS)}")
    return options


def check(network: dict[str, Any]) -> None:
    """Raise `Failure` for what cannot be had."""
    options = options_of(network)
    driver = (network.get("ipam_options") or {}).get("driver", "")
    if driver == "dhcp":
        raise Failure("netd gives addresses itself: leave --ipam-driver out")
    if network.get("routes"):
        raise Failure("routes cannot be given: netd makes the default route")
    if network.get("network_interface"):
        raise Failure("netd names its bridges itself: leave --interface-name out")
    check_names(network)
    if not joined(network):
        return
    for key in ("mtu", "isolate", "range", "subnets", "gateways"):
        if key in options:
            raise Failure(f"network {joined(network)!r} has its own {key} already")
    if network.get("subnets"):
        raise Failure(f"network {joined(network)!r} has its subnets already")


def check_joined(network: dict[str, Any], found: dict[str, Any]) -> None:
    """Raise `Failure` for a wish that netd's network `found` does not fulfil."""
    if network.get("internal") and not found["internal"]:
        raise Failure(f"network {found['name']!r} is not internal: leave --internal out")


def check_names(network: dict[str, Any]) -> None:
    """Raise `Failure` for name servers of a network: `podman network update` sets them later."""
    if network.get("network_dns_servers"):
        raise Failure(
            "netd answers names itself: leave --dns of the network out, "
            "or take it away by podman network update --dns-drop"
        )


def body_of(network: dict[str, Any]) -> dict[str, Any]:
    """The body of POST /v1/networks for a network of this host. Raises `Failure`."""
    options = options_of(network)
    body: dict[str, Any] = {
        "name": name_of(network),
        "driver": "bridge",
        "internal": bool(network.get("internal")),
        "labels": {**(network.get("labels") or {}), LABEL: str(network["id"])},
    }
    subnets = network.get("subnets") or []
    spans = [subnet["subnet"] for subnet in subnets] or _list(options, "subnets")
    gateways = [subnet["gateway"] for subnet in subnets if subnet.get("gateway")]
    if spans:
        body["subnets"] = spans
    if gateways := gateways or _list(options, "gateways"):
        body["gateways"] = gateways
    for subnet in subnets:
        if any((subnet.get("lease_range") or {}).values()):
            raise Failure("a range is given as -o range=CIDR, not as --ip-range")
    if "mtu" in options:
        if not options["mtu"].isdigit():
            raise Failure(f"mtu {options['mtu']!r} is no number of bytes")
        body["mtu"] = int(options["mtu"])
    if "isolate" in options:
        body["isolated"] = flag(options, "isolate")
    if "range" in options:
        body["options"] = {"range": options["range"]}
    return body


def created(network: dict[str, Any], made: dict[str, Any] | None) -> dict[str, Any]:
    """What Podman keeps of a network. It is not to give addresses itself, which is what its driver
    `none` means; that takes no subnets, so those are kept as options.
    """
    kept = {**network, "ipam_options": {"driver": "none"}}
    kept.pop("subnets", None)
    if not network.get("dns_enabled", True):  # which is no longer told with that driver
        kept["options"] = {**options_of(network), "no_dns": "true"}
    if made is not None:
        fitting = [text for text in made["subnets"] if _fits(network, text)]
        gateways = [text for text in made["gateways"] if _fits(network, text)]
        kept["options"] = {**options_of(kept), "subnets": ",".join(fitting)}
        if gateways:
            kept["options"]["gateways"] = ",".join(gateways)
    return kept


def flag(options: dict[str, str], key: str) -> bool:
    """Raises `Failure` for what is neither yes nor no."""
    text = options.get(key, "false").lower()
    if text not in _BOOLS:
        raise Failure(f"{key} {options[key]!r} is neither true nor false")
    return _BOOLS[text]


def _fits(network: dict[str, Any], address: str) -> bool:
    """Whether Podman has asked for its family: netd gives both where it may choose."""
    asked = network.get("subnets") or network.get("ipv6_enabled")
    return bool(asked) or ":" not in address


def _list(options: dict[str, str], key: str) -> list[str]:
    return [word.strip() for word in options.get(key, "").split(",") if word.strip()]
