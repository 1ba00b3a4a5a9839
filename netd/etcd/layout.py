"""How keys, sessions and locks lie in etcd.

netd/kv/k/KEY        flags, lock index, session and value of a key; its indexes are etcd's
                     revisions
netd/kv/s/ID         a session, under a lease if it has a TTL
netd/kv/h/ID/KEY     that the session holds the key; with the session, as whoever has to end
                     one that etcd has let expire finds nothing else of it
netd/kv/d/KEY        the key cannot be acquired; under a lease of the delay
netd/kv/n/NODE       the host is there; under a lease that its netd renews
"""

from typing import Any, Final

import msgspec

from netd.etcd.gateway import decode
from netd.model.errors import Unavailable
from netd.model.kv import Entry, Session

ROOT: Final = b"netd/kv/"
KEYS: Final = ROOT + b"k/"
SESSIONS: Final = ROOT + b"s/"
HELD: Final = ROOT + b"h/"
DELAYS: Final = ROOT + b"d/"
NODES: Final = ROOT + b"n/"

Row = dict[str, Any]  # a KeyValue of etcd's


class _Body(msgspec.Struct, frozen=True, array_like=True):
    flags: int
    lock_index: int
    session: str
    value: bytes


class SessionRow(msgspec.Struct, frozen=True, array_like=True):
    """A session and its lease, 0: it has none."""

    session: Session
    lease: int


_body = msgspec.msgpack.Decoder(_Body)
_session = msgspec.msgpack.Decoder(SessionRow)


def key_of(key: str) -> bytes:
    return KEYS + key.encode()


def delay_of(key: str) -> bytes:
    return DELAYS + key.encode()


def session_of(session_id: str) -> bytes:
    return SESSIONS + session_id.encode()


def held_by(session_id: str) -> bytes:
    """The prefix of what a session holds."""
    return HELD + session_id.encode() + b"/"


def node_of(node: str) -> bytes:
    return NODES + node.encode()


def body(entry: Entry) -> bytes:
    return msgspec.msgpack.encode(_Body(entry.flags, entry.lock_index, entry.session, entry.value))


def session_body(row: SessionRow) -> bytes:
    return msgspec.msgpack.encode(row)


def entry(row: Row) -> Entry:
    """Raises `Unavailable` for what no netd has written."""
    try:
        stored = _body.decode(decode(row.get("value", "")))
        return Entry(
            key=name(row, KEYS),
            value=stored.value,
            flags=stored.flags,
            create_index=int(row["create_revision"]),
            modify_index=int(row["mod_revision"]),
            lock_index=stored.lock_index,
            session=stored.session,
        )
    except (msgspec.MsgspecError, ValueError) as error:
        raise _foreign(row, error) from None


def session(row: Row) -> SessionRow:
    """Raises `Unavailable` for what no netd has written."""
    try:
        stored = _session.decode(decode(row.get("value", "")))
    except (msgspec.MsgspecError, ValueError) as error:
        raise _foreign(row, error) from None
    indexed = msgspec.structs.replace(
        stored.session,
        create_index=int(row["create_revision"]),
        modify_index=int(row["mod_revision"]),
    )
    return SessionRow(indexed, stored.lease)


def place(row: Row) -> bytes:
    """Where it is."""
    return decode(row["key"])


def name(row: Row, prefix: bytes) -> str:
    return decode(row["key"])[len(prefix) :].decode()


def _foreign(row: Row, error: Exception) -> Unavailable:
    key = decode(row["key"]).decode(errors="replace")
    return Unavailable(f"etcd has something at {key} that netd has not put there: {error}")
