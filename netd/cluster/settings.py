"""What a node is told of its cluster by its configuration."""

from pathlib import Path
from typing import Final

import msgspec

from netd.cluster.addresses import PORT, Place
from netd.gossip.settings import Profile
from netd.gossip.values import Address

ANYWHERE: Final[Address] = ("0.0.0.0", PORT)  # noqa: S104 - a cluster is other hosts


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`directory` is the state folder, `name` what the others call this node.

    `bind` None: port 7940 on all IPv4 addresses. `advertise` is where the others reach this
    node, None: an address of the host. `seeds` are joined at the start, and again while any
    of them is not a member. A key comes from `key_file`, or with the token in `token_file`
    once and is kept. Without either, `insecure` allows to bind to more than loopback.
    `version` is netd's.
    """

    directory: Path
    name: str
    bind: Address | None = None
    advertise: Address | None = None
    seeds: tuple[Place, ...] = ()
    profile: Profile = "lan"
    key_file: Path | None = None
    token_file: Path | None = None
    insecure: bool = False
    version: str = ""

    @property
    def asks_for_cluster(self) -> bool:
        """Whether a node without a key is to be reachable nevertheless."""
        return self.bind is not None or bool(self.seeds) or self.insecure
