"""Claims as this node sees them: what holds for each key, of all the visible ones."""

from collections.abc import Iterator, Mapping
from typing import Final

from netd.cluster.views import member_id
from netd.engine.interfaces import GLOBAL_SCOPE, ClaimChange, Record, RecordChange
from netd.gossip.claims import (
    BODY_MAX_BYTES,
    PREFIX,
    STAMP_MAX_MS,
    Claim,
    Settled,
    decode,
    encode,
    settle,
)
from netd.gossip.values import KEY_MAX_CHARS, TABLE_MAX_CHARS, NodeId
from netd.model.errors import Invalid

TABLE_OF_CLAIMS_MAX_CHARS: Final = TABLE_MAX_CHARS - len(PREFIX)

Name = tuple[str, str]  # table without the prefix, key


class Claims:
    """Settles each key anew whenever a claim about it comes or goes.

    That is done here and not in the protocol, so it is the same on a host that is on its own.
    """

    def __init__(self, own: str) -> None:
        self.ignored = 0  # records that are no claim
        self._own = own
        self._claims: dict[Name, dict[NodeId, Claim]] = {}
        self._settled: dict[Name, Settled] = {}
        self._highest_ms = 0

    def record(
        self, table: str, key: str, body: bytes, stamp_ms: int | None, origin: str, wall_ms: int
    ) -> Record:
        """The record that makes a claim; a new one is later than all claims seen so far.

        Raises `Invalid` for one that the cluster does not carry.
        """
        if stamp_ms is None:
            stamp_ms = min(max(wall_ms, self._highest_ms + 1), STAMP_MAX_MS)
        if not 0 <= stamp_ms <= STAMP_MAX_MS:
            raise Invalid(f"{stamp_ms} is no stamp of a claim", field="stamp_ms")
        if len(body) > BODY_MAX_BYTES:
            raise Invalid(
                f"the claim on {key!r} has {len(body)} bytes, of at most {BODY_MAX_BYTES}",
                field="body",
            )
        author = member_id(origin or self._own, "origin")
        return _record(table, key, encode(Claim(stamp_ms, author, body)))

    def withdrawal(self, table: str, key: str) -> Record:
        """The record that ends this node's claim."""
        return _record(table, key, None)

    def put(self, change: RecordChange) -> ClaimChange | None:
        """A claim's record came, changed or went; what holds now, if that is something else."""
        name = (change.table.removeprefix(PREFIX), change.key)
        owner, value = bytes.fromhex(change.owner), change.value
        claims = self._claims.setdefault(name, {})
        before, claim = claims.pop(owner, None), None
        if value is not None:
            claim = decode(value)
            self.ignored += claim is None
        if claim is not None:
            claims[owner] = claim
            self._highest_ms = max(self._highest_ms, claim.stamp)
        known = self._settled.get(name)
        if known is not None and _supports(known.claim, before, claim, claims):
            return None
        settled = settle(claims.items())
        if settled == known:
            if not claims:
                del self._claims[name]
            return None
        if settled is None:
            del self._claims[name], self._settled[name]
            return ClaimChange(table=name[0], key=name[1], body=None)
        self._settled[name] = settled
        return _change(name, settled)

    def all(self) -> Iterator[ClaimChange]:
        """What holds now."""
        for name, settled in self._settled.items():
            yield _change(name, settled)


def is_claim(record: Record | RecordChange) -> bool:
    return record.scope == GLOBAL_SCOPE and record.table.startswith(PREFIX)


def _supports(
    holds: Claim, before: Claim | None, now: Claim | None, all_now: Mapping[NodeId, Claim]
) -> bool:
    """Whether somebody only began or ceased to support the claim that holds: so do most."""
    unrivalled = before in (None, holds) and now in (None, holds)
    return unrivalled and holds in all_now.values()


def _record(table: str, key: str, value: bytes | None) -> Record:
    if not 0 < len(table) <= TABLE_OF_CLAIMS_MAX_CHARS:
        raise Invalid(
            f"a table of claims has 1 to {TABLE_OF_CLAIMS_MAX_CHARS} characters, not {len(table)}",
            field="table",
        )
    if len(key) > KEY_MAX_CHARS:
        raise Invalid(f"the key has more than {KEY_MAX_CHARS} characters", field="key")
    return Record(table=PREFIX + table, key=key, value=value)


def _change(name: Name, settled: Settled) -> ClaimChange:
    claim = settled.claim
    return ClaimChange(
        table=name[0],
        key=name[1],
        body=claim.body,
        stamp_ms=claim.stamp,
        origin=claim.origin.hex(),
        rivals=tuple(node.hex() for node in settled.rivals),
    )
