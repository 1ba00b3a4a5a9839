"""Hosts, networks and endpoints as one picture. Pure."""

from netd.model.topology import Topology, TopologyEndpoint, TopologyHost, TopologyNetwork
from netd.plan.parties import Directory


def topology(directory: Directory) -> Topology:
    """All that this host knows of, each list in the order of names.

    A network is on a host that has endpoints on it or, of overlays, has it open.
    """
    own = directory.own
    endpoints = [
        TopologyEndpoint(
            id=record.endpoint.id,
            name=record.endpoint.name,
            container_id=record.endpoint.container_id,
            network=record.endpoint.network_id,
            host=own,
            addresses=record.endpoint.addresses,
        )
        for record in directory.records
    ]
    endpoints += [
        TopologyEndpoint(
            id=remote.id,
            name=remote.endpoint.name,
            container_id=remote.endpoint.container_id,
            network=remote.network_id,
            host=remote.member,
            addresses=remote.endpoint.addresses,
        )
        for remote in directory.remotes
    ]
    where = {(endpoint.network, endpoint.host) for endpoint in endpoints}
    where |= {(opened.network_id, opened.member) for opened in directory.opened}
    where |= {(n.id, own) for n in directory.networks.values() if n.driver != "overlay"}
    hosts = tuple(
        TopologyHost(
            id=member.id,
            name=member.name,
            address=member.address,
            state=member.state,
            own=member.id == own,
            rtt_ms=member.rtt_ms,
        )
        for member in directory.members
    )
    networks = [
        TopologyNetwork(
            id=network.id,
            name=network.name,
            driver=network.driver,
            subnets=network.subnets,
            vni=network.vni,
            hosts=tuple(host.id for host in hosts if (network.id, host.id) in where),
        )
        for network in directory.networks.values()
    ]
    return Topology(
        hosts=hosts,
        networks=tuple(sorted(networks, key=lambda network: (network.name, network.id))),
        endpoints=tuple(sorted(endpoints, key=lambda endpoint: (endpoint.name, endpoint.id))),
    )
