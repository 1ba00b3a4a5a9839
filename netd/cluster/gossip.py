"""The protocol core of a node, made for its cluster."""

import random
import time
from collections.abc import Callable

from netd.cluster.core import Core
from netd.cluster.identity import NodeKey, verify
from netd.cluster.secret import ClusterSecret
from netd.cluster.settings import ClusterSettings
from netd.gossip.core import Gossip
from netd.gossip.ring import Ring
from netd.gossip.settings import profile
from netd.gossip.values import Address, Identity

# For a keyring, an epoch, and the address that the others reach this node at.
MakeCore = Callable[[ClusterSettings, NodeKey, ClusterSecret, Ring, int, Address], Core]


def gossip_core(
    settings: ClusterSettings,
    key: NodeKey,
    secret: ClusterSecret,
    ring: Ring,
    epoch: int,
    address: Address,
) -> Core:
    return Gossip(
        Identity(
            id=key.id,
            public_key=key.public_key,
            sign=key.sign,
            epoch=epoch,
            name=settings.name,
            address=address,
            version=settings.version,
        ),
        profile(settings.profile),
        ring,
        cluster_id=secret.cluster_id,
        verify=verify,
        random=random.Random(),  # noqa: S311 - it chooses whom to probe, not secrets
        now_s=time.monotonic(),
        wall_s=time.time(),
    )
