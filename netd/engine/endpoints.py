"""Use cases on endpoints: attach, update, detach.

Attach, read top to bottom: check the request; enter the namespace; put the endpoint into
intent (which takes its addresses and ports); apply the objects the network's driver makes of
it; write it to the store; answer. The answer is durable. Whatever fails undoes what was done.
A daemon that is killed half-way leaves objects whose tag names an endpoint the store does
not know; the next start removes them. Where there would be no such tag, inside a container, a
note in the store leads there.
"""

from msgspec.structs import replace

from netd.engine.allocation import give_back, leases_of
from netd.engine.composing import Composer
from netd.engine.containers import Containers, check_same
from netd.engine.execution import Execution, note_of
from netd.engine.farewell import farewell, heirs_of
from netd.engine.followers import EndpointFollower
from netd.engine.intent import ports_of
from netd.engine.interfaces import Change
from netd.engine.networks import Networks
from netd.engine.overlay.overlays import Overlays
from netd.engine.parts import Parts
from netd.engine.publishing import Publishing
from netd.engine.requests import check_attach, name_of
from netd.engine.reservations import Reservations
from netd.model.endpoint import AttachRequest, Endpoint, EndpointPatch, EndpointRecord, Sandbox
from netd.model.errors import Exhausted
from netd.model.names import peer_name
from netd.model.network import Network
from netd.plan.bridge import PORTS_MAX
from netd.plan.compile import needs_routing
from netd.plan.diff import creation, diff, removal
from netd.plan.objects import state_of
from netd.plan.operations import Failure
from netd.plan.ports import families, held_ports


