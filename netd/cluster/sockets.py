"""A node's sockets: UDP and TCP on one port."""

import socket
from collections import Counter
from typing import Final

from netd.cluster.udp import UdpSocket
from netd.gossip.values import Address
from netd.model.errors import Unavailable

BACKLOG: Final = 1024
_BIND_ATTEMPTS: Final = 20


class Sockets:
    """UDP and TCP on one port. Raises `Unavailable` when it cannot be had."""

    def __init__(self, bind: Address, counters: Counter[str]) -> None:
        for attempt in range(_BIND_ATTEMPTS):
            self.udp = UdpSocket(bind, counters)
            self.address = self.udp.address
            try:
                self.listening = _listen(self.address)
            except OSError as error:
                self.udp.close()
                # Port 0: the kernel has chosen one for UDP that somebody has for TCP.
                if bind[1] or attempt + 1 == _BIND_ATTEMPTS:
                    place = f"TCP {bind[0]} port {self.address[1]}"
                    raise Unavailable(f"{place}: {error.strerror}") from None
            else:
                return

    def close(self) -> None:
        self.udp.close()
        self.listening.close()


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listening = socket.socket(
        family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    )
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening
