"""From what the engine says to what netd is asked for. Pure."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network
from typing import Any, Final

import msgspec

from netd.model.endpoint import AttachRequest, PortMapping, Protocol
from netd.model.errors import Invalid
from netd.model.network import NetworkSpec
from netd.runtimes.docker.wire import CreateEndpoint, IpamData, PortBinding

GENERIC: Final = "com.docker.network.generic"
INTERNAL: Final = "com.docker.network.internal"
PORT_MAP: Final = "com.docker.network.portmap"
MTU: Final = "com.docker.network.driver.mtu"

NETWORK_LABEL: Final = "docker.network"  # the engine's id of the network, on netd's endpoints
CONTAINER_LABEL: Final = "docker.container"  # the container's id
NAME_LABEL: Final = "docker.name"
ALIASES_LABEL: Final = "docker.aliases"  # what was given as netd.aliases

_PROTOCOLS: Final[Mapping[int, Protocol]] = {6: "tcp", 17: "udp", 132: "sctp"}  # IANA's numbers
_WILDCARDS: Final = ("", "0.0.0.0", "::")  # noqa: S104 what others listen on
_NETWORK_OPTIONS: Final = ("netd.network", "netd.name", "netd.masquerade", "netd.isolated")
_ENDPOINT_OPTIONS: Final = ("netd.name", "netd.aliases")


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the options of a `docker network create` come to."""

    network: str = ""  # the network of netd's to join; "": a new one
    name: str = ""  # of a new one
    internal: bool = False
    isolated: bool = True
    masquerade: bool = True
    mtu: int | None = None


class DynamicPort(msgspec.Struct, frozen=True, kw_only=True):
    """A published port for which any host port from `first` to `last` will do."""

    first: int
    last: int
    container_port: int
    protocol: Protocol
    host_ip: str


def wishes_of(options: Mapping[str, Any] | None) -> Wishes:
    """Raises `Invalid` for an option of netd's that there is not, or that makes no sense."""
    options = options or {}
    generic = _texts(options.get(GENERIC))
    _refuse_unknown(generic, _NETWORK_OPTIONS, "-o")
    mtu = generic.get(MTU)
    if mtu is not None and not (mtu.isascii() and mtu.isdigit()):
        raise Invalid(f"{MTU}={mtu!r} is no number of bytes")
    network = generic.get("netd.network", "")
    if network and set(generic) & {"netd.name", "netd.masquerade", "netd.isolated", MTU}:
        raise Invalid(
            f"-o netd.network={network} joins a network that is as it is; leave the other "
            "options of netd out"
        )
    return Wishes(
        network=network,
        name=generic.get("netd.name", ""),
        internal=options.get(INTERNAL) is True,
        isolated=_truth(generic, "netd.isolated"),
        masquerade=_truth(generic, "netd.masquerade"),
        mtu=None if mtu is None else int(mtu),
    )


def spec_of(
    network_id: str, wishes: Wishes, pools: Iterable[IpamData], span: str = ""
) -> NetworkSpec:
    """The bridge network that is made for a network of Docker's alone. `span` is its --ip-range."""
    given = [pool for pool in pools if not is_any(pool.pool)]
    options: dict[str, str | int | bool] = {}
    if not wishes.masquerade:
        options["masquerade"] = False
    if span:
        options["range"] = span
    return NetworkSpec(
        name=wishes.name or f"docker-{network_id[:12]}",
        driver="bridge",
        subnets=tuple(str(parse_pool(pool.pool)) for pool in given),
        gateways=tuple(bare(pool.gateway) for pool in given if pool.gateway),
        internal=wishes.internal,
        isolated=wishes.isolated,
        mtu=wishes.mtu,
        labels={NETWORK_LABEL: network_id},
        options=options,
    )


def attach_request(call: CreateEndpoint) -> AttachRequest:
    """The endpoint that is asked for. The engine's endpoint is what netd knows as container.

    Raises `Invalid` for an unknown option.
    """
    options = call.options or {}
    given = _texts({key: value for key, value in options.items() if key.startswith("netd.")})
    _refuse_unknown(given, _ENDPOINT_OPTIONS, "driver-opt")
    aliases = given.get("netd.aliases", "")
    labels = {NETWORK_LABEL: call.network_id}
    if aliases:
        labels[ALIASES_LABEL] = aliases
    settled = call.interface
    addresses = (settled.address, settled.address_ipv6) if settled else ()
    return AttachRequest(
        container_id=call.endpoint_id,
        name=given.get("netd.name", ""),
        aliases=tuple(filter(None, aliases.split(","))),
        addresses=tuple(bare(text) for text in addresses if text),
        mac=settled.mac_address.lower() or None if settled else None,
        labels=labels,
    )


