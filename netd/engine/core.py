"""The engine: what front ends call. Built from parts, started once, stopped once."""

from collections.abc import AsyncIterator

import msgspec

from netd.engine.busy import Busy
from netd.engine.cluster import Membership
from netd.engine.cluster_doctor import examine_cluster
from netd.engine.conditions import Conditions
from netd.engine.doctor import examine
from netd.engine.endpoints import Endpoints
from netd.engine.events import EventLog
from netd.engine.host import Host
from netd.engine.intent import Intent
from netd.engine.interfaces import Change, Clock, Cluster, Kernel, Snapshot, Store, Trigger
from netd.engine.locks import KeyedLocks
from netd.engine.names import NameTable
from netd.engine.networks import Networks
from netd.engine.parts import Parts
from netd.engine.publishing import Publishing
from netd.engine.reaper import Reaper
from netd.engine.reconciler import Reconciler
from netd.engine.settings import Reload, Settings
from netd.engine.startup import BOOT_ID, restore, same_boot
from netd.engine.watch import Watch
from netd.model.endpoint import AttachRequest, Endpoint, EndpointPatch
from netd.model.event import Event
from netd.model.network import Network, NetworkSpec
from netd.model.views import (
    Finding,
    NameChange,
    PlannedOperation,
    ReconcileReport,
    Resolution,
    Status,
)
from netd.plan.compile import forwarded_families
from netd.plan.objects import HOST_OWNER
from netd.tasks import Tasks

NODE_ID = "node-id"


