"""Network namespaces: to recognise one, and to work inside one for a moment."""

import ctypes
import errno
import fcntl
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from netd.kernel.netlink import NetlinkSocket
from netd.kernel.rtnl_decode import LINKS
from netd.kernel.rtnl_encode import new_nsid
from netd.kernel.uapi import CLONE_NEWNET, NS_GET_NSTYPE
from netd.model.endpoint import Sandbox
from netd.model.errors import Invalid, NotFound

log = logging.getLogger(__name__)

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESRCH)
_PROC_PATH = re.compile(r"/proc/([1-9][0-9]{0,6})/ns/net")
_START_TIME_FIELD = 22  # of /proc/PID/stat, counted from 1: proc_pid_stat(5)

# os.setns() exists from Python 3.12 on.
_libc = ctypes.CDLL(None, use_errno=True)


class OpenNamespace(NamedTuple):
    """A namespace held open. It cannot vanish before `close`: be quick."""

    descriptor: int
    socket: NetlinkSocket

    def close(self) -> None:
        self.socket.close()
        os.close(self.descriptor)


class Namespaces:
    """Ways from the host's namespace, the one of the thread that makes this, into others.

    Methods may be called on any thread that is in the host's namespace.
    """

    def __init__(self) -> None:
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(self._home)
        self._nsfs_device = status.st_dev
        self.home_inode = status.st_ino
        self.boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def close(self) -> None:
        os.close(self._home)

    def identify(self, *, path: str | None, pid: int | None) -> tuple[Sandbox, frozenset[str]]:
        """The namespace at `path`, or of process `pid`, and the names of its links.

        Raises `NotFound` when there is nothing at that path or no such process, `Invalid`
        when it is no network namespace or cannot be opened.
        """
        field = "pid" if path is None else "netns"
        if path is None:
            path = f"/proc/{pid}/ns/net"
        elif not path.startswith("/"):
            raise Invalid(f"{path!r} is not an absolute path", field="netns")
        elif match := _PROC_PATH.fullmatch(path):
            pid = int(match[1])
        try:
            namespace, ticks = self._open(path, pid)
        except ValueError as error:  # a null byte
            raise Invalid(f"{path!r} is not a path: {error}", field=field) from error
        except OSError as error:
            if error.errno in _GONE:
                what = f"{path!r} does not exist" if pid is None else f"there is no process {pid}"
                raise NotFound(what, field=field) from error
            raise Invalid(f"{path!r} cannot be opened: {error.strerror}", field=field) from error
        try:
            if not self._is_network_namespace(namespace):
                raise Invalid(f"{path!r} is not a network namespace", field=field)
            with self.socket(namespace) as socket:
                sandbox = Sandbox(
                    path=path,
                    inode=os.fstat(namespace).st_ino,
                    cookie=socket.namespace_cookie(),
                    boot_id=self.boot_id,
                    pid=pid,
                    pid_start_ticks=ticks,
                )
                return sandbox, frozenset(link.name for link in socket.dump(LINKS))
        finally:
            os.close(namespace)

    def open(self, sandbox: Sandbox) -> "OpenNamespace | None":
        """The sandbox, to work in, or None when it is no more.

        It is no more, too, when something else is at its path by now.
        """
        descriptor = self._reopen(sandbox)
        if descriptor is None:
            return None
        try:
            socket = self.socket(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        opened = OpenNamespace(descriptor, socket)
        if socket.namespace_cookie() == sandbox.cookie:
            return opened
        opened.close()
        return None

    def alive(self, sandbox: Sandbox) -> bool:
        """Whether its path still leads to the same namespace (and its process still runs)."""
        opened = self.open(sandbox)
        if opened is None:
            return False
        opened.close()
        return True

    def socket(self, namespace: int) -> NetlinkSocket:
        """A netlink socket of that namespace, usable from anywhere."""
        with self.entered(namespace):
            return NetlinkSocket()

    @contextmanager
    def entered(self, namespace: int) -> Iterator[None]:
        """The calling thread is in `namespace` meanwhile. Raises OSError when it cannot be."""
        _setns(namespace)
        try:
            yield
        finally:
            try:
                _setns(self._home)
            except OSError as error:
                # Whatever came next would configure a container instead of the host.
                log.critical("cannot return to the host's network namespace: %s", error)
                os.abort()

    def _reopen(self, sandbox: Sandbox) -> int | None:
        if sandbox.boot_id != self.boot_id:
            return None
        try:
            namespace, ticks = self._open(sandbox.path, sandbox.pid)
        except (OSError, ValueError):
            return None
        same = (
            os.fstat(namespace).st_ino == sandbox.inode
            and ticks == sandbox.pid_start_ticks
            and self._is_network_namespace(namespace)
        )
        if same:
            return namespace
        os.close(namespace)
        return None

    def _open(self, path: str, pid: int | None) -> tuple[int, int | None]:
        """A descriptor of what is at `path` and, for a process's path, when that one started."""
        if pid is None:
            return self._open_at(path, None), None
        # Both are asked of one and the same process, even if its number is given away between.
        process = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            ticks = start_ticks_of(process)
            return self._open_at("ns/net", process), ticks
        finally:
            os.close(process)

    def _open_at(self, path: str, directory: int | None) -> int:
        # O_PATH has no effect on what is opened: a fifo or a device could block or act.
        reference = os.open(path, os.O_PATH | os.O_CLOEXEC, dir_fd=directory)
        try:
            if os.fstat(reference).st_dev != self._nsfs_device:
                return os.dup(reference)
            return os.open(f"/proc/self/fd/{reference}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(reference)

    def _is_network_namespace(self, descriptor: int) -> bool:
        if os.fstat(descriptor).st_dev != self._nsfs_device:
            return False
        return fcntl.ioctl(descriptor, NS_GET_NSTYPE) == CLONE_NEWNET


class OpenSandboxes:
    """Sandboxes that are opened when first needed and stay open until `close`."""

    def __init__(self, namespaces: Namespaces, sandboxes: Mapping[str, Sandbox]) -> None:
        self._namespaces = namespaces
        self._sandboxes = sandboxes
        self._open: dict[str, OpenNamespace] = {}

    def open(self, ns: str) -> OpenNamespace:
        """The namespace with this key. Raises OSError, ENOENT when it is no more."""
        opened = self._open.get(ns)
        if opened is None:
            sandbox = self._sandboxes.get(ns)
            opened = self._namespaces.open(sandbox) if sandbox is not None else None
            if opened is None:
                raise OSError(errno.ENOENT, f"the network namespace {ns} is no more")
            self._open[ns] = opened
        return opened

    @contextmanager
    def entered(self, ns: str) -> Iterator[None]:
        """The calling thread is in that namespace meanwhile, or stays on the host for ""."""
        if not ns:
            yield
            return
        with self._namespaces.entered(self.open(ns).descriptor):
            yield

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()


def make_heard(namespace: int, host: NetlinkSocket) -> None:
    """Have the host told of changes in `namespace`, which it is where it has an id for it.

    To be called where no veth leads there: a pair's peer gets its namespace an id. Raises
    OSError.
    """
    for error in host.send([new_nsid(namespace)]).values():
        if error.errno != errno.EEXIST:
            raise error


def _setns(namespace: int) -> None:
    if _libc.setns(namespace, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def start_ticks_of(process: int) -> int:
    """When the process of a descriptor of /proc/PID started, in clock ticks after the boot."""
    descriptor = os.open("stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
    try:
        stat = os.read(descriptor, 4096)
    finally:
        os.close(descriptor)
    # The second field, the program's name in parentheses, may hold spaces and parentheses.
    after_name = stat[stat.rindex(b")") + 2 :].split()
    return int(after_name[_START_TIME_FIELD - 3])
