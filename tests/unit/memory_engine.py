"""The API's use cases kept in memory, and an API server that serves them."""

import asyncio
import base64
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from netd.api.auth import Authority
from netd.api.limits import Limits
from netd.api.server import ApiServer
from netd.api.use_cases import UseCases
from netd.client import Client
from netd.engine.directory import Feed, Following
from netd.engine.kv import KeyCases
from netd.engine.kv.changes import Changes
from netd.model.condition import Condition
from netd.model.directory import Entry, RegistryReport, RegistryState, ZoneEntry
from netd.model.endpoint import AttachRequest, Endpoint, EndpointPatch, Protocol
from netd.model.errors import Conflict, Invalid, NotFound, Unavailable
from netd.model.event import Event
from netd.model.explanation import Explanation, Step
from netd.model.names import check_container_id, check_network_name
from netd.model.network import Network, NetworkSpec, difference
from netd.model.service import (
    CheckFault,
    CheckReport,
    CheckResult,
    CheckStatus,
    Maintenance,
    Service,
    ServiceChanges,
    ServiceSpec,
    Virtual,
    VirtualSpec,
)
from netd.model.topology import Topology, TopologyEndpoint, TopologyHost, TopologyNetwork
from netd.model.user_event import UserEvent, UserEventSpec
from netd.model.views import (
    ClusterKey,
    ClusterRecord,
    Finding,
    Joined,
    Member,
    NameChange,
    NameRecord,
    PlannedOperation,
    Reclaimed,
    ReconcileReport,
    Resolution,
    Status,
    Token,
    Trace,
)
from tests.unit.memory_cluster import MemoryCluster, Mesh
from tests.unit.memory_keys import MemoryKeys

CREATED_AT = "2026-01-02T03:04:05Z"
SECRET = bytes(range(32))


class MemoryClusterCases:
    """A node called `here` with a key; `mesh` has those that it can join."""

    def __init__(self) -> None:
        self.mesh = Mesh()
        self.node: MemoryCluster = self.mesh.node("here", SECRET)

    def members(self) -> tuple[Member, ...]:
        return self.node.members()

    async def join(self, addresses: Sequence[str], token: str | None) -> Joined:
        results = await self.node.join(addresses, token)
        if all(result.error for result in results):
            reasons = (f"{result.address}: {result.error}" for result in results)
            raise Unavailable(f"nobody answered: {'; '.join(reasons)}")
        return Joined(results=results, members=self.members())

    async def leave(self) -> None:
        await self.node.leave()

    def keys(self) -> tuple[ClusterKey, ...]:
        return self.node.keys()

    async def install_key(self, secret: str | None) -> tuple[ClusterKey, bool]:
        known = set(self.node.ring)
        key = await self.node.install_key(base64.b64decode(secret) if secret else None)
        return key, key.id not in known

    async def use_key(self, key_id: str) -> ClusterKey:
        return await self.node.use_key(key_id)

    async def remove_key(self, key_id: str) -> None:
        await self.node.remove_key(key_id)

    async def issue_token(self, expires_s: int, uses: int) -> Token:
        return await self.node.issue_token(expires_s, uses)

    def records(self, table: str | None, owner: str | None) -> tuple[ClusterRecord, ...]:
        record = ClusterRecord(
            owner=self.node.id,
            node="here",
            scope="0" * 16,
            table="node",
            key="",
            encoding="json",
            value={"addresses": ["192.0.2.1"]},
        )
        return (record,) if table in (None, "node") and owner in (None, "here") else ()


