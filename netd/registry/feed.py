"""What the daemon knows: the stream `GET /v1/directory?watch=1`, taken over as it comes.

The socket is read without waiting, and whoever is about to answer a query calls `drain` before:
what the daemon had written by then is part of the answer. A new stream fills a table of its own,
which takes the place of the old one when it is complete; so while the daemon restarts, the last
that it said still holds.
"""

import asyncio
import logging
import socket
from collections.abc import Mapping
from typing import Final

import msgspec

from netd.model.directory import Entry, EntryKind
from netd.registry.stream import BrokenStream, LineStream

log = logging.getLogger(__name__)

Key = tuple[EntryKind, str]
Entries = Mapping[Key, Entry]

RETRY_MIN_S: Final = 0.1
RETRY_MAX_S: Final = 0.3
SILENCE_S: Final = 60.0  # the daemon sends an empty line every 15 s
# Holds all that a Unix socket has queued with the usual net.core.wmem_max, so one read drains it.
_READ_BYTES: Final = 256 * 1024
# Of a table that comes: as much as is taken over in a millisecond, for answers wait meanwhile.
_PORTION_BYTES: Final = 4 * 1024
_REQUEST: Final = b"GET /v1/directory?watch=1 HTTP/1.1\r\nHost: netd\r\n\r\n"


class Reader:
    """Somebody who is told of what changes, in the order of the stream, and must not wait.

    `begin` and `add` are told of a table that comes; it counts for nothing until `replace`.
    """

    def begin(self) -> None:
        """Another table begins to come; what has come of an earlier one is void."""

    def add(self, entry: Entry) -> None:
        """An entry of the table that comes."""

    def replace(self, entries: Entries) -> None:
        """The table is complete: it takes the place of the one before."""

    def change(self, old: Entry | None, new: Entry) -> None:
        """One entry of the table. `old` is what there was under its kind and id."""


class Feed:
    """The stream, connected again for ever. `revision` is of the last line taken over, `faults`
    counts those that a reader could not take.

    `connected` is whether the table is what the daemon says now: from the stream's `sync` line
    to its end.
    """

    def __init__(self, path: str) -> None:
        self.revision = 0
        self.connected = False
        self.connections = 0
        self.faults = 0
        self.readers: list[Reader] = []
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._entries: dict[Key, Entry] = {}
        self._next: dict[Key, Entry] = {}
        self._decoder = msgspec.json.Decoder(Entry)
        self._socket: socket.socket | None = None
        self._stream = LineStream()
        self._retry_s = RETRY_MIN_S
        self._heard_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def entries(self) -> Entries:
        """The table as it is now."""
        return self._entries

    def start(self) -> None:
        """Connect now, or as soon as there is a daemon."""
        self._connect()

    def close(self) -> None:
        self._closed = True
        self._hang_up()
        if self._timer is not None:
            self._timer.cancel()

    def drain(self) -> None:
        """Take over what the daemon has written so far. Costs a system call.

        While a new table is being filled there is nothing to hurry for: the event loop takes it
        portion by portion, between queries.
        """
        if self.connected:
            self._read()

    def _connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.connect(self._path)
            sock.send(_REQUEST)
        except OSError as error:
            log.debug("no daemon at %s: %s", self._path, error)
            sock.close()
            self._retry_later()
            return
        self._socket = sock
        self._stream = LineStream()
        self._next = {}
        for reader in self.readers:
            reader.begin()
        self._heard_s = self._loop.time()
        self._loop.add_reader(sock.fileno(), self._read)
        self._timer = self._loop.call_later(SILENCE_S, self._look_for_life)

    def _retry_later(self) -> None:
        if not self._closed:
            self._timer = self._loop.call_later(self._retry_s, self._connect)
            self._retry_s = min(self._retry_s * 2, RETRY_MAX_S)

    def _look_for_life(self) -> None:
        silent_s = self._loop.time() - self._heard_s
        if silent_s >= SILENCE_S:
            self._lose(f"nothing came for {SILENCE_S:.0f} s")
        else:
            self._timer = self._loop.call_later(SILENCE_S - silent_s, self._look_for_life)

    def _read(self) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(_READ_BYTES if self.connected else _PORTION_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(str(error))
            return
        self._heard_s = self._loop.time()
        try:
            for line in self._stream.take(data):
                self._take_well(self._decoder.decode(line))
        except (BrokenStream, msgspec.DecodeError, UnicodeDecodeError) as error:
            self._lose(str(error))
            return
        if not data or self._stream.ended:
            self._lose("the daemon has ended it")

    def _take_well(self, entry: Entry) -> None:
        """Take a line over. What is wrong in one thing must not take the names of all others."""
        try:
            self._take(entry)
        except Exception:
            self.faults += 1
            log.exception("%s %s cannot be taken over", entry.kind, entry.id)

    def _take(self, entry: Entry) -> None:
        if entry.kind == "sync":
            self._replace(entry.revision)
            return
        key = entry.kind, entry.id
        table = self._entries if self.connected else self._next
        old = table.get(key)
        if getattr(entry, entry.kind) is not None:
            table[key] = entry
        elif old is not None:
            del table[key]
        if self.connected:
            self.revision = entry.revision
        for reader in self.readers:
            if self.connected:
                reader.change(old, entry)
            else:
                reader.add(entry)

    def _replace(self, revision: int) -> None:
        self._entries, self._next = self._next, {}
        self.revision = revision
        self.connected = True
        self.connections += 1
        self._retry_s = RETRY_MIN_S
        log.info("%d entries from the daemon at %s", len(self._entries), self._path)
        for reader in self.readers:
            reader.replace(self._entries)

    def _lose(self, reason: str) -> None:
        log.warning("the stream from %s has ended: %s", self._path, reason)
        self._hang_up()
        self._retry_later()

    def _hang_up(self) -> None:
        self.connected = False
        self._next = {}
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
