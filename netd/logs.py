"""Log records on their way out: to the journal with fields, as text, or as JSON lines.

Any module logs with the standard library and gives structured fields as `extra`, e.g.
`log.info("attached", extra={"network": "blue", "endpoint": endpoint_id})`. No handler here
waits: when the other side does not read, records are dropped, counted, and the count is told
as soon as there is room.
"""

import errno
import fcntl
import json
import logging
import os
import select
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

JOURNAL_SOCKET: Final = "/run/systemd/journal/socket"
FIELD_MAX_BYTES: Final = 64  # journal_field_valid() in systemd's journal-file.c

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PRIORITIES = (  # sd-daemon(3)
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def configure(level: str, form: str, program: str = "netd") -> "DroppingHandler":
    """Send all records of at least `level` out in `form`: auto, text, json or journal.

    Replaces what an earlier call has set up; the result counts what was dropped. The journal
    shows them as `program`'s.
    """
    if form == "auto":
        form = "journal" if stderr_is_journal(os.environ) else "text"
    handler: DroppingHandler
    handler = JournalHandler(program=program) if form == "journal" else StderrHandler()
    if form != "journal":
        handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, DroppingHandler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
    return handler


def stderr_is_journal(environment: Mapping[str, str], descriptor: int = 2) -> bool:
    """Whether what is written to `descriptor` goes to the journal, as systemd.exec(5) tells it."""
    try:
        found = os.fstat(descriptor)
    except OSError:  # standard error is closed
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """The structured fields that the caller gave, without empty ones."""
    given = vars(record).items()
    return {key: value for key, value in given if key not in _STANDARD and value not in (None, "")}


class DroppingHandler(logging.Handler, ABC):
    """Writes whole records, or drops and counts them. `send` says whether there was room."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped = 0
        self._untold = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._untold and self.send(_told(self._untold)):
                self._untold = 0
            if not self.send(record):
                self.dropped += 1
                self._untold += 1
        except Exception:  # noqa: BLE001 - as logging.Handler asks for: a bad record ends nothing
            self.handleError(record)

    @abstractmethod
    def send(self, record: logging.LogRecord) -> bool: ...


def _told(count: int) -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": __name__,
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": "%d log records were dropped: their reader was too slow",
            "args": (count,),
        }
    )


class StderrHandler(DroppingHandler):
    """Lines on standard error. A pipe or terminal that nobody reads must not stop the daemon."""

    def __init__(self, descriptor: int = 2) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def send(self, record: logging.LogRecord) -> bool:
        # O_NONBLOCK would hit everybody who shares the descriptor. A writable pipe takes
        # PIPE_BUF bytes without blocking (pipe_poll() in fs/pipe.c), so that is the portion.
        line = (self.format(record) + "\n").encode(errors="backslashreplace")
        for start in range(0, len(line), select.PIPE_BUF):
            if not self._poll.poll(0):
                return False
            os.write(self._descriptor, line[start : start + select.PIPE_BUF])
        return True


class JournalHandler(DroppingHandler):
    """The journal's native protocol: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/."""

    def __init__(self, address: str = JOURNAL_SOCKET, program: str = "netd") -> None:
        super().__init__()
        self._address = address
        self._program = program
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def send(self, record: logging.LogRecord) -> bool:
        entry = b"".join(_journal_field(name, value) for name, value in self._entry(record))
        try:
            self._socket.sendto(entry, self._address)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in (errno.EMSGSIZE, errno.ENOBUFS):
                return self._send_large(entry)
            return False  # no journal at the moment: it may be stopped, too
        return True

    def close(self) -> None:
        self._socket.close()
        super().close()

    def _entry(self, record: logging.LogRecord) -> list[tuple[str, str]]:
        entry = [
            ("MESSAGE", self.format(record)),
            ("PRIORITY", str(_priority(record.levelno))),
            ("SYSLOG_IDENTIFIER", self._program),
            ("LOGGER", record.name),
            ("CODE_FILE", record.pathname),
            ("CODE_LINE", str(record.lineno)),
            ("CODE_FUNC", record.funcName or ""),
        ]
        return entry + [(_journal_name(key), str(item)) for key, item in fields(record).items()]

    def _send_large(self, entry: bytes) -> bool:
        """A datagram has a limit; a sealed memory file sent along has none."""
        file = os.memfd_create("netd-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(file, "wb", closefd=False) as body:
                body.write(entry)
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
            # Not socket.send_fds(): until Python 3.12 it forgets its address argument.
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("=i", file))
            self._socket.sendmsg([b""], [rights], 0, self._address)
        except OSError:
            return False
        finally:
            os.close(file)
        return True


class TextFormatter(logging.Formatter):
    """`2026-11-22 10:40:01.123 INFO    attached network=blue`: local time, one line each.

    Only a traceback adds lines.
    """

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).astimezone()
        words = [
            moment.isoformat(sep=" ", timespec="milliseconds")[:23],
            f"{record.levelname:<7}",
            _printable(record.getMessage()),
        ]
        words += [f"{key}={_quoted(_plain(value))}" for key, value in fields(record).items()]
        line = " ".join(words)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (RFC 3339, UTC), `level`, `logger`, `message`, fields."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps({**fields(record), **line}, default=str)


def _priority(level: int) -> int:
    return next((priority for least, priority in _PRIORITIES if level >= least), 7)


def _journal_name(key: str) -> str:
    name = "".join(
        char if char.isascii() and (char.isalnum() or char == "_") else "_" for char in key
    )
    return f"NETD_{name.upper()}"[:FIELD_MAX_BYTES]


def _journal_field(name: str, value: str) -> bytes:
    body = value.encode(errors="backslashreplace")
    if b"\n" not in body:
        return b"%s=%s\n" % (name.encode(), body)
    return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(body)), body)


def _plain(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _printable(text: str) -> str:
    """Names come from callers: a line break or escape in one must not forge a line."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _quoted(text: str) -> str:
    plain = text.isprintable() and not set(text) & set(' "=')
    return text if plain else json.dumps(text, ensure_ascii=not text.isprintable())
