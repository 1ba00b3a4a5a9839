"""The UDP socket: drained in batches, and never a reason to stop."""

import errno
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from netd.cluster.addresses import is_address
from netd.gossip.values import Address
from netd.model.errors import Unavailable

BUFFER_BYTES: Final = 4 << 20
DATAGRAM_MAX_BYTES: Final = 2047  # the protocol's own are below 1,500
ADDRESSES_MAX: Final = 16_384  # kept in the form that the kernel wants

# include/uapi/asm-generic/socket.h, include/uapi/linux/in.h and in6.h, linux/sock_diag.h
_SO_RCVBUFFORCE: Final = 33
_SO_SNDBUFFORCE: Final = 32
_SO_MEMINFO: Final = 55
_SK_MEMINFO_DROPS: Final = 8
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_PROBE: Final = 3

_MEMINFO: Final = struct.Struct("=9I")
_LOOK_AT_CLOCK_EACH: Final = 8  # datagrams
_SEND_ERRORS: Final = {
    errno.EAGAIN: "full",
    errno.ENOBUFS: "full",
    errno.EPERM: "forbidden",  # a firewall rule of this host
    errno.EACCES: "forbidden",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETDOWN: "unreachable",
    errno.EADDRNOTAVAIL: "unreachable",
    errno.EAFNOSUPPORT: "unreachable",
    errno.EMSGSIZE: "too_long",
}


class UdpSocket:
    """A bound socket that does not block. One on `::` speaks IPv4 too, as IPv4.

    `counters` has what was received, sent and refused, by reason. Raises `Unavailable` when
    the address cannot be bound.

    Packets go out whole or not at all, and what the kernel has been told of smaller paths is
    not believed (IP_PMTUDISC_PROBE). A fragment that is lost loses the packet without a trace,
    many firewalls drop all of them, and anybody can forge the ICMP message that would make this
    host cut or refuse its packets. The protocol's fit into 1,280 bytes, which every IPv6 link
    carries; where one does not pass, its probes show it and streams take over.
    """

    def __init__(self, bind: Address, counters: Counter[str]) -> None:
        self.counters = counters
        self._ipv6 = ":" in bind[0]
        family = socket.AF_INET6 if self._ipv6 else socket.AF_INET
        self.socket = socket.socket(
            family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            self._set_options()
            self.socket.bind(bind)
        except OSError as error:
            self.socket.close()
            raise Unavailable(f"UDP {bind[0]} port {bind[1]}: {error.strerror}") from None
        name = self.socket.getsockname()
        self.address: Address = (name[0], name[1])
        self._destinations: dict[Address, Address | None] = {}
        self._sources: dict[tuple[str, int, int, int], Address] = {}

    def receive(
        self, handle: Callable[[bytes, Address], None], max_count: int, budget_s: float
    ) -> bool:
        """Hand what waits to `handle`, at most so many and for so long.

        Returns whether there may be more.
        """
        receive = self.socket.recvfrom
        counters = self.counters
        end_s = time.monotonic() + budget_s
        handled = 0
        try:
            while handled < max_count:
                data, source = receive(DATAGRAM_MAX_BYTES + 1)
                handled += 1
                if len(data) > DATAGRAM_MAX_BYTES:
                    counters["udp_refused_too_long"] += 1
                    continue
                handle(data, source if len(source) == 2 else self._plain(source))
                if not handled % _LOOK_AT_CLOCK_EACH and time.monotonic() >= end_s:
                    break
        except BlockingIOError:
            return False
        except OSError as error:
            # One of an earlier packet that the kernel tells now. The next call goes on.
            name = errno.errorcode.get(error.errno or 0, "other").lower()
            counters[f"udp_receive_{name}"] += 1
        finally:
            counters["udp_received"] += handled
        return True

    def send(self, data: bytes, to: Address) -> None:
        """Send a packet, or count why not."""
        destination = self._destinations.get(to) or self._learn(to)
        if destination is None:
            self.counters["udp_send_address"] += 1
            return
        try:
            self.socket.sendto(data, destination)
        except OSError as error:
            reason = _SEND_ERRORS.get(error.errno or 0, "other")
            self.counters[f"udp_send_{reason}"] += 1
        else:
            self.counters["udp_sent"] += 1

    def dropped(self) -> int:
        """Packets that the kernel had no room for, since the socket is open."""
        try:
            info = self.socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
            return int(_MEMINFO.unpack(info)[_SK_MEMINFO_DROPS])
        except (OSError, struct.error):
            return 0  # before Linux 4.12

    def close(self) -> None:
        self.socket.close()

    def _set_options(self) -> None:
        for force, plain in (
            (_SO_RCVBUFFORCE, socket.SO_RCVBUF),
            (_SO_SNDBUFFORCE, socket.SO_SNDBUF),
        ):
            try:
                self.socket.setsockopt(socket.SOL_SOCKET, force, BUFFER_BYTES)
            except PermissionError:  # without CAP_NET_ADMIN as much as net.core.rmem_max allows
                self.socket.setsockopt(socket.SOL_SOCKET, plain, BUFFER_BYTES)
        if self._ipv6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            self.socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
        # An IPv6 socket sends to IPv4 addresses by the IPv4 option.
        self.socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)

    def _plain(self, source: tuple[str, int, int, int]) -> Address:
        """An address of an IPv6 socket as the protocol knows it."""
        known = self._sources.get(source)
        if known is None:
            if len(self._sources) >= ADDRESSES_MAX:
                self._sources.clear()
            known = (source[0].removeprefix("::ffff:"), source[1])
            self._sources[source] = known
        return known

    def _learn(self, to: Address) -> Address | None:
        """The address as the kernel wants it; None for what is none, or of the other family.

        Python would ask the DNS for whatever is not an address.
        """
        if to in self._destinations:
            return self._destinations[to]
        host, port = to
        destination: Address | None = None
        if 0 < port < 65536 and is_address(host):
            if (":" in host) == self._ipv6:
                destination = to
            elif self._ipv6:
                destination = (f"::ffff:{host}", port)
        if len(self._destinations) >= ADDRESSES_MAX:
            self._destinations.clear()
        self._destinations[to] = destination
        return destination
