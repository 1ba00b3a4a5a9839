"""What the drivers are given besides the network's specification."""

from collections.abc import Sequence

import msgspec

from netd.model.network import Network
from netd.plan.addresses import IPNetwork, Pool, Taken
from netd.plan.facts import Facts


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """The host and the other networks, at the time a network is made. Subnets that are `kept`
    can be had for the asking, but are chosen last.
    """

    facts: Facts
    networks: Sequence[Network]
    taken: Sequence[Taken]
    kept: Sequence[IPNetwork] = ()
    ipv4_pools: Sequence[Pool]
    ipv6_pools: Sequence[Pool]


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine gives a new network: neither is the driver's business."""

    id: str
    created_at: str
