"""Use cases on endpoints: attach, update, detach.

Attach, read top to bottom: check the request; enter the namespace; put the endpoint into
intent (which takes its addresses and ports); apply the objects the network's driver makes of
it; write it to the store; answer. The answer is durable. Whatever fails undoes what was done.
A daemon that is killed half-way leaves objects whose tag names an endpoint the store does
not know; the next start removes them. Where there would be no such tag, inside a container, a
note in the store leads there.
"""

import logging

from msgspec.structs import replace

from netd.engine.allocation import give_back, leases_of
from netd.engine.composing import Composer, default_families, leads_outside
from netd.engine.containers import Containers, check_same
from netd.engine.failures import explain
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
from netd.model.errors import Exhausted, KernelFailure, NetdError, NotFound, Unavailable
from netd.model.names import peer_name
from netd.model.network import Network
from netd.plan.bridge import PORTS_MAX
from netd.plan.compile import needs_routing
from netd.plan.diff import creation, diff, removal
from netd.plan.objects import HOST, Ifb, Macvlan, Object, Route, Rule, Veth, state_of
from netd.plan.operations import Failure, Operation
from netd.plan.ports import families, held_ports

log = logging.getLogger(__name__)


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
            note = _note(record, objects)
            failures: list[Failure] = []
            try:
                if note:
                    await parts.store.commit(Change(put_endpoints=note))
                await self._overlays.attaching(record.endpoint)
                failures = await self._apply(creation(objects, "attach"), record)
                if failures:
                    raise await self._explained(failures, record)
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
                await self._undo(removal(made, "attach failed"), record)
                await self._strike(note)
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
                    failures = await self._apply(operations, new)
                    if failures:
                        raise await self._explained(failures, new)
                    # The same host port may lead elsewhere by now.
                    changed = set(old.endpoint.ports) ^ set(new.endpoint.ports)
                    await self._publishing.forget_flows(
                        held_ports(changed, families(new.endpoint.addresses))
                    )
                    await parts.store.commit(Change(put_endpoints=(new,)))
                except Exception:
                    parts.intent.add_endpoint(old)
                    self._publishing.release_rest(new, old, network)
                    await self._undo(diff(state_of(before), state_of(after)), new)
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
        heirs = () if why else self._heirs(record)
        with parts.busy.work_on(endpoint.id, *(heir.endpoint.id for heir in heirs)):
            leases = leases_of(endpoint, pools, parts.clock.wall_s())
            note = () if why else _note(record, parts.intent.desired.of(endpoint.id))
            await parts.store.commit(
                Change(
                    delete_endpoints=(endpoint.id,),
                    put_endpoints=(*note, *heirs),
                    put_leases=leases,
                )
            )
            # What it had can be had again at once: who takes it comes after this in the kernel.
            operations = self._farewell(record, why or "detach", heirs)
            parts.intent.remove_endpoint(record)
            parts.names.remove(endpoint.id)
            for follower in self.followers:
                follower.endpoint_ended(endpoint.id)
            self._overlays.detached(endpoint)
            self._publishing.release(record, network)
            give_back(pools, leases)
            await self._undo(operations, record)
            await self._strike(note)
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

    def _heirs(self, record: EndpointRecord) -> tuple[EndpointRecord, ...]:
        """Who takes over the default route: of the container's other endpoints the oldest that
        leaves it to netd whether it has one; nobody if there is none.
        """
        endpoint = record.endpoint
        if not endpoint.default_route or record.sandbox is None:
            return ()
        intent = self._parts.intent
        others = [
            other
            for other in intent.of_sandbox(record.sandbox.key)
            if other.endpoint.id != endpoint.id
        ]
        kept = frozenset().union(*(default_families(other.endpoint) for other in others))
        for other in others:
            if (
                other.endpoint.container_id == endpoint.container_id  # whose lock is held
                and other.request.default_route is None
                and not other.endpoint.default_route
                and leads_outside(intent.network(other.endpoint.network_id))
                and not families(other.endpoint.gateways) & kept
            ):
                return (replace(other, endpoint=replace(other.endpoint, default_route=True)),)
        return ()

    def _farewell(
        self, record: EndpointRecord, reason: str, heirs: tuple[EndpointRecord, ...]
    ) -> list[Operation]:
        """What removes the endpoint's objects, and makes its heirs' as they have to be now."""
        desired = self._parts.intent.desired
        objects = desired.of(record.endpoint.id)
        operations = [_retiring(op) for op in removal(objects, reason)]
        for heir in heirs:
            # A retired link stays for a moment, and so would its default route, in the way.
            first = [obj for obj in objects if isinstance(obj, Route) and obj.ns]
            operations[:0] = [Operation(verb="delete", object=obj, reason=reason) for obj in first]
            before = state_of(desired.of(heir.endpoint.id))
            self._parts.intent.add_endpoint(heir)
            operations += diff(state_of(desired.of(heir.endpoint.id)), before)
        return operations

    async def _apply(self, operations: list[Operation], record: EndpointRecord) -> list[Failure]:
        if not operations:
            return []
        sandboxes = {record.sandbox.key: record.sandbox} if record.sandbox else {}
        return await self._parts.kernel.apply(operations, sandboxes)

    async def _explained(self, failures: list[Failure], record: EndpointRecord) -> NetdError:
        sandbox = record.sandbox
        if sandbox is not None and not await self._parts.kernel.alive(sandbox):
            return NotFound(f"the container has ended: {sandbox.path} is no more", field="netns")
        return explain(failures)

    async def _undo(self, operations: list[Operation], record: EndpointRecord) -> None:
        """Take back what intent no longer wants, and UDP flows to the ports that had it.

        What the kernel refuses is left to the reconciler, which finds it by its tag.
        """
        try:
            for failure in await self._apply(operations, record):
                log.warning("endpoint %s: %s", record.endpoint.id, failure.text())
            await self._publishing.forget_flows(ports_of(record))
        except KernelFailure as error:
            log.warning("endpoint %s: %s", record.endpoint.id, error.detail)

    async def _strike(self, note: tuple[EndpointRecord, ...]) -> None:
        """Delete the note of what is done. If that fails, the next start does it once more."""
        if not note:
            return
        try:
            ids = tuple(record.endpoint.id for record in note)
            await self._parts.store.commit(Change(delete_endpoints=ids))
        except Unavailable as error:
            log.warning("endpoint %s: %s", note[0].endpoint.id, error.detail)


def _note(record: EndpointRecord, objects: list[Object]) -> tuple[EndpointRecord, ...]:
    """What has to be in the store while `objects` are made or removed.

    Nothing where all that is inside the container comes and goes with a link of the host.
    """
    lingering = any(isinstance(obj, Macvlan | Rule) and obj.ns != HOST for obj in objects)
    return (replace(record, unfinished=True),) if lingering else ()


def _retiring(operation: Operation) -> Operation:
    """Removing a link is slow, so detach cuts it off and leaves the removal to the reaper."""
    if operation.verb == "delete" and isinstance(operation.object, Veth | Ifb):
        return replace(operation, verb="retire")
    return operation


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
