"""Driver `overlay`: one network over many hosts, carried by VXLAN.

Each host that has endpoints on it makes a bridge with the same gateway, a VXLAN link as a port of
the bridge, and an address of its own, by which it talks to containers on other hosts. Which MAC
is where is written from the other hosts' records; nothing is learned or asked for on the wire.
"""

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, Literal

import msgspec

from netd.model.errors import Invalid
from netd.model.names import bridge_name, tunnel_name
from netd.model.network import Network, NetworkSpec
from netd.model.overlay import Definition
from netd.plan import bridge
from netd.plan.addresses import (
    IPNetwork,
    address_within,
    derive_mac,
    parse_subnet,
    ula_prefix,
    ula_subnets,
)
from netd.plan.blocks import seeds_of
from netd.plan.context import Surroundings
from netd.plan.firewall import network_elements, own_elements
from netd.plan.interior import deaf_to_routers, link_local_address
from netd.plan.objects import HOST, Address, Bridge, Object, Route
from netd.plan.subnets import (
    MTU_MAX,
    check_options,
    refuse,
    settle_gateways,
    settle_mtu,
    settle_subnets,
)
from netd.plan.tunnels import ALL_HOSTS, FdbEntry, Neighbour, Vxlan

VXLAN_PORT: Final = 4789  # IANA; Linux's default is another
OVERHEAD_BYTES: Final = {4: 50, 6: 70}  # outer IP, UDP and VXLAN headers, inner Ethernet header
VNI_MIN, VNI_MAX = 4096, (1 << 24) - 1  # below are numbers that people give to VLANs and VXLANs

_OPTIONS: dict[str, type] = {"masquerade": bool, "hairpin": bool, "broadcast": bool}

host_ifname = bridge.host_ifname
endpoint_objects = bridge.endpoint_objects


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """How a network is on this host: the host's own addresses on it (CIDR), one of each family,
    the MTU inside, the UDP port and the address family of the underlay.
    """

    addresses: tuple[str, ...]
    mtu: int
    port: int = VXLAN_PORT
    family: Literal[4, 6] = 4

    def mac(self, network: Network) -> str:
        """The MAC that the host's own addresses have."""
        return derive_mac(network.name, ipaddress.ip_interface(self.addresses[0]).ip)


def define(
    spec: NetworkSpec, around: Surroundings, members: Sequence[str], generation: int
) -> Definition:
    """What the network is to be, for all hosts: with everything chosen that `spec` leaves open.

    `members` are the ids of all there are, in any order. The choice depends on them and on the
    name as far as possible, so that hosts that cannot hear each other choose the same.
    Raises `Invalid`, `Conflict` or `Exhausted`.
    """
    refuse(spec, "parent", "encrypted")
    check_options(spec, _OPTIONS)
    _check_vni(spec)
    everybody = " ".join(sorted(members))
    digest = hashlib.sha256(f"{spec.name} {everybody}".encode()).digest()
    if not around.ipv6_pools:
        ula = ula_subnets(str(ula_prefix(everybody)))
        around = msgspec.structs.replace(around, ipv6_pools=(ula,))
    subnets = settle_subnets(spec, around, int.from_bytes(digest[:8]))
    return Definition(
        name=spec.name,
        subnets=tuple(map(str, subnets)),
        gateways=settle_gateways(spec, subnets),
        internal=spec.internal,
        isolated=spec.isolated,
        mtu=None if spec.mtu is None else settle_mtu(spec, MTU_MAX, subnets),
        vni=spec.vni,
        labels=spec.labels,
        options=spec.options,
        seeds=seeds_of(spec.name, members, subnets),
        generation=generation,
    )


def gateway_mac(network: Network) -> str:
    """The MAC of the gateway's addresses, the same on all hosts."""
    return derive_mac(network.name, ipaddress.ip_address(network.gateways[0]))


def are_within(network: Network, addresses: Iterable[str]) -> bool:
    """Whether these are addresses of the network, in CIDR form or bare."""
    subnets = _parsed(network.subnets)
    bare = [ipaddress.ip_address(text.partition("/")[0]) for text in addresses]
    return all(any(address in subnet for subnet in subnets) for address in bare)


def network_objects(_network: Network) -> list[Object]:
    """Nothing: a host has nothing of a network that it has no endpoints on."""
    return []


