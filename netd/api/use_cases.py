"""What the API needs of the engine."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from netd.model.endpoint import AttachRequest, Endpoint, EndpointPatch
from netd.model.event import Event
from netd.model.network import Network, NetworkSpec
from netd.model.views import (
    ClusterKey,
    ClusterRecord,
    Finding,
    Joined,
    Member,
    NameChange,
    PlannedOperation,
    ReconcileReport,
    Resolution,
    Status,
    Token,
)


class ClusterUseCases(Protocol):
    """What can be asked of the daemon as a member of a cluster."""

    def members(self) -> tuple[Member, ...]:
        """This host first, then the others by name."""
        ...

    async def join(self, addresses: Sequence[str], token: str | None) -> Joined:
        """Raises `Unavailable`, with a reason for each address, when none has answered."""
        ...

    async def leave(self) -> None:
        """Does nothing when this host is on its own already."""
        ...

    def keys(self) -> tuple[ClusterKey, ...]:
        """The primary key first."""
        ...

    async def install_key(self, secret: str | None) -> tuple[ClusterKey, bool]:
        """The key and whether it was installed now. `secret` is base64; None makes one."""
        ...

    async def use_key(self, key_id: str) -> ClusterKey:
        """Raises `NotFound`, and `Conflict` naming members that lack it."""
        ...

    async def remove_key(self, key_id: str) -> None:
        """Raises `NotFound`, and `Conflict` naming members that send with it."""
        ...

    async def issue_token(self, expires_s: int, uses: int) -> Token: ...

    def records(self, table: str | None, owner: str | None) -> tuple[ClusterRecord, ...]:
        """What this host sees of the replicated log. `owner` is a member's id or name."""
        ...


class UseCases(Protocol):
    """All that can be asked of the daemon. `ref` is a network's name or id.

    Every method raises errors of `netd.model.errors` only, and then nothing is half-done.
    """

    @property
    def cluster(self) -> ClusterUseCases: ...

    async def create_network(self, spec: NetworkSpec) -> tuple[Network, bool]:
        """The network and whether it was made now. `Conflict` when one of that name differs."""
        ...

    def networks(self) -> tuple[Network, ...]: ...

    def network(self, ref: str) -> Network:
        """Raises `NotFound`."""
        ...

    async def delete_network(self, ref: str) -> None:
        """Raises `Conflict` while endpoints use it; does nothing when it is gone."""
        ...

    async def attach(self, network: str, request: AttachRequest) -> tuple[Endpoint, bool]:
        """The endpoint and whether it was made now. `Conflict` when its key is taken."""
        ...

    def endpoints(
        self,
        *,
        network: str | None = None,
        container_id: str | None = None,
        node: str | None = None,
    ) -> tuple[Endpoint, ...]: ...

    def endpoint(self, endpoint_id: str) -> Endpoint:
        """Raises `NotFound`."""
        ...

    async def update_endpoint(self, endpoint_id: str, patch: EndpointPatch) -> Endpoint: ...

    async def detach(self, endpoint_id: str) -> None:
        """Does nothing when the endpoint is gone."""
        ...

    async def detach_container(self, container_id: str) -> None:
        """Detach all endpoints of a container; does nothing when there are none."""
        ...

    def status(self) -> Status: ...

    def resolve(self, name: str, record_type: str, source: str | None) -> Resolution:
        """Look a name up as the container at the address `source` sees it."""
        ...

    async def plan(self) -> tuple[PlannedOperation, ...]: ...

    async def reconcile(self) -> ReconcileReport: ...

    def events(self, since: int | None) -> AsyncIterator[Event]:
        """What happens, from after revision `since` on, or from now.

        Ends when the daemon stops or the reader is too slow. What is wrong with `since` is
        raised by the call itself, not by the first step of the iterator.
        """
        ...

    def names(self, watch: bool) -> AsyncIterator[NameChange]:
        """All names, then one `sync`; with `watch`, then changes as they happen."""
        ...

    async def doctor(self) -> tuple[Finding, ...]: ...
