"""The engine: what front ends call. Built from parts, started once, stopped once."""

from collections.abc import AsyncIterator, Sequence

import msgspec

from netd.engine.blocks import Blocks
from netd.engine.checkup import Checkup
from netd.engine.cluster import Membership
from netd.engine.departures import Departures
from netd.engine.directory import Following
from netd.engine.endpoints import Endpoints
from netd.engine.entries import Surroundings
from netd.engine.explain import Explainer
from netd.engine.host import Host
from netd.engine.interfaces import (
    Change,
    Clock,
    Cluster,
    Kernel,
    NetworkAuthority,
    Snapshot,
    Store,
    Trigger,
)
from netd.engine.kv import MakeKeys, open_keys
from netd.engine.networks import Networks
from netd.engine.notes import Notes
from netd.engine.overlay.overlays import Overlays
from netd.engine.parts import Parts
from netd.engine.publishing import Publishing
from netd.engine.reconciler import Reconciler
from netd.engine.reservations import Reservations
from netd.engine.services.catalogue import Catalogue
from netd.engine.services.services import Services
from netd.engine.settings import Reload, Settings
from netd.engine.showing import Showing
from netd.engine.startup import BOOT_ID, remember_node, restore, same_boot
from netd.engine.topology import topology
from netd.engine.user_events import UserEvents
from netd.engine.virtuals.virtuals import Virtuals
from netd.engine.watch import Watch
from netd.model.condition import Condition
from netd.model.directory import RegistryReport, RegistryState
from netd.model.endpoint import AttachRequest, Endpoint, EndpointPatch, Protocol
from netd.model.event import Event
from netd.model.explanation import Explanation
from netd.model.network import Network, NetworkSpec
from netd.model.topology import Topology
from netd.model.user_event import UserEventSpec
from netd.model.views import (
    AddressLevels,
    Finding,
    NameChange,
    PlannedOperation,
    Reclaimed,
    ReconcileReport,
    Resolution,
    Status,
    Trace,
)
from netd.plan.objects import HOST_OWNER


