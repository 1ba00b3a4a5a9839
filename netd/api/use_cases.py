"""What the API needs of the engine."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

from netd.model.directory import RegistryReport, RegistryState
from netd.model.endpoint import AttachRequest, Endpoint, EndpointPatch
from netd.model.endpoint import Protocol as IpProtocol
from netd.model.event import Event
from netd.model.explanation import Explanation
from netd.model.kv import (
    KeyChange,
    KeyDone,
    KeyListing,
    KeyMove,
    KeyPut,
    KeyReading,
    KeyStatus,
    Operation,
    Outcome,
    Session,
    SessionListing,
    SessionSpec,
)
from netd.model.network import Network, NetworkSpec
from netd.model.plugins import CniAdd, NetavarkSetup
from netd.model.service import (
    CheckFault,
    CheckReport,
    CheckResult,
    Maintenance,
    Service,
    ServiceChanges,
    ServiceSpec,
    Virtual,
    VirtualSpec,
)
from netd.model.topology import Topology
from netd.model.user_event import UserEventSpec
from netd.model.views import (
    ClusterKey,
    ClusterRecord,
    Finding,
    Joined,
    Member,
    NameChange,
    PlannedOperation,
    Reclaimed,
    ReconcileReport,
    Resolution,
    Status,
    Token,
    Trace,
)


class Following(Protocol):
    """What somebody who follows a list of values has not got yet.

    `on_news` is called whenever there is more, by whoever makes the news; it must not raise.
    """

    on_news: Callable[[], None]

    @property
    def ended(self) -> bool:
        """Nothing will come any more, or the reader is too slow."""
        ...

    def take(self, most: int) -> Sequence[object]:
        """The next ones, none when there are none now."""
        ...

    def close(self) -> None:
        """Follow no longer."""
        ...


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


class ServiceUseCases(Protocol):
    """What can be asked of the catalogue of services. An instance is changed on its own host."""

    def all(
        self,
        *,
        name: str | None = None,
        node: str | None = None,
        network: str | None = None,
        passing: bool = False,
    ) -> tuple[Service, ...]:
        """By name and id. Raises `NotFound` for a network there is not."""
        ...

    def find(self, service_id: str) -> Service:
        """Raises `NotFound`."""
        ...

    async def put(self, service_id: str, spec: ServiceSpec) -> tuple[Service, bool]:
        """The instance and whether it is new.

        Raises `NotFound` (endpoint, network, process) and `Conflict` naming the host that has
        an instance of this id.
        """
        ...

    async def delete(self, service_id: str) -> None:
        """Does nothing when it is gone. `Conflict` for one that is not deregistered like that."""
        ...

    async def change(self, asked: ServiceChanges) -> None:
        """Several registrations and deregistrations, all or none.

        Raises what `put`, `delete` and `report` raise, and `Conflict` if what was seen is not so
        any more.
        """
        ...

    def report(self, service_id: str, check_id: str, result: CheckResult) -> None:
        """Raises `NotFound`, and `Conflict` for a check that netd sets itself."""
        ...

    def report_all(self, reports: Sequence[CheckReport]) -> tuple[CheckFault, ...]:
        """What many checks have found. Those of which it cannot be taken are the result."""
        ...

    async def maintain(self, service_id: str, asked: Maintenance) -> Service:
        """Raises `NotFound` and `Conflict`."""
        ...


class VirtualUseCases(Protocol):
    """What can be asked of virtual addresses of services."""

    def all(self) -> tuple[Virtual, ...]:
        """By name of the service."""
        ...

    def find(self, service: str) -> Virtual:
        """Raises `NotFound`."""
        ...

    async def put(self, service: str, spec: VirtualSpec) -> tuple[Virtual, bool]:
        """What the service has now, and whether it had nothing. `Exhausted` when all are taken."""
        ...

    async def delete(self, service: str) -> None:
        """Does nothing when there are none."""
        ...


class KeyUseCases(Protocol):
    """Keys, sessions and locks. Reads with an `index` wait up to `wait_s` for a larger one.

    All raise `Unavailable` while whoever holds the keys cannot be reached.
    """

    async def read(self, key: str, index: int, wait_s: float) -> KeyReading: ...

    async def entries(self, prefix: str, index: int, wait_s: float) -> KeyListing: ...

    async def names(self, prefix: str, separator: str, index: int, wait_s: float) -> KeyListing: ...

    async def put(self, key: str, asked: KeyPut) -> KeyDone: ...

    async def delete(self, key: str, cas: int | None) -> KeyDone: ...

    async def delete_tree(self, prefix: str) -> KeyDone: ...

    async def transact(self, operations: tuple[Operation, ...]) -> Outcome: ...

    def follow(self) -> AsyncIterator[KeyChange]:
        """What changes, as it does; the first one says from which index on."""
        ...

    async def create_session(self, spec: SessionSpec) -> Session:
        """Raises `Invalid` for a node or check that is not there, or not well."""
        ...

    async def renew_session(self, session_id: str) -> Session:
        """Raises `NotFound`."""
        ...

    async def destroy_session(self, session_id: str) -> None:
        """Does nothing when there is none."""
        ...

    async def session(self, session_id: str) -> SessionListing:
        """One, or none."""
        ...

    async def sessions(self, node: str, index: int, wait_s: float) -> SessionListing: ...

    async def status(self) -> KeyStatus: ...

    async def move(self, asked: KeyMove) -> KeyStatus:
        """Raises `NotFound`, `Conflict`."""
        ...


class Plugins(Protocol):
    """What plugins that runtimes start have the daemon do in their place: what the runtime is told.

    Raises errors of `netd.model.errors`, also for what the plugin has to do itself.
    """

    async def cni_add(self, asked: CniAdd) -> Mapping[str, object]: ...

    async def netavark_setup(self, asked: NetavarkSetup) -> Mapping[str, object]: ...


class UseCases(Protocol):
    """All that can be asked of the daemon. `ref` is a network's name or id.

    Every method raises errors of `netd.model.errors` only, and then nothing is half-done.
    """

    @property
    def cluster(self) -> ClusterUseCases: ...

    @property
    def kv(self) -> KeyUseCases: ...

    @property
    def services(self) -> ServiceUseCases: ...

    @property
    def virtuals(self) -> VirtualUseCases: ...

    async def create_network(self, spec: NetworkSpec) -> tuple[Network, bool]:
        """The network and whether it was made now. `Conflict` when one of that name differs."""
        ...

    def networks(self) -> tuple[Network, ...]: ...

    def network(self, ref: str) -> Network:
        """Raises `NotFound`."""
        ...

    async def delete_network(self, ref: str, *, keep_subnets: bool = False) -> None:
        """Raises `Conflict` while endpoints use it; does nothing when it is gone. With
        `keep_subnets` no other network gets its subnets without asking for them.
        """
        ...

    async def reclaim(self, ref: str, members: Sequence[str]) -> Reclaimed:
        """Take over the addresses that dead members own of an overlay network.

        Raises `NotFound`, and `Conflict` for one that is alive.
        """
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

    async def plan(self, endpoint_id: str | None = None) -> tuple[PlannedOperation, ...]:
        """All of it, or what is to be done to one endpoint. Raises `NotFound`."""
        ...

    async def reconcile(self) -> ReconcileReport: ...

    def events(self, since: int | None) -> AsyncIterator[Event]:
        """What happens, from after revision `since` on, or from now.

        Ends when the daemon stops or the reader is too slow. What is wrong with `since` is
        raised by the call itself, not by the first step of the iterator.
        """
        ...

    def trace(self, name: str, record_type: str, source: str | None) -> Trace:
        """The same look-up, with all that is answered and how it comes about."""
        ...

    def names(self, watch: bool) -> AsyncIterator[NameChange]:
        """All names, then one `sync`; with `watch`, then changes as they happen."""
        ...

    def directory(self, watch: bool) -> Following:
        """Entries (`netd.model.directory.Entry`): all, one `sync`, with `watch` changes."""
        ...

    def registry(self) -> RegistryState: ...

    def take_report(self, report: RegistryReport) -> None:
        """The registry says how it is."""
        ...

    def fire(self, event: UserEventSpec) -> None:
        """Tell all hosts of an event. Raises `Invalid`, `Exhausted`."""
        ...

    async def doctor(self) -> tuple[Finding, ...]: ...

    async def explain(
        self, source: str, destination: str, protocol: IpProtocol, port: int | None
    ) -> Explanation:
        """The way of packets between two ends, each an id, a name, a container or an address."""
        ...

    def topology(self) -> Topology: ...
