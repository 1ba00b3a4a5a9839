"""Whether packets may pass between two ends: what the networks and the firewall say."""

import msgspec

from netd.model.endpoint import Protocol
from netd.model.network import Network
from netd.plan.compile import needs_routing
from netd.plan.objects import SetElement, State
from netd.plan.parties import Party, share_network


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a packet may not pass, and what would let it."""

    detail: str
    remedy: str


def refusal(source: Party, destination: Party, *, published: bool) -> Refusal | None:
    """Why networks forbid it, in the order of the rules; None where they do not.

    `published` says that it goes by a published port of this host.
    """
    for party in (source, destination):
        if party.network is not None and party.network.driver == "none":
            return Refusal(
                detail=f"{party.name} is on a network with driver none: it has no way out",
                remedy="attach it to another network: netctl endpoint attach NETWORK --container "
                f"{party.container_id} --netns PATH",
            )
    for party, peer in ((source, destination), (destination, source)):
        if found := _by_parent(party, peer):
            return found
    if share_network(source, destination) or "host" in (source.kind, destination.kind):
        return _within(source.network) if share_network(source, destination) else None
    return _forwarded(source, destination, published=published)


def is_forwarded(source: Party, destination: Party) -> bool:
    """Whether this host's rules see the packet on its way from one network to another."""
    if share_network(source, destination) or "host" in (source.kind, destination.kind):
        return False
    networks = (source.network, destination.network)
    return any(network is not None and needs_routing(network) for network in networks)


def port_element(
    wanted: State, address: str, protocol: Protocol, port: int | None
) -> SetElement | None:
    """What leads a port of the host to a container: first one of that address, then of all."""
    if port is None:
        return None
    family = 6 if ":" in address else 4
    service = (protocol, str(port))
    for set_name, element in (
        (f"ports{family}", (address, *service)),
        (f"ports{family}_any", service),
    ):
        found = wanted.get(SetElement(set_name=set_name, element=element).key)
        if isinstance(found, SetElement):
            return found
    return None


def _forwarded(source: Party, destination: Party, *, published: bool) -> Refusal | None:
    """As the chain filter_forward of `plan.firewall` decides."""
    one, other = _routed(source), _routed(destination)
    if one is not None and one.internal:
        return Refusal(
            detail=f"{one.name} is internal: what {source.name} sends leaves it for the host only",
            remedy=_same_network(source, destination),
        )
    if other is not None and other.internal:
        return Refusal(
            detail=f"{other.name} is internal: nobody but the host reaches {destination.name} "
            "from outside of it",
            remedy=_same_network(source, destination),
        )
    if published:
        return None
    if other is not None and other.isolated:
        return Refusal(
            detail=f"{other.name} is isolated: from outside of it, {destination.name} is reached "
            "by published ports only",
            remedy=f"publish a port: netctl endpoint update {destination.id} --publish "
            f"PORT:PORT; or {_same_network(source, destination)}",
        )
    if one is not None and one.isolated and other is not None:
        return Refusal(
            detail=f"{one.name} is isolated: {source.name} does not reach other networks of netd",
            remedy=_same_network(source, destination),
        )
    return None


def _within(network: Network | None) -> Refusal | None:
    """What a network's own members cannot send each other."""
    if network is None or network.options.get("mode") != "private":
        return None
    return Refusal(
        detail=f"{network.name} has the mode private: its containers do not reach each other",
        remedy="make a network with --option mode=bridge",
    )


def _by_parent(child: Party, peer: Party) -> Refusal | None:
    """The kernel passes nothing between a link and the macvlans and ipvlans on it."""
    network = child.network
    if network is None or network.driver not in ("macvlan", "ipvlan"):
        return None
    if share_network(child, peer) or not peer.member or peer.member != child.member:
        return None
    if network.options.get("shim"):
        return None
    return Refusal(
        detail=f"{child.name} is on {network.parent} itself: the kernel passes nothing between "
        f"{network.parent} and the {network.driver} links on it",
        remedy="make the network with --option shim=true, which gives the host a link beside them",
    )


def _routed(party: Party) -> Network | None:
    network = party.network
    return network if network is not None and needs_routing(network) else None


def _same_network(source: Party, destination: Party) -> str:
    if destination.kind == "endpoint" and destination.network is not None and source.container_id:
        return (
            f"attach {source.name} to {destination.network.name} as well: netctl endpoint attach "
            f"{destination.network.name} --container {source.container_id} --netns PATH"
        )
    return "use a network that is not internal"
