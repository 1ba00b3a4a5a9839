"""The two ends of a way, and all that can be at one."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from netd.model.endpoint import EndpointRecord
from netd.model.network import Network
from netd.model.overlay import RemoteEndpoint, Vtep
from netd.model.views import Member


class Remote(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint of an overlay network on another host, whose id is `member`."""

    member: str
    network_id: str
    id: str
    endpoint: RemoteEndpoint


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """That a host, this one or another, has an overlay network open."""

    member: str
    network_id: str
    vtep: Vtep


class Directory(msgspec.Struct, frozen=True, kw_only=True):
    """All that can be at the end of a way. `members` begins with this host.

    `host_addresses` (CIDR) are this host's own ones, without those of its networks. `lost` is what
    was on hosts that are dead.
    """

    zone: str
    members: tuple[Member, ...]
    host_addresses: tuple[str, ...]
    networks: Mapping[str, Network]
    records: tuple[EndpointRecord, ...] = ()
    remotes: tuple[Remote, ...] = ()
    lost: tuple[Remote, ...] = ()
    opened: tuple[Opened, ...] = ()

    @property
    def own(self) -> str:
        return self.members[0].id

    def member(self, member_id: str) -> Member | None:
        return next((member for member in self.members if member.id == member_id), None)

    def vtep(self, member_id: str, network_id: str) -> Vtep | None:
        """What a host is in an overlay network; None where it has not opened it."""
        where = (member_id, network_id)
        return next((at.vtep for at in self.opened if (at.member, at.network_id) == where), None)


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """One end of a way.

    `member` is the id of the host where it is, "" for what is on none; a `host` has a network
    only where it is meant by an address in that. `record` is there for this host's endpoints,
    `mac` for what is on another host's end of an overlay. `by_name` says that a container would
    have to look it up.
    """

    kind: Literal["endpoint", "host", "outside"]
    name: str
    addresses: tuple[str, ...]  # bare, those that may be used
    id: str = ""
    member: str = ""
    network: Network | None = None
    record: EndpointRecord | None = None
    mac: str = ""
    container_id: str = ""
    names: frozenset[str] = frozenset()
    by_name: bool = False

    @property
    def ns(self) -> str | None:
        """The namespace of a container of this host."""
        if self.kind != "endpoint" or self.record is None or self.record.sandbox is None:
            return None
        return self.record.sandbox.key


class Ends(msgspec.Struct, frozen=True, kw_only=True):
    """Both ends with the addresses they use, which are of one family."""

    source: Party
    destination: Party
    source_address: str
    destination_address: str


def share_network(one: Party, other: Party) -> bool:
    return (
        one.network is not None
        and other.network is not None
        and (one.network.id == other.network.id)
    )


def underlay_address(member: Member) -> str:
    """The address by which other hosts reach a member, "" where it has none."""
    return member.address.rpartition(":")[0].strip("[]")
