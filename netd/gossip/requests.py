"""What members ask each other over streams, and what they answer: in the form of messages."""

from typing import Annotated

from msgspec import Meta

from netd.gossip.messages import (
    Alive,
    Dead,
    Delta,
    Fields,
    Id,
    Introduce,
    LogRow,
    Milliseconds,
    ScopeId,
    Statement,
    Suspect,
)
from netd.gossip.ring import AUTHOR_MAX_BYTES, KEYS_MAX, REMOVED_MAX, Age, KeyChange

# Requests


class StreamPing(Fields, tag=40, frozen=True):
    """Asks for a `StreamAck`, with the suspicion that the target should know of."""

    target: Id
    accusation: Suspect | None


class Join(Fields, tag=41, frozen=True):
    """Asks to become, or again be, a member. `accusation`: what the sender thinks of the other."""

    introduction: Introduce
    alive: Alive | None
    accusation: Suspect | Dead | None


class Sync(Fields, tag=42, frozen=True):
    """Asks for what is above these rows, in these scopes and the global one.

    `only` asks for these logs alone; otherwise for all.
    """

    scopes: Annotated[tuple[ScopeId, ...], Meta(max_length=4096)]
    rows: Annotated[tuple[LogRow, ...], Meta(max_length=65_536)]
    only: bool


class FetchRing(Fields, tag=43, frozen=True):
    """Asks for the keyring."""


# Replies


class StreamAck(Fields, tag=50, frozen=True):
    """The target lives; its newest statement about itself."""

    alive: Introduce | Alive


class RingRow(Fields, frozen=True):
    """A keyring, see `ring.Ring`."""

    keys: Annotated[
        tuple[Annotated[bytes, Meta(min_length=32, max_length=32)], ...],
        Meta(min_length=1, max_length=KEYS_MAX),
    ]
    primary: Annotated[bytes, Meta(min_length=4, max_length=4)]
    stamp: Milliseconds
    author: Annotated[bytes, Meta(max_length=AUTHOR_MAX_BYTES)]
    changes: Annotated[tuple[KeyChange, ...], Meta(max_length=KEYS_MAX + REMOVED_MAX)] = ()
    used: Age = (0, b"")
    floor: Age = (0, b"")


class Welcome(Fields, tag=51, frozen=True):
    """Who is a member, the keyring, and who says so."""

    statements: Annotated[tuple[Statement, ...], Meta(max_length=32_768)]
    ring: RingRow
    host: Id


class SyncReply(Fields, tag=52, frozen=True):
    """Deltas in order; `more`: ask again. `rest`: for what, and how far the sender has that; of
    many logs not for all.
    """

    deltas: Annotated[tuple[Delta, ...], Meta(max_length=65_536)]
    more: bool
    rest: Annotated[tuple[LogRow, ...], Meta(max_length=65_536)] = ()


class RingReply(Fields, tag=53, frozen=True):
    ring: RingRow


class Declined(Fields, tag=54, frozen=True):
    """The request is not answered, and why. `over`: the asker's run is forgotten here, and he may
    begin another.
    """

    detail: Annotated[str, Meta(max_length=512)]
    over: bool = False


Request = StreamPing | Join | Sync | FetchRing
Reply = StreamAck | Welcome | SyncReply | RingReply | Declined