def open_objects(network: Network, opening: Opening) -> list[Object]:
    """What a host has of a network with endpoints: bridge, tunnel, addresses, routes."""
    link = bridge_name(network.name)
    mac = gateway_mac(network)
    assert network.vni is not None
    objects: list[Object] = [
        Bridge(
            owner=network.id,
            name=link,
            mac=mac,
            mtu=opening.mtu,
            route_localnet=not network.internal,
        ),
        *deaf_to_routers(ns=HOST, owner=network.id, link=link, mtu=opening.mtu),
        *link_local_address(network, ns=HOST, owner=network.id, link=link, mac=mac),
        Vxlan(
            owner=network.id,
            name=tunnel_name(network.name),
            mtu=opening.mtu,
            vni=network.vni,
            port=opening.port,
            # The kernel takes frames to the MACs of a bridge's ports for the host itself.
            mac=opening.mac(network),
            master=link,
            family=opening.family,
            flood=bool(network.options.get("broadcast")),
        ),
    ]
    # All hosts have the gateway's address, so answers to it would stay on the other host.
    # Without its own route the gateway is not chosen as a source. Masquerading does not go by
    # routes: it takes an IPv4 address that was there first, and an IPv6 one that is preferred.
    own = {ipaddress.ip_interface(text).version: text for text in opening.addresses}
    for subnet, gateway in zip(network.subnets, network.gateways, strict=True):
        address = ipaddress.ip_interface(own[6 if ":" in subnet else 4])
        objects += [
            Address(
                owner=network.id,
                link=link,
                address=f"{text}/{address.max_prefixlen}",
                preferred=address.version == 4 or text != gateway,
            )
            for text in (str(address.ip), gateway)
        ]
        objects.append(
            Route(owner=network.id, destination=subnet, link=link, source=str(address.ip))
        )
    objects += network_elements(network, link)
    return [*objects, *own_elements(network, link, opening.addresses)]


def remote_objects(
    network: Network, owner: str, mac: str, addresses: Iterable[str], destination: str
) -> list[Object]:
    """What leads to something on another host: `destination` is that host's underlay address."""
    link = bridge_name(network.name)
    objects: list[Object] = [
        FdbEntry(owner=owner, link=tunnel_name(network.name), mac=mac, destination=destination)
    ]
    objects += [
        Neighbour(owner=owner, link=link, address=text.partition("/")[0], mac=mac)
        for text in addresses
    ]
    return objects


def flood_objects(network: Network, owner: str, destination: str) -> list[Object]:
    """What sends broadcast and multicast to a host, where the network has it."""
    if not network.options.get("broadcast"):
        return []
    link = tunnel_name(network.name)
    return [FdbEntry(owner=owner, link=link, mac=ALL_HOSTS, destination=destination)]


def assign_vnis(definitions: Iterable[Definition]) -> dict[str, int]:
    """The VNI of each network, by id. `definitions` come in the order of their claims.

    A network has the VNI it asks for or the first of the sequence that follows from its name,
    unless an earlier network has that: all hosts that see the same networks find the same.
    """
    assigned: dict[str, int] = {}
    taken: set[int] = set()
    for definition in definitions:
        wanted = definition.vni
        attempt = 0
        while wanted is None or wanted in taken:
            digest = hashlib.sha256(f"{definition.name}/{attempt}".encode()).digest()
            wanted = VNI_MIN + int.from_bytes(digest[:8]) % (VNI_MAX - VNI_MIN + 1)
            attempt += 1
        taken.add(wanted)
        assigned[definition.id] = wanted
    return assigned


@lru_cache(maxsize=1024)
def _parsed(subnets: tuple[str, ...]) -> tuple[IPNetwork, ...]:
    return tuple(map(ipaddress.ip_network, subnets))


def _check_vni(spec: NetworkSpec) -> None:
    if spec.vni is not None and not 1 <= spec.vni <= VNI_MAX:
        raise Invalid(f"vni {spec.vni}: a number from 1 to {VNI_MAX}", field="vni")


def check_definition(definition: Definition) -> None:
    """Raise `Invalid` or `Conflict` for a definition that `define` would not make."""
    subnets = [parse_subnet(text, "subnets") for text in definition.subnets]
    if not subnets or len({subnet.version for subnet in subnets}) < len(subnets):
        raise Invalid("one or two subnets, of different families", field="subnets")
    if len(definition.gateways) != len(subnets):
        raise Invalid("one gateway for each subnet", field="gateways")
    for gateway, subnet in zip(definition.gateways, subnets, strict=True):
        address_within(gateway, [subnet], "gateways")
    spec = NetworkSpec(
        name=definition.name,
        driver="overlay",
        mtu=definition.mtu,
        vni=definition.vni,
        options=dict(definition.options),
    )
    check_options(spec, _OPTIONS)
    _check_vni(spec)
    settle_mtu(spec, MTU_MAX, subnets)
