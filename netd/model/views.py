"""Values that only answers are made of: status, members, names, plans, findings."""

from typing import Literal

import msgspec

from netd.model.condition import Condition

RecordType = Literal["A", "AAAA", "PTR"]
MemberState = Literal["alive", "suspect", "dead", "left"]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A host of the cluster. `rtt_ms` is 0 for the host itself."""

    id: str
    name: str
    address: str
    state: MemberState
    rtt_ms: float
    version: str
    tags: dict[str, str] = {}


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
