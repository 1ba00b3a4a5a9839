"""Drivers `macvlan` and `ipvlan`: containers directly on the segment of a host's link.

With the option `shim` the host gets a link of its own on the parent, because the kernel does
not pass packets between a parent and its macvlan children.
"""

import ipaddress
from collections.abc import Sequence

import msgspec

from netd.model.endpoint import EndpointRecord
from netd.model.errors import Conflict, Exhausted, Invalid, Unavailable
from netd.model.names import check_ifname, shim_name
from netd.model.network import Network, NetworkSpec
from netd.plan.addresses import IPNetwork, Taken, derive_mac, overlap
from netd.plan.context import Identity, Surroundings
from netd.plan.interior import addresses_and_routes, link_local_address
from netd.plan.objects import HOST, Address, Loopback, Macvlan, Object, Route
from netd.plan.subnets import (
    check_options,
    refuse,
    settle_gateways,
    settle_mtu,
    settle_span,
    settle_subnets,
    span_within,
)

_MODES = {"macvlan": ("bridge", "private", "vepa", "passthru"), "ipvlan": ("l2", "l3", "l3s")}
_OPTIONS: dict[str, type] = {"mode": str, "range": str, "shim": bool}


def complete(spec: NetworkSpec, identity: Identity, around: Surroundings) -> Network:
    """The network with everything filled in that `spec` leaves open.

    Without `gateways` there are none: nobody knows which router is on the parent's segment.
    """
    refuse(spec, "vni", "encrypted", "internal")
    check_options(spec, _OPTIONS)
    _check_mode(spec)
    parent_mtu, parent = _settle_parent(spec, around)
    if spec.mtu is not None and spec.mtu > parent_mtu:
        raise Invalid(
            f"mtu {spec.mtu}: no link on {parent} can have more than its {parent_mtu} bytes",
            field="mtu",
        )
    # The containers are on the parent's own segment, so its subnets are theirs too.
    segment = _segment(around.taken, parent)
    others = [taken for taken in around.taken if taken not in segment]
    subnets = settle_subnets(spec, msgspec.structs.replace(around, taken=others))
    _check_room(spec, subnets, segment)
    return Network(
        id=identity.id,
        name=spec.name,
        driver=spec.driver,
        subnets=tuple(map(str, subnets)),
        gateways=settle_gateways(spec, subnets) if spec.gateways else (),
        isolated=spec.isolated,
        mtu=settle_mtu(spec, parent_mtu, subnets),
        parent=parent,
        labels=spec.labels,
        options=spec.options,
        created_at=identity.created_at,
    )


def host_ifname(_network: Network, _endpoint_id: str) -> str:
    return ""


def network_objects(network: Network) -> list[Object]:
    """Nothing, or the shim with an address of its own."""
    if not network.options.get("shim"):
        return []
    shim = shim_name(network.name)
    addresses = shim_addresses(network)
    mac = derive_mac(network.name, ipaddress.ip_address(addresses[0]))
    objects: list[Object] = [
        _link(network, ns=HOST, owner=network.id, name=shim, mac=mac),
        *link_local_address(network, ns=HOST, owner=network.id, link=shim, mac=mac),
    ]
    objects += [
        Address(owner=network.id, link=shim, address=f"{address}/{address.max_prefixlen}")
        for address in map(ipaddress.ip_address, addresses)
    ]
    return objects


def endpoint_objects(network: Network, record: EndpointRecord) -> list[Object]:
    """The link in the container and, with a shim, the host's routes to it."""
    endpoint = record.endpoint
    assert record.sandbox is not None
    ns = record.sandbox.key
    link = _link(network, ns=ns, owner=endpoint.id, name=endpoint.ifname, mac=endpoint.mac or None)
    objects = [
        link,
        Loopback(ns=ns),
        *addresses_and_routes(network, record),
    ]
    if network.options.get("shim"):
        for address in (ipaddress.ip_interface(text).ip for text in endpoint.addresses):
            source = next(
                shim
                for shim in shim_addresses(network)
                if ipaddress.ip_address(shim).version == address.version
            )
            objects.append(
                Route(
                    owner=endpoint.id,
                    destination=f"{address}/{address.max_prefixlen}",
                    link=shim_name(network.name),
                    source=source,
                )
            )
    return objects