class MemoryServices:
    """Instances of this host, without anything they could go with."""

    def __init__(self) -> None:
        self.by_id: dict[str, Service] = {}
        self.reports: list[tuple[str, str, CheckResult]] = []

    def all(
        self,
        *,
        name: str | None = None,
        node: str | None = None,
        network: str | None = None,
        passing: bool = False,
    ) -> tuple[Service, ...]:
        return tuple(
            known
            for known in self.by_id.values()
            if name in (None, known.name)
            and node in (None, known.node)
            and network in (None, known.network)
            and (not passing or known.status == "passing")
        )

    def find(self, service_id: str) -> Service:
        if service_id not in self.by_id:
            raise NotFound(f"there is no service {service_id}")
        return self.by_id[service_id]

    async def put(self, service_id: str, spec: ServiceSpec) -> tuple[Service, bool]:
        if service_id == "theirs":
            raise Conflict("service theirs is registered on there")
        service = Service(
            id=service_id,
            name=spec.name,
            node="here",
            address=spec.address or "192.0.2.1",
            port=spec.port,
            network=spec.network,
            created_at=CREATED_AT,
        )
        created = service_id not in self.by_id
        self.by_id[service_id] = service
        return service, created

    async def delete(self, service_id: str) -> None:
        self.by_id.pop(service_id, None)

    async def change(self, asked: ServiceChanges) -> None:
        if "theirs" in (*asked.put, *asked.delete):
            raise Conflict("service theirs is registered on there")
        for ident, spec in asked.put.items():
            await self.put(ident, spec)
        for ident in asked.delete:
            await self.delete(ident)

    def report(self, service_id: str, check_id: str, result: CheckResult) -> None:
        self.find(service_id)
        self.reports.append((service_id, check_id, result))

    def report_all(self, reports: Sequence[CheckReport]) -> tuple[CheckFault, ...]:
        known = [each for each in reports if each.service in self.by_id]
        self.reports += [(each.service, each.check, each) for each in known]
        return tuple(
            CheckFault(service=each.service, check=each.check, code="not-found", detail="gone")
            for each in reports
            if each not in known
        )

    async def maintain(self, service_id: str, asked: Maintenance) -> Service:
        status: CheckStatus = "critical" if asked.enable else "passing"
        self.by_id[service_id] = msgspec.structs.replace(self.find(service_id), status=status)
        return self.by_id[service_id]


class MemoryVirtuals:
    """Implements `netd.api.use_cases.VirtualUseCases`."""

    def __init__(self) -> None:
        self.by_name: dict[str, Virtual] = {}

    def all(self) -> tuple[Virtual, ...]:
        return tuple(self.by_name.values())

    def find(self, service: str) -> Virtual:
        if service not in self.by_name:
            raise NotFound(f"service {service} has no virtual addresses")
        return self.by_name[service]

    async def put(self, service: str, spec: VirtualSpec) -> tuple[Virtual, bool]:
        created = service not in self.by_name
        self.by_name[service] = Virtual(
            id=service, addresses=("10.191.0.9", "fd6e:6574:6400::9"), ports=spec.ports
        )
        return self.by_name[service], created

    async def delete(self, service: str) -> None:
        self.by_name.pop(service, None)


