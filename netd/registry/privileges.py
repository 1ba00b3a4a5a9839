"""Giving up root's power for good: what is left is to listen at ports below 1024.

For a registry that netd itself has started. By then all that the process needs is loaded, so it
works from a folder that the other user cannot read. A service manager does the same by itself.
"""

import ctypes
import os
import pwd
import struct
from typing import Final

# include/uapi/linux/prctl.h, capability.h
_PR_CAPBSET_READ: Final = 23
_PR_CAPBSET_DROP: Final = 24
_PR_SET_KEEPCAPS: Final = 8
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAP_NET_BIND_SERVICE: Final = 10
_CAPABILITIES_MAX: Final = 64
_CAPABILITY_VERSION_3: Final = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def give_up(user: str) -> None:
    """Become `user`, with no capability but CAP_NET_BIND_SERVICE and no way to get any.

    Raises OSError, or KeyError when there is no such user; the process must not go on then.
    """
    account = pwd.getpwnam(user)
    if account.pw_uid == 0:
        raise PermissionError(f"{user} is root")
    for number in range(_CAPABILITIES_MAX):
        if number == _CAP_NET_BIND_SERVICE:
            continue
        if _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 1:
            _prctl(_PR_CAPBSET_DROP, number)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_KEEPCAPS, 1)  # over the change of the user; capset(2) keeps only the one
    os.setgroups([])
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    _prctl(_PR_SET_KEEPCAPS, 0)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _keep_only(1 << _CAP_NET_BIND_SERVICE)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}, {value}): {os.strerror(code)}")


def _keep_only(kept: int) -> None:
    """capset(2): `kept` is effective and permitted, nothing is inheritable."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    low, high = kept & 0xFFFF_FFFF, kept >> 32
    data = struct.pack("=6I", low, low, 0, high, high, 0)
    if _libc.capset(header, data) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"capset: {os.strerror(code)}")
