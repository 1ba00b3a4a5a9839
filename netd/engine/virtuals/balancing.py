"""Has the kernel lead virtual addresses to the instances that take connections.

Changes are collected while others are on their way, and one transaction makes those that were
collected, of some hundred services at the most.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable

from netd.engine.host import Host
from netd.engine.interfaces import Scope
from netd.engine.parts import Parts
from netd.engine.virtuals.catalogue import Catalogue
from netd.engine.virtuals.draining import Draining
from netd.engine.virtuals.inherited import Inherited, owner_of
from netd.engine.virtuals.instances import Instances
from netd.model.condition import Condition
from netd.model.errors import KernelFailure
from netd.model.service import Service
from netd.plan.addresses import bare
from netd.plan.diff import diff
from netd.plan.objects import HOST_OWNER, Key, Object, SetElement, State, Veth, state_of
from netd.plan.operations import Failure, Operation
from netd.plan.virtual import Flows, addresses_of, elements, flows_of
from netd.plan.virtual_rules import VirtualPools

log = logging.getLogger(__name__)

AT_ONCE = 200  # services in one batch: others on the event loop wait while it is composed
FAILED = "virtual-failed"  # a condition of the service's owner
UNABLE = "virtual addresses lead nowhere on this host: its libnftables is older than 1.0.3"


class Balancing:
    """`has_died` tells whether an instance that is gone has left nobody to drain."""

    def __init__(
        self,
        parts: Parts,
        host: Host,
        pools: VirtualPools,
        catalogue: Catalogue,
        instances: Instances,
        has_died: Callable[[Service], bool],
    ) -> None:
        self._parts = parts
        self._host = host
        self._pools = pools
        self._instances = instances
        self._catalogue = catalogue
        self._has_died = has_died
        self._inherited = Inherited()
        self.draining = Draining(parts)
        self._drain_s: dict[str, float] = {}  # of services that have addresses, or had
        self._gone: dict[str, Service] = {}  # instances, since the last batch of their service
        self._endpoints: dict[str, frozenset[str]] = {}  # own ones that have instances
        self._at_host: set[str] = set()  # services with instances at the host's addresses
        self._dirty: dict[str, None] = {}
        self._news = asyncio.Event()
        self._applying = asyncio.Lock()
        self.batches = 0

    # What changes

    def touch(self, names: Iterable[str]) -> None:
        """Something about these services has changed."""
        self._dirty.update(dict.fromkeys(names))
        if self._dirty:
            self._news.set()

    def instance_changed(self, before: Service | None, now: Service | None) -> None:
        if now is not None:
            self._inherited.see(now.name, now.addresses)
        if before is not None and now is None:
            self._gone[before.id] = before
        self.touch({each.name for each in (before, now) if each is not None})

    def host_has(self, addresses: tuple[str, ...]) -> None:
        """The host's own addresses (CIDR)."""
        own = frozenset(bare(addresses))
        if own != self._instances.host_addresses:
            self._instances.host_addresses = own
            self.touch(self._drain_s)

    def network_changed(self, name: str) -> None:
        """A network is new, gone, or this host has it now, or has it no more."""
        self.touch(self._instances.in_network(name))
        for network in self._instances.look_around():
            if network.is_open:
                self.touch(self._instances.in_open_networks())
            if network.internal:
                self.touch(self._at_host)

    def ports_changed(self) -> None:
        """Ports of this host lead elsewhere now."""
        self.touch(self._at_host)

    @property
    def waiting(self) -> int:
        return len(self._dirty)

    @property
    def is_able(self) -> bool:
        """Whether this host's nftables can lead virtual addresses to instances."""
        return "virtual" in self._parts.facts.capabilities

    # A host's life

    async def restore(self) -> None:
        """Have what is in the kernel stay, until others have been heard."""
        seen = await self._parts.kernel.observe(Scope())
        self._inherited.take(seen.state.values())
        for name in self._inherited:
            self._parts.intent.desired.put(owner_of(name), list(self._inherited.of(name)))
            self._host.virtual = self._pools

    def mirror_all(self) -> None:
        """Before the first look at the kernel: what endpoints need."""
        for name in self._catalogue.names():
            self._endpoints[name] = self._instances.endpoints(name)
        self._parts.intent.mirror(frozenset().union(*self._endpoints.values()))

    def end_grace(self) -> None:
        """What was not heard of until now is not there."""
        self.touch(self._inherited.end())

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._news.wait()
            await self._apply_changes()

    async def idle(self) -> None:
        """Return when all that was told before has been applied, whatever comes meanwhile."""
        for _ in range(len(self._dirty) // AT_ONCE + 2):
            if not self._dirty and not self._applying.locked():
                return
            await self._apply_changes()

    # How it works

    async def _apply_changes(self) -> None:
        async with self._applying:
            self._news.clear()
            dirty = dict.fromkeys(itertools.islice(self._dirty, AT_ONCE))
            for name in dirty:
                del self._dirty[name]
            if self._dirty:
                self._news.set()
            gone = [each for each in self._gone.values() if each.name in dirty]
            for each in gone:
                del self._gone[each.id]
            if not dirty:
                return
            if not self.is_able:
                self._say_unable(dirty)
                return
            self.batches += 1
            moved = self._mirrored(dirty)
            owners = [*map(owner_of, dirty), *moved]
            changed = {name: self._elements(name) for name in dirty}
            shared = self._shares(changed)
            with self._parts.busy.work_on(*owners, *([HOST_OWNER] if shared else [])):
                before = {name: self._known(name) for name in dirty}
                operations = self._share() if shared else []
                operations += self._mirror(moved)
                operations += self._take_over(changed)
                await self._apply(operations, owners)
            await self._forget(before, changed, gone)

    def _say_unable(self, names: Iterable[str]) -> None:
        conditions, since = self._parts.conditions, self._parts.now()
        unable = Condition(
            code=FAILED,
            severity="error",
            detail=UNABLE,
            remedy="install a newer libnftables1, and start netd again",
            since=since,
        )
        for name in names:
            conditions.replace(
                owner_of(name), FAILED, [unable] if self._catalogue.find(name) else []
            )

    def _mirrored(self, names: Iterable[str]) -> set[str]:
        """The endpoints that begin or cease to have instances of these services."""
        moved: set[str] = set()
        for name in names:
            old = self._endpoints.pop(name, frozenset())
            new = self._instances.endpoints(name) if self._catalogue.find(name) else frozenset()
            if new:
                self._endpoints[name] = new
            moved |= old ^ new
        return moved & self._parts.intent.records.keys()

    def _mirror(self, moved: set[str]) -> list[Operation]:
        """An instance may call itself, where br_netfilter is on by its own port of the bridge."""
        if not moved:
            return []
        intent = self._parts.intent
        before = {key: obj for each in moved for key, obj in _state(intent.desired.of(each))}
        intent.mirror(frozenset().union(*self._endpoints.values()))
        after = {key: obj for each in moved for key, obj in _state(intent.desired.of(each))}
        return diff(after, before)

    def _elements(self, name: str) -> list[SetElement]:
        """What a service is to have in the kernel."""
        definition, number = self._catalogue.find(name), self._catalogue.number(name)
        if definition is None or definition.spec is None or number is None:
            self._at_host.discard(name)
            ended = self._catalogue.has_ended(name)
            return [] if ended else self._inherited.of(name)
        spec = definition.spec
        self._drain_s[name] = spec.drain_s
        backends = self._instances.backends(name)
        if name in self._inherited:
            backends += self._inherited.unheard(name)
        if self._instances.are_at_host(backends):
            self._at_host.add(name)
        else:
            self._at_host.discard(name)
        found = elements(
            owner_of(name),
            addresses_of(self._pools, number),
            spec.ports,
            backends,
            spec.affinity,
            lead=self._instances.lead,
            networks=self._instances.networks,
        )
        return self._inherited.unless_same(name, found) if name in self._inherited else found

    def _known(self, name: str) -> list[SetElement]:
        known = self._parts.intent.desired.of(owner_of(name))
        return [each for each in known if isinstance(each, SetElement)]

    def _take_over(self, changed: dict[str, list[SetElement]]) -> list[Operation]:
        """Have intent as it is to be; return what that changes."""
        desired = self._parts.intent.desired
        wanted: State = {}
        before: State = {}
        for name, found in changed.items():
            before |= state_of(desired.of(owner_of(name)))
            wanted |= state_of(found)
        # An address may come to be another service's.
        before |= {key: desired.state[key] for key in wanted if key in desired.state}
        for name in changed:
            desired.drop(owner_of(name))
        for name, found in changed.items():
            if found:
                desired.put(owner_of(name), list(found))
        return diff(wanted, before)

    def _shares(self, changed: dict[str, list[SetElement]]) -> bool:
        """Whether what all virtual addresses need on this host is to come, or to go."""
        inherited = any(changed.get(name, self._known(name)) for name in self._inherited)
        return (self._host.virtual is not None) != (len(self._catalogue) > 0 or inherited)

    def _share(self) -> list[Operation]:
        desired = self._parts.intent.desired
        before = state_of(desired.of(HOST_OWNER))
        self._host.share_virtual(None if self._host.virtual else self._pools)
        return diff(state_of(desired.of(HOST_OWNER)), before)

    async def _apply(self, operations: list[Operation], owners: list[str]) -> None:
        if not operations:
            return
        try:
            failures = await self._parts.kernel.apply(operations, {})
        except KernelFailure as error:  # a look at intervals finds what is missing
            log.warning("%d elements of virtual addresses: %s", len(operations), error.detail)
            return
        self._judge(failures, owners)

    def _judge(self, failures: list[Failure], owners: list[str]) -> None:
        conditions = self._parts.conditions
        # A port of a bridge goes with its endpoint, which has ended then.
        failures = [each for each in failures if not isinstance(each.operation.object, Veth)]
        for failure in failures[:5]:
            log.warning("%s", failure.text())
        troubles = {failure.operation.object.owner: failure for failure in reversed(failures)}
        for owner in conditions.having(FAILED).intersection(owners) | troubles.keys():
            trouble = troubles.get(owner)
            found = [] if trouble is None else [_condition(trouble, self._parts.now())]
            conditions.replace(owner, FAILED, found)

    async def _forget(
        self,
        before: dict[str, list[SetElement]],
        changed: dict[str, list[SetElement]],
        gone: list[Service],
    ) -> None:
        """End the flows that lead elsewhere now, each kind in its time."""
        dead = [each for each in gone if self._has_died(each)]
        died = {(each.name, address) for each in dead for address in each.addresses}
        at_once: list[Flows] = []
        for name, found in changed.items():
            old, new = flows_of(before[name]), flows_of(found)
            self.draining.keep(new)
            left = old - new
            soon = {each for each in left if each.protocol == "udp" or (name, each.target) in died}
            at_once += soon
            self.draining.later(left - soon, self._drain_s.get(name, 0.0))
            # Where nothing was led anywhere, a client may have a flow to the address itself.
            led = {(each.address, each.port) for each in old}
            at_once += {
                Flows(protocol="udp", address=each.address, port=each.port)
                for each in new
                if each.protocol == "udp" and (each.address, each.port) not in led
            }
            if self._catalogue.find(name) is None:
                self._drain_s.pop(name, None)
        await self.draining.now(at_once)


def _state(objects: list[Object]) -> Iterable[tuple[Key, Object]]:
    return state_of(objects).items()


def _condition(failure: Failure, since: str) -> Condition:
    return Condition(
        code=FAILED,
        severity="error",
        detail=f"the kernel refused: {failure.text()}",
        remedy="netd tries again by itself; `netctl reconcile` does it now",
        since=since,
    )