class Endpoints:
    def __init__(
        self,
        parts: Parts,
        publishing: Publishing,
        networks: Networks,
        overlays: Overlays,
        reservations: Reservations,
    ) -> None:
        self._parts = parts
        self._networks = networks
        self._overlays = overlays
        self._publishing = publishing
        self._reservations = reservations
        self.followers: list[EndpointFollower] = []
        self._containers = Containers(parts)
        self._composer = Composer(parts, overlays.resolvers)
        self._execution = Execution(parts, publishing)

    async def attach(
        self, ref: str, request: AttachRequest, *, handover: bool = False
    ) -> tuple[Endpoint, bool]:
        """Attach a container to a network: (endpoint, whether it is new).

        With `handover` the container's end is made in the host's namespace, for a runtime to
        move. Addresses that were reserved may be asked for.

        Raises `NotFound` (network, namespace), `Invalid`, `Conflict` (another attach under the
        same key; address, port or interface name taken), `Exhausted`, `KernelFailure`,
        `Unavailable` (the store cannot write).
        """
        parts = self._parts
        known = self._networks.network(ref)
        check_attach(request, known, handover=handover)
        async with parts.locks.hold(request.container_id), self._overlays.using(known) as network:
            sandbox, links = await self._containers.enter(network, request)
            key = (request.container_id, network.id, request.ifname)
            existing = parts.intent.by_key(key)
            if existing is not None:
                if not await self._containers.is_stale(existing, sandbox):
                    check_same(existing, request, sandbox)
                    return existing.endpoint, False
                await self._detach(existing, "its network namespace is gone", "endpoint.swept")
            if sandbox is not None and request.ifname in links:
                await self._containers.free_ifname(network, request)
            if parts.intent.count_on(network.id) + parts.reaper.waiting >= PORTS_MAX:
                await parts.reaper.remove_now()  # a retired link is a port of its bridge still
            name = name_of(request) or request.container_id
            await self._overlays.provide(network, request.addresses, name)
            endpoint = await self._attach_new(parts.intent.network(network.id), request, sandbox)
            return endpoint, True

    async def _attach_new(
        self, network: Network, request: AttachRequest, sandbox: Sandbox | None
    ) -> Endpoint:
        parts = self._parts
        endpoint_id = parts.clock.new_id()
        if needs_routing(network) and parts.intent.count_on(network.id) >= PORTS_MAX:
            raise Exhausted(
                f"network {network.name!r} has {PORTS_MAX} endpoints, the most ports a Linux "
                "bridge can have; attach to another network"
            )
        self._reservations.redeem(network.id, request.addresses)
        allocation = self._composer.allocate(network, request, endpoint_id)
        try:
            record = self._composer.compose(network, request, sandbox, endpoint_id, allocation)
            self._publishing.claim(record, network)
        except Exception:
            allocation.cancel()
            raise
        with parts.busy.work_on(endpoint_id):
            parts.intent.add_endpoint(record)
            objects = parts.intent.desired.of(endpoint_id)
            note = note_of(record, objects)
            failures: list[Failure] = []
            try:
                if note:
                    await parts.store.commit(Change(put_endpoints=note))
                await self._overlays.attaching(record.endpoint)
                failures = await self._execution.apply(creation(objects, "attach"), record)
                if failures:
                    raise await self._execution.explained(failures, record)
                await self._publishing.forget_flows(ports_of(record))
                await parts.store.commit(
                    Change(put_endpoints=(record,), delete_leases=allocation.leases_used())
                )
            except Exception:
                parts.intent.remove_endpoint(record)
                self._publishing.release(record, network)
                allocation.cancel()
                self._overlays.detached(record.endpoint)
                failed = {failure.operation.object.key for failure in failures}
                made = [obj for obj in objects if obj.key not in failed]
                await self._execution.undo(removal(made, "attach failed"), record)
                await self._execution.strike(note)
                raise
        parts.names.put(record.endpoint)
        self._tell_changed(record.endpoint)
        await self._overlays.attached(record.endpoint)
        await parts.registry.listening(network.name)
        parts.events.emit(
            "endpoint.attached",
            about=endpoint_id,
            name=record.endpoint.name,
            network=network.name,
            container_id=request.container_id,
            addresses=list(record.endpoint.addresses),
        )
        return record.endpoint

    async def update(self, endpoint_id: str, patch: EndpointPatch) -> Endpoint:
        """Change ports, aliases, labels, bandwidth or name of a live endpoint.

        Only what differs is touched in the kernel, so other flows go on.
        """
        parts = self._parts
        container_id = parts.intent.record(endpoint_id).endpoint.container_id
        async with parts.locks.hold(container_id):
            old = parts.intent.record(endpoint_id)
            network = parts.intent.network(old.endpoint.network_id)
            new = _patched(old, patch, network)
            if new == old:
                return old.endpoint
            self._publishing.claim_more(old, new, network)
            with parts.busy.work_on(endpoint_id):
                before = parts.intent.desired.of(endpoint_id)
                parts.intent.add_endpoint(new)
                after = parts.intent.desired.of(endpoint_id)
                operations = diff(state_of(after), state_of(before))
                failures: list[Failure] = []
                try:
                    failures = await self._execution.apply(operations, new)
                    if failures:
                        raise await self._execution.explained(failures, new)
                    # The same host port may lead elsewhere by now.
                    changed = set(old.endpoint.ports) ^ set(new.endpoint.ports)
                    await self._publishing.forget_flows(
                        held_ports(changed, families(new.endpoint.addresses))
                    )
                    await parts.store.commit(Change(put_endpoints=(new,)))
                except Exception:
                    parts.intent.add_endpoint(old)
                    self._publishing.release_rest(new, old, network)
                    await self._execution.undo(diff(state_of(before), state_of(after)), new)
                    raise
                self._publishing.release_rest(old, new, network)
        parts.names.put(new.endpoint)
        self._tell_changed(new.endpoint)
        await self._overlays.attached(new.endpoint)
        parts.events.emit("endpoint.updated", about=endpoint_id, name=new.endpoint.name)
        return new.endpoint

    async def detach(self, endpoint_id: str) -> None:
        """Detach; nothing to do when there is no such endpoint, or its namespace is gone."""
        record = self._parts.intent.records.get(endpoint_id)
        if record is None:
            return
        async with self._parts.locks.hold(record.endpoint.container_id):
            record = self._parts.intent.records.get(endpoint_id)
            if record is not None:
                await self._detach(record, "", "endpoint.detached")

    async def detach_container(self, container_id: str) -> None:
        """Detach all of a container's endpoints."""
        async with self._parts.locks.hold(container_id):
            records = self._parts.intent.of_container(container_id)
            # The one with the default route goes last, so that no other has to take it over.
            for record in sorted(records, key=lambda record: record.endpoint.default_route):
                await self._detach(record, "", "endpoint.detached")

    async def unmoved(self) -> frozenset[str]:
        """The endpoints that were handed over and whose end is still on the host."""
        handed_over = [i for i, rec in self._parts.intent.records.items() if rec.handed_over]
        if not handed_over:
            return frozenset()
        links = {link.name for link in (await self._parts.kernel.facts()).links}
        return frozenset(i for i in handed_over if peer_name(i) in links)

    async def sweep(self, endpoint_id: str, why: str) -> bool:
        """Detach an endpoint whose container died without saying so; False if it did not."""
        record = self._parts.intent.records.get(endpoint_id)
        if record is None:
            return False
        async with self._parts.locks.hold(record.endpoint.container_id):
            record = self._parts.intent.records.get(endpoint_id)
            if record is None:
                return False
            if record.sandbox is not None and await self._parts.kernel.alive(record.sandbox):
                return False
            await self._detach(record, why, "endpoint.swept")
            return True

    async def _detach(self, record: EndpointRecord, why: str, event: str) -> None:
        """End an endpoint; `why` is "" unless its namespace is gone."""
        parts = self._parts
        endpoint = record.endpoint
        network = parts.intent.network(endpoint.network_id)
        pools = parts.intent.pools[network.id]
        heirs = () if why else heirs_of(parts.intent, record)
        with parts.busy.work_on(endpoint.id, *(heir.endpoint.id for heir in heirs)):
            leases = leases_of(endpoint, pools, parts.clock.wall_s())
            note = () if why else note_of(record, parts.intent.desired.of(endpoint.id))
            await parts.store.commit(
                Change(
                    delete_endpoints=(endpoint.id,),
                    put_endpoints=(*note, *heirs),
                    put_leases=leases,
                )
            )
            # What it had can be had again at once: who takes it comes after this in the kernel.
            operations = farewell(parts.intent, record, why or "detach", heirs)
            parts.intent.remove_endpoint(record)
            parts.names.remove(endpoint.id)
            for follower in self.followers:
                follower.endpoint_ended(endpoint.id)
            self._overlays.detached(endpoint)
            self._publishing.release(record, network)
            give_back(pools, leases)
            await self._execution.undo(operations, record)
            await self._execution.strike(note)
            parts.reaper.retired(sum(op.verb == "retire" for op in operations))
        await self._overlays.close_unused(network)
        parts.conditions.forget(endpoint.id)
        parts.events.emit(
            event, about=endpoint.id, name=endpoint.name, detail=why, network=network.name
        )
        for heir in heirs:
            detail = "has the container's default route now"
            name = heir.endpoint.name
            parts.events.emit("endpoint.updated", about=heir.endpoint.id, name=name, detail=detail)

    def _tell_changed(self, endpoint: Endpoint) -> None:
        for follower in self.followers:
            follower.endpoint_changed(endpoint)


def _patched(old: EndpointRecord, patch: EndpointPatch, network: Network) -> EndpointRecord:
    changes = {
        name: value
        for name in patch.__struct_fields__
        if (value := getattr(patch, name)) is not None
    }
    asked = replace(old.request, **changes)
    check_attach(asked, network, handover=old.handed_over)
    if patch.name is not None:
        changes["name"] = name_of(asked)
    return replace(old, endpoint=replace(old.endpoint, **changes))
