"""What hosts tell each other of overlay networks."""

import hashlib
from typing import Annotated, Final

import msgspec

from netd.model.network import DriverName, Network

SEEDS_MAX = 32
ETCD: Final = "e7cd" + 28 * "0"  # no member: stands for etcd among a network's seeds
MemberId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """What an overlay network is, the same on all hosts: the body of a claim on its name.

    `seeds` are the members that own the address space from the beginning, each a share of it
    (`plan.blocks`); `ETCD` alone: it is in etcd, and hosts get blocks there. `generation` tells a
    network from earlier ones of that name that were deleted. Hosts that make the same network of
    the same name while they cannot hear each other make the same definition; then it is one
    network, and no address is owned twice.
    """

    name: str
    driver: DriverName = "overlay"
    subnets: tuple[str, ...]
    gateways: tuple[str, ...]
    internal: bool = False
    isolated: bool = True
    mtu: int | None = None  # as asked for; None: what all hosts can carry
    vni: int | None = None  # as asked for; None: by the name
    labels: dict[str, str] = {}
    options: dict[str, str | int | bool] = {}
    seeds: Annotated[tuple[MemberId, ...], msgspec.Meta(min_length=1, max_length=SEEDS_MAX)]
    generation: int = 1

    @property
    def id(self) -> str:
        """The network's id, 16 hexadecimal digits."""
        ordered = msgspec.json.encode(self, order="sorted")
        return hashlib.sha256(ordered).hexdigest()[:16]

    @property
    def scope(self) -> bytes:
        """The scope of the network's records, 8 bytes."""
        return bytes.fromhex(self.id)

    def network(self, vni: int, created_at: str) -> Network:
        """The network as a host has it."""
        return Network(
            id=self.id,
            name=self.name,
            driver=self.driver,
            subnets=self.subnets,
            gateways=self.gateways,
            internal=self.internal,
            isolated=self.isolated,
            mtu=self.mtu,
            vni=vni,
            labels=self.labels,
            options=self.options,
            seeds=self.seeds,
            created_at=created_at,
        )


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a name means: by a claim, or by a decision that was made for all hosts.

    `stamp_ms` is when, Unix time, and `origin` the member by whom first.
    """

    definition: Definition
    stamp_ms: int
    origin: str
    rivals: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.definition.name}/{self.definition.generation}"


class Vtep(msgspec.Struct, frozen=True, kw_only=True):
    """That a host takes part in a network: record `vtep`, key network id, in the global scope.

    `addresses` (CIDR) are the host's own ones in the network, the first of each family; `mac`
    is where they are. `mtu` is the most that the host can carry in it, in bytes.
    """

    addresses: tuple[str, ...]
    mac: str
    mtu: int


class RemoteEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint, as its host tells the others: record `endpoint`, key its id, in the network's
    scope. `since_ms` is when it was attached, Unix time: of two that have the same address, the
    later has it.
    """

    name: str
    container_id: str
    addresses: tuple[str, ...]  # CIDR
    mac: str
    aliases: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    since_ms: int = 0
