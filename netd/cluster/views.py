"""The core's members, records and problems, in the engine's terms. Ids become hexadecimal."""

import time
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from netd.cluster.addresses import text
from netd.cluster.core import Core
from netd.cluster.settings import ClusterSettings
from netd.engine.interfaces import PeerHealth, ProblemChange, Record, RecordChange
from netd.gossip.keys import RingNotice
from netd.gossip.member import Member as KnownMember
from netd.gossip.ring import Ring
from netd.gossip.settings import PROTOCOL_MAX, PROTOCOL_MIN
from netd.gossip.values import (
    GLOBAL,
    KEY_MAX_CHARS,
    NODE_ID_BYTES,
    SCOPE_BYTES,
    TABLE_MAX_CHARS,
    VALUE_MAX_BYTES,
    NodeId,
    ProblemChanged,
    RecordChanged,
    State,
)
from netd.model.errors import Invalid
from netd.model.views import ClusterKey, Member, MemberState, ProtocolRange

STATES: Final[dict[State, MemberState]] = {
    State.ALIVE: "alive",
    State.SUSPECT: "suspect",
    State.DEAD: "dead",
    State.LEFT: "left",
}


class Measures(NamedTuple):
    """What changes of a member without being told. Milliseconds."""

    rtt_ms: float | None
    clock_offset_ms: float | None


class Report(NamedTuple):
    """What can be read of the cluster, as it was a moment ago. `members` are by id."""

    members: Mapping[str, Measures] = {}
    peers: tuple[PeerHealth, ...] = ()
    keys: tuple[ClusterKey, ...] = ()
    levels: Mapping[str, int] = {}
    unanswered: Mapping[str, str] = {}
    udp_dropped: int = 0


class MemberViews:
    """Makes members to show, and remembers when each was first heard of."""

    def __init__(self, own: NodeId) -> None:
        self._own = own
        self._first_heard: dict[NodeId, str] = {}

    def member(self, known: KnownMember, shown: State) -> Member:
        wall_s = time.time()
        created_at = self._first_heard.get(known.id)
        if created_at is None:
            created_at = self._first_heard[known.id] = rfc3339(wall_s)
        own = known.id == self._own
        measured = Measures(0.0, 0.0) if own else measures(known)
        return Member(
            id=known.id.hex(),
            name=known.name,
            address=text(known.address),
            state=STATES[shown],
            rtt_ms=measured.rtt_ms,
            version=known.version,
            reachable=own or not known.unreachable,
            epoch=known.epoch,
            incarnation=known.incarnation,
            protocol=ProtocolRange(
                min=known.protocol_min,
                max=known.protocol_max,
                current=min(known.protocol_max, PROTOCOL_MAX),
            ),
            clock_offset_ms=measured.clock_offset_ms,
            created_at=created_at,
            since=rfc3339(wall_s - (time.monotonic() - known.state_since_s)),
        )

    def forget_all_but(self, known: Iterable[NodeId]) -> None:
        self._first_heard = {
            node: self._first_heard[node] for node in known if node in self._first_heard
        }


def report(
    core: Core,
    known: Collection[KnownMember],
    *,
    secured: bool,
    levels: Mapping[str, int],
    unanswered: Mapping[str, str],
    udp_dropped: int,
) -> Report:
    """How things are now. `known` are all members; `levels` are those beside the core's."""
    notices = core.rings()
    names = {member.id: member.name for member in known if member.live}
    return Report(
        members={member.id.hex(): measures(member) for member in known},
        peers=tuple(
            peer(member, core.shown(member), core.ring, notices.get(member.id))
            for member in known
            if member.id != core.id
        ),
        keys=keys(core.ring, notices, names) if secured else (),
        levels={**core.levels(), **levels},
        unanswered=dict(unanswered),
        udp_dropped=udp_dropped,
    )


