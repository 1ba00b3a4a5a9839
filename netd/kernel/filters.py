"""Filters that keep the kernel from waking netd up for what does not matter to it."""

import socket
import sys
from collections.abc import Collection
from typing import Final

from pyroute2.ext import bpf
from pyroute2.ext.bpf import BPF

from netd.kernel import uapi

LINKS_MAX: Final = 2000  # two instructions each, of at most 4096 (BPF_MAXINSNS)

SO_ATTACH_FILTER: Final = 26  # include/uapi/asm-generic/socket.h
NLMSG_TYPE_OFFSET: Final = 4
NDM_IFINDEX_OFFSET: Final = uapi.NLMSGHDR.size + 4
_PASS, _DROP = 0xFFFFFFFF, 0


def only_deletions(listening: socket.socket) -> None:
    """Have the kernel drop what is not about a deletion.

    An attach causes a dozen notifications in the container, of which none matters; woken up
    for them, the event loop would take the interpreter from the thread that does the attach.
    """
    kinds = (uapi.RTM_DELLINK, uapi.RTM_DELADDR, uapi.RTM_DELROUTE, uapi.RTM_DELRULE)
    load = [BPF.LD | BPF.H | BPF.ABS, 0, 0, NLMSG_TYPE_OFFSET]
    _attach(listening, load, [_as_loaded(kind, 2) for kind in kinds])


def only_of_links(listening: socket.socket, links: Collection[int]) -> None:
    """Have the kernel drop what is not about a neighbour or forwarding entry of these links."""
    load = [BPF.LD | BPF.W | BPF.ABS, 0, 0, NDM_IFINDEX_OFFSET]
    if len(links) > LINKS_MAX:
        _attach(listening, load, [], otherwise=_PASS)
    else:
        _attach(listening, load, [_as_loaded(index, 4) for index in sorted(links)])


def _attach(
    listening: socket.socket, load: list[int], passed: list[int], otherwise: int = _DROP
) -> None:
    """Pass those whose loaded value is one of `passed`."""
    program = [load]
    for value in passed:
        program.append([BPF.JMP | BPF.JEQ | BPF.K, 0, 1, value])
        program.append([BPF.RET | BPF.K, 0, 0, _PASS])
    program.append([BPF.RET | BPF.K, 0, 0, otherwise])
    # The first points into the second, which must live until the kernel has copied it.
    compiled, _instructions = bpf.compile(program)
    listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, compiled)


def _as_loaded(value: int, size: int) -> int:
    """A load takes the bytes for big-endian; netlink has them in the host's order."""
    return int.from_bytes(value.to_bytes(size, sys.byteorder), "big")
