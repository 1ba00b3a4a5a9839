"""Keys, sessions and locks in the database."""

import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec

from netd.kv.space import Numbers, Stored
from netd.model.errors import Unavailable
from netd.model.kv import Entry, Session
from netd.store import bodies

Statement = tuple[str, tuple[str | bytes | float | None, ...]]

TABLES = (
    # SQLite's integers have a sign, flags have 64 bits: they are text.
    "CREATE TABLE kv(key TEXT PRIMARY KEY, value BLOB NOT NULL, flags TEXT NOT NULL, "
    "create_index INTEGER NOT NULL, modify_index INTEGER NOT NULL, lock_index INTEGER NOT NULL, "
    "session TEXT NOT NULL)",
    "CREATE TABLE sessions(id TEXT PRIMARY KEY, body BLOB NOT NULL)",
    "CREATE TABLE kv_tombstones(key TEXT PRIMARY KEY, deleted_index INTEGER NOT NULL) "
    "WITHOUT ROWID",
    "CREATE TABLE kv_delays(key TEXT PRIMARY KEY, length_s REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE kv_index(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
)
_NAMES = ("kv", "sessions", "kv_tombstones", "kv_delays", "kv_index")


def create(connection: sqlite3.Connection) -> None:
    """Make the tables."""
    for statement in TABLES:
        connection.execute(statement)


def statements(change: Stored, *, replace: bool) -> Iterator[Statement]:
    """The change in SQL; `replace`: it is all there is to be."""
    if replace:
        for table in _NAMES:
            yield f"DELETE FROM {table}", ()  # noqa: S608 - a constant
    for key, entry in change.entries.items():
        if entry is None:
            yield "DELETE FROM kv WHERE key = ?", (key,)
        else:
            yield "INSERT OR REPLACE INTO kv VALUES(?, ?, ?, ?, ?, ?, ?)", _row(entry)
    for session_id, session in change.sessions.items():
        if session is None:
            yield "DELETE FROM sessions WHERE id = ?", (session_id,)
        else:
            body = bodies.encode(session)
            yield "INSERT OR REPLACE INTO sessions VALUES(?, ?)", (session_id, body)
    for key, index in change.graves.items():
        if index is None:
            yield "DELETE FROM kv_tombstones WHERE key = ?", (key,)
        else:
            yield "INSERT OR REPLACE INTO kv_tombstones VALUES(?, ?)", (key, index)
    for key, length_s in change.delays.items():
        if length_s is None:
            yield "DELETE FROM kv_delays WHERE key = ?", (key,)
        else:
            yield "INSERT OR REPLACE INTO kv_delays VALUES(?, ?)", (key, length_s)
    for number in msgspec.structs.asdict(change.numbers).items():
        yield "INSERT OR REPLACE INTO kv_index VALUES(?, ?)", number


def load(connection: sqlite3.Connection) -> Stored:
    """All of it. Raises `Unavailable` naming a record that cannot be understood."""

    def rows(query: str) -> list[Any]:
        return connection.execute(query).fetchall()

    try:
        return Stored(
            numbers=msgspec.convert(dict(rows("SELECT name, value FROM kv_index")), Numbers),
            entries={row[0]: _entry(*row) for row in rows("SELECT * FROM kv")},
            sessions={
                session_id: bodies.decode(body, Session)
                for session_id, body in rows("SELECT id, body FROM sessions")
            },
            graves=dict(rows("SELECT key, deleted_index FROM kv_tombstones")),
            delays=dict(rows("SELECT key, length_s FROM kv_delays")),
        )
    except (msgspec.MsgspecError, ValueError) as error:
        raise Unavailable(
            f"the stored keys and sessions cannot be understood ({error}): they are of a newer "
            "netd, or damaged"
        ) from error


def _row(entry: Entry) -> tuple[str | bytes | float | None, ...]:
    return (
        entry.key,
        entry.value,
        str(entry.flags),
        entry.create_index,
        entry.modify_index,
        entry.lock_index,
        entry.session,
    )


def _entry(
    key: str,
    value: bytes,
    flags: str,
    create_index: int,
    modify_index: int,
    lock_index: int,
    session: str,
) -> Entry:
    return Entry(
        key=key,
        value=value,
        flags=int(flags),
        create_index=create_index,
        modify_index=modify_index,
        lock_index=lock_index,
        session=session,
    )