class MemoryEngine:
    """Real behaviour without a kernel. `gate` holds reconcile and plan up while it is clear."""

    def __init__(self) -> None:
        self.by_id: dict[str, Network] = {}
        self.attached: dict[str, Endpoint] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.reconciled = 0
        self.cluster = MemoryClusterCases()
        self.services = MemoryServices()
        self.virtuals = MemoryVirtuals()
        changes = Changes()
        self.kv = KeyCases(MemoryKeys(changes), changes, "here")
        self.failure: BaseException | None = None
        self.stream_failure: Exception | None = None
        self.is_ready = True
        self.log: list[Event] = []
        self.followers = 0
        self.feed = Feed(ZoneEntry(zone="netd.internal", node="here", node_id="1"), 1000)
        self.reports: list[RegistryReport] = []
        self._news = asyncio.Event()
        self._ids = 0

    def emit(self, kind: str, name: str, detail: str = "") -> None:
        revision = len(self.log) + 1
        event = Event(
            revision=revision, at=CREATED_AT, type=kind, object="host", name=name, detail=detail
        )
        self.log.append(event)
        self._news.set()
        self._news = asyncio.Event()

    async def create_network(self, spec: NetworkSpec) -> tuple[Network, bool]:
        check_network_name(spec.name)
        for known in self.by_id.values():
            if known.name == spec.name:
                if field := difference(known, spec):
                    raise Conflict(f"network {spec.name} has another {field}", field=field)
                return known, False
        network = msgspec.convert(
            {"id": self._new_id(), "created_at": CREATED_AT, **msgspec.structs.asdict(spec)},
            Network,
        )
        self.by_id[network.id] = network
        self.emit("network.created", spec.name)
        return network, True

    def networks(self) -> tuple[Network, ...]:
        return tuple(self.by_id.values())

    def network(self, ref: str) -> Network:
        for known in self.by_id.values():
            if ref in (known.id, known.name):
                return known
        raise NotFound(f"there is no network {ref}")

    async def delete_network(self, ref: str, *, keep_subnets: bool = False) -> None:
        found = [known for known in self.networks() if ref in (known.id, known.name)]
        for network in found:
            users = self.endpoints(network=network.id)
            if users:
                raise Conflict(f"network {ref} is used by {', '.join(u.name for u in users)}")
            del self.by_id[network.id]

    async def reclaim(self, ref: str, members: Sequence[str]) -> Reclaimed:
        self.network(ref)
        if "alive" in members:
            raise Conflict("alive is alive")
        return Reclaimed(prefixes=("10.20.64.0/18",))

    async def attach(self, network: str, request: AttachRequest) -> tuple[Endpoint, bool]:
        check_container_id(request.container_id)
        target = self.network(network)
        if (request.netns is None) == (request.pid is None):
            raise Invalid("give one of netns and pid", field="netns")
        for known in self.attached.values():
            key = (known.container_id, known.network_id, known.ifname)
            if key == (request.container_id, target.id, request.ifname):
                if known.name != (request.name or request.container_id):
                    raise Conflict(f"{known.id} is another attachment with the same key")
                return known, False
        endpoint = Endpoint(
            id=self._new_id(),
            network=target.name,
            network_id=target.id,
            container_id=request.container_id,
            name=request.name or request.container_id,
            node="here",
            ifname=request.ifname,
            ports=request.ports,
            aliases=request.aliases,
            labels=request.labels,
            created_at=CREATED_AT,
        )
        self.attached[endpoint.id] = endpoint
        self.emit("endpoint.attached", endpoint.name)
        return endpoint, True

    def endpoints(
        self,
        *,
        network: str | None = None,
        container_id: str | None = None,
        node: str | None = None,
    ) -> tuple[Endpoint, ...]:
        return tuple(
            known
            for known in self.attached.values()
            if (network is None or network in (known.network, known.network_id))
            and container_id in (None, known.container_id)
            and node in (None, known.node)
        )

    def endpoint(self, endpoint_id: str) -> Endpoint:
        if endpoint_id not in self.attached:
            raise NotFound(f"there is no endpoint {endpoint_id}")
        return self.attached[endpoint_id]

    async def update_endpoint(self, endpoint_id: str, patch: EndpointPatch) -> Endpoint:
        given = {k: v for k, v in msgspec.structs.asdict(patch).items() if v is not None}
        changed = msgspec.structs.replace(self.endpoint(endpoint_id), **given)
        self.attached[endpoint_id] = changed
        return changed

    async def detach(self, endpoint_id: str) -> None:
        self.attached.pop(endpoint_id, None)

    async def detach_container(self, container_id: str) -> None:
        for endpoint in self.endpoints(container_id=container_id):
            del self.attached[endpoint.id]

    def status(self) -> Status:
        starting = Condition(code="starting", severity="info", detail="the kernel is being read")
        return Status(
            node="here",
            version="0",
            ready=self.is_ready,
            members=len(self.cluster.members()),
            networks=len(self.by_id),
            endpoints=len(self.attached),
            drift=0,
            capabilities=("bridge",),
            conditions=() if self.is_ready else (starting,),
        )

    def resolve(self, name: str, record_type: str, source: str | None) -> Resolution:
        if " " in name:
            raise Invalid(f"{name!r} is not a name", field="name")
        if not any(known.name == name for known in self.attached.values()):
            return Resolution(rcode="NXDOMAIN")
        record = NameRecord(name=name, type="A", ttl_s=5, data=source or "10.0.0.2")
        return Resolution(rcode="NOERROR", records=(record,))

    def trace(self, name: str, record_type: str, source: str | None) -> Trace:
        found = self.resolve(name, record_type, source)
        return Trace(
            rcode=found.rcode,
            records=found.records,
            additional=(),
            authority=(),
            networks=None,
            steps=(f"{name} was looked for",),
        )

    def directory(self, watch: bool) -> Following:
        return self.feed.follow(watch)

    def registry(self) -> RegistryState:
        pid = self.reports[-1].pid if self.reports else 0
        return RegistryState(wanted=True, connected=bool(self.reports), pid=pid)

    def take_report(self, report: RegistryReport) -> None:
        self.reports.append(report)

    def fire(self, event: UserEventSpec) -> None:
        if self.failure is not None:
            raise self.failure
        told = UserEvent(**msgspec.structs.asdict(event), fired_ms=1)
        entry = Entry(revision=0, kind="user_event", id=f"1/{event.id}", user_event=told)
        self.feed.put(entry)

    async def plan(self, endpoint_id: str | None = None) -> tuple[PlannedOperation, ...]:
        await self._pass_gate()
        if endpoint_id is not None:
            self.endpoint(endpoint_id)
            return ()
        return (
            PlannedOperation(verb="add", object="link x", ns="", owner="host", reason="missing"),
        )

    async def reconcile(self) -> ReconcileReport:
        await self._pass_gate()
        if self.failure is not None:
            raise self.failure
        self.reconciled += 1
        return ReconcileReport(duration_ms=1.5)

    async def events(self, since: int | None) -> AsyncIterator[Event]:
        at = len(self.log) if since is None else since
        self.followers += 1
        try:
            while True:
                news = self._news
                while at < len(self.log):
                    at += 1
                    yield self.log[at - 1]
                if self.stream_failure is not None:
                    raise self.stream_failure
                await news.wait()
        finally:
            self.followers -= 1

    async def names(self, watch: bool) -> AsyncIterator[NameChange]:
        for revision, known in enumerate(list(self.attached.values()), 1):
            record = NameRecord(name=known.name, type="A", ttl_s=5, data="10.0.0.2")
            yield NameChange(revision=revision, op="add", record=record)
        yield NameChange(revision=len(self.attached), op="sync")
        if watch:
            async for event in self.events(None):
                record = NameRecord(name=event.name, type="A", ttl_s=5, data="10.0.0.3")
                yield NameChange(revision=1000 + event.revision, op="add", record=record)

    async def doctor(self) -> tuple[Finding, ...]:
        return (Finding(check="nft", level="ok", detail="nf_tables answers"),)

    async def explain(
        self, source: str, destination: str, protocol: Protocol, port: int | None
    ) -> Explanation:
        known = {endpoint.name for endpoint in self.attached.values()}
        lost = [ref for ref in (source, destination) if ref not in known]
        step = Step(name="name", status="failed" if lost else "ok", detail=" ".join(lost))
        return Explanation(
            source=source,
            destination=destination,
            protocol=protocol,
            port=port,
            node="here",
            result="failed" if lost else "ok",
            failed="name" if lost else None,
            steps=(step,),
        )

    def topology(self) -> Topology:
        here = self.cluster.node.members()[0]
        return Topology(
            hosts=(
                TopologyHost(
                    id=here.id, name=here.name, address=here.address, state="alive", own=True
                ),
            ),
            networks=tuple(
                TopologyNetwork(id=known.id, name=known.name, driver=known.driver, hosts=(here.id,))
                for known in self.by_id.values()
            ),
            endpoints=tuple(
                TopologyEndpoint(
                    id=known.id,
                    name=known.name,
                    container_id=known.container_id,
                    network=known.network_id,
                    host=here.id,
                )
                for known in self.attached.values()
            ),
        )

    async def _pass_gate(self) -> None:
        self.entered.set()
        await self.gate.wait()

    def _new_id(self) -> str:
        self._ids += 1
        return f"{self._ids:016x}"


class Served:
    """A server on a socket of its own, with the engine it serves."""

    def __init__(self, engine: MemoryEngine, server: ApiServer, path: Path) -> None:
        self.engine = engine
        self.server = server
        self.path = path
        self.client = Client(str(path), timeout_s=10)


@asynccontextmanager
async def served(
    *, authority: Authority | None = None, limits: Limits | None = None, mode: int = 0o660
) -> AsyncIterator[Served]:
    """Serve a new `MemoryEngine`; everything is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="netd-api-"))
    folder.chmod(0o755)  # other users must reach the socket for its own modes to be judged
    engine = MemoryEngine()
    cases: UseCases = engine
    server = ApiServer(cases, authority=authority or Authority(), limits=limits or Limits())
    world = Served(engine, server, folder / "netd.sock")
    try:
        await server.start(world.path, mode=mode)
        yield world
    finally:
        world.client.close()
        await server.stop()
        shutil.rmtree(folder)
