"""The database's tables, and how an older database becomes one of today.

`PRAGMA user_version` counts the migrations a database has had; 0 is an empty file. The table
`meta` with the row `version`, the netd that last wrote here, stays as it is in all versions:
an older netd reads from it which newer one it needs.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Final

from netd.model.errors import Unavailable
from netd.store import keys

Migration = Callable[[sqlite3.Connection], None]


def _first_tables(connection: sqlite3.Connection) -> None:
    for statement in (
        "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE networks(id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, body BLOB NOT NULL)",
        "CREATE TABLE endpoints(id TEXT PRIMARY KEY, network_id TEXT NOT NULL, "
        "container_id TEXT NOT NULL, body BLOB NOT NULL)",
        "CREATE TABLE leases(network_id TEXT NOT NULL, address TEXT NOT NULL, name TEXT NOT NULL, "
        "endpoint_id TEXT NOT NULL, released_s REAL, PRIMARY KEY(network_id, address)) "
        "WITHOUT ROWID",
        "CREATE TABLE facts(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    ):
        connection.execute(statement)


def _blocks(connection: sqlite3.Connection) -> None:
    """What this host owns of networks that span hosts; rows stay when a network is deleted."""
    connection.execute("CREATE TABLE blocks(id TEXT PRIMARY KEY, body BLOB NOT NULL)")


def _services(connection: sqlite3.Connection) -> None:
    """The instances of services that were registered on this host."""
    connection.execute("CREATE TABLE services(id TEXT PRIMARY KEY, body BLOB NOT NULL)")


def _keys(connection: sqlite3.Connection) -> None:
    """Keys, sessions and locks, of the host that holds them."""
    keys.create(connection)


MIGRATIONS: Final[tuple[Migration, ...]] = (_first_tables, _blocks, _services, _keys)


def migrate(
    connection: sqlite3.Connection, netd_version: str, migrations: Sequence[Migration] = MIGRATIONS
) -> None:
    """Bring the database up to date, each step whole or not at all.

    Raises `Unavailable` when a newer netd has written it: going back would lose what this
    one does not know.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(migrations):
        query = "SELECT value FROM meta WHERE key = 'version'"
        writer: str = connection.execute(query).fetchone()[0]
        raise Unavailable(
            f"the state was written by netd {writer} (schema {version}); this netd "
            f"{netd_version} knows schemas up to {len(migrations)}: install netd {writer} or newer"
        )
    for number in range(version, len(migrations)):
        with transaction(connection):
            migrations[number](connection)
            connection.execute(f"PRAGMA user_version = {number + 1}")
    with transaction(connection):
        connection.execute(
            "INSERT INTO meta VALUES('version', ?) "
            "ON CONFLICT(key) DO UPDATE SET value = excluded.value WHERE value <> excluded.value",
            (netd_version,),
        )


class transaction:  # noqa: N801 - reads as a statement
    """Everything in the block is committed together, or nothing of it when it raises.

    COMMIT itself can fail (that is where WAL mode writes) and then leaves the transaction
    open; other errors end it on their own. Either way none is open afterwards.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