class Engine:
    """All use cases of one host; `cluster` has those of its cluster. Made by `Engine.start`."""

    def __init__(
        self,
        parts: Parts,
        host: Host,
        cluster: Cluster,
        make_keys: MakeKeys | None,
        authority: NetworkAuthority | None,
    ) -> None:
        self._parts = parts
        self._host = host
        self.cluster = Membership(parts, cluster)
        self._publishing = Publishing(parts.kernel, parts.intent.ports)
        self._blocks = Blocks(parts, cluster, authority)
        self._overlays = Overlays(parts, host, cluster, self._blocks, self._repair, authority)
        self._authority = authority
        self._networks = Networks(parts, host, self._overlays)
        self.reservations = Reservations(parts, self._networks, self._overlays)
        self.notes = Notes(parts.store)
        self._endpoints = Endpoints(
            parts, self._publishing, self._networks, self._overlays, self.reservations
        )
        departures = Departures(parts)
        self.catalogue = Catalogue(cluster)
        self.services = Services(parts, cluster, self.catalogue, self._networks, departures)
        self.kv = open_keys(parts, cluster, self.catalogue, make_keys)
        self._user_events = UserEvents(parts, cluster)
        self._surroundings = Surroundings(
            parts.feed,
            parts.settings.node,
            self._networks.find,
            self._overlays.resolvers,
            parts.intent.count_on,
        )
        self.virtuals = Virtuals(
            parts,
            host,
            cluster,
            self.catalogue,
            find=self._networks.find,
            has_died=departures.has_died,
        )
        self._reconciler = Reconciler(parts, host, self._endpoints)
        self._watch = Watch(parts, host, self._reconciler, departures)
        self._explainer = Explainer(parts, cluster, self.cluster, self._overlays)
        self._showing = Showing(parts, self._networks, self._overlays)
        self._checkup = Checkup(parts, host, self.cluster, self._reconciler, self._explainer)
        self._started_at = parts.now()
        self._ready = False
        self.reload = Reload()
        self._introduce(departures)

    def _introduce(self, departures: Departures) -> None:
        """Say who is told of what, in this order."""
        self._parts.names.network_changed = self._network_changed
        following = self.services.following
        self._host.followers += [
            self.cluster.host_has,
            self._overlays.host_changed,
            following.host_has,
            self.virtuals.host_has,
        ]
        departures.followers += [following, self._parts.names]
        self._endpoints.followers += [departures, following, self.virtuals]

    @classmethod
    async def start(
        cls,
        kernel: Kernel,
        store: Store,
        clock: Clock,
        settings: Settings,
        cluster: Cluster,
        make_keys: MakeKeys | None = None,
        authority: NetworkAuthority | None = None,
    ) -> "Engine":
        """Load intent, bring the kernel in line with it, and begin to watch.

        With an `authority`, that decides which networks span hosts, and not gossip. Does not wait
        for the cluster: what others have to say is heard when it comes. Raises `Unavailable` (the
        store cannot be read) or `KernelFailure` (no netlink).
        """
        snapshot = await store.load()
        facts = await kernel.facts()
        parts = Parts.make(kernel, store, clock, settings, facts, cluster.id)
        node_id = await remember_node(store, snapshot, clock)
        # A boot sets all sysctls anew.
        kept = snapshot.facts if same_boot(snapshot, facts) else {}
        engine = cls(parts, Host(parts, node_id, kept), cluster, make_keys, authority)
        await engine._begin(snapshot)
        return engine

    async def _begin(self, snapshot: Snapshot) -> None:
        parts = self._parts
        swept = await restore(parts, snapshot, self._publishing, self._blocks)
        await self._overlays.restore(snapshot)
        self.notes.restore(snapshot.facts)
        self._networks.kept_subnets.restore(snapshot.facts)
        self.services.following.restore(snapshot)
        await self.kv.restore(snapshot)
        await self.virtuals.restore(snapshot)
        await self._host.remember_sysctls(parts.intent.networks.values())
        await parts.store.commit(Change(put_facts={BOOT_ID: parts.facts.boot_id}))
        self._host.update(parts.intent.networks.values())
        self.cluster.start()
        self.catalogue.start()
        self.services.start()
        self.kv.start()
        self._user_events.start()
        self._overlays.start()
        self._explainer.start()
        for network in self._networks.all():
            self._network_changed(network.name)
        self.catalogue.subscribe(self._surroundings.service_changed)
        self.virtuals.start()
        self.virtuals.subscribe(self._surroundings.virtual_changed)
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
        """Go on with other settings. Those that need a restart stay as they are.

        Raises `Unavailable`, with nothing changed.
        """
        await self._networks.follow(settings.over(self._parts.settings))
        self.cluster.settings_changed()
        self._parts.intent.set_quarantine(settings.quarantine_s)
        self._repair()

    def _repair(self) -> None:
        """Have a pass bring the kernel in line."""
        self._watch.notify(Trigger(kind="lost", verb="new"))

    async def prove_progress(self) -> None:
        """Return when the kernel thread has answered: what the watchdog wants to know."""
        await self._parts.kernel.enter(path="/proc/self/ns/net", pid=None)

    def _network_changed(self, name: str) -> None:
        """Tell the registry of a network, and remember that it has to listen there now.

        Called for each endpoint that comes or goes; most of them change nothing here.
        """
        feed = self._parts.feed
        before = feed.network(name)
        revision = self._surroundings.network_changed(name)
        if revision is not None:
            self._parts.registry.opens(name, revision)
        if feed.network(name) != before:
            self.virtuals.network_changed(name)

    def end_streams(self) -> None:
        """End streams of events and names once their readers have what there is."""
        self._ready = False
        self._parts.feed.close()
        self._parts.events.close()
        self._parts.names.close()
        self.kv.end_streams()

    async def stop(self) -> None:
        """End streams and tasks. Touches nothing in the kernel, and leaves no cluster."""
        self.end_streams()
        self._watch.stop()
        self._overlays.stop()
        self._user_events.stop()
        await self.kv.stop()
        self.services.stop()
        self.catalogue.stop()
        await self._parts.tasks.stop()
        await self.services.finish()
        if self._authority is not None:
            await self._authority.close()
        await self.cluster.close()
        await self._parts.store.close()

    # Networks

    async def create_network(self, spec: NetworkSpec) -> tuple[Network, bool]:
        network, created = await self._networks.create(spec)
        self._network_changed(network.name)
        return self._showing.network(network), created

    def networks(self) -> tuple[Network, ...]:
        return self._showing.networks()

    def network(self, ref: str) -> Network:
        return self._showing.network(self._networks.network(ref))

    async def delete_network(self, ref: str, *, keep_subnets: bool = False) -> None:
        known = self._networks.find(ref)
        await self._networks.delete(ref, keep_subnets=keep_subnets)
        if known is not None:
            self._network_changed(known.name)

    async def free_subnet(self, version: int, but: Sequence[str]) -> str:
        """A subnet for a network to come, that overlaps nothing, nor any of `but`."""
        return await self._networks.free_subnet(version, but)

    async def reclaim(self, ref: str, members: Sequence[str]) -> Reclaimed:
        return Reclaimed(prefixes=await self._overlays.reclaim(ref, members))

    # Endpoints

    async def attach(
        self, network: str, request: AttachRequest, *, handover: bool = False
    ) -> tuple[Endpoint, bool]:
        endpoint, created = await self._endpoints.attach(network, request, handover=handover)
        return self._showing.endpoint(endpoint), created

    def endpoints(
        self,
        *,
        network: str | None = None,
        container_id: str | None = None,
        node: str | None = None,
    ) -> tuple[Endpoint, ...]:
        """All endpoints that match; raises `NotFound` for a network there is not."""
        return self._showing.endpoints(network=network, container_id=container_id, node=node)

    def endpoint(self, endpoint_id: str) -> Endpoint:
        return self._showing.endpoint(self._parts.intent.record(endpoint_id).endpoint)

    async def unmoved(self) -> frozenset[str]:
        return await self._endpoints.unmoved()

    async def update_endpoint(self, endpoint_id: str, patch: EndpointPatch) -> Endpoint:
        return self._showing.endpoint(await self._endpoints.update(endpoint_id, patch))

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
            networks=len(self._networks.all()),
            endpoints=len(parts.intent.records),
            drift=self._reconciler.drift,
            capabilities=tuple(sorted(parts.facts.capabilities)),
            kernel=parts.facts.kernel,
            boot_id=parts.facts.boot_id,
            started_at=self._started_at,
            config_error=self.reload.text(),
            conditions=parts.conditions.of(HOST_OWNER),
        )

    def show(self, source: str, conditions: list[Condition]) -> None:
        """Have the host show what is wrong around the engine: see `Conditions.replace`."""
        stamped = [msgspec.structs.replace(c, since=self._parts.now()) for c in conditions]
        self._parts.conditions.replace(HOST_OWNER, source, stamped)

    def counters(self) -> dict[str, int]:
        """What is counted since the start, by name, for metrics."""
        return {
            "reconcile_passes": self._reconciler.passes,
            "drift_repairs": self._reconciler.repaired,
            "events": self._parts.events.count,
            **self.services.counters(),
            **self.kv.counters(),
            **self._user_events.counters(),
            **self.virtuals.counters(),
            **self._overlays.counters(),
            **self.cluster.counters(),
        }

    def levels(self) -> dict[str, int]:
        """What is waiting or kept just now, by name, for metrics."""
        return {
            "links_to_remove": self._parts.reaper.waiting,
            "addresses_reserved": len(self.reservations),
            "events_kept": len(self._parts.events),
            "kernel_events_waiting": self._watch.waiting,
            **self.services.levels(),
            **self.kv.levels(),
            **self._user_events.levels(),
            **self.virtuals.levels(),
            **self._overlays.levels(),
            **self.cluster.levels(),
        }

    def address_levels(self) -> list[AddressLevels]:
        """What this host owns of the overlays that it uses."""
        return self._blocks.levels()

    def resolve(self, name: str, record_type: str, source: str | None) -> Resolution:
        return self._parts.names.resolve(name, record_type, source)

    def trace(self, name: str, record_type: str, source: str | None) -> Trace:
        upstreams = self._parts.registry.state().upstreams
        return self._parts.names.trace(name, record_type, source, upstreams)

    def directory(self, watch: bool) -> Following:
        return self._parts.feed.follow(watch)

    def registry(self) -> RegistryState:
        return self._parts.registry.state()

    def take_report(self, report: RegistryReport) -> None:
        self._parts.registry.take(report)

    def fire(self, event: UserEventSpec) -> None:
        self._user_events.fire(event)

    def names(self, watch: bool) -> AsyncIterator[NameChange]:
        return self._parts.names.stream(watch)

    def events(self, since: int | None) -> AsyncIterator[Event]:
        return self._parts.events.follow(since)

    async def plan(self, endpoint_id: str | None = None) -> tuple[PlannedOperation, ...]:
        return await self._reconciler.plan(endpoint_id)

    async def reconcile(self) -> ReconcileReport:
        return await self._reconciler.full_pass()

    async def doctor(self) -> tuple[Finding, ...]:
        return await self._checkup.run(
            self.status,
            self.reload,
            lambda: (*self.networks(), *self.endpoints(), *self.services.troubled()),
        )

    async def explain(
        self, source: str, destination: str, protocol: Protocol, port: int | None
    ) -> Explanation:
        return await self._explainer.explain(source, destination, protocol, port)

    def topology(self) -> Topology:
        return topology(self._explainer.directory())
