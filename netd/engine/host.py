"""The host itself: its facts, and the kernel objects that all networks share."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from netd.engine.intent import ports_of
from netd.engine.interfaces import Change
from netd.engine.parts import Parts
from netd.model.condition import Condition
from netd.model.endpoint import Endpoint, EndpointRecord
from netd.model.errors import Conflict, Unavailable
from netd.model.network import Network
from netd.plan.compile import host_objects
from netd.plan.facts import ForeignChain
from netd.plan.host import node_addresses
from netd.plan.objects import HOST_OWNER, Link, Object, Sysctl
from netd.plan.virtual_rules import VirtualPools

log = logging.getLogger(__name__)

# Facts in the store: what sysctls were before netd set them.
SYSCTL_BEFORE = "sysctl-before:"
FORWARDING_BEFORE = SYSCTL_BEFORE + "net/ipv4/ip_forward"


class Shared(msgspec.Struct, frozen=True):
    """How the shared objects changed: what came, what is no longer needed."""

    added: list[Object]
    dropped: list[Object]


class Host:
    """Observes the host and keeps the shared objects in step with the networks.

    `followers` are told the host's addresses after each look. `virtual` says where virtual
    addresses are from, while there are some.
    """

    def __init__(self, parts: Parts, node_id: str, kept: Mapping[str, str]) -> None:
        self._parts = parts
        self.node_id = node_id
        self.followers: list[Callable[[tuple[str, ...]], None]] = []
        self.virtual: VirtualPools | None = None
        self._sharing: tuple[Network, ...] = ()
        self._before = {k: v for k, v in kept.items() if k.startswith(SYSCTL_BEFORE)}

    async def look(self) -> None:
        """Observe the host anew; raise and clear conditions about it."""
        parts = self._parts
        parts.facts = await parts.kernel.facts()
        addresses = node_addresses(parts.facts)
        for follow in self.followers:
            follow(addresses)
        await self._move_host_endpoints(addresses)
        dropping = [_foreign_chain(chain) for chain in parts.facts.foreign_chains]
        needed = bool(parts.intent.desired.of(HOST_OWNER))
        parts.conditions.replace(HOST_OWNER, "foreign-", dropping if needed else [])

    async def _move_host_endpoints(self, addresses: tuple[str, ...]) -> None:
        """Let endpoints in host mode have the addresses that the host has now."""
        intent = self._parts.intent
        for network in list(intent.networks.values()):
            if network.driver != "host":
                continue
            for record in intent.of_network(network.id):
                if record.endpoint.addresses != addresses:
                    await self._move(record.endpoint, addresses)

    async def _move(self, endpoint: Endpoint, addresses: tuple[str, ...]) -> None:
        parts = self._parts
        async with parts.locks.hold(endpoint.container_id):
            record = parts.intent.records.get(endpoint.id)
            if record is None:  # detached meanwhile
                return
            moved = _with_addresses(record, addresses)
            try:
                await parts.store.commit(Change(put_endpoints=(moved,)))
            except Unavailable as error:  # tried again with the next look
                log.warning("endpoint %s keeps old addresses: %s", endpoint.id, error.detail)
                return
            parts.intent.add_endpoint(moved)
            parts.intent.ports.release(ports_of(record), endpoint.id)
            parts.intent.ports.claim(ports_of(moved), endpoint.id)
            parts.names.put(moved.endpoint)

    def update(self, networks: Iterable[Network]) -> Shared:
        """Recompute the shared objects for `networks`; return the difference."""
        parts = self._parts
        self._sharing = tuple(networks)
        old = {obj.key: obj for obj in parts.intent.desired.of(HOST_OWNER)}
        guard = parts.settings.forward_guard and self._before.get(FORWARDING_BEFORE) == "0"
        objects = host_objects(
            self._sharing,
            parts.facts,
            forward_guard=guard,
            manage_forwarding=parts.settings.manage_forwarding,
            tunnel_port=parts.settings.vxlan_port,
            virtual=self.virtual,
        )
        # accept_ra of an uplink reads 2 as soon as netd has set it; it stays wanted.
        managed = objects and parts.settings.manage_forwarding
        keep = [obj for obj in old.values() if managed and isinstance(obj, Sysctl)]
        new = {obj.key: obj for obj in [*keep, *objects]}
        parts.intent.desired.put(HOST_OWNER, list(new.values()))
        return Shared(
            added=[obj for key, obj in new.items() if old.get(key) != obj],
            dropped=[obj for key, obj in old.items() if key not in new],
        )

    def share_virtual(self, pools: VirtualPools | None) -> Shared:
        """Recompute the shared objects for virtual addresses from these pools, or for none."""
        self.virtual = pools
        return self.update(self._sharing)

    async def remember_sysctls(self, networks: Iterable[Network]) -> None:
        """Store what the sysctls that `networks` need are now, unless it is known.

        To be called before they are set: afterwards nobody could tell. Raises `Unavailable`.
        """
        parts = self._parts
        objects = host_objects(
            networks,
            parts.facts,
            forward_guard=False,
            manage_forwarding=parts.settings.manage_forwarding,
            tunnel_port=parts.settings.vxlan_port,
        )
        found = {
            SYSCTL_BEFORE + obj.name: parts.facts.sysctls.get(obj.name, "")
            for obj in objects
            if isinstance(obj, Sysctl) and SYSCTL_BEFORE + obj.name not in self._before
        }
        if found:
            await parts.store.commit(Change(put_facts=found))
            self._before.update(found)

    def check_links(self, network: Network, objects: Sequence[Object]) -> None:
        """Raise `Conflict` when a link of the network has a name that another link has."""
        for link in (obj for obj in objects if isinstance(obj, Link)):
            known = self._parts.facts.link(link.name)
            if known is not None and not known.ours:
                raise Conflict(
                    f"the host has a link {link.name!r} that is not netd's: rename it, or choose "
                    "another name for the network",
                    field="name",
                )
            # Long names are shortened to a hash, which a short name may look like.
            other = self._parts.intent.desired.state.get(link.key)
            if other is not None:
                name = self._parts.intent.network(other.owner).name
                raise Conflict(
                    f"network {network.name!r} would share the link {link.name!r} with network "
                    f"{name!r}; choose another name",
                    field="name",
                )


def _with_addresses(record: EndpointRecord, addresses: tuple[str, ...]) -> EndpointRecord:
    endpoint = msgspec.structs.replace(record.endpoint, addresses=addresses)
    return msgspec.structs.replace(record, endpoint=endpoint)


def _foreign_chain(chain: ForeignChain) -> Condition:
    remedy = "accept forwarded packets from and to nd-* links there"
    if chain.hook:
        remedy = f"set host.docker_user_hook = true (uses {chain.hook}), or {remedy}"
    elif chain.program == "ufw":
        remedy = "ufw route allow in on nd-+; ufw route allow out on nd-+ (or: " + remedy + ")"
    elif chain.program == "firewalld":
        remedy = (
            "firewall-cmd --permanent --zone=trusted --add-interface=nd-+ && firewall-cmd --reload "
            f"(or: {remedy})"
        )
    return Condition(
        code=f"foreign-{chain.table.replace(' ', '-')}-{chain.chain}",
        severity="error",
        detail=(
            f"chain {chain.chain} of table {chain.table} ({chain.program}) drops forwarded "
            f"packets: {chain.verdict}; containers cannot reach the outside"
        ),
        remedy=remedy,
    )
