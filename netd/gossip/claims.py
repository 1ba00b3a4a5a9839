"""What the whole cluster has to agree on, such as what a network's name means.

Each node writes its claim as a record of its own. All nodes settle the visible claims of one key
in the same way: the earliest stamp wins, then the lowest origin. A node that relies on a claim
supports it by a copy with the same stamp and origin, so it stays while its first author is away.
"""

from collections.abc import Iterable
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from netd.gossip.messages import Id, Milliseconds
from netd.gossip.values import NodeId

PREFIX: Final = "claim/"  # of the tables that hold claims
BODY_MAX_BYTES: Final = 16 << 10
STAMP_MAX_MS: Final = (1 << 48) - 1


class Claim(msgspec.Struct, array_like=True, frozen=True, order=True):
    """`body` is what the key should mean, `stamp` when that was claimed first, by `origin`."""

    stamp: Milliseconds
    origin: Id
    body: Annotated[bytes, Meta(max_length=BODY_MAX_BYTES)]


class Settled(NamedTuple):
    """The claim that holds, and who claims something else."""

    claim: Claim
    rivals: tuple[NodeId, ...]


_decoder = msgspec.msgpack.Decoder(Claim)


def encode(claim: Claim) -> bytes:
    """The value of a claim's record."""
    return msgspec.msgpack.encode(claim)


def decode(value: bytes) -> Claim | None:
    """The claim in a record; None for one that no node would write."""
    try:
        return _decoder.decode(value)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None


def settle(claims: Iterable[tuple[NodeId, Claim]]) -> Settled | None:
    """The same result on every node that sees the same claims; None where there are none."""
    found = sorted(claims)
    if not found:
        return None
    winner = min(claim for _, claim in found)
    return Settled(winner, tuple(node for node, claim in found if claim.body != winner.body))
