"""Values that only answers are made of: status, members, names, plans, findings."""

from typing import Annotated, Any, Literal

import msgspec

from netd.model.condition import Condition
from netd.model.names import Word

RecordType = Literal["A", "AAAA", "SRV", "TXT", "PTR", "SOA", "NS", "ANY"]
MemberState = Literal["alive", "suspect", "dead", "left"]


class ProtocolRange(msgspec.Struct, frozen=True, kw_only=True):
    """The versions of the cluster's protocol that a member understands, and the one it speaks."""

    min: int
    max: int
    current: int


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A host of the cluster, as this host sees it.

    `rtt_ms` is 0 for the host itself and None for one that has not answered a probe yet.
    `reachable` says whether this host's own probes get through, whatever the others say.
    `epoch` grows with each start of the member's daemon, `incarnation` whenever it refutes that
    it is suspected. `clock_offset_ms` is the member's clock minus this host's, None where it is
    not known. `created_at` is when this host first heard of it, `since` when its state became
    what it is.
    """

    id: str
    name: str
    address: str
    state: MemberState
    rtt_ms: float | None
    version: str
    tags: dict[str, str] = {}
    reachable: bool = True
    epoch: int = 0
    incarnation: int = 0
    protocol: ProtocolRange | None = None
    clock_offset_ms: float | None = None
    created_at: str = ""
    since: str = ""
    conditions: tuple[Condition, ...] = ()


class AddressLevels(msgspec.Struct, frozen=True, kw_only=True):
    """How many addresses of one family this host owns of an overlay, to be given unasked, and how
    many of these anybody could have now.
    """

    network: str
    family: Literal[4, 6]
    owned: int
    free: int


class JoinResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one address that was to be joined: `error` is "" when it answered."""

    address: str
    error: str = ""


class JoinRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whom to join: `host`, `host:port` or `[v6]:port`; none with a token, which names some."""

    addresses: Annotated[tuple[Word, ...], msgspec.Meta(max_length=64)] = ()
    token: Annotated[str, msgspec.Meta(max_length=4096)] | None = None


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """The result for each address, at least one of which has answered, and the members now."""

    results: tuple[JoinResult, ...]
    members: tuple[Member, ...]


class KeyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key to install: 32 bytes in base64. Left out, the daemon makes one."""

    secret: Annotated[str, msgspec.Meta(max_length=256)] | None = None


class TokenRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long, in seconds, and how often a token is to be good."""

    expires_s: Annotated[int, msgspec.Meta(ge=1, le=31_536_000)] = 3600
    uses: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1


class ClusterKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key of the cluster's ring, without its secret.

    `id` is derived from the secret, so it is the same on all hosts; the `primary` key is the one
    that this host sends with. `holders` and `users` are names of members: those that have the
    key, and those that send with it.
    """

    id: str
    primary: bool
    holders: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    created_at: str = ""
    conditions: tuple[Condition, ...] = ()


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """Lets `uses` hosts into the cluster until `expires_at`. A secret until then."""

    token: str
    expires_at: str
    uses: int


class ClusterRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record of the replicated log that this host sees.

    `owner` is the id of the member that wrote it and `node` its name; `scope` is hexadecimal,
    all zeros for records that everybody has. `value` is what the JSON says where `encoding` is
    json, else the bytes in base64.
    """

    owner: str
    node: str
    scope: str
    table: str
    key: str
    encoding: Literal["json", "base64"]
    value: Any


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """`drift` counts operations that the last look at the kernel found to be needed."""

    node: str
    version: str
    ready: bool
    members: int
    networks: int
    endpoints: int
    drift: int
    capabilities: tuple[str, ...]
    kernel: str = ""
    boot_id: str = ""
    started_at: str = ""
    config_error: str = ""
    conditions: tuple[Condition, ...] = ()


class NameRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A name and what it leads to. `network` is "" for names that everyone may see."""

    name: str
    type: RecordType
    ttl_s: int
    data: str
    network: str = ""


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one look-up; rcodes as in RFC 1035 and RFC 2136."""

    rcode: Literal["NOERROR", "NXDOMAIN", "REFUSED"]
    records: tuple[NameRecord, ...] = ()


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """A look-up with all that its answer has, and in words how it came about.

    `rcode` FORWARD says that the registry asks others. `networks` are those whose names whoever
    asks may see; None: all names.
    """

    rcode: Literal["NOERROR", "NXDOMAIN", "REFUSED", "FORWARD"]
    records: tuple[NameRecord, ...]
    additional: tuple[NameRecord, ...]
    authority: tuple[NameRecord, ...]
    networks: tuple[str, ...] | None
    steps: tuple[str, ...]


class NameChange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line of `GET /v1/names?watch=1`.

    First every record as `add`, then one `sync` line, then changes as they happen.
    """

    revision: int
    op: Literal["add", "remove", "sync"]
    record: NameRecord | None = None


class PlannedOperation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of a plan in words. `ns` is "" for the host."""

    verb: str
    object: str
    ns: str
    owner: str
    reason: str
    error: str = ""


class Reclaim(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Hosts, by name or id, that will not come back with the addresses they own of a network."""

    members: Annotated[tuple[Word, ...], msgspec.Meta(min_length=1, max_length=1000)]


class Reclaimed(msgspec.Struct, frozen=True, kw_only=True):
    """The prefixes that this host owns now; of a network whose addresses are in etcd, those that
    are free there now.
    """

    prefixes: tuple[str, ...]


class ReconcileReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass did; `failed` operations carry their error."""

    applied: tuple[PlannedOperation, ...] = ()
    failed: tuple[PlannedOperation, ...] = ()
    swept: tuple[str, ...] = ()
    duration_ms: float = 0.0


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check of `netctl doctor`."""

    check: str
    level: Literal["ok", "warning", "error"]
    detail: str
    remedy: str = ""