def alone(node: NodeId, settings: ClusterSettings) -> Member:
    """This node while it is on its own: nobody reaches it."""
    now = rfc3339(time.time())
    return Member(
        id=node.hex(),
        name=settings.name,
        address="",
        state="alive",
        rtt_ms=0.0,
        version=settings.version,
        protocol=ProtocolRange(min=PROTOCOL_MIN, max=PROTOCOL_MAX, current=PROTOCOL_MAX),
        clock_offset_ms=0.0,
        created_at=now,
        since=now,
    )


def check_record(record: Record) -> None:
    """Raise `Invalid` for a record that the cluster does not carry."""
    place = f"record {record.table[:TABLE_MAX_CHARS]}/{record.key[:KEY_MAX_CHARS]}"
    if not 0 < len(record.table) <= TABLE_MAX_CHARS:
        raise Invalid(f"{place}: the table's name has 1 to {TABLE_MAX_CHARS} characters")
    if len(record.key) > KEY_MAX_CHARS:
        raise Invalid(f"{place}: the key has more than {KEY_MAX_CHARS} characters")
    if len(record.scope) != SCOPE_BYTES:
        raise Invalid(f"{place}: the scope has {len(record.scope)} bytes, not {SCOPE_BYTES}")
    if record.value is not None and len(record.value) > VALUE_MAX_BYTES:
        raise Invalid(
            f"{place}: the value has {len(record.value)} bytes, of at most {VALUE_MAX_BYTES}"
        )


def check_scope(scope: bytes) -> None:
    """Raise `Invalid` for what no node can be in."""
    if len(scope) != SCOPE_BYTES or scope == GLOBAL:
        raise Invalid(f"{scope.hex()} is not the id of a scope", field="scope")


def member_id(identifier: str, field: str) -> NodeId:
    """The node of an id in hexadecimal. Raises `Invalid`, about that field."""
    try:
        node = bytes.fromhex(identifier)
    except ValueError:
        node = b""
    if len(node) != NODE_ID_BYTES:
        raise Invalid(f"{identifier!r} is not the id of a member", field=field)
    return node


def measures(known: KnownMember) -> Measures:
    return Measures(_milliseconds(known.rtt_s), _milliseconds(known.clock_offset_s))


def peer(known: KnownMember, shown: State, ring: Ring, notice: RingNotice | None) -> PeerHealth:
    """`notice` is what the member tells of its keyring, of which `ring` is this node's."""
    missing = set(ring.ids) - set(notice.ids) if notice is not None else set()
    return PeerHealth(
        id=known.id.hex(),
        name=known.name,
        address=text(known.address),
        state=STATES[shown],
        udp_ok=known.udp_ok,
        tcp_ok=known.tcp_ok,
        clock_offset_s=known.clock_offset_s,
        version=known.version,
        protocol_min=known.protocol_min,
        protocol_max=known.protocol_max,
        keys_missing=tuple(sorted(key.hex() for key in missing)),
    )


def keys(
    ring: Ring, notices: Mapping[NodeId, RingNotice], names: Mapping[NodeId, str]
) -> tuple[ClusterKey, ...]:
    """The primary key first. `names` are those of the members that are there."""
    told = sorted((names[node], notice) for node, notice in notices.items() if node in names)
    return tuple(
        ClusterKey(
            id=key.hex(),
            primary=key == ring.primary,
            holders=tuple(name for name, notice in told if key in notice.ids),
            users=tuple(name for name, notice in told if key == notice.primary),
        )
        for key in sorted(ring.ids, key=lambda key: (key != ring.primary, key))
    )


def record(changed: RecordChanged) -> RecordChange:
    return RecordChange(
        owner=changed.owner.hex(),
        scope=changed.scope,
        table=changed.table,
        key=changed.key,
        value=changed.value,
    )


def problem(changed: ProblemChanged) -> ProblemChange:
    return ProblemChange(code=changed.code, about=changed.about.hex(), detail=changed.detail)


def rfc3339(wall_s: float) -> str:
    """Unix time as RFC 3339 in UTC with milliseconds."""
    at = datetime.fromtimestamp(max(0.0, wall_s), UTC).isoformat(timespec="milliseconds")
    return at.replace("+00:00", "Z")


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
