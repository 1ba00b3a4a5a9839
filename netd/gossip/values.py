"""What goes into the protocol core and what comes out of it."""

import hashlib
from collections.abc import Callable, MutableSequence, Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple, Protocol, TypeVar

T = TypeVar("T")

NodeId = bytes  # 16 bytes: blake2b of the node's public key, `node_id_of`
Scope = bytes  # 8 bytes: the network that a record belongs to
Address = tuple[str, int]  # an IP address without brackets, a port

NODE_ID_BYTES: Final = 16
SCOPE_BYTES: Final = 8
GLOBAL: Final[Scope] = bytes(SCOPE_BYTES)  # records that every member has
REQUEST_MAX_BYTES: Final = 1 << 20
REPLY_MAX_BYTES: Final = 4 << 20
VALUE_MAX_BYTES: Final = 64 << 10
TABLE_MAX_CHARS: Final = 32
KEY_MAX_CHARS: Final = 255
NAME_MAX_CHARS: Final = 63


def node_id_of(public_key: bytes) -> NodeId:
    """The id of the node whose raw Ed25519 key this is."""
    return hashlib.blake2b(public_key, digest_size=NODE_ID_BYTES).digest()


class State(IntEnum):
    """What the cluster says of a member. In this order a later one beats an earlier one of the
    same incarnation.
    """

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


class Randomness(Protocol):
    """The part of `random.Random` that the protocol uses; a seed makes a run repeatable."""

    def random(self) -> float: ...
    def randrange(self, stop: int, /) -> int: ...
    def shuffle(self, x: MutableSequence[Any], /) -> None: ...
    def sample(self, population: Sequence[T], k: int) -> list[T]: ...


class Identity(NamedTuple):
    """Who this node is. `epoch` is larger than in any earlier run, and durable before use.

    `sign` makes an Ed25519 signature (64 bytes) with the key of `public_key` (32 bytes).
    """

    id: NodeId
    public_key: bytes
    sign: Callable[[bytes], bytes]
    epoch: int
    name: str
    address: Address
    version: str = ""


class Datagram(NamedTuple):
    """A packet to send, best effort."""

    to: Address
    data: bytes


class Call(NamedTuple):
    """A request to make over a stream (TLS).

    `node` is who has to answer there, None for anybody of the cluster. The driver reports the
    reply, or None after `timeout_s` or any failure, to `Gossip.complete` with `number`.
    """

    number: int
    to: Address
    node: NodeId | None
    request: bytes
    timeout_s: float


class MemberChanged(NamedTuple):
    """A member is new or something about it is: `Gossip.member` has it.

    `before` is None for one that was not known, `after` for one that was forgotten.
    """

    id: NodeId
    before: State | None
    after: State | None


class RecordChanged(NamedTuple):
    """The view of visible records changed. `value` None: deleted, or its owner is hidden.

    For each (owner, scope, table, key) these are a valid history: value, values, None, value...
    """

    owner: NodeId
    scope: Scope
    table: str
    key: str
    value: bytes | None


class RingChanged(NamedTuple):
    """The keyring is another one now: `Gossip.ring`. To be stored."""


class JoinEnded(NamedTuple):
    """An address given to `Gossip.join` has answered, or it has failed: `error` says how."""

    address: Address
    error: str


class StreamsTried(NamedTuple):
    """What `Gossip.try_streams` has asked for is known: `Member.tcp_ok` has it."""


class EpochWanted(NamedTuple):
    """Somebody else runs under this identity: `Gossip.renew` with a durable epoch > `above`."""

    above: int


class ProblemChanged(NamedTuple):
    """A problem of the cluster came (`detail` says what) or went (`detail` is empty).

    Codes: `duplicate-name`, `cloned-identity`, `protocol-version`, `members-exceeded`,
    `records-exceeded`.
    """

    code: str
    about: NodeId
    detail: str


Event = (
    MemberChanged
    | RecordChanged
    | RingChanged
    | JoinEnded
    | StreamsTried
    | EpochWanted
    | ProblemChanged
)


class Output(NamedTuple):
    """What the core wants done, in order."""

    datagrams: list[Datagram]
    calls: list[Call]
    events: list[Event]
