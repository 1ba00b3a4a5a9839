"""What the engine needs of the world. Adapters implement these; the engine imports none."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from netd.model.endpoint import EndpointRecord, Lease, Sandbox
from netd.model.network import Network
from netd.plan.facts import Facts
from netd.plan.objects import Key, State
from netd.plan.operations import Failure, Operation
from netd.plan.ports import HeldPort


class Clock(Protocol):
    """Time and randomness. `wall_s` is Unix time, `monotonic_s` only ever grows."""

    def wall_s(self) -> float: ...
    def monotonic_s(self) -> float: ...
    def new_id(self) -> str:
        """16 hexadecimal digits that no other call returns."""
        ...


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Where an observation looks: always the host, and these namespaces.

    `wanted` is how things should be. Untagged objects and sysctls are reported only where it
    has their key; it also gives the owner of objects that have no room for a tag, and those
    attributes that cannot be seen from where the kernel is asked.
    """

    sandboxes: Mapping[str, Sandbox] = {}
    wanted: State = {}


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel has: tagged objects and, by key, untagged ones that were asked for.

    `missing` are the namespaces of the scope that are no more (or are others by now);
    `foreign` the keys of the scope that an object without netd's tag occupies;
    `retired` is the number of links marked for removal. `nsids` names, for each namespace
    id the kernel uses in events, the host's veths whose peers are in that namespace.
    """

    state: State
    missing: frozenset[str] = frozenset()
    foreign: frozenset[Key] = frozenset()
    retired: int = 0
    nsids: Mapping[int, frozenset[str]] = {}


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """Something changed in the kernel; a reason to look, never a fact to rely on.

    `kind` is what changed; `name` the link's name (of a shaping the link it is on), the
    address or the route's destination;
    `host` is False for an event of another namespace, which `nsid` then identifies as
    `Observation.nsids` does; `lost` says that events were lost.
    The rest is set for links only, `mac` and `owner`, which the link's tag names ("" where the
    tag is not whole), for the host's only.
    """

    kind: Literal["link", "address", "route", "rule", "shaping", "sysctl", "ruleset", "lost"]
    verb: Literal["new", "delete"]
    name: str = ""
    host: bool = True
    nsid: int = -1
    master: str | None = None
    up: bool = True
    mtu: int = 0
    mac: str = ""
    owner: str = ""


class Kernel(Protocol):
    """The kernel of this host. All calls may be made concurrently; they run one by one.

    Calls that read or write raise `KernelFailure` only when nothing was done at all.
    """

    async def facts(self) -> Facts: ...

    async def enter(self, *, path: str | None, pid: int | None) -> tuple[Sandbox, frozenset[str]]:
        """Check that `path` (or the pid's) is a network namespace; return it and its links.

        Raises `Invalid` when it is not one, `NotFound` when the path or pid is gone.
        """
        ...

    def own_sandbox_inode(self) -> int:
        """The inode of the daemon's own network namespace, the host's."""
        ...

    async def alive(self, sandbox: Sandbox) -> bool:
        """Whether the sandbox's path still leads to the same network namespace."""
        ...

    async def observe(self, scope: Scope) -> Observation: ...

    async def apply(
        self, operations: Sequence[Operation], sandboxes: Mapping[str, Sandbox]
    ) -> list[Failure]:
        """Run the operations in order; go on after a failure. [] when all succeeded.

        Already present for `add` and already absent for `delete` are successes.
        `sandboxes` leads from the operations' `ns` to where to find them.
        """
        ...

    async def reap(self) -> int:
        """Remove all retired links in one request; return how many there were."""
        ...

    def hold_ports(self, ports: Sequence[HeldPort]) -> list[HeldPort]:
        """Bind the ports so that no other program can; all or none.

        Returns those that somebody else holds; [] means that all are held now.
        """
        ...

    def release_ports(self, ports: Sequence[HeldPort]) -> None: ...

    def busy_ports(self, ports: Sequence[HeldPort]) -> list[HeldPort]:
        """Those of the ports that some socket of the host holds; nothing is held after."""
        ...

    async def flush_conntrack(self, ports: Sequence[HeldPort]) -> int:
        """Forget UDP flows to these host ports; return how many entries went."""
        ...

    def watch(self, notify: Callable[[Trigger], None]) -> Callable[[], None]:
        """Call `notify` on the event loop for each change; the result stops it."""
        ...


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All that is durable."""

    networks: tuple[Network, ...] = ()
    endpoints: tuple[EndpointRecord, ...] = ()
    leases: tuple[Lease, ...] = ()
    facts: Mapping[str, str] = {}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction on the store. Deletions are by id, leases by (network, address)."""

    put_networks: tuple[Network, ...] = ()
    delete_networks: tuple[str, ...] = ()
    put_endpoints: tuple[EndpointRecord, ...] = ()
    delete_endpoints: tuple[str, ...] = ()
    put_leases: tuple[Lease, ...] = ()
    delete_leases: tuple[tuple[str, str], ...] = ()
    put_facts: Mapping[str, str] = {}


class Store(Protocol):
    """Durable intent. When `commit` has returned, the change survives kill -9."""

    async def load(self) -> Snapshot: ...

    async def commit(self, change: Change) -> None:
        """Apply the change whole or not at all. Raises `Unavailable`, e.g. on a full disk."""
        ...

    async def close(self) -> None: ...
