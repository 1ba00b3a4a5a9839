"""Small files of the state folder: replaced whole and durably, read with a bound."""

import logging
import os
import stat
from contextlib import suppress
from pathlib import Path

from netd.model.errors import Invalid

log = logging.getLogger(__name__)


class TooLong(OSError):
    """A file has more bytes than it may have."""


def replace(path: Path, data: bytes) -> None:
    """Put `data` in the place of what is at `path`, readable for the owner alone.

    When this returns, a power cut leaves `data`; whenever it is interrupted, what was there
    before or `data`, never a part. Raises OSError and then has changed nothing.
    """
    new = path.with_name(f".{path.name}.new")  # one process owns the folder: one name is enough
    with suppress(FileNotFoundError):
        new.unlink()  # of a process that was killed while it wrote
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove the file durably; it may be gone already. Raises OSError."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def read(path: Path, max_bytes: int) -> bytes:
    """The whole file. Raises OSError, `TooLong` when it has more than `max_bytes`."""
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise TooLong(f"{path} has more than {max_bytes} bytes")
    return data


def read_secret(path: Path, max_bytes: int) -> bytes:
    """As `read`. Raises `Invalid` also when others than its owner may change the file; that
    they may read it is worth a warning, as files are often made with the shell's `>`.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise Invalid(f"{path} is not a regular file")
        if status.st_uid not in (0, os.geteuid()):
            raise Invalid(
                f"{path} belongs to user {status.st_uid}, who could change it: "
                f"chown {os.geteuid()} {path}"
            )
        if status.st_mode & 0o022:
            raise Invalid(f"others than its owner may change {path}: chmod 600 {path}")
        if status.st_mode & 0o044:
            log.warning(
                "%s has mode %04o, so others can read the secret in it: chmod 600 %s",
                path,
                stat.S_IMODE(status.st_mode),
                path,
            )
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise TooLong(f"{path} has more than {max_bytes} bytes")
    return data


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or removed in the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
