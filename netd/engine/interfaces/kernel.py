"""What the engine needs of the kernel."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from netd.model.endpoint import Sandbox
from netd.plan.facts import Echo, Facts, NextHop
from netd.plan.objects import Key, State
from netd.plan.operations import Failure, Operation
from netd.plan.ports import HeldPort
from netd.plan.tunnels import Neighbour
from netd.plan.virtual import Flows


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
    `key` and `value` are for forwarding entries and neighbours of netd's tunnels: the object's
    key, and the destination or MAC that it has now; one that has lost a half is deleted.
    The rest is set for links only, `mac` and `owner`, which the link's tag names ("" where the
    tag is not whole), for the host's only; `flood` and `quiet` for tunnels.
    """

    kind: Literal[
        "link",
        "address",
        "route",
        "rule",
        "fdb",
        "neighbour",
        "shaping",
        "sysctl",
        "ruleset",
        "lost",
    ]
    verb: Literal["new", "delete"]
    name: str = ""
    host: bool = True
    nsid: int = -1
    key: Key = ()
    value: str = ""
    master: str | None = None
    up: bool = True
    mtu: int = 0
    mac: str = ""
    owner: str = ""
    flood: bool = False
    quiet: bool = True


class WatchedProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A process that is watched until `stop` is called. With `start_ticks` it is recognised."""

    start_ticks: int
    stop: Callable[[], None]


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

    async def forget_flows(self, flows: Sequence[Flows]) -> int:
        """Forget flows to virtual addresses, TCP's too; return how many entries went."""
        ...

    async def next_hop(
        self, sandbox: Sandbox | None, destination: str, source: str | None = None
    ) -> NextHop | None:
        """Which way a packet to an address goes from a namespace, the host's for None.

        None where there is no way, or no such namespace any more. `source` is an address of the
        namespace, for rules that look at it.
        """
        ...

    async def mtus_to(self, addresses: Sequence[str]) -> dict[str, int]:
        """The size of packets, in bytes, that the host's way to each address carries.

        As its route says, or else its link; what was learnt from too large packets passes and
        does not count. There is nothing for an address without a way.
        """
        ...

    async def echo(self, address: str, size: int, timeout_s: float) -> Echo:
        """Have an address answer a packet from the host that must not be fragmented.

        `size` is in bytes, the IP header included. Other calls go on meanwhile.
        """
        ...

    async def announce(self, neighbours: Sequence[Neighbour]) -> None:
        """Tell who is on the neighbours' bridges which MACs they have, without being asked.

        Other calls go on meanwhile. A bridge that is gone is passed over.
        """
        ...

    def watch(self, notify: Callable[[Trigger], None]) -> Callable[[], None]:
        """Call `notify` on the event loop for each change; the result stops it."""
        ...

    def watch_process(
        self, pid: int, start_ticks: int | None, ended: Callable[[], None]
    ) -> WatchedProcess:
        """Call `ended` once, on the event loop, as soon as a process of the host has ended.

        With the `start_ticks` that it had before, another process that has the pid by now is
        not taken for it. Raises `NotFound` when there is no such process, `Invalid` for a thread
        that is not its process's first, `Exhausted` when the daemon has too many open files.
        """
        ...
