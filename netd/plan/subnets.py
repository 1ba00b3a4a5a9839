"""Subnets, gateways and MTU of a new network: checked where given, chosen where not."""

from collections.abc import Sequence
from ipaddress import IPv6Network

from netd.model.errors import Conflict, Invalid
from netd.model.network import NetworkSpec
from netd.plan.addresses import (
    IPNetwork,
    address_within,
    check_free,
    choose_subnet,
    parse_subnet,
)
from netd.plan.context import Surroundings

MTU_MIN = 576  # RFC 791: what every host accepts
MTU_MIN_IPV6 = 1280  # RFC 8200, section 5
MTU_MAX = 65_535

_IN_JSON = {bool: "true or false", int: "a whole number", str: "a string"}


def settle_subnets(
    spec: NetworkSpec, around: Surroundings, start: int = 0
) -> tuple[IPNetwork, ...]:
    """The network's subnets: those asked for, or one of each family, searched from `start` on.

    Raises `Invalid` for a malformed one and `Conflict` for one that overlaps.
    """
    if not spec.subnets:
        return (
            choose_subnet(around.ipv4_pools, around.taken, start, around.kept),
            choose_subnet(around.ipv6_pools, around.taken, start, around.kept),
        )
    subnets: list[IPNetwork] = []
    for index, text in enumerate(spec.subnets):
        field = f"subnets[{index}]"
        subnet = parse_subnet(text, field)
        if any(other.version == subnet.version for other in subnets):
            raise Invalid(
                f"{subnet} is a second IPv{subnet.version} subnet; a network has at most one "
                "of each family",
                field=field,
            )
        check_free(subnet, around.taken, field)
        subnets.append(subnet)
    return tuple(subnets)


def settle_span(spec: NetworkSpec, subnets: Sequence[IPNetwork]) -> IPNetwork | None:
    """The option `range`: the part of a subnet that addresses are handed out of, unasked.

    Raises `Invalid` when it is in none of the subnets.
    """
    text = spec.options.get("range")
    if text is None:
        return None
    span = parse_subnet(str(text), "options.range")
    if not any(span_within(span, subnet) for subnet in subnets):
        known = ", ".join(map(str, subnets))
        raise Invalid(f"{span} is in no subnet of the network ({known})", field="options.range")
    return span


def span_within(span: IPNetwork, subnet: IPNetwork) -> bool:
    """Whether `span` is part of `subnet`."""
    return span.network_address in subnet and span.prefixlen >= subnet.prefixlen


def settle_gateways(spec: NetworkSpec, subnets: Sequence[IPNetwork]) -> tuple[str, ...]:
    """One gateway for each subnet: the one asked for, or the subnet's first address."""
    asked: dict[IPNetwork, str] = {}
    for index, text in enumerate(spec.gateways):
        field = f"gateways[{index}]"
        gateway, subnet = address_within(text, subnets, field)
        if gateway in (subnet.network_address, subnet.broadcast_address):
            raise Invalid(f"{gateway} is {subnet}'s own address", field=field)
        if subnet in asked:
            raise Conflict(f"{subnet} has a gateway already: {asked[subnet]}", field=field)
        asked[subnet] = str(gateway)
    return tuple(asked.get(subnet, str(subnet.network_address + 1)) for subnet in subnets)


def settle_mtu(spec: NetworkSpec, default: int, subnets: Sequence[IPNetwork]) -> int:
    """The MTU asked for, or the one nearest to `default` that can be.

    Raises `Invalid` when the network could not live with the one asked for.
    """
    least = MTU_MIN_IPV6 if any(isinstance(net, IPv6Network) for net in subnets) else MTU_MIN
    mtu = min(max(default, least), MTU_MAX) if spec.mtu is None else spec.mtu
    if not least <= mtu <= MTU_MAX:
        raise Invalid(f"mtu {mtu}: this network takes {least} to {MTU_MAX} bytes", field="mtu")
    return mtu


def refuse(spec: NetworkSpec, *names: str) -> None:
    """Raise `Invalid` for the first field that is set although the driver has no use for it."""
    for name in names:
        if getattr(spec, name) not in (None, (), False):
            raise Invalid(f"a network with driver {spec.driver!r} takes no {name}", field=name)


def check_options(spec: NetworkSpec, known: dict[str, type]) -> None:
    """Raise `Invalid` for an option that the driver does not know, or of the wrong type."""
    for name, value in spec.options.items():
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise Invalid(
                f"driver {spec.driver!r} has no option {name!r}; it has: {names}",
                field=f"options.{name}",
            )
        if type(value) is not known[name]:
            raise Invalid(
                f"option {name!r} must be {_IN_JSON[known[name]]}", field=f"options.{name}"
            )