def shim_addresses(network: Network) -> tuple[str, ...]:
    """The shim's address in each subnet: the first to hand out that is not the gateway."""
    found = []
    span = network.options.get("range")
    for subnet in map(ipaddress.ip_network, network.subnets):
        room = subnet
        if span is not None and span_within(ipaddress.ip_network(str(span)), subnet):
            room = ipaddress.ip_network(str(span))
        candidates = (room.network_address + offset for offset in range(1, 4))
        found.append(next(str(a) for a in candidates if str(a) not in network.gateways))
    return tuple(found)


def _link(
    network: Network,
    *,
    ns: str,
    owner: str,
    name: str,
    mac: str | None,
) -> Macvlan:
    return Macvlan(
        ns=ns,
        owner=owner,
        name=name,
        kind="ipvlan" if network.driver == "ipvlan" else "macvlan",
        parent=network.parent or "",
        mode=str(network.options.get("mode", _MODES[network.driver][0])),
        mac=mac if network.driver == "macvlan" else None,
        mtu=network.mtu,
    )


def _check_mode(spec: NetworkSpec) -> None:
    modes = _MODES[spec.driver]
    mode = spec.options.get("mode", modes[0])
    if mode not in modes:
        known = ", ".join(modes)
        raise Invalid(f"mode {mode!r}: {spec.driver} has {known}", field="options.mode")


def _settle_parent(spec: NetworkSpec, around: Surroundings) -> tuple[int, str]:
    facts = around.facts
    if spec.driver not in facts.capabilities:
        raise Unavailable(f"this kernel has no {spec.driver}", field="driver")
    if spec.parent is None:
        uplinks = facts.uplinks()
        if not uplinks:
            raise Invalid("the host has no default route; name the parent link", field="parent")
        parent = uplinks[0].name
    else:
        check_ifname(spec.parent, "parent")
        parent = spec.parent
    link = facts.link(parent)
    if link is None:
        raise Invalid(f"the host has no link {parent!r}", field="parent")
    if link.ours:
        raise Invalid(f"{parent} is netd's own; name a link of the host", field="parent")
    if link.wireless and spec.driver == "macvlan":
        raise Invalid(
            f"{parent} is wireless: an access point accepts one MAC address per station; "
            "use driver ipvlan or bridge",
            field="parent",
        )
    for other in around.networks:
        if other.parent == parent and {other.driver, spec.driver} == {"macvlan", "ipvlan"}:
            raise Conflict(
                f"{parent} is the parent of the {other.driver} network {other.name!r}; the kernel "
                "puts macvlan and ipvlan not on the same link",
                field="parent",
            )
    return link.mtu, parent


def _segment(taken: Sequence[Taken], parent: str) -> list[Taken]:
    """What is on the parent's segment: its ranges, and single addresses of others in them."""
    ranges = [other for other in taken if other.link == parent]
    single = [
        other
        for other in taken
        if not other.link
        and other.subnet.num_addresses == 1
        and any(overlap(other.subnet, range_.subnet) for range_ in ranges)
    ]
    return ranges + single


def _check_room(
    spec: NetworkSpec, subnets: tuple[IPNetwork, ...], segment: Sequence[Taken]
) -> None:
    """Refuse what could hand out addresses that are not netd's, or has none to hand out."""
    span = settle_span(spec, subnets)
    for subnet in subnets:
        shared = next((t for t in segment if overlap(subnet, t.subnet)), None)
        if shared and not (span and span_within(span, subnet)):
            raise Invalid(
                f"{subnet} has other users: {shared.by}; give with the option `range` the part of "
                "it that is netd's to hand out",
                field="options.range",
            )
        room = span if span and span_within(span, subnet) else subnet
        if spec.options.get("shim") and room.num_addresses < 8:
            raise Exhausted("a shim needs at least 8 addresses", field="subnets")
