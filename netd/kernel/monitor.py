"""Listens to what the kernel says about changes, on the event loop.

The sockets never block and never write. What comes faster than it is read is lost, which the
kernel tells once (ENOBUFS); a look at everything then makes up for it.
"""

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

from pyroute2.netlink import NETLINK_LISTEN_ALL_NSID, NETLINK_NETFILTER, rtnl
from pyroute2.netlink.nfnetlink import NFNLGRP_NFTABLES

from netd.engine.interfaces import Trigger
from netd.kernel.filters import only_deletions, only_of_links
from netd.kernel.netlink import NetlinkSocket
from netd.kernel.nft_events import NftEvents
from netd.kernel.rtnl_decode import LINKS
from netd.kernel.rtnl_events import HOST_NSID, RtnlEvents
from netd.kernel.tunnel_events import TunnelEvents
from netd.kernel.uapi import I32, NETLINK_ROUTE, SO_RCVBUFFORCE, SOL_NETLINK

log = logging.getLogger(__name__)

RTNL_GROUPS: Final = (
    rtnl.RTNLGRP_LINK,
    rtnl.RTNLGRP_IPV4_IFADDR,
    rtnl.RTNLGRP_IPV6_IFADDR,
    rtnl.RTNLGRP_IPV4_ROUTE,
    rtnl.RTNLGRP_IPV6_ROUTE,
    rtnl.RTNLGRP_IPV4_RULE,
    rtnl.RTNLGRP_IPV6_RULE,
    rtnl.RTNLGRP_IPV4_NETCONF,
    rtnl.RTNLGRP_IPV6_NETCONF,
)
HOST_GROUPS: Final = (*RTNL_GROUPS, rtnl.RTNLGRP_TC)


BUFFER_BYTES: Final = 8 << 20
DATAGRAM_BYTES: Final = 32 << 10  # a notification is smaller, save for hundreds of SR-IOV VFs
DATAGRAMS_PER_WAKE_UP: Final = 64  # then the loop may do something else
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(I32.size)
_NOT_UNDERSTOOD: Final = (struct.error, LookupError, ValueError, OSError)

Interpret = Callable[[bytes, int], Sequence[Trigger]]


class Monitor:
    """Reports changes in the namespace of the thread that starts it, and in those that the
    host has an id for: one that a veth leads to, and others after `netns.make_heard`.

    `events_total` counts datagrams, `lost_total` how often some were lost,
    `malformed_total` those that were not understood.
    """

    def __init__(self, buffer_bytes: int = BUFFER_BYTES) -> None:
        self.events_total = 0
        self.lost_total = 0
        self.malformed_total = 0
        self._buffer_bytes = buffer_bytes

    def start(self, notify: Callable[[Trigger], None]) -> Callable[[], None]:
        """Call `notify` on the running event loop for each trigger, until the result is called.

        Raises OSError without CAP_NET_ADMIN and CAP_NET_BROADCAST.
        """
        loop = asyncio.get_running_loop()
        ruleset = NftEvents()
        with ExitStack() as stack:
            entries = self._listen(stack, NETLINK_ROUTE, (rtnl.RTNLGRP_NEIGH,))
            tunnels = TunnelEvents(partial(only_of_links, entries))
            links = RtnlEvents(tunnels)
            containers = self._listen(stack, NETLINK_ROUTE, RTNL_GROUPS)
            try:
                containers.setsockopt(SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, 1)
            except PermissionError as error:
                raise PermissionError(
                    error.errno, "to hear of all namespaces, netd needs CAP_NET_BROADCAST"
                ) from error
            only_deletions(containers)
            sources = [
                (self._listen(stack, NETLINK_ROUTE, HOST_GROUPS), links.triggers),
                (containers, links.triggers_of_containers),
                (entries, tunnels.triggers),
                (self._listen(stack, NETLINK_NETFILTER, (NFNLGRP_NFTABLES,)), ruleset.triggers),
            ]
            # Listening has begun, so what comes while these are read is not missed.
            with NetlinkSocket() as rtnetlink, NetlinkSocket(NETLINK_NETFILTER) as netfilter:
                tunnels.learn(rtnetlink.dump(LINKS))
                ruleset.learn(netfilter)
            for listening, interpret in sources:
                loop.add_reader(listening, _Reader(self, listening, interpret, notify))
                stack.callback(loop.remove_reader, listening)
            return stack.pop_all().close

    def _listen(self, stack: ExitStack, protocol: int, groups: Iterable[int]) -> socket.socket:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        made = stack.enter_context(socket.socket(socket.AF_NETLINK, kind, protocol))
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, self._buffer_bytes)
        made.bind((0, sum(1 << (group - 1) for group in groups)))
        return made


class _Reader:
    """Reads one socket when it is readable."""

    def __init__(
        self,
        monitor: Monitor,
        listening: socket.socket,
        interpret: Interpret,
        notify: Callable[[Trigger], None],
    ) -> None:
        self._monitor = monitor
        self._socket = listening
        self._interpret = interpret
        self._notify = notify
        self._lost = False

    def __call__(self) -> None:
        triggers: list[Trigger] = []
        for _ in range(DATAGRAMS_PER_WAKE_UP):
            try:
                data, ancillary, flags, sender = self._socket.recvmsg(
                    DATAGRAM_BYTES, _ANCILLARY_BYTES
                )
            except BlockingIOError:
                if self._lost:
                    # Only now: until all is read, the kernel drops what comes without
                    # telling again (netlink_overrun in net/netlink/af_netlink.c), and a look
                    # taken earlier could miss it.
                    self._lost = False
                    triggers.append(Trigger(kind="lost", verb="new"))
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._lose()
                continue
            if sender[0] != 0:
                continue  # only the kernel is believed
            self._monitor.events_total += 1
            if flags & socket.MSG_TRUNC:
                self._lose()
            else:
                triggers += self._understand(data, _nsid(ancillary))
        for trigger in triggers:
            self._notify(trigger)

    def _lose(self) -> None:
        self._monitor.lost_total += 1
        self._lost = True

    def _understand(self, data: bytes, nsid: int) -> Sequence[Trigger]:
        try:
            return self._interpret(data, nsid)
        except _NOT_UNDERSTOOD as error:
            self._monitor.malformed_total += 1
            log.debug("a netlink notification was not understood: %s", error)
            return ()


def _nsid(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, value in ancillary:
        if level == SOL_NETLINK and kind == NETLINK_LISTEN_ALL_NSID:
            return int(I32.unpack(value)[0])
    return HOST_NSID