def ports_of(options: Mapping[str, Any] | None) -> tuple[list[PortMapping], list[DynamicPort]]:
    """The ports to publish: those that are settled, and those that netd has a choice of.

    A host address that means all of one family is taken for all of both, as where none is given.
    Raises `Invalid` for what is no list of port bindings.
    """
    try:
        bindings = msgspec.convert(
            (options or {}).get(PORT_MAP) or (), tuple[PortBinding, ...], strict=True
        )
    except msgspec.ValidationError as error:
        raise Invalid(f"{PORT_MAP}: {error}") from None
    settled: list[PortMapping] = []
    dynamic: list[DynamicPort] = []
    for binding in bindings:
        protocol = _PROTOCOLS.get(binding.proto)
        if protocol is None:
            raise Invalid(f"{PORT_MAP}: IP protocol {binding.proto} has no ports that netd knows")
        host_ip = "" if binding.host_ip in (None, *_WILDCARDS) else str(binding.host_ip)
        first, last = binding.host_port, max(binding.host_port, binding.host_port_end)
        if not 1 <= binding.port <= 65_535 or not 0 <= first <= last <= 65_535:
            raise Invalid(f"{PORT_MAP}: ports are 1 to 65535")
        if first and first == last:
            mapping = PortMapping(
                host_port=first, container_port=binding.port, protocol=protocol, host_ip=host_ip
            )
            if mapping not in settled:
                settled.append(mapping)
        else:
            wanted = DynamicPort(
                first=first or DYNAMIC_FIRST,
                last=last or DYNAMIC_LAST,
                container_port=binding.port,
                protocol=protocol,
                host_ip=host_ip,
            )
            if wanted not in dynamic:
                dynamic.append(wanted)
    return settled, dynamic


# RFC 6335, section 6: ports that nobody is assigned, and that Linux does not use by itself
# beyond net.ipv4.ip_local_port_range, which ends at 60999.
DYNAMIC_FIRST: Final = 49_153
DYNAMIC_LAST: Final = 65_535
DRAWS: Final = 32  # of those, before there is none


def turns_of(dynamic: Iterable[DynamicPort]) -> int:
    """How many turns `draw` is worth: one where all is settled, and all of each range."""
    return max(
        (wanted.last - wanted.first + 1 if _is_range(wanted) else DRAWS for wanted in dynamic),
        default=1,
    )


def draw(
    dynamic: Iterable[DynamicPort], settled: Iterable[PortMapping], turn: int, seed: int
) -> tuple[PortMapping, ...]:
    """All ports with a host port each, another one in each `turn`."""
    drawn = list(settled)
    taken = {(port.protocol, port.host_port) for port in drawn}
    for number, wanted in enumerate(dynamic):
        size = wanted.last - wanted.first + 1
        start = turn if _is_range(wanted) else seed + turn * 251 + number
        for step in range(size):
            port = wanted.first + (start + step) % size
            if (wanted.protocol, port) not in taken:
                break
        else:
            raise Invalid(f"there are more ports to publish than from {wanted.first} on")
        taken.add((wanted.protocol, port))
        drawn.append(
            PortMapping(
                host_port=port,
                container_port=wanted.container_port,
                protocol=wanted.protocol,
                host_ip=wanted.host_ip,
            )
        )
    return tuple(drawn)


def _is_range(wanted: DynamicPort) -> bool:
    """Whether somebody has asked for these ports."""
    return (wanted.first, wanted.last) != (DYNAMIC_FIRST, DYNAMIC_LAST)


def is_any(pool: str) -> bool:
    """Whether a pool leaves the choice of addresses to the driver, as --ipam-driver null does."""
    return pool in ("", "0.0.0.0/0", "::/0")


def parse_pool(text: str) -> IPv4Network | IPv6Network:
    """Raises `Invalid` for what is no subnet."""
    try:
        return ip_network(text)
    except ValueError as error:
        raise Invalid(f"{text!r} is no subnet: {error}") from None


def parse_address(text: str) -> str:
    """The address in its usual form, without a prefix length. Raises `Invalid`."""
    try:
        return str(ip_interface(text).ip)
    except ValueError:
        raise Invalid(f"{text!r} is no address") from None


def bare(address: str) -> str:
    """Without its prefix length."""
    return address.partition("/")[0]


def _texts(value: object) -> dict[str, str]:
    try:
        return msgspec.convert(value or {}, dict[str, str])
    except msgspec.ValidationError as error:
        raise Invalid(f"options are texts: {error}") from None


def _refuse_unknown(given: Iterable[str], known: tuple[str, ...], flag: str) -> None:
    for name in given:
        if name.startswith("netd.") and name not in known:
            raise Invalid(f"netd has no option {flag} {name}; it has {', '.join(known)}")


def _truth(options: Mapping[str, str], name: str) -> bool:
    text = options.get(name, "true")
    if text not in ("true", "false"):
        raise Invalid(f"{name}={text!r} is neither true nor false")
    return text == "true"
