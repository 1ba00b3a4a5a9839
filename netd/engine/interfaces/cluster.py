"""What the engine needs of the other hosts."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from netd.model.views import ClusterKey, JoinResult, Member, MemberState, Token

GLOBAL_SCOPE: Final = bytes(8)  # of records that every member has


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

    `code` is duplicate-name, cloned-identity, protocol-version, members-exceeded or
    records-exceeded; `about` the id of the member concerned.
    """

    code: str
    about: str
    detail: str


class ClaimChange(msgspec.Struct, frozen=True, kw_only=True):
    """What the whole cluster takes `key` for has changed; `body` None: nobody claims it any more.

    The claim was made by `origin`, a member's id, at `stamp_ms` (Unix time, but later than all
    claims that `origin` had seen). `rivals` are the members that claim something else.
    """

    table: str
    key: str
    body: bytes | None
    stamp_ms: int = 0
    origin: str = ""
    rivals: tuple[str, ...] = ()


ClusterChange = MemberChange | RecordChange | ProblemChange | ClaimChange

Answer = Callable[[str, bytes], Awaitable[bytes]]
"""Answers what a member (its id) asks. May raise `NetdError`, which the asking member gets."""


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

    def subscribe(self, scope: bytes) -> None:
        """Get the records of a scope (8 bytes), and have own ones in it seen by its members.

        Own records that were published before are seen from then on. Lasts until `unsubscribe`,
        whether this node is in a cluster or not. Raises `Exhausted` beyond 4,096 scopes.
        """
        ...

    def unsubscribe(self, scope: bytes) -> None:
        """Leave a scope: own records in it are deleted, and others' are reported as gone."""
        ...

    def claim(
        self, table: str, key: str, body: bytes, *, stamp_ms: int | None = None, origin: str = ""
    ) -> None:
        """Claim what `key` means for all members; the earliest claim of a key holds.

        With the stamp and origin of an earlier claim it is that claim again: so a claim is kept
        by all who rely on it, and by its author when it is started again. Lives as long as the
        process. `body` has at most 16 KiB.
        """
        ...

    def withdraw(self, table: str, key: str) -> None:
        """Claim nothing about `key` any more."""
        ...

    async def ask(self, member: str, topic: str, body: bytes, timeout_s: float) -> bytes:
        """Ask a member (its id) over a stream; its answer.

        Both have at most 64 KiB, of the topic `kv` 1 MiB.

        Raises `Unavailable` when there is no answer in that time, 30 s at most (the question may
        have been answered all the same), and what the member's `Answer` has raised. A member that
        is dead, has left, runs an older netd or does not know the topic is told of at once. Some
        four questions to one member are under way at a time; this node may ask itself.
        """
        ...

    def answer(self, topic: str, answer: Answer) -> None:
        """Have members' questions of that topic answered, on the event loop.

        An answer that takes longer than the member waits is cancelled.
        """
        ...

    def records(self) -> tuple[RecordChange, ...]:
        """All visible records, those that claims are made of too."""
        ...

    async def host_answers(self, member: str) -> bool:
        """Whether the host of a member is there, whatever its netd does: within a second.

        Its kernel refuses connections to the member's address when nobody listens.
        """
        ...

    def watch(self, notify: Callable[[ClusterChange], None]) -> Callable[[], None]:
        """Call `notify` on the event loop for each change; the result stops it.

        A member's change comes before those of records that follow from it.
        Before it returns, it has called `notify` for all members, visible records, claims and
        problems there are. Of claims it tells what holds, not the records they are made of.
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
