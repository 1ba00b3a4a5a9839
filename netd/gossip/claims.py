"""What the whole cluster has to agree on, such as what a network's name means.

Each node writes its claim as a record of its own. All nodes settle the visible claims of one key
in the same way: the earliest stamp wins, then the lowest origin. A node that relies on a claim
supports it by a copy with the same stamp and origin, so it stays while its first author is away.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from netd.gossip.messages import Id, Milliseconds
from netd.gossip.parts import Parts
from netd.gossip.replication import Replication
from netd.gossip.values import GLOBAL, ClaimSettled, NodeId
from netd.gossip.view import View

PREFIX: Final = "claim/"  # of the tables that hold claims
BODY_MAX_BYTES: Final = 16 << 10


class Claim(msgspec.Struct, array_like=True, frozen=True, order=True):
    """`body` is what the key should mean, `stamp` when that was claimed first, by `origin`."""

    stamp: Milliseconds
    origin: Id
    body: Annotated[bytes, Meta(max_length=BODY_MAX_BYTES)]


class Settled(NamedTuple):
    """The claim that holds, and who claims something else."""

    claim: Claim
    rivals: tuple[NodeId, ...]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Claim).decode


def settle(claims: Iterable[tuple[NodeId, Claim]]) -> Settled | None:
    """The same result on every node that sees the same claims; None where there are none."""
    found = sorted(claims)
    if not found:
        return None
    winner = min(claim for _, claim in found)
    return Settled(winner, tuple(node for node, claim in found if claim.body != winner.body))


class Claims:
    """Makes claims, and tells what holds whenever that changes."""

    def __init__(self, parts: Parts, replication: Replication, view: View) -> None:
        self._parts = parts
        self._replication = replication
        self._view = view
        self._told: dict[tuple[str, str], Settled] = {}
        self._highest = 0

    def make(self, table: str, key: str, body: bytes) -> None:
        """Claim that `key` means `body`, as of now: later than all claims seen so far."""
        self._highest = max(self._parts.wall_ms(), self._highest + 1)
        self._write(table, key, Claim(self._highest, self._parts.me.id, body))

    def support(self, table: str, key: str) -> bool:
        """Make the claim that holds one's own; False if there is none."""
        settled = self.settled(table, key)
        if settled is not None:
            self._write(table, key, settled.claim)
        return settled is not None

    def withdraw(self, table: str, key: str) -> None:
        self._replication.write(GLOBAL, PREFIX + table, key, None)

    def settled(self, table: str, key: str) -> Settled | None:
        return settle(self._claims(table, key))

    def follow(self, table: str, key: str) -> None:
        """A record of a table of claims has changed: tell if something else holds now."""
        name = table.removeprefix(PREFIX)
        settled = self.settled(name, key)
        if settled is not None:
            self._highest = max(self._highest, settled.claim.stamp)
        if settled == self._told.get((name, key)):
            return
        if settled is None:
            del self._told[name, key]
            self._parts.events.append(ClaimSettled(name, key, None, b"", ()))
        else:
            self._told[name, key] = settled
            claim = settled.claim
            self._parts.events.append(
                ClaimSettled(name, key, claim.body, claim.origin, settled.rivals)
            )

    def _write(self, table: str, key: str, claim: Claim) -> None:
        self._replication.write(GLOBAL, PREFIX + table, key, _encode(claim))

    def _claims(self, table: str, key: str) -> Iterator[tuple[NodeId, Claim]]:
        for record in self._view.named(GLOBAL, PREFIX + table, key):
            try:
                yield record.owner, _decode(record.value or b"")
            except msgspec.MsgspecError:
                self._parts.counters["refused_claims"] += 1
