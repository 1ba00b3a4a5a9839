"""Published ports: elements of the firewall's maps, and host ports to keep others off."""

import ipaddress
from collections.abc import Collection, Iterable, Sequence
from typing import Final, Literal

import msgspec

from netd.model.endpoint import Endpoint, PortMapping, Protocol
from netd.model.errors import Invalid
from netd.plan.objects import SetElement

Family = Literal[4, 6]

PORT_MAX: Final = 65535


class HeldPort(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A port on a host address ("" for all of a family) for one protocol."""

    protocol: Protocol
    family: Family
    address: str
    port: int


def port_elements(endpoint: Endpoint) -> list[SetElement]:
    """The map elements that lead the endpoint's published ports to its addresses.

    One element for each port and family. A mapping without host address gets one for each
    family the endpoint has an address of; a family it lacks gets none.
    """
    targets = _first_addresses(endpoint.addresses)
    elements = []
    for mapping in endpoint.ports:
        for held in _held(mapping, targets):
            offset = held.port - mapping.host_port
            service = (held.protocol, str(held.port))
            elements.append(
                SetElement(
                    owner=endpoint.id,
                    set_name=f"ports{held.family}" + ("" if held.address else "_any"),
                    element=(held.address, *service) if held.address else service,
                    value=(targets[held.family], str(mapping.container_port + offset)),
                )
            )
    return elements


def held_ports(mappings: Iterable[PortMapping], families: Collection[Family]) -> list[HeldPort]:
    """The host ports that the mappings take, for the families that the endpoint has."""
    return [held for mapping in mappings for held in _held(mapping, families)]


def families(addresses: Iterable[str]) -> frozenset[Family]:
    """The address families among `addresses`, which may have a prefix length."""
    return frozenset(_first_addresses(addresses))


def check_ports(mappings: Sequence[PortMapping], families: Collection[Family]) -> None:
    """Raise `Invalid`, naming the field, unless the mappings can all be published at once.

    `families` are those the endpoint has an address of.
    """
    owners: dict[HeldPort, int] = {}
    for index, mapping in enumerate(mappings):
        field = f"ports[{index}]"
        for name, first in (
            ("host_port", mapping.host_port),
            ("container_port", mapping.container_port),
        ):
            if not 1 <= first <= PORT_MAX - mapping.count + 1:
                raise Invalid(
                    f"{mapping.count} ports from {first} on do not end by {PORT_MAX}",
                    field=f"{field}.{name}",
                )
        _check_host_ip(mapping.host_ip, families, f"{field}.host_ip")
        wanted = _held(mapping, families)
        if pair := clash(wanted, owners):
            mine, earlier = pair
            raise Invalid(
                f"{describe(mine)} is also asked for by ports[{owners[earlier]}]",
                field=f"{field}.host_port",
            )
        owners.update(dict.fromkeys(wanted, index))


def clash(
    wanted: Iterable[HeldPort], taken: Iterable[HeldPort]
) -> tuple[HeldPort, HeldPort] | None:
    """The first pair, one of each, that one socket each could not have at the same time.

    No address stands for all addresses of the family, so it overlaps each of them.
    """
    holders: dict[tuple[str, int, int], dict[str, HeldPort]] = {}
    for held in taken:
        holders.setdefault((held.protocol, held.family, held.port), {})[held.address] = held
    for held in wanted:
        there = holders.get((held.protocol, held.family, held.port))
        if not there:
            continue
        other = there.get(held.address) or there.get("")
        if other is None and not held.address:
            other = next(iter(there.values()))
        if other is not None:
            return held, other
    return None


def describe(held: HeldPort) -> str:
    """The port in words for people, e.g. `tcp 0.0.0.0:8080` or `udp [fd00::1]:53`."""
    if held.family == 4:
        return f"{held.protocol} {held.address or '0.0.0.0'}:{held.port}"  # noqa: S104
    return f"{held.protocol} [{held.address or '::'}]:{held.port}"


def _held(mapping: PortMapping, families: Collection[Family]) -> list[HeldPort]:
    address, asked = _host_address(mapping.host_ip)
    return [
        HeldPort(protocol=mapping.protocol, family=family, address=address, port=port)
        for family in asked
        if family in families
        for port in range(mapping.host_port, mapping.host_port + mapping.count)
    ]


def _host_address(host_ip: str) -> tuple[str, tuple[Family, ...]]:
    """The address as the kernel writes it, "" for a wildcard, and the families it is of."""
    if not host_ip:
        return "", (4, 6)
    address = ipaddress.ip_address(host_ip)
    family: Family = 4 if address.version == 4 else 6
    return "" if address.is_unspecified else str(address), (family,)


def _check_host_ip(host_ip: str, families: Collection[Family], field: str) -> None:
    if not host_ip:
        return
    try:
        address = ipaddress.ip_address(host_ip)
    except ValueError as error:
        raise Invalid(f"host_ip {host_ip!r} is not an IP address", field=field) from error
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id or address.ipv4_mapped):
        raise Invalid(
            f"host_ip {host_ip!r}: give it without zone, and an IPv4 address as such", field=field
        )
    if isinstance(address, ipaddress.IPv6Address) and (
        address.is_loopback or address.is_link_local
    ):
        raise Invalid(
            f"host_ip {host_ip!r}: Linux cannot translate this address; publish on 127.0.0.1, on "
            "a global or unique local address, or leave host_ip out",
            field=field,
        )
    if address.is_multicast or str(address) == "255.255.255.255":
        raise Invalid(f"host_ip {host_ip!r} is not an address of one host", field=field)
    if address.version not in families:
        raise Invalid(
            f"host_ip {host_ip!r}: the endpoint has no IPv{address.version} address", field=field
        )


def _first_addresses(addresses: Iterable[str]) -> dict[Family, str]:
    first: dict[Family, str] = {}
    for text in addresses:
        first.setdefault(6 if ":" in text else 4, text.partition("/")[0])
    return first
