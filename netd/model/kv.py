"""Keys, sessions and locks, as callers ask for them and are answered.

Their meaning is that of Consul's key-value store, so that its clients find what they expect.
"""

from typing import Annotated, Final, Literal

import msgspec

from netd.model.names import Word

KEY_MAX_BYTES: Final = 1024
VALUE_MAX_BYTES: Final = 512 << 10
FLAGS_MAX: Final = 2**64 - 1
OPERATIONS_MAX: Final = 128  # of one transaction, whose values have VALUE_MAX_BYTES together
CHECKS_MAX: Final = 64
NODE_CHECK: Final = "serfHealth"  # Consul's name for "the node is a living member"
WAIT_MAX_S: Final = 15.0  # of one call

Verb = Literal[
    "set",
    "cas",
    "lock",
    "unlock",
    "get",
    "get-or-empty",
    "get-tree",
    "check-index",
    "check-session",
    "check-not-exists",
    "delete",
    "delete-tree",
    "delete-cas",
]
Fault = Literal["exists", "missing", "stale", "held", "delayed", "not-held", "no-session", "other"]
Behavior = Literal["release", "delete"]
HolderState = Literal["none", "here", "elsewhere", "unreachable", "moving"]

KeyName = Annotated[str, msgspec.Meta(max_length=KEY_MAX_BYTES)]
Value = Annotated[bytes, msgspec.Meta(max_length=VALUE_MAX_BYTES)]
Flags = Annotated[int, msgspec.Meta(ge=0)]  # up to FLAGS_MAX
Index = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
WaitSeconds = Annotated[float, msgspec.Meta(ge=0, le=WAIT_MAX_S)]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A key with its value (base64 in JSON).

    `create_index` and `modify_index` are the indexes of the writes that made it and last changed
    it. `session` holds it as a lock, "" nobody; `lock_index` counts how often it was acquired.
    """

    key: str
    value: bytes = b""
    flags: int = 0
    create_index: int = 0
    modify_index: int = 0
    lock_index: int = 0
    session: str = ""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What locks are held by. It ends when it is destroyed; when it is not renewed for `ttl_s`,
    of at least which it is sure (0: no need to renew it); when its node is dead or has left and
    `node_checks` has `serfHealth`; and when a check of its node that it names turns critical.

    Then its keys are released, or deleted, as `behavior` says, and cannot be acquired by anybody
    for `lock_delay_s`.
    """

    id: str
    name: str = ""
    node: str
    lock_delay_s: float = 15.0
    behavior: Behavior = "release"
    ttl_s: float = 0.0
    node_checks: tuple[str, ...] = (NODE_CHECK,)
    service_checks: tuple[str, ...] = ()
    create_index: int = 0
    modify_index: int = 0


class SessionSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A session to be made; `node` is a member's name, this host's if left out.

    `ttl_s` is 0 or 10 to 86,400, `lock_delay_s` 0 to 60. Of `node_checks` and `service_checks`,
    which name checks by their ids, none may be critical.
    """

    name: Word = ""
    node: Word = ""
    lock_delay_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 15.0
    behavior: Behavior = "release"
    ttl_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 0.0
    node_checks: Annotated[tuple[Word, ...], msgspec.Meta(max_length=CHECKS_MAX)] = (NODE_CHECK,)
    service_checks: Annotated[tuple[Word, ...], msgspec.Meta(max_length=CHECKS_MAX)] = ()


class Operation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One step of a transaction.

    `set` writes. `cas` writes if the key's modify index is `index`, 0: if there is no such key.
    `lock` writes and acquires the key for `session`, `unlock` writes and releases it. `get` fails
    where there is no key, `get-or-empty` does not, `get-tree` reads all keys that begin with
    `key`. The three `check` verbs fail unless the key has that `index`, is held by that
    `session`, or does not exist. `delete` deletes a key, `delete-tree` all that begin with `key`,
    `delete-cas` a key whose modify index is `index`.
    """

    verb: Verb
    key: KeyName
    value: Value = b""
    flags: Flags = 0
    index: Index = 0
    session: Word = ""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why the transaction was not carried out: the operation, counted from 0, and its fault."""

    operation: int
    fault: Fault
    detail: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a transaction did; with `failures` it did nothing.

    `index` is that of the last change of any key once it was carried out. `results` has the
    entries that were written, without their values, and those that were read, in order.
    """

    index: int
    results: tuple[Entry, ...] = ()
    failures: tuple[Failure, ...] = ()


class Transaction(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Operations of which all are carried out, or none."""

    operations: Annotated[
        tuple[Operation, ...], msgspec.Meta(min_length=1, max_length=OPERATIONS_MAX)
    ]


class KeyPut(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A value to be written (base64), if one of `cas`, `acquire`, `release` allows it.

    `cas` is the modify index that the key must have, 0: there must be none. `acquire` and
    `release` are the session that is to hold the key, or to hold it no more.
    """

    value: Value = b""
    flags: Flags = 0
    cas: Index | None = None
    acquire: Word = ""
    release: Word = ""


class KeyDone(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it was done: not where the index was another, or somebody else holds the key.

    `index` is that of the last change of any key.
    """

    done: bool
    index: int


class KeyReading(msgspec.Struct, frozen=True, kw_only=True):
    """A key, None: there is none. `index` is the one to wait from."""

    index: int
    entry: Entry | None = None


class KeyListing(msgspec.Struct, frozen=True, kw_only=True):
    """Entries by key, or only keys. `index` is the one to wait from."""

    index: int
    entries: tuple[Entry, ...] = ()
    keys: tuple[str, ...] = ()


class SessionListing(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions by id. `index` is the one to wait from."""

    index: int
    sessions: tuple[Session, ...] = ()


class KeyChange(msgspec.Struct, frozen=True, kw_only=True):
    """What has changed up to `index`: these keys, and sessions if `sessions` says so.

    `lost`: more than this may have changed since the last one that was told.
    """

    index: int
    keys: tuple[str, ...] = ()
    sessions: bool = False
    lost: bool = False


class KeyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the keys and how that is going.

    `holder` is a host's name, or etcd's addresses; "" while nobody holds them as nobody has
    written any. `state` is what this host knows of it, and `detail` says what is wrong. `term`
    counts how often the keys have moved to another host. `keys`, `bytes` (of keys and values; 0
    in etcd, which does not count them) and `sessions` are how many there are; `waiting` are this
    host's calls that wait for a change.
    """

    backend: Literal["embedded", "etcd"]
    holder: str
    state: HolderState
    detail: str = ""
    term: int = 0
    index: int = 0
    keys: int = 0
    bytes: int = 0
    sessions: int = 0
    waiting: int = 0


class KeyMove(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The host (id or name) that is to hold the keys from now on.

    `abandon`: the host that holds them is lost for good, with the keys; begin without any.
    """

    node: Word
    abandon: bool = False
