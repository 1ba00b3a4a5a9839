"""The SQLite file: opened, read, written, all on the one thread that opened it."""

import fcntl
import os
import shlex
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import netd
from netd.engine.interfaces import Change, Snapshot
from netd.model.blocks import Ledger
from netd.model.endpoint import EndpointRecord, Lease
from netd.model.errors import Conflict, NetdError, Unavailable
from netd.model.network import Network
from netd.model.service import ServiceRecord
from netd.store import bodies, keys, schema

FILE_NAME: Final = "netd.db"
LOCK_NAME: Final = "lock"

Statement = keys.Statement

_REMEDIES: Final = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_IOERR: "the disk reports an error: see the kernel's log and df",
    sqlite3.SQLITE_READONLY: "the file or its file system is read-only: make it writable",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened: check the folder's owner and mode",
    sqlite3.SQLITE_BUSY: "another program holds the file: end it",
    sqlite3.SQLITE_PERM: "no permission: check the file's owner and mode",
}
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def statements(change: Change) -> list[Statement]:
    """The change in SQL. Deletions come first, so what is also put is there in the end."""
    return list(_statements(change))


def _statements(change: Change) -> Iterator[Statement]:
    for identifier in change.delete_networks:
        yield "DELETE FROM networks WHERE id = ?", (identifier,)
    for identifier in change.delete_endpoints:
        yield "DELETE FROM endpoints WHERE id = ?", (identifier,)
    for network_and_address in change.delete_leases:
        yield "DELETE FROM leases WHERE network_id = ? AND address = ?", network_and_address
    for network in change.put_networks:
        yield (
            "INSERT INTO networks VALUES(?, ?, ?) ON CONFLICT(id) "
            "DO UPDATE SET name = excluded.name, body = excluded.body",
            (network.id, network.name, bodies.encode(network)),
        )
    for record in change.put_endpoints:
        endpoint = record.endpoint
        yield (
            "INSERT INTO endpoints VALUES(?, ?, ?, ?) ON CONFLICT(id) "
            "DO UPDATE SET container_id = excluded.container_id, body = excluded.body",
            (endpoint.id, endpoint.network_id, endpoint.container_id, bodies.encode(record)),
        )
    for lease in change.put_leases:
        yield (
            "INSERT OR REPLACE INTO leases VALUES(?, ?, ?, ?, ?)",
            (lease.network_id, lease.address, lease.name, lease.endpoint_id, lease.released_s),
        )
    for ledger in change.put_blocks:
        yield (
            "INSERT INTO blocks VALUES(?, ?) ON CONFLICT(id) DO UPDATE SET body = excluded.body",
            (ledger.network_id, bodies.encode(ledger)),
        )
    for identifier in change.delete_services:
        yield "DELETE FROM services WHERE id = ?", (identifier,)
    for instance in change.put_services:
        yield (
            "INSERT INTO services VALUES(?, ?) ON CONFLICT(id) DO UPDATE SET body = excluded.body",
            (instance.service.id, bodies.encode(instance)),
        )
    if change.keys is not None:
        yield from keys.statements(change.keys, replace=change.replace_keys)
    for fact in change.put_facts.items():
        yield "INSERT OR REPLACE INTO facts VALUES(?, ?)", fact
    for fact_key in change.delete_facts:
        yield "DELETE FROM facts WHERE key = ?", (fact_key,)


