"""The use cases of virtual addresses.

Follows what the cluster says of them, and which instances there are.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from netd.engine.host import Host
from netd.engine.interfaces import ClaimChange, Cluster, ClusterChange, Snapshot
from netd.engine.parts import Parts
from netd.engine.services.catalogue import Catalogue as Services
from netd.engine.services.rules import check_name
from netd.engine.times import rfc3339
from netd.engine.virtuals.balancing import UNABLE, Balancing
from netd.engine.virtuals.catalogue import Catalogue
from netd.engine.virtuals.definitions import CLAIMS, Definition, check_spec
from netd.engine.virtuals.inherited import owner_of
from netd.engine.virtuals.instances import Instances
from netd.model.endpoint import Endpoint
from netd.model.errors import NotFound, Unavailable
from netd.model.network import Network
from netd.model.service import Service, Virtual, VirtualSpec
from netd.plan.virtual import addresses_of

GRACE_S: Final = 30.0  # after a start: what is in the kernel stays until others have been heard

Follower = Callable[[str, Virtual | None], None]
"""Is told a service's virtual addresses as they are now; None: it has none."""


class Virtuals:
    """`find` knows a network by name; `has_died` as in `Balancing`."""

    def __init__(
        self,
        parts: Parts,
        host: Host,
        cluster: Cluster,
        services: Services,
        *,
        find: Callable[[str], Network | None],
        has_died: Callable[[Service], bool],
    ) -> None:
        self._parts = parts
        self._cluster = cluster
        self._services = services
        self._pools = parts.settings.virtual_pools
        self._catalogue = Catalogue(parts, cluster, self._pools, self._defined)
        self._instances = Instances(
            parts.settings.node,
            parts.intent,
            services,
            find,
            self._pools,
            parts.settings.vxlan_port,
        )
        self._balancing = Balancing(
            parts, host, self._pools, self._catalogue, self._instances, has_died
        )
        self._followers: list[Follower] = []
        self._one_at_a_time = asyncio.Lock()
        self._to_store = asyncio.Event()
        self._stop: Callable[[], None] = lambda: None
        self._unsubscribe: Callable[[], None] = lambda: None

    # A host's life

    async def restore(self, snapshot: Snapshot) -> None:
        """Go on with what is stored and in the kernel; before the cluster is followed."""
        await self._balancing.restore()
        await self._catalogue.restore(snapshot)

    def start(self) -> None:
        """Follow the cluster and the instances, from what is so now."""
        self._instances.look_around()
        self._stop = self._cluster.watch(self._heard)
        self._unsubscribe = self._services.subscribe(self._instance_changed)
        self._balancing.mirror_all()
        tasks = self._parts.tasks
        tasks.start("virtual addresses", self._balancing.run())
        tasks.start("drained instances", self._balancing.draining.run())
        tasks.start("stored virtual addresses", self._store())
        tasks.start("grace of virtual addresses", self._end_grace())

    def stop(self) -> None:
        self._stop()
        self._unsubscribe()

    async def idle(self) -> None:
        """Return when the kernel has all that was heard so far."""
        await self._balancing.idle()

    # What is asked

    def all(self) -> tuple[Virtual, ...]:
        found = map(self._catalogue.find, self._catalogue.names())
        return tuple(self._shown(each) for each in found if each is not None)

    def find(self, service: str) -> Virtual:
        """Raises `NotFound`."""
        definition = self._catalogue.find(service)
        if definition is None:
            raise NotFound(
                f"service {service!r} has no virtual addresses; `netctl service expose` gives "
                "it some"
            )
        return self._shown(definition)

    def subscribe(self, follow: Follower) -> None:
        """Tell `follow` of all there are, then of each change."""
        self._followers.append(follow)
        for virtual in self.all():
            follow(virtual.id, virtual)

    # What is changed

    async def put(self, service: str, spec: VirtualSpec) -> tuple[Virtual, bool]:
        """Give a service virtual addresses: (what it has, whether they are new).

        When it returns, packets of this host get there. Raises `Invalid`, `Exhausted` or
        `Unavailable`.
        """
        check_name(service, "service")
        check_spec(spec)
        if not self._balancing.is_able:
            raise Unavailable(f"{UNABLE}; expose the service on another host")
        async with self._one_at_a_time:
            known = self._catalogue.find(service)
            created = known is None
            if known is None or known.spec != spec:
                known = await self._catalogue.define(service, spec)
        if created:
            self._parts.events.emit("virtual.created", about=service, name=service)
        await self._balancing.idle()
        return self._shown(known), created

    async def delete(self, service: str) -> None:
        """Take them away; nothing to do when there are none. Raises `Unavailable`."""
        async with self._one_at_a_time:
            if self._catalogue.find(service) is None:
                return
            await self._catalogue.end(service)
        self._parts.events.emit("virtual.deleted", about=service, name=service)
        await self._balancing.idle()

    # What changes around them

    def host_has(self, addresses: tuple[str, ...]) -> None:
        """The host's own addresses (CIDR)."""
        self._balancing.host_has(addresses)

    def network_changed(self, name: str) -> None:
        """A network is new, gone, or this host has it now, or has it no more."""
        self._balancing.network_changed(name)

    def endpoint_changed(self, endpoint: Endpoint) -> None:
        if endpoint.ports:
            self._balancing.ports_changed()

    def endpoint_ended(self, _endpoint_id: str) -> None:
        self._balancing.ports_changed()

    def counters(self) -> dict[str, int]:
        return {
            "virtual_batches": self._balancing.batches,
            "virtual_claims_ignored": self._catalogue.ignored,
            "virtual_flows_forgotten": self._balancing.draining.forgotten,
        }

    def levels(self) -> dict[str, int]:
        return {
            "virtuals": len(self._catalogue),
            "virtuals_waiting": self._balancing.waiting,
            "virtuals_to_store": self._catalogue.waiting,
            "virtual_targets_draining": self._balancing.draining.waiting,
        }

    # How it works

    def _heard(self, change: ClusterChange) -> None:
        if isinstance(change, ClaimChange) and change.table == CLAIMS:
            self._catalogue.claimed(change)

    def _defined(self, name: str) -> None:
        if self._instances.is_own(name):
            self._catalogue.rely_on(name)
        self._balancing.touch((name,))
        self._tell(name)
        self._to_store.set()

    def _instance_changed(self, instance: str, service: Service | None) -> None:
        before = self._instances.changed(instance, service)
        if service is not None and service.node == self._parts.settings.node:
            self._catalogue.rely_on(service.name)
            self._to_store.set()
        self._balancing.instance_changed(before, service)
        for name in {each.name for each in (before, service) if each is not None}:
            if self._catalogue.find(name) is not None:
                self._tell(name)

    def _tell(self, name: str) -> None:
        definition = self._catalogue.find(name)
        virtual = None if definition is None else self._shown(definition)
        for follow in self._followers:
            follow(name, virtual)

    def _shown(self, definition: Definition) -> Virtual:
        spec, number = definition.spec, self._catalogue.number(definition.name)
        assert spec is not None
        return Virtual(
            id=definition.name,
            addresses=() if number is None else addresses_of(self._pools, number),
            ports=spec.ports,
            affinity=spec.affinity,
            drain_s=spec.drain_s,
            instances=len({each.id for each in self._instances.backends(definition.name)}),
            created_at=rfc3339(definition.created_ms / 1000),
            conditions=self._parts.conditions.of(owner_of(definition.name)),
        )

    async def _store(self) -> None:
        """Work until cancelled."""
        while True:
            await self._to_store.wait()
            self._to_store.clear()
            if self._catalogue.waiting:
                await self._catalogue.store()

    async def _end_grace(self) -> None:
        await asyncio.sleep(GRACE_S)
        self._balancing.end_grace()
