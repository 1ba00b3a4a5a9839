"""Unix sockets in the file system, made so that nobody is let in or pushed out by chance."""

import fcntl
import logging
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Final

from netd.api.auth import Authority
from netd.model.errors import Conflict, Unavailable

log = logging.getLogger(__name__)

BACKLOG: Final = 512
_PATH_BYTES_MAX: Final = 107  # sun_path without its final NUL, include/uapi/linux/un.h

# include/uapi/linux/posix_acl_xattr.h and posix_acl.h
_ACL: Final = "system.posix_acl_access"
_ACL_VERSION: Final = 2
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NO_ID: Final = 0xFFFFFFFF


class Listener:
    """A listening Unix socket at `path`, and the lock that keeps the path this process's."""

    def __init__(self, path: Path, sock: socket.socket, lock: int) -> None:
        self.path = path
        self.sock = sock
        self._lock = lock

    def close(self) -> None:
        """Stop listening and remove the socket from the file system."""
        self.sock.close()
        self.path.unlink(missing_ok=True)
        os.close(self._lock)


def listen(path: Path, authority: Authority, mode: int) -> Listener:
    """Listen on a new socket at `path`, open to those whom `authority` knows.

    The group of administrators becomes the file's group. What else may read gets an entry in
    the file's access list (acl(5)): a peer that cannot write to the file cannot connect.
    A socket that a killed daemon left is replaced. Raises `Conflict` when somebody listens on
    `path` or it is no socket, `Unavailable` when the system refuses.
    """
    if len(os.fsencode(path)) > _PATH_BYTES_MAX:
        raise Conflict(f"{path}: a socket's path has at most {_PATH_BYTES_MAX} bytes")
    _make_folder(path.parent)
    lock = _lock(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        sock.bind(os.fspath(path))
        # Nobody can connect before listen(), so the modes are right before the first peer.
        path.chmod(mode)
        if authority.admin_gid is not None:
            os.chown(path, -1, authority.admin_gid)
        _grant(path, authority, mode)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        os.close(lock)
        raise Unavailable(f"cannot listen on {path}: {error.strerror}") from error
    except Conflict:
        sock.close()
        os.close(lock)
        raise
    sock.setblocking(False)
    return Listener(path, sock, lock)


def admit(sock: socket.socket, authority: Authority) -> None:
    """Open a socket that the service manager has made to those whom `authority` knows beside its
    group.
    """
    path = Path(os.fsdecode(sock.getsockname()))
    if path.is_absolute():
        admit_to(path, authority)


def admit_to(path: Path, authority: Authority) -> None:
    """The same by the socket's path."""
    _grant(path, authority, stat.S_IMODE(path.stat().st_mode))


def _make_folder(folder: Path) -> None:
    """The service manager makes it; whoever starts netd by hand should not have to."""
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"cannot make {folder}: {error.strerror}") from error


def _lock(path: Path) -> int:
    """Lock `<path>.lock`. The file stays: to remove a lock file is to race for it."""
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(f"cannot lock {path}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Conflict(f"another netd uses {path}; stop it or choose another path") from None
    return lock


def _remove_stale(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise Conflict(f"{path} exists and is not a socket; remove it or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog answers too: with EAGAIN
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass
    raise Conflict(f"another program listens on {path}; stop it or choose another path")


def _grant(path: Path, authority: Authority, mode: int) -> None:
    users = [] if authority.registry_uid is None else [(_USER, 6, authority.registry_uid)]
    groups = [] if authority.view_gid is None else [(_GROUP, 6, authority.view_gid)]
    if not users and not groups:
        return
    owner, group, other = mode >> 6 & 7, mode >> 3 & 7, mode & 7
    entries = [
        (_USER_OBJ, owner, _NO_ID),
        *users,
        (_GROUP_OBJ, group, _NO_ID),
        *groups,
        (_MASK, group | 6, _NO_ID),
        (_OTHER, other, _NO_ID),
    ]
    packed = struct.pack("<I", _ACL_VERSION)
    packed += b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, _ACL, packed)
    except OSError as error:
        log.warning("%s has no access list, so only its group can connect: %s", path, error)
