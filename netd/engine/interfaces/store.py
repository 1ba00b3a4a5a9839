"""What the engine needs of the disk."""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from netd.kv.space import NOTHING, Stored
from netd.model.blocks import Ledger
from netd.model.endpoint import EndpointRecord, Lease
from netd.model.network import Network
from netd.model.service import ServiceRecord


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All that is durable."""

    networks: tuple[Network, ...] = ()
    endpoints: tuple[EndpointRecord, ...] = ()
    leases: tuple[Lease, ...] = ()
    blocks: tuple[Ledger, ...] = ()
    services: tuple[ServiceRecord, ...] = ()
    keys: Stored = NOTHING
    facts: Mapping[str, str] = {}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction on the store. Deletions are by id, leases by (network, address).

    `keys` is what changes of keys and sessions, or, with `replace_keys`, all that is to be there.
    With `sync`, networks, blocks or keys it is on the disk when the commit returns, and not only
    safe from the end of the process.
    """

    put_networks: tuple[Network, ...] = ()
    delete_networks: tuple[str, ...] = ()
    put_endpoints: tuple[EndpointRecord, ...] = ()
    delete_endpoints: tuple[str, ...] = ()
    put_leases: tuple[Lease, ...] = ()
    delete_leases: tuple[tuple[str, str], ...] = ()
    put_blocks: tuple[Ledger, ...] = ()
    put_services: tuple[ServiceRecord, ...] = ()
    delete_services: tuple[str, ...] = ()
    keys: Stored | None = None
    replace_keys: bool = False
    put_facts: Mapping[str, str] = {}
    delete_facts: tuple[str, ...] = ()
    sync: bool = False


class Store(Protocol):
    """Durable intent. When `commit` has returned, the change survives kill -9."""

    async def load(self) -> Snapshot: ...

    async def commit(self, change: Change) -> None:
        """Apply the change whole or not at all. Raises `Unavailable`, e.g. on a full disk."""
        ...

    async def close(self) -> None: ...
