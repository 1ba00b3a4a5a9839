"""Drivers `host` and `none`: no interface is made.

An endpoint on a `host` network lives in the host's own namespace and is known by the host's
addresses; one on a `none` network has its loopback only.
"""

import ipaddress

from netd.model.endpoint import EndpointRecord
from netd.model.network import Network, NetworkSpec
from netd.plan.context import Identity, Surroundings
from netd.plan.facts import Facts
from netd.plan.objects import Loopback, Object
from netd.plan.subnets import check_options, refuse


def complete(spec: NetworkSpec, identity: Identity, _around: Surroundings) -> Network:
    """The network; there is nothing to choose."""
    refuse(spec, "subnets", "gateways", "mtu", "vni", "parent", "encrypted", "internal")
    check_options(spec, {})
    return Network(
        id=identity.id,
        name=spec.name,
        driver=spec.driver,
        isolated=spec.isolated,
        labels=spec.labels,
        options=spec.options,
        created_at=identity.created_at,
    )


def host_ifname(_network: Network, _endpoint_id: str) -> str:
    return ""


def network_objects(_network: Network) -> list[Object]:
    return []


def endpoint_objects(network: Network, record: EndpointRecord) -> list[Object]:
    """The loopback of a `none` endpoint's namespace; nothing for `host`."""
    if network.driver == "host" or record.sandbox is None:
        return []
    return [Loopback(ns=record.sandbox.key)]


def node_addresses(facts: Facts) -> tuple[str, ...]:
    """The host's own addresses, those of its uplinks first, without those netd made."""
    ours = {link.name for link in facts.links if link.ours}
    order = {link.name: rank for rank, link in enumerate(facts.uplinks())}
    usable = [
        fact
        for fact in facts.addresses
        if fact.link not in ours
        and fact.scope == "global"
        and not ipaddress.ip_interface(fact.address).is_loopback
    ]
    usable.sort(key=lambda fact: (order.get(fact.link, len(order)), fact.link))
    return tuple(dict.fromkeys(fact.address for fact in usable))
