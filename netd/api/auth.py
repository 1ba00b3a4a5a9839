"""Who may call: the peer's credentials, as the kernel attests them."""

import enum
import grp
import logging
import pwd
import socket
import struct
from collections.abc import Callable
from typing import Final

import msgspec

log = logging.getLogger(__name__)

_SO_PEERGROUPS: Final = 59  # include/uapi/asm-generic/socket.h; the socket module lacks it
_UCRED: Final = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_GROUPS_BYTES: Final = 1024  # the most that socket.getsockopt() can fetch: 256 groups


class Access(enum.IntEnum):
    """What a peer may do; each level includes those below."""

    NOTHING = 0
    READ = 1
    REGISTRY = 2  # read, and write what the registry is there for
    WRITE = 3


class Peer(msgspec.Struct, frozen=True):
    """The process at the other end, as it was when it connected."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int]


def peer_of(sock: socket.socket) -> Peer:
    """The credentials of a connected Unix socket's peer (unix(7), SO_PEERCRED).

    The supplementary groups of a peer with more than 256 of them count as none.
    """
    pid, uid, gid = _UCRED.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    )
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError as error:
        log.warning("cannot read the groups of pid %d, uid %d: %s", pid, uid, error)
        packed = b""
    groups = struct.unpack(f"={len(packed) // 4}I", packed)
    return Peer(pid, uid, gid, frozenset(groups))


class Authority(msgspec.Struct, frozen=True, kw_only=True):
    """Who may do what. None stands for a group or user that this host does not have.

    `registry_pid` tells the only process of the registry's user that is the registry, where
    that user is not its own; None: all of them are.
    """

    admin_gid: int | None = None
    view_gid: int | None = None
    registry_uid: int | None = None
    registry_pid: Callable[[], int] | None = None

    @classmethod
    def from_names(cls, admin_group: str, view_group: str, registry_user: str) -> "Authority":
        """Look the names up now. A name that this host does not have means nobody."""
        return cls(
            admin_gid=_gid(admin_group), view_gid=_gid(view_group), registry_uid=_uid(registry_user)
        )

    def access(self, peer: Peer) -> Access:
        groups = peer.groups | {peer.gid}
        if peer.uid == 0 or self.admin_gid in groups:
            return Access.WRITE
        if self._is_registry(peer):
            return Access.REGISTRY
        if self.view_gid in groups:
            return Access.READ
        return Access.NOTHING

    def _is_registry(self, peer: Peer) -> bool:
        if peer.uid != self.registry_uid:
            return False
        return self.registry_pid is None or peer.pid == self.registry_pid()


def _gid(group: str) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        log.info("this host has no group %s: nobody gets its rights", group)
        return None


def _uid(user: str) -> int | None:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        log.info("this host has no user %s: nobody gets its rights", user)
        return None
