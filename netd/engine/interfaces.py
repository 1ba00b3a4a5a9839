"""What the engine needs of the world. Adapters implement these; the engine imports none."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, Protocol

import msgspec

from netd.model.endpoint import EndpointRecord, Lease, Sandbox
from netd.model.network import Network
from netd.model.views import ClusterKey, JoinResult, Member, MemberState, Token
from netd.plan.facts import Facts
from netd.plan.objects import Key, State
from netd.plan.operations import Failure, Operation
from netd.plan.ports import HeldPort

GLOBAL_SCOPE: Final = bytes(8)  # of records that every member has


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


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A record that this node is to publish; `value` None deletes it.

    `table` has at most 32 characters, `key` 255, `value` 64 KiB. `scope` is 8 bytes: members
    that subscribe to it get the record, everybody those of `GLOBAL_SCOPE`.
    """

    table: str
    key: str
    value: bytes | None
    scope: bytes = GLOBAL_SCOPE


class MemberChange(msgspec.Struct, frozen=True, kw_only=True):
    """A member is new (`before` is None), or something about it is."""

    member: Member
    before: MemberState | None = None


class RecordChange(msgspec.Struct, frozen=True, kw_only=True):
    """A record came or changed; `value` None: it is deleted, or its owner dead or gone.

    `owner` is a member's id. This node's own records are reported too.
    """

    owner: str
    scope: bytes
    table: str
    key: str
    value: bytes | None


class ProblemChange(msgspec.Struct, frozen=True, kw_only=True):
    """A problem of the cluster came, or it went: then `detail` is "".

    `code` is duplicate-name, cloned-identity, protocol-version or members-exceeded; `about` the
    id of the member concerned.
    """

    code: str
    about: str
    detail: str


ClusterChange = MemberChange | RecordChange | ProblemChange


class PeerHealth(msgspec.Struct, frozen=True, kw_only=True):
    """What this node knows of the way to another member. None is what was not tried yet.

    `clock_offset_s` is the peer's clock minus this node's. `keys_missing` are the ids of keys
    that this node has and the peer has not.
    """

    id: str
    name: str
    address: str
    state: MemberState
    udp_ok: bool | None = None
    tcp_ok: bool | None = None
    clock_offset_s: float | None = None
    version: str = ""
    protocol_min: int = 0
    protocol_max: int = 0
    keys_missing: tuple[str, ...] = ()


class ClusterHealth(msgspec.Struct, frozen=True, kw_only=True):
    """What `doctor` and metrics ask of the cluster.

    `bound` and `advertised` are `address:port`, "" while this node is on its own. `secured` says
    whether packets are sealed with a key. `primary` is the id of the key that this node sends
    with, "" without one. `unanswered` has those of the addresses to join, from the configuration,
    that have not answered, each with why. `refused` counts packets by the reason they were
    refused for, `queued` what waits, by queue.
    """

    bound: str = ""
    advertised: str = ""
    secured: bool = False
    primary: str = ""
    protocol_min: int = 0
    protocol_max: int = 0
    peers: tuple[PeerHealth, ...] = ()
    problems: tuple[ProblemChange, ...] = ()
    unanswered: Mapping[str, str] = {}
    refused: Mapping[str, int] = {}
    queued: Mapping[str, int] = {}


class Cluster(Protocol):
    """The cluster that this node is a member of, or on its own. Ids are hexadecimal.

    What is read is what is known here just now: no read waits for the network.
    """

    id: str  # this node's

    def members(self) -> tuple[Member, ...]:
        """This node first, then the others by name. `tags` and `conditions` are left empty."""
        ...

    async def join(self, addresses: Sequence[str], token: str | None) -> tuple[JoinResult, ...]:
        """Ask all the addresses (`host`, `host:port`, `[v6]:port`; port 7940 by default).

        With a token, a node that has no key gets the cluster's; without addresses, those that
        the token names are asked. Raises `Invalid` for an address or token that cannot be right
        (fields `addresses[N]`, `token`), and `Unavailable` when this node cannot take part at
        all. That nobody answers is told by the results.
        """
        ...

    async def leave(self) -> None:
        """Tell the others and be on its own from then on. Does nothing when it is already.

        Records and problems of the others are reported as gone.
        """
        ...

    def keys(self) -> tuple[ClusterKey, ...]:
        """The primary key first; () without a key."""
        ...

    async def install_key(self, secret: bytes | None) -> ClusterKey:
        """Have all members hold a key of 32 bytes, or a new one. Done again it does nothing.

        Raises `Invalid` for a secret of another length, `Unavailable` when it cannot be stored.
        """
        ...

    async def use_key(self, key_id: str) -> ClusterKey:
        """Have all members send with a key.

        Raises `NotFound`, and `Conflict` naming the members that do not hold it yet.
        """
        ...

    async def remove_key(self, key_id: str) -> None:
        """Have all members forget a key.

        Raises `NotFound`, and `Conflict` for the primary one and naming the members that still
        send with it.
        """
        ...

    async def issue_token(self, expires_s: int, uses: int) -> Token:
        """A token for `join` on hosts that are not members. `Unavailable` without a key."""
        ...

    def publish(self, records: Sequence[Record]) -> None:
        """Have all members see these records of this node, and no other value of theirs.

        Records live as long as the process. Raises `Invalid` for one that is too large.
        """
        ...

    def watch(self, notify: Callable[[ClusterChange], None]) -> Callable[[], None]:
        """Call `notify` on the event loop for each change; the result stops it.

        Before it returns, it has called `notify` for all members, visible records and problems
        there are.
        A member that is not in `members` any more is reported as left.
        """
        ...

    async def look(self) -> None:
        """Ask members, some of many, what `health` is to tell. Takes some seconds at most."""
        ...

    def health(self) -> ClusterHealth: ...

    def counters(self) -> dict[str, int]:
        """What is counted since the start, by name."""
        ...

    def levels(self) -> dict[str, int]:
        """What is waiting or kept just now, by name."""
        ...

    async def close(self) -> None:
        """Stop taking part, without leaving: the others will find this node dead, or back."""
        ...
