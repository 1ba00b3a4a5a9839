"""What nftables reports of changes, as triggers.

The messages of a transaction come first, then one that says whose it was: what concerns netd
is remembered until then, because netd's own changes are no news.
"""

import struct
from pathlib import Path
from typing import Final

from netd.engine.interfaces import Trigger
from netd.kernel.attributes import Attributes, attributes
from netd.kernel.netlink import NetlinkSocket, Query
from netd.kernel.uapi import NLMSGHDR

# include/uapi/linux/netfilter/nfnetlink.h, nf_tables.h; linux/netfilter.h
NFNL_SUBSYS_NFTABLES = 10
NFT_MSG_NEWCHAIN, NFT_MSG_GETCHAIN, NFT_MSG_DELCHAIN = 3, 4, 5
NFT_MSG_NEWRULE, NFT_MSG_DELRULE = 6, 8
NFT_MSG_NEWGEN = 15
NFTA_TABLE = 1  # the table's name, in messages of all kinds but NEWGEN
NFTA_GEN_PROC_PID = 2
NFTA_RULE_CHAIN = 2
NFTA_CHAIN_NAME, NFTA_CHAIN_HOOK = 3, 4
NFTA_HOOK_HOOKNUM = 1
NF_INET_FORWARD = 2
NFPROTO_INET, NFPROTO_IPV4, NFPROTO_BRIDGE, NFPROTO_IPV6 = 1, 2, 7, 10
NFGENMSG_SIZE = 4
BE32 = struct.Struct("!I")

OWN_FAMILY, OWN_TABLE = NFPROTO_INET, b"netd"

Chain = tuple[int, bytes, bytes]
"""Family, table and name of a chain."""


class NftEvents:
    """Tells when another process changes netd's table, or what is dropped when forwarded.

    For the latter it knows the base chains of hook forward of all tables. Rules of chains
    that those jump to are not looked at.
    """

    def __init__(self) -> None:
        self._forward: set[Chain] = set()
        self._concerned = False

    def learn(self, netfilter: NetlinkSocket) -> None:
        """Read which chains there are. Raises NetlinkError."""
        self._forward.update(chain for chain in netfilter.dump(_CHAINS) if chain is not None)

    def triggers(self, data: bytes, _nsid: int) -> list[Trigger]:
        """The triggers in a datagram; all are of the host.

        Raises struct.error, LookupError, ValueError or OSError when it is not understood.
        """
        found = []
        offset, size = 0, len(data)
        while offset < size:
            length, kind, *_ = NLMSGHDR.unpack_from(data, offset)
            if length < NLMSGHDR.size or offset + length > size:
                raise ValueError("a netlink message was cut short")
            start, end = offset + NLMSGHDR.size, offset + length
            if kind >> 8 == NFNL_SUBSYS_NFTABLES:
                if kind & 0xFF == NFT_MSG_NEWGEN:
                    if self._concerned and not _is_own(data, start, end):
                        found.append(Trigger(kind="ruleset", verb="new"))
                    self._concerned = False
                elif self._concerns(kind & 0xFF, data, start, end):
                    self._concerned = True
            offset += (length + 3) & ~3
        return found

    def _concerns(self, kind: int, data: bytes, start: int, end: int) -> bool:
        family = data[start]
        of_chain = kind in (NFT_MSG_NEWCHAIN, NFT_MSG_DELCHAIN)
        if self._concerned and not of_chain:
            return True
        found = attributes(data, start + NFGENMSG_SIZE, end)
        table = _text(data, found[NFTA_TABLE])
        if of_chain and self._is_forward(kind, _chain(data, start, found), data, found):
            return True
        if (family, table) == (OWN_FAMILY, OWN_TABLE):
            return True
        if kind in (NFT_MSG_NEWRULE, NFT_MSG_DELRULE):
            return (family, table, _text(data, found[NFTA_RULE_CHAIN])) in self._forward
        return False

    def _is_forward(self, kind: int, chain: Chain, data: bytes, found: Attributes) -> bool:
        if kind == NFT_MSG_NEWCHAIN and _hooks_forward(chain[0], data, found):
            self._forward.add(chain)
            return True
        # Of a deleted chain newer kernels tell the name only.
        known = chain in self._forward
        if kind == NFT_MSG_DELCHAIN:
            self._forward.discard(chain)
        return known


def _hooks_forward(family: int, data: bytes, found: Attributes) -> bool:
    hook = found.get(NFTA_CHAIN_HOOK)
    if hook is None or family not in (NFPROTO_INET, NFPROTO_IPV4, NFPROTO_BRIDGE, NFPROTO_IPV6):
        return False
    number = attributes(data, *hook)[NFTA_HOOK_HOOKNUM]
    return BE32.unpack_from(data, number[0]) == (NF_INET_FORWARD,)


def _is_own(data: bytes, start: int, end: int) -> bool:
    # The kernel names the thread (task_pid_nr). Within a pid namespace of our own its number
    # is another one here: then netd's changes look foreign, which costs a look, no more.
    thread = attributes(data, start + NFGENMSG_SIZE, end)[NFTA_GEN_PROC_PID]
    return Path(f"/proc/self/task/{BE32.unpack_from(data, thread[0])[0]}").exists()


def _decode_chain(data: bytes, start: int, end: int) -> Chain | None:
    found = attributes(data, start + NFGENMSG_SIZE, end)
    chain = _chain(data, start, found)
    return chain if _hooks_forward(chain[0], data, found) else None


def _chain(data: bytes, start: int, found: Attributes) -> Chain:
    return data[start], _text(data, found[NFTA_TABLE]), _text(data, found[NFTA_CHAIN_NAME])


def _text(data: bytes, place: tuple[int, int]) -> bytes:
    return data[place[0] : place[1]].rstrip(b"\0")


_CHAINS: Final = Query(
    NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN,
    bytes(NFGENMSG_SIZE),
    NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN,
    _decode_chain,
)
