"""Hosts, their networks and endpoints, as they are drawn."""

import msgspec

from netd.model.network import DriverName
from netd.model.views import MemberState


class TopologyHost(msgspec.Struct, frozen=True, kw_only=True):
    """A host of the cluster; `own` is the one that answers. `rtt_ms` as in `Member`."""

    id: str
    name: str
    address: str
    state: MemberState
    own: bool
    rtt_ms: float | None = None


class TopologyNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """A network, and the ids of the hosts that have it just now."""

    id: str
    name: str
    driver: DriverName
    subnets: tuple[str, ...] = ()
    vni: int | None = None
    hosts: tuple[str, ...] = ()


class TopologyEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint; `host` and `network` are ids, `addresses` in CIDR form."""

    id: str
    name: str
    container_id: str
    network: str
    host: str
    addresses: tuple[str, ...] = ()


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """What this host knows: all hosts, its own networks and endpoints, and overlays everywhere."""

    hosts: tuple[TopologyHost, ...]
    networks: tuple[TopologyNetwork, ...]
    endpoints: tuple[TopologyEndpoint, ...]
