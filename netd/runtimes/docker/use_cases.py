"""What the plugin needs of the engine."""

from collections.abc import Sequence
from typing import Protocol

from netd.model.endpoint import AttachRequest, Endpoint, EndpointPatch
from netd.model.network import Network, NetworkSpec


class Reservations(Protocol):
    """Addresses that are kept for endpoints to come."""

    async def take(
        self, ref: str, subnet: str, address: str | None = None, *, lasting: bool = False
    ) -> str:
        """The address in CIDR form: the one asked for, or the next."""
        ...

    def give_back(self, network_id: str, address: str) -> None:
        """Nothing to do when it is not reserved."""
        ...


class Notes(Protocol):
    """Short texts by key, as durable as networks."""

    def all(self, prefix: str) -> dict[str, str]: ...

    async def put(self, key: str, text: str) -> None: ...

    async def delete(self, key: str) -> None: ...


class UseCases(Protocol):
    """Every method raises errors of `netd.model.errors` only, and then nothing is half-done."""

    @property
    def reservations(self) -> Reservations: ...

    @property
    def notes(self) -> Notes: ...

    async def create_network(self, spec: NetworkSpec) -> tuple[Network, bool]: ...

    def networks(self) -> tuple[Network, ...]: ...

    def network(self, ref: str) -> Network:
        """By name or id. Raises `NotFound`."""
        ...

    async def delete_network(self, ref: str) -> None:
        """Raises `Conflict` while endpoints use it; does nothing when it is gone."""
        ...

    async def free_subnet(self, version: int, but: Sequence[str]) -> str:
        """A subnet for a network to come, that overlaps nothing, nor any of `but`."""
        ...

    async def attach(
        self, network: str, request: AttachRequest, *, handover: bool = False
    ) -> tuple[Endpoint, bool]:
        """With `handover` Docker moves the container's end and sets it up."""
        ...

    def endpoints(
        self,
        *,
        network: str | None = None,
        container_id: str | None = None,
        node: str | None = None,
    ) -> tuple[Endpoint, ...]: ...

    async def unmoved(self) -> frozenset[str]:
        """The ids of endpoints whose end nobody has moved into a container, up to now."""
        ...

    async def update_endpoint(self, endpoint_id: str, patch: EndpointPatch) -> Endpoint: ...

    async def detach(self, endpoint_id: str) -> None:
        """Does nothing when the endpoint is gone."""
        ...