class Engine:
    """All use cases of one host; `cluster` has those of its cluster. Made by `Engine.start`."""

    def __init__(self, parts: Parts, host: Host, cluster: Membership) -> None:
        self._parts = parts
        self.cluster = cluster
        self._host = host
        self._publishing = Publishing(parts.kernel, parts.intent.ports)
        self._networks = Networks(parts, host)
        self._endpoints = Endpoints(parts, self._publishing)
        self._reconciler = Reconciler(parts, host, self._endpoints)
        self._watch = Watch(parts, host, self._reconciler)
        self._started_at = parts.now()
        self._ready = False
        self.reload = Reload()

    @classmethod
    async def start(
        cls, kernel: Kernel, store: Store, clock: Clock, settings: Settings, cluster: Cluster
    ) -> "Engine":
        """Load intent, bring the kernel in line with it, and begin to watch.

        Does not wait for the cluster: what others have to say is heard when it comes.
        Raises `Unavailable` (the store cannot be read) or `KernelFailure` (no netlink).
        """
        snapshot = await store.load()
        facts = await kernel.facts()
        events = EventLog(clock)
        parts = Parts(
            kernel=kernel,
            store=store,
            clock=clock,
            settings=settings,
            facts=facts,
            intent=Intent(settings.quarantine_s),
            names=NameTable(settings.zone),
            events=events,
            conditions=Conditions(events),
            busy=Busy(),
            locks=KeyedLocks(),
            tasks=Tasks(),
            reaper=Reaper(kernel, clock),
        )
        node_id = await _remember_node(store, snapshot, clock)
        # A boot sets all sysctls anew.
        kept = snapshot.facts if same_boot(snapshot, facts) else {}
        membership = Membership(parts, cluster)
        host = Host(parts, node_id, kept, membership.host_has)
        engine = cls(parts, host, membership)
        await engine._begin(snapshot)
        return engine

    async def _begin(self, snapshot: Snapshot) -> None:
        parts = self._parts
        swept = await restore(parts, snapshot, self._publishing)
        await self._host.remember_sysctls(parts.intent.networks.values())
        await parts.store.commit(Change(put_facts={BOOT_ID: parts.facts.boot_id}))
        self._host.update(parts.intent.networks.values())
        self.cluster.start()
        # Watch first: what changes during the first pass is seen too.
        self._watch.start()
        report = await self._reconciler.full_pass()
        parts.reaper.retired(self._reconciler.retired)
        parts.tasks.start("reaper", parts.reaper.run())
        parts.tasks.start("watch", self._watch.run())
        self._ready = True
        detail = (
            f"networks: {len(parts.intent.networks)}, endpoints: {len(parts.intent.records)}, "
            f"repaired: {len(report.applied)}, swept: {len(swept) + len(report.swept)}"
        )
        parts.events.emit(
            "daemon.started", about=HOST_OWNER, name=parts.settings.node, detail=detail
        )

    async def configure(self, settings: Settings) -> None:
        """Go on with other settings. Node, version and zone stay as they are.

        Raises `Unavailable`, with nothing changed.
        """
        old = self._parts.settings
        await self._networks.follow(
            msgspec.structs.replace(settings, node=old.node, version=old.version, zone=old.zone)
        )
        self.cluster.settings_changed()
        self._parts.intent.set_quarantine(settings.quarantine_s)
        self._watch.notify(Trigger(kind="lost", verb="new"))  # a pass brings the kernel in line

    async def prove_progress(self) -> None:
        """Return when the kernel thread has answered: what the watchdog wants to know."""
        await self._parts.kernel.enter(path="/proc/self/ns/net", pid=None)

    def end_streams(self) -> None:
        """End streams of events and names once their readers have what there is."""
        self._ready = False
        self._parts.events.close()
        self._parts.names.close()

    async def stop(self) -> None:
        """End streams and tasks. Touches nothing in the kernel, and leaves no cluster."""
        self.end_streams()
        self._watch.stop()
        await self._parts.tasks.stop()
        await self.cluster.close()
        await self._parts.store.close()

    # Networks

    async def create_network(self, spec: NetworkSpec) -> tuple[Network, bool]:
        network, created = await self._networks.create(spec)
        return self._shown_network(network), created

    def networks(self) -> tuple[Network, ...]:
        networks = sorted(self._parts.intent.networks.values(), key=lambda network: network.name)
        return tuple(map(self._shown_network, networks))

    def network(self, ref: str) -> Network:
        return self._shown_network(self._parts.intent.network(ref))

    async def delete_network(self, ref: str) -> None:
        await self._networks.delete(ref)

    # Endpoints

    async def attach(self, network: str, request: AttachRequest) -> tuple[Endpoint, bool]:
        endpoint, created = await self._endpoints.attach(network, request)
        return self._shown_endpoint(endpoint), created

    def endpoints(
        self,
        *,
        network: str | None = None,
        container_id: str | None = None,
        node: str | None = None,
    ) -> tuple[Endpoint, ...]:
        """All endpoints that match; raises `NotFound` for a network there is not."""
        intent = self._parts.intent
        network_id = intent.network(network).id if network is not None else None
        found = [
            record.endpoint
            for record in intent.records.values()
            if network_id in (None, record.endpoint.network_id)
            and container_id in (None, record.endpoint.container_id)
            and node in (None, record.endpoint.node)
        ]
        found.sort(key=lambda endpoint: (endpoint.network, endpoint.name, endpoint.id))
        return tuple(map(self._shown_endpoint, found))

    def endpoint(self, endpoint_id: str) -> Endpoint:
        return self._shown_endpoint(self._parts.intent.record(endpoint_id).endpoint)

    async def update_endpoint(self, endpoint_id: str, patch: EndpointPatch) -> Endpoint:
        return self._shown_endpoint(await self._endpoints.update(endpoint_id, patch))

    async def detach(self, endpoint_id: str) -> None:
        await self._endpoints.detach(endpoint_id)

    async def detach_container(self, container_id: str) -> None:
        await self._endpoints.detach_container(container_id)

    # The host

    def status(self) -> Status:
        parts = self._parts
        return Status(
            node=parts.settings.node,
            version=parts.settings.version,
            ready=self._ready,
            members=self.cluster.alive(),
            networks=len(parts.intent.networks),
            endpoints=len(parts.intent.records),
            drift=self._reconciler.drift,
            capabilities=tuple(sorted(parts.facts.capabilities)),
            kernel=parts.facts.kernel,
            boot_id=parts.facts.boot_id,
            started_at=self._started_at,
            config_error=self.reload.text(),
            conditions=parts.conditions.of(HOST_OWNER),
        )

    def counters(self) -> dict[str, int]:
        """What is counted since the start, by name, for metrics."""
        return {
            "reconcile_passes": self._reconciler.passes,
            "drift_repairs": self._reconciler.repaired,
            "events": self._parts.events.count,
            **self.cluster.counters(),
        }

    def levels(self) -> dict[str, int]:
        """What is waiting or kept just now, by name, for metrics."""
        return {
            "links_to_remove": self._parts.reaper.waiting,
            "events_kept": len(self._parts.events),
            "kernel_events_waiting": self._watch.waiting,
            **self.cluster.levels(),
        }

    def resolve(self, name: str, record_type: str, source: str | None) -> Resolution:
        return self._parts.names.resolve(name, record_type, source)

    def names(self, watch: bool) -> AsyncIterator[NameChange]:
        return self._parts.names.stream(watch)

    def events(self, since: int | None) -> AsyncIterator[Event]:
        return self._parts.events.follow(since)

    async def plan(self) -> tuple[PlannedOperation, ...]:
        return await self._reconciler.plan()

    async def reconcile(self) -> ReconcileReport:
        return await self._reconciler.full_pass()

    async def doctor(self) -> tuple[Finding, ...]:
        await self._host.look()
        await self.cluster.look()
        planned = await self._reconciler.plan()
        forwarded = forwarded_families(self._parts.intent.networks.values())
        status = self.status()
        of_host = examine(
            self._parts.facts,
            status,
            planned,
            reload=self.reload,
            owners={HOST_OWNER, *self._parts.intent.networks, *self._parts.intent.records},
            retired=self._parts.reaper.waiting,
            forwarded=forwarded,
        )
        of_cluster = examine_cluster(self.cluster.health(), self.cluster.members(), status)
        return of_host + of_cluster

    def _shown_network(self, network: Network) -> Network:
        conditions = self._parts.conditions.of(network.id)
        return msgspec.structs.replace(network, conditions=conditions) if conditions else network

    def _shown_endpoint(self, endpoint: Endpoint) -> Endpoint:
        conditions = self._parts.conditions.of(endpoint.id)
        if not conditions:
            return endpoint
        return msgspec.structs.replace(endpoint, conditions=conditions, state="degraded")


async def _remember_node(store: Store, snapshot: Snapshot, clock: Clock) -> str:
    """The node's id, made at the first start and kept for good."""
    node_id = snapshot.facts.get(NODE_ID)
    if node_id is None:
        node_id = clock.new_id() + clock.new_id()
        await store.commit(Change(put_facts={NODE_ID: node_id}))
    return node_id
