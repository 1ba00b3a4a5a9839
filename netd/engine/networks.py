"""Use cases on networks."""

import asyncio
import ipaddress
import logging
from collections.abc import Sequence

import msgspec

from netd.engine.failures import explain
from netd.engine.host import Host
from netd.engine.interfaces import Change
from netd.engine.kept_subnets import KeptSubnets
from netd.engine.overlay.overlays import Overlays
from netd.engine.parts import Parts
from netd.engine.settings import Settings
from netd.model.errors import Conflict, KernelFailure, Unavailable
from netd.model.names import check_labels, check_network_name
from netd.model.network import DriverName, Network, NetworkSpec, difference
from netd.plan.addresses import Taken, choose_subnet, ranges_in_use, ula_prefix, ula_subnets
from netd.plan.compile import driver_of, local_driver_of
from netd.plan.context import Identity, Surroundings
from netd.plan.diff import creation, removal
from netd.plan.objects import HOST_OWNER
from netd.plan.operations import Failure, Operation

log = logging.getLogger(__name__)


class Networks:
    """Create and delete. One at a time, because each new network must avoid all others."""

    def __init__(self, parts: Parts, host: Host, overlays: Overlays) -> None:
        self._parts = parts
        self._host = host
        self._overlays = overlays
        self._one_at_a_time = asyncio.Lock()
        self.kept_subnets = KeptSubnets()

    async def create(self, spec: NetworkSpec) -> tuple[Network, bool]:
        """Make the network, or find that it exists: (network, whether it is new).

        Raises `Invalid`, `Conflict` (another spec under this name, an overlapping subnet, a
        foreign link in the way), `Exhausted`, `Unavailable`, `KernelFailure`.
        """
        check_network_name(spec.name)
        check_labels(spec.labels)
        parts = self._parts
        async with self._one_at_a_time:
            existing = self.find(spec.name)
            # What an overlay's name means is not this host's alone to say.
            of_cluster = existing is not None and existing.driver == spec.driver == "overlay"
            if existing is not None and not of_cluster:
                field = difference(existing, spec)
                if field is None:
                    return existing, False
                has = msgspec.json.encode(getattr(existing, field)).decode()
                raise Conflict(
                    f"network {spec.name!r} exists with {field} {has}; choose another "
                    "name, or delete it first",
                    field=field,
                )
            await self._host.look()
            if spec.driver == "overlay":
                network, created = await self._overlays.create(
                    spec, self._surroundings(spec.driver)
                )
            else:
                identity = Identity(id=parts.clock.new_id(), created_at=parts.now())
                driver = local_driver_of(spec.driver)
                network = driver.complete(spec, identity, self._surroundings(spec.driver))
                await self._make(network)
                created = True
        if created:
            parts.events.emit("network.created", about=network.id, name=network.name)
        return network, created

    async def free_subnet(self, version: int, but: Sequence[str]) -> str:
        """A subnet that is free now and overlaps none of `but`. Raises `Exhausted`."""
        await self._host.look()
        around = self._surroundings("bridge")
        taken = [
            *around.taken,
            *(Taken(ipaddress.ip_network(text), f"a network to come ({text})") for text in but),
        ]
        pools = around.ipv4_pools if version == 4 else around.ipv6_pools
        return str(choose_subnet(pools, taken, kept=around.kept))

    def find(self, ref: str) -> Network | None:
        """By name or id: a network of this host, or of the cluster.

        An overlay of this host whose name is another's in the cluster is found by its id only.
        """
        own = self._parts.intent.find_network(ref)
        if own is None or (ref != own.id and self._is_superseded(own)):
            return self._overlays.find(ref)
        return own

    def network(self, ref: str) -> Network:
        """By name or id. Raises `NotFound`."""
        return self.find(ref) or self._parts.intent.network(ref)

    def all(self) -> list[Network]:
        """Those of this host and of the cluster, by name; of overlays the one that has it."""
        shown = [network for network in self._known() if not self._is_superseded(network)]
        return sorted(shown, key=lambda network: network.name)

    def _known(self) -> list[Network]:
        own = self._parts.intent.networks
        return [*own.values(), *(n for n in self._overlays.networks() if n.id not in own)]

    def _is_superseded(self, network: Network) -> bool:
        """Whether it is an overlay whose name is another's in the cluster."""
        holding = self._overlays.find(network.name) if network.driver == "overlay" else None
        return holding is not None and holding.id != network.id

    async def delete(self, ref: str, *, keep_subnets: bool = False) -> None:
        """Delete the network; nothing to do when there is none.

        With `keep_subnets` no network gets those of a local one because it leaves them to netd.
        Raises `Conflict` naming the endpoints that use it, `Unavailable`.
        """
        parts = self._parts
        async with self._one_at_a_time:
            network = self.find(ref) or await self._overlays.look_for(ref)
            if network is None:
                return
            self._check_unused(network)
            if network.driver == "overlay":
                await self._overlays.delete(network.id)
                return
            # Out of intent before the first await: no attach can begin from here on.
            leases = self._leases_of(network)
            objects = parts.intent.desired.of(network.id)
            pools = parts.intent.remove_network(network)
            kept = self.kept_subnets.with_more(network.subnets) if keep_subnets else {}
            with parts.busy.work_on(network.id, HOST_OWNER):
                try:
                    await parts.store.commit(
                        Change(delete_networks=(network.id,), delete_leases=leases, put_facts=kept)
                    )
                except Exception:
                    parts.intent.add_network(network, pools)
                    raise
                if kept:
                    self.kept_subnets.restore(kept)
                objects = objects + self._host.update(parts.intent.networks.values()).dropped
                await self._undo(network, removal(objects, "network deleted"))
        parts.conditions.forget(network.id)
        parts.events.emit("network.deleted", about=network.id, name=network.name)

    async def follow(self, settings: Settings) -> None:
        """Let other settings decide, also on what all networks share in the kernel.

        That is wanted afterwards, not done. Raises `Unavailable`, with the old ones in force.
        """
        parts = self._parts
        async with self._one_at_a_time:
            old, parts.settings = parts.settings, settings
            try:
                await self._host.remember_sysctls(parts.intent.networks.values())
            except Unavailable:
                parts.settings = old
                raise
            self._host.update(parts.intent.networks.values())

    async def _make(self, network: Network) -> None:
        """Make the network's objects and store it. Nobody else sees it before it is durable."""
        parts = self._parts
        objects = driver_of(network.driver).network_objects(network)
        self._host.check_links(network, objects)
        networks = [*parts.intent.networks.values(), network]
        await self._host.remember_sysctls(networks)
        with parts.busy.work_on(network.id, HOST_OWNER):
            parts.intent.desired.put(network.id, objects)
            operations = creation([*self._host.update(networks).added, *objects], "network created")
            failures: list[Failure] = []
            try:
                failures = await parts.kernel.apply(operations, {})
                if failures:
                    raise explain(failures)
                await parts.store.commit(Change(put_networks=(network,)))
            except Exception:
                parts.intent.desired.drop(network.id)
                dropped = self._host.update(parts.intent.networks.values()).dropped
                failed = {failure.operation.object.key for failure in failures}
                made = [obj for obj in [*objects, *dropped] if obj.key not in failed]
                await self._undo(network, removal(made, "network not created"))
                raise
            parts.intent.add_network(network)

    async def _undo(self, network: Network, operations: Sequence[Operation]) -> None:
        """What the kernel refuses is left to the reconciler, which finds it by its tag."""
        try:
            for failure in await self._parts.kernel.apply(operations, {}):
                log.warning("network %s: %s", network.name, failure.text())
        except KernelFailure as error:
            log.warning("network %s: %s", network.name, error.detail)

    def _surroundings(self, driver: DriverName) -> Surroundings:
        parts = self._parts
        networks = tuple(self._known())
        taken = [
            Taken(ipaddress.ip_network(subnet), f"network {network.name!r} ({subnet})")
            for network in networks
            for subnet in network.subnets
        ]
        pools = parts.settings.virtual_pools
        taken += [
            Taken(ipaddress.ip_network(pool), f"virtual addresses of services ({pool})")
            for pool in (pools.ipv4, pools.ipv6)
        ]
        taken += ranges_in_use(parts.facts, ())
        settings = parts.settings
        ipv6_pools = settings.ipv6_pools
        if driver != "overlay" and not ipv6_pools:
            ipv6_pools = (ula_subnets(str(ula_prefix(self._host.node_id))),)
        return Surroundings(
            facts=parts.facts,
            networks=networks,
            taken=taken,
            kept=self.kept_subnets.all(),
            ipv4_pools=settings.ipv4_pools,
            ipv6_pools=ipv6_pools,
        )

    def _check_unused(self, network: Network) -> None:
        users = [record.endpoint for record in self._parts.intent.of_network(network.id)]
        if users:
            names = ", ".join(f"{user.id} ({user.name or user.container_id})" for user in users[:5])
            more = f" and {len(users) - 5} more" if len(users) > 5 else ""
            raise Conflict(f"network {network.name!r} is used by endpoints {names}{more}")

    def _leases_of(self, network: Network) -> tuple[tuple[str, str], ...]:
        return tuple(
            (network.id, str(address))
            for pool in self._parts.intent.pools[network.id]
            for address in pool.remembered()
        )
