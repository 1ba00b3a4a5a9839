"""Checks of an attach request that need nothing but the request and its network."""

from netd.engine.services.labels import SERVICE, specs_of
from netd.model.endpoint import AttachRequest
from netd.model.errors import Invalid
from netd.model.names import (
    check_container_id,
    check_endpoint_name,
    check_ifname,
    check_labels,
)
from netd.model.network import Network
from netd.plan.addresses import parse_address, parse_mac

ALIASES_MAX = 32
PORTS_MAX = 4096


def check_attach(request: AttachRequest, network: Network, *, handover: bool = False) -> None:
    """Raise `Invalid` for the first thing in the request that cannot be right.

    With `handover` it is a runtime that moves the container's end into its namespace.
    """
    check_container_id(request.container_id)
    check_ifname(request.ifname)
    if request.name:
        check_endpoint_name(request.name, "name")
    check_aliases(request.aliases)
    check_labels(request.labels)
    if specs_of(request.labels, "") and network.driver == "none":
        raise Invalid("without an address there is nothing to register", field=f"labels.{SERVICE}")
    if handover:
        _check_handover(request, network)
    else:
        _check_namespace(request, network)
    for index, text in enumerate(request.addresses):
        parse_address(text, f"addresses[{index}]")
    if request.mac is not None:
        parse_mac(request.mac, "mac")
    if network.driver in ("host", "none"):
        _refuse(request, network.driver, "addresses", "mac")
    if network.driver == "ipvlan":
        _refuse(request, network.driver, "mac")
    if network.driver not in ("bridge", "host", "overlay") and request.ports:
        raise Invalid(f"a {network.driver} network publishes no ports", field="ports")
    if network.internal and request.ports:
        raise Invalid(
            f"network {network.name!r} is internal: nothing outside reaches it, so it publishes "
            "no ports",
            field="ports",
        )
    if network.internal and request.default_route:
        raise Invalid(
            f"network {network.name!r} is internal and leads nowhere else", field="default_route"
        )
    check_ports_count(sum(mapping.count for mapping in request.ports))
    limits = request.bandwidth
    if network.driver not in ("bridge", "overlay") and (limits.ingress_bps or limits.egress_bps):
        raise Invalid(f"a {network.driver} network has no bandwidth limits", field="bandwidth")


def check_aliases(aliases: tuple[str, ...]) -> None:
    """Raise `Invalid` when there are too many aliases or one is no DNS label."""
    if len(aliases) > ALIASES_MAX:
        raise Invalid(f"{len(aliases)} aliases; at most {ALIASES_MAX} are kept", field="aliases")
    for index, alias in enumerate(aliases):
        check_endpoint_name(alias, f"aliases[{index}]")


def check_ports_count(count: int) -> None:
    """Raise `Invalid` when one endpoint publishes more ports than it may."""
    if count > PORTS_MAX:
        raise Invalid(f"{count} ports; one endpoint publishes at most {PORTS_MAX}", field="ports")


def name_of(request: AttachRequest) -> str:
    """The endpoint's name: as asked, else the container's id where that makes a DNS label.

    Long hexadecimal ids are cut to 12 digits, as container engines show them.
    """
    if request.name:
        return request.name
    name = request.container_id
    if len(name) == 64 and all(digit in "0123456789abcdef" for digit in name):
        return name[:12]
    try:
        check_endpoint_name(name, "name")
    except Invalid:
        return ""
    return name


def _check_namespace(request: AttachRequest, network: Network) -> None:
    if request.netns is not None and request.pid is not None:
        raise Invalid("give netns or pid, not both", field="pid")
    if request.netns is None and request.pid is None and network.driver != "host":
        raise Invalid("give the container's network namespace as netns or pid", field="netns")


def _check_handover(request: AttachRequest, network: Network) -> None:
    if network.driver not in ("bridge", "overlay"):
        raise Invalid(
            f"network {network.name!r} is a {network.driver} network; only of bridge and overlay "
            "networks can a runtime set up the container's end",
            field="network",
        )
    if request.netns is not None or request.pid is not None:
        raise Invalid("what is handed over has no namespace yet", field="netns")


def _refuse(request: AttachRequest, driver: str, *names: str) -> None:
    for name in names:
        if getattr(request, name):
            raise Invalid(f"a {driver} network takes no {name}", field=name)