class Database:
    """One state folder, locked for this process. All calls belong on one thread.

    Raises `Unavailable` when the folder is another netd's, or the file is damaged, of a newer
    netd, or cannot be written; nothing is ever replaced by an empty database.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _lock(directory)
            self._create()
        except OSError as error:
            raise Unavailable(
                f"state folder {directory}: {error.strerror}: {error.filename}"
            ) from None
        try:
            self._connection = self._connect()
        except BaseException:
            os.close(self._lock)
            raise

    def load(self) -> Snapshot:
        """Read everything. Raises `Unavailable` naming a record that cannot be understood."""
        try:
            return Snapshot(
                networks=tuple(self._records("networks", Network)),
                endpoints=tuple(self._records("endpoints", EndpointRecord)),
                leases=tuple(
                    Lease(
                        network_id=row[0],
                        address=row[1],
                        name=row[2],
                        endpoint_id=row[3],
                        released_s=row[4],
                    )
                    for row in self._rows("SELECT * FROM leases ORDER BY network_id, address")
                ),
                blocks=tuple(self._records("blocks", Ledger)),
                services=tuple(self._records("services", ServiceRecord)),
                keys=keys.load(self._connection),
                facts=dict(self._rows("SELECT key, value FROM facts")),
            )
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def write(
        self, changes: Sequence[Sequence[Statement]], *, sync: bool
    ) -> list[NetdError | None]:
        """Commit the changes together and return for each None or why it failed.

        With `sync` the disk has them, not only the kernel. If one fails, each is committed
        on its own, in order: SQLite itself may have rolled back all (a full disk does that).
        """
        try:
            if sync:
                self._connection.execute("PRAGMA synchronous = FULL")
            with schema.transaction(self._connection):
                for change in changes:
                    for sql, values in change:
                        self._connection.execute(sql, values)
        except sqlite3.Error as error:
            if len(changes) == 1:
                return [self._explain(error)]
        else:
            return [None] * len(changes)
        finally:
            if sync:
                self._connection.execute("PRAGMA synchronous = NORMAL")
        return [self.write([change], sync=sync)[0] for change in changes]

    def checkpoint(self) -> None:
        """Move what the write-ahead log holds into the database file, as far as possible.

        Raises `Unavailable` when it cannot be written; the log still has everything.
        """
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def close(self) -> None:
        """Checkpoint, close and unlock; only the database file remains beside the lock."""
        try:
            self._connection.close()
        finally:
            os.close(self._lock)

    def _create(self) -> None:
        # SQLite gives the -wal and -shm files the mode of the database file.
        descriptor = os.open(
            self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        os.close(descriptor)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=1.0)
        try:
            self._prepare(connection)
        except sqlite3.Error as error:
            connection.close()
            raise self._explain(error) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise Unavailable(
                f"{self.path}: the file system cannot share memory between processes, "
                "which SQLite's write-ahead log needs: use a local one"
            )
        # Without fsync a commit is in the kernel's page cache: kill -9 does not lose it. A
        # power cut may, but then the containers, whose endpoints these are, are gone too.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise self._damaged(" ".join(verdict.split()))
        schema.migrate(connection, netd.__version__)

    def _rows(self, query: str) -> list[Any]:
        return self._connection.execute(query).fetchall()

    def _records(self, table: str, kind: type[bodies.Record]) -> Iterator[bodies.Record]:
        for identifier, body in self._rows(f"SELECT id, body FROM {table} ORDER BY rowid"):  # noqa: S608
            try:
                yield bodies.decode(body, kind)
            except ValueError as error:  # msgspec's errors are ValueErrors
                raise Unavailable(
                    f"{self.path}: {table} record {identifier} cannot be understood ({error}): "
                    "it is of a newer netd, or damaged"
                ) from error

    def _explain(self, error: sqlite3.Error) -> NetdError:
        """The error in the caller's words."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in _DAMAGED:
            return self._damaged(str(error))
        if isinstance(error, sqlite3.IntegrityError):
            return Conflict(f"the store has another object of that name or key ({error})")
        remedy = _REMEDIES.get(code, "see the daemon's log")
        return Unavailable(f"{self.path}: {remedy} (SQLite: {error}); nothing was changed")

    def _damaged(self, detail: str) -> Unavailable:
        pattern = f"{shlex.quote(str(self.path))}*"
        return Unavailable(
            f"{self.path} is damaged ({detail}). Restore it from a backup, or move it away to "
            f"start without any network: mkdir -p /root/netd-damaged && mv {pattern} "
            "/root/netd-damaged/"
        )


def _lock(directory: Path) -> int:
    """Lock the folder until the descriptor is closed, by the end of the process at the latest."""
    path = directory / LOCK_NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise Unavailable(
            f"state folder {directory} is in use by another netd (process {holder}): end it, or "
            "give this one its own with --state-dir"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
