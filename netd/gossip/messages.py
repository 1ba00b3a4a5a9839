"""What members say to each other in packets: msgpack arrays that begin with the message's number.

msgspec checks types and bounds while it decodes, and never allocates more than the packet has
bytes for. A field that is appended to a message is ignored by older versions; a new message may
only be sent to members whose protocol version knows it.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from netd.gossip.values import (
    KEY_MAX_CHARS,
    NAME_MAX_CHARS,
    NODE_ID_BYTES,
    SCOPE_BYTES,
    TABLE_MAX_CHARS,
    VALUE_MAX_BYTES,
)

LEAVES: Final = 256
LEAF_BYTES: Final = 4
GONE_MAX_S: Final = (1 << 32) - 1
INCARNATION_MAX: Final = (1 << 32) - 1

Id = Annotated[bytes, Meta(min_length=NODE_ID_BYTES, max_length=NODE_ID_BYTES)]
ScopeId = Annotated[bytes, Meta(min_length=SCOPE_BYTES, max_length=SCOPE_BYTES)]
Epoch = Annotated[int, Meta(ge=0, lt=1 << 48)]
Incarnation = Annotated[int, Meta(ge=0, le=INCARNATION_MAX)]
Version = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Digest = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Sequence = Annotated[int, Meta(ge=0, lt=1 << 32)]
Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
Accusers = Annotated[tuple[Id, ...], Meta(max_length=4)]
Milliseconds = Annotated[int, Meta(ge=0, lt=1 << 48)]
Gone = Annotated[int, Meta(ge=0, le=GONE_MAX_S)]
Protocol = Annotated[int, Meta(ge=1, le=1000)]
Table = Annotated[str, Meta(min_length=1, max_length=TABLE_MAX_CHARS)]
Key = Annotated[str, Meta(max_length=KEY_MAX_CHARS)]
Value = Annotated[bytes, Meta(max_length=VALUE_MAX_BYTES)]


class Fields(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """By position."""


# Statements about members


class Introduce(Fields, tag=1, frozen=True):
    """A member presents itself. `host` is an address of 4 or 16 bytes; the member signs."""

    public_key: Annotated[bytes, Meta(min_length=32, max_length=32)]
    epoch: Epoch
    incarnation: Incarnation
    name: Annotated[str, Meta(min_length=1, max_length=NAME_MAX_CHARS)]
    host: Annotated[bytes, Meta(min_length=4, max_length=16)]
    port: Annotated[int, Meta(ge=1, le=65535)]
    protocol_min: Protocol
    protocol_max: Protocol
    version: Annotated[str, Meta(max_length=32)]
    signature: Signature


class Alive(Fields, tag=2, frozen=True):
    """A member is alive in a new incarnation, says it itself: it signs."""

    id: Id
    epoch: Epoch
    incarnation: Incarnation
    signature: Signature


class Suspect(Fields, tag=3, frozen=True):
    """The accusers had no answer from the member, each by a probe of its own."""

    id: Id
    epoch: Epoch
    incarnation: Incarnation
    accusers: Accusers


class Dead(Fields, tag=4, frozen=True):
    """A suspicion that has ended without an answer, with two accusers at least, so long ago."""

    id: Id
    epoch: Epoch
    incarnation: Incarnation
    accusers: Accusers
    gone_s: Gone = 0


class Left(Fields, tag=5, frozen=True):
    """A member has left the cluster, for this epoch; it signs. `gone_s`, so long ago, is of whoever
    passes it on.
    """

    id: Id
    epoch: Epoch
    incarnation: Incarnation
    signature: Signature
    gone_s: Gone = 0


# Probing


class Ping(Fields, tag=10, frozen=True):
    """Asks `target` for an `Ack`. Digests are of the members, and of the records both share."""

    sequence: Sequence
    target: Id
    members: Digest
    records: Digest


class Ack(Fields, tag=11, frozen=True):
    """Answers a `Ping`; `wall_ms` is Unix time there."""

    sequence: Sequence
    target: Id
    wall_ms: Milliseconds
    members: Digest
    records: Digest


class PingRequest(Fields, tag=12, frozen=True):
    """Asks a helper to ping `target` and to say within `wait_ms` whether it answers."""

    sequence: Sequence
    target: Id
    wait_ms: Annotated[int, Meta(ge=0, le=120_000)]


class Nack(Fields, tag=13, frozen=True):
    """A helper works, and has had no answer so far."""

    sequence: Sequence


class Query(Fields, tag=14, frozen=True):
    """Asks for what is known of these members."""

    ids: Annotated[tuple[Id, ...], Meta(max_length=16)]


# Comparing


class Compare(Fields, tag=20, frozen=True):
    """The leaves of the sender's hash tree of members (0) or records (1)."""

    tree: Annotated[int, Meta(ge=0, le=1)]
    leaves: Annotated[bytes, Meta(min_length=LEAVES * LEAF_BYTES, max_length=LEAVES * LEAF_BYTES)]


