"""Who is meant: from the names that ends of a way have to the ends themselves."""

import ipaddress
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from netd.model.network import Network
from netd.model.views import Member
from netd.plan.addresses import bare
from netd.plan.objects import SetElement
from netd.plan.parties import Directory, Ends, Party, share_network, underlay_address


def find(directory: Directory, ref: str) -> tuple[Party, ...]:
    """All that `ref` may mean, the likeliest first: an id, a name, a container or an address."""
    text = ref.strip().lower().rstrip(".").removesuffix(f".{directory.zone}")
    parties = [*_locals(directory), *_remotes(directory)]
    try:
        address = str(ipaddress.ip_address(ref.strip().partition("/")[0]))
    except ValueError:
        pass
    else:
        return _at(directory, parties, address)
    if found := [party for party in parties if party.id == text]:
        return tuple(found)
    if found := [party for party in parties if text in party.names]:
        return tuple(replace(party, by_name=True) for party in found)
    if found := [party for party in parties if party.container_id.lower() == text]:
        return tuple(found)
    return _hosts(directory, text.removesuffix(".node"))


def choose(sources: Sequence[Party], destinations: Sequence[Party]) -> Ends | str:
    """The two that have most in common, or why there are none: no address of one family.

    A source with several networks uses the one it shares with the destination, else the one
    that has its default route.
    """
    pairs = [(one, other) for one in sources for other in destinations]
    pairs.sort(key=lambda pair: _distance(*pair))
    for source, destination in pairs:
        for target in destination.addresses:
            for address in source.addresses:
                if (":" in address) == (":" in target):
                    return Ends(
                        source=source,
                        destination=destination,
                        source_address=address,
                        destination_address=target,
                    )
    source, destination = pairs[0]
    return (
        f"{source.name} has {_listed(source.addresses)}, {destination.name} "
        f"{_listed(destination.addresses)}: no address of the same family"
    )


def through_port(directory: Directory, ends: Ends, element: SetElement) -> Ends:
    """The ends once a published port has led to a container: that is the destination then."""
    address = element.value[0]
    for record in directory.records:
        if record.endpoint.id == element.owner:
            for party in find(directory, element.owner):
                return replace(ends, destination=party, destination_address=address)
    return ends


def with_own_address(directory: Directory, ends: Ends) -> Ends:
    """The ends, where the host itself sends: with the address it has in the other's network."""
    network = ends.destination.network
    if ends.source.kind != "host" or ends.source.member != directory.own or network is None:
        return ends
    vtep = directory.vtep(directory.own, network.id)
    candidates = bare(vtep.addresses) if vtep else network.gateways
    for address in candidates:
        if (":" in address) == (":" in ends.destination_address):
            source = replace(ends.source, network=network if vtep else None)
            return replace(ends, source=source, source_address=address)
    return ends


def _distance(source: Party, destination: Party) -> int:
    if share_network(source, destination):
        return 0
    record = source.record
    return 1 if record is None or record.endpoint.default_route else 2


def _locals(directory: Directory) -> Iterable[Party]:
    for record in directory.records:
        endpoint = record.endpoint
        network = directory.networks.get(endpoint.network_id)
        if network is None:
            continue
        in_host_mode = network.driver == "host"
        yield Party(
            kind="host" if in_host_mode else "endpoint",
            name=endpoint.name,
            addresses=bare(endpoint.addresses),
            id=endpoint.id,
            member=directory.own,
            network=None if in_host_mode else network,
            record=record,
            mac=endpoint.mac,
            container_id=endpoint.container_id,
            names=_names(network, endpoint.name, endpoint.aliases),
        )


def _remotes(directory: Directory) -> Iterable[Party]:
    for remote in directory.remotes:
        network = directory.networks.get(remote.network_id)
        if network is not None and remote.member != directory.own:
            endpoint = remote.endpoint
            yield Party(
                kind="endpoint",
                name=endpoint.name,
                addresses=bare(endpoint.addresses),
                id=remote.id,
                member=remote.member,
                network=network,
                mac=endpoint.mac,
                container_id=endpoint.container_id,
                names=_names(network, endpoint.name, endpoint.aliases),
            )


def _names(network: Network, name: str, aliases: Iterable[str]) -> frozenset[str]:
    """All that an endpoint is called, alone and with its network."""
    labels = {label.lower() for label in (name, *aliases) if label}
    return frozenset(labels | {f"{label}.{network.name}" for label in labels})


def _at(directory: Directory, parties: Iterable[Party], address: str) -> tuple[Party, ...]:
    """Who has an address. Endpoints in host mode are the host, whose address it is."""
    found = [
        replace(party, addresses=(address,))
        for party in parties
        if party.kind == "endpoint" and address in party.addresses
    ]
    if found:
        return tuple(found)
    for at in directory.opened:
        member = directory.member(at.member)
        if member is not None and address in bare(at.vtep.addresses):
            network = directory.networks.get(at.network_id)
            return (_host(directory, member, (address,), network, at.vtep.mac),)
    gateways = (gateway for network in directory.networks.values() for gateway in network.gateways)
    if address in (*bare(directory.host_addresses), *gateways) or _is_loopback(address):
        return (_host(directory, directory.members[0], (address,)),)
    for member in directory.members[1:]:
        if address == underlay_address(member):
            return (_host(directory, member, (address,)),)
    return (Party(kind="outside", name=address, addresses=(address,)),)


def _hosts(directory: Directory, text: str) -> tuple[Party, ...]:
    own, *others = directory.members
    if text in ("host", own.name.lower(), own.id):
        return (_host(directory, own, bare(directory.host_addresses)),)
    return tuple(
        _host(directory, member, (underlay_address(member),))
        for member in others
        if text in (member.name.lower(), member.id) and underlay_address(member)
    )


def _host(
    directory: Directory,
    member: Member,
    addresses: tuple[str, ...],
    network: Network | None = None,
    mac: str = "",
) -> Party:
    # From here, another host is outside: but for its addresses in overlay networks.
    is_inside = member.id == directory.own or network is not None
    return Party(
        kind="host" if is_inside else "outside",
        name=f"the host {member.name}",
        addresses=addresses,
        member=member.id if is_inside else "",
        network=network,
        mac=mac,
    )


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _listed(addresses: Sequence[str]) -> str:
    return ", ".join(addresses) or "no address"
