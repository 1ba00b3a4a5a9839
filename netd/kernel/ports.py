"""Host ports kept off others while they are published.

Translation takes packets before any socket sees them, so a program that listens on a
published port would be cut off without an error. A socket of netd that is bound there makes
the program's own attempt fail instead. It does not listen: nothing ever arrives at it, and
where no rule translates, a client is refused as if no one were there.
"""

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from netd.model.errors import Exhausted, KernelFailure
from netd.plan.ports import HeldPort, describe

_IP_FREEBIND: Final = 15  # include/uapi/linux/in.h
_IPV6_FREEBIND: Final = 78  # include/uapi/linux/in6.h
_TCP_REPAIR: Final = 19  # include/uapi/linux/tcp.h
_TCP_REPAIR_OFF_NO_WP: Final = -1
_TCP_LISTEN: Final = "0A"  # as in /proc/net/tcp
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_KINDS: Final = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class PortHolder:
    """The sockets that hold ports, in the network namespace of the calling thread."""

    def __init__(self) -> None:
        self._held: dict[HeldPort, socket.socket | None] = {}

    def hold(self, ports: Sequence[HeldPort]) -> list[HeldPort]:
        """Bind the ports so that no other program can; all or none.

        Returns those that somebody else holds; [] means that all are held now. What is held
        already stays so. Raises `Exhausted` when the process may not open more files,
        `KernelFailure` when the kernel refuses otherwise.
        """
        bound: dict[HeldPort, socket.socket | None] = {}
        busy = []
        with ExitStack() as undo:
            for port in ports:
                if port in self._held or port in bound:
                    continue
                try:
                    made = bound[port] = _bind(port)
                except _Busy:
                    busy.append(port)
                else:
                    if made is not None:
                        undo.callback(made.close)
            if not busy:
                undo.pop_all()
                self._held.update(bound)
        return busy

    def release(self, ports: Sequence[HeldPort]) -> None:
        """Let others have the ports again. One that is not held is passed over."""
        for port in ports:
            holding = self._held.pop(port, None)
            if holding is not None:
                holding.close()

    def busy(self, ports: Sequence[HeldPort]) -> list[HeldPort]:
        """Those of the ports that some socket of the host holds, netd's included."""
        found = []
        for port in ports:
            try:
                bound = _bind(port)
            except _Busy:
                found.append(port)
            else:
                if bound is not None:
                    bound.close()
        return found

    def close(self) -> None:
        """Release all."""
        self.release(list(self._held))


class _Busy(Exception):
    """Somebody holds the port."""


def _bind(port: HeldPort) -> socket.socket | None:
    """A socket that is bound to the port; None where the kernel lacks the protocol or family.

    SO_REUSEADDR is not set: two sockets that have it and do not listen may both be bound, so
    another program would only be told when it listens, and UDP programs never. Without it
    connections and their TIME_WAIT are in the way, which are no reason to call a port held:
    where there is nothing but them, the socket is bound over them.
    """
    if port.protocol == "sctp" and not _has_sctp():
        return None
    try:
        made = socket.socket(_FAMILIES[port.family], *_KINDS[port.protocol])
    except OSError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
            return None  # then nobody else can have it either
        raise _refusal(port, error) from error
    try:
        _prepare(made, port)
        _bind_firmly(made, port)
    except OSError as error:
        made.close()
        raise _refusal(port, error) from error
    except _Busy:
        made.close()
        raise
    return made


def _prepare(made: socket.socket, port: HeldPort) -> None:
    # The address may come later, e.g. a virtual one that moves between hosts.
    if port.family == 4:
        made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    else:
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if port.protocol == "udp":
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # nobody reads it


def _bind_firmly(made: socket.socket, port: HeldPort) -> None:
    address = (port.address, port.port)
    try:
        made.bind(address)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        if port.protocol != "tcp" or not _has_connections_alone(port):
            raise _Busy from error
    else:
        return
    # A socket under repair may be bound over others (SK_FORCE_REUSE in inet_csk_get_port());
    # after repair it has no SO_REUSEADDR, so that others cannot be bound over it.
    try:
        made.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
        made.bind(address)
        made.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, _TCP_REPAIR_OFF_NO_WP)
    except PermissionError as error:
        raise _Busy from error


def _has_connections_alone(port: HeldPort) -> bool:
    """Whether there are TCP connections from or to this port, and no socket that listens.

    Where there is neither, the port is held by a socket that is bound and no more, which
    /proc does not show.
    """
    connections = False
    for address, state in _tcp_sockets(port.port):
        if not _overlaps(address, port):
            continue
        if state == _TCP_LISTEN:
            return False
        connections = True
    return connections


def _tcp_sockets(port: int) -> Iterator[tuple[_Address, str]]:
    """Local address and state of each TCP socket on the port."""
    suffix = f":{port:04X}"
    for table in ("tcp", "tcp6"):
        path = Path("/proc/thread-self/net", table)
        if not path.exists():
            continue
        with path.open() as lines:
            for line in lines:
                _, local, _, state = line.split(maxsplit=4)[:4]
                if local.endswith(suffix):
                    yield _address(local.partition(":")[0]), state


def _address(digits: str) -> _Address:
    """An address as /proc/net/tcp has it: words of 32 bits in the machine's byte order."""
    words = [int(digits[i : i + 8], 16) for i in range(0, len(digits), 8)]
    address = ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))
    return getattr(address, "ipv4_mapped", None) or address


def _overlaps(address: _Address, port: HeldPort) -> bool:
    """Whether a socket with that address stands in the way of the port's.

    One on `::` counts for IPv4 as well: whether it is for IPv6 only cannot be seen.
    """
    if address.version == 6 and address.is_unspecified:
        return True
    if address.version != port.family:
        return False
    return address.is_unspecified or not port.address or str(address) == port.address


def _has_sctp() -> bool:
    """Whether SCTP is there. Making a socket would load its module, which nobody asked for."""
    return Path("/proc/thread-self/net/sctp").is_dir()


def _refusal(port: HeldPort, error: OSError) -> Exhausted | KernelFailure:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Exhausted(f"no file descriptor is left to hold {describe(port)}: {error.strerror}")
    return KernelFailure(f"cannot hold {describe(port)}: {error.strerror}")