class MemberRow(Fields, frozen=True):
    """What the sender thinks of a member."""

    id: Id
    epoch: Epoch
    incarnation: Incarnation
    state: Annotated[int, Meta(ge=0, le=3)]
    accusers: Accusers


class LogRow(Fields, frozen=True):
    """How far the sender has the log of an owner in a scope. Version 0 of epoch 0: nothing.

    It lacks no tombstone up to `floor`, also where its version is below that: it has begun anew.
    """

    owner: Id
    scope: ScopeId
    epoch: Epoch
    version: Version
    floor: Version = 0


Leaves = Annotated[bytes, Meta(max_length=LEAVES)]  # numbers of leaves


class MemberRows(Fields, tag=21, frozen=True):
    """All that the sender has in these leaves."""

    leaves: Leaves
    rows: Annotated[tuple[MemberRow, ...], Meta(max_length=64)]


class LogRows(Fields, tag=22, frozen=True):
    """All that the sender has in these leaves, and may show."""

    leaves: Leaves
    rows: Annotated[tuple[LogRow, ...], Meta(max_length=64)]


class TooDifferent(Fields, tag=23, frozen=True):
    """The trees differ in so much that a stream is the better way: ask for it there."""

    tree: Annotated[int, Meta(ge=0, le=1)]


# The replicated log


class Entry(Fields, frozen=True):
    """A record at a version; value None is a tombstone. The owner signs, see `log.record_text`."""

    version: Version
    table: Table
    key: Key
    value: Value | None
    signature: Signature


class Mark(Fields, frozen=True):
    """What the owner has signed of its log of one epoch as a whole, at `version`.

    From version `baseline` on the log is complete; tombstones up to `floor` are dropped.
    """

    version: Version
    baseline: Version
    floor: Version
    signature: Signature


class Delta(Fields, tag=30, frozen=True):
    """All records of a log whose versions are above `start` and not above `end`.

    `end` is the version of `mark`, or of the last entry. `news`: pass it on to others.
    """

    owner: Id
    scope: ScopeId
    epoch: Epoch
    mark: Mark
    start: Version
    end: Version
    news: bool
    entries: Annotated[tuple[Entry, ...], Meta(max_length=4096)]


class Head(Fields, tag=31, frozen=True):
    """The log has this version: more than fits into packets. To be had by a stream.

    With `withheld`, which is the owner's mark for that version, not of the sender: he keeps none
    of it, as it is larger than a log may be.
    """

    owner: Id
    scope: ScopeId
    epoch: Epoch
    version: Version
    withheld: Mark | None = None


class Want(Fields, tag=32, frozen=True):
    """Asks for deltas of these logs, from the versions on that the sender has."""

    rows: Annotated[tuple[LogRow, ...], Meta(max_length=16)]


Statement = Introduce | Alive | Suspect | Dead | Left
Message = (
    Introduce
    | Alive
    | Suspect
    | Dead
    | Left
    | Ping
    | Ack
    | PingRequest
    | Nack
    | Query
    | Compare
    | MemberRows
    | LogRows
    | TooDifferent
    | Delta
    | Head
    | Want
)
