"""Where DNS is listened for: at this host's addresses in its networks, and at one of its own."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from netd.model.directory import RegistrySettings
from netd.registry.dns.server import DnsServer
from netd.registry.dns.tcp import TcpServer
from netd.registry.listening import Acceptor, Listening, Place, bind

# systemd-resolved listens at these (resolved.conf(5), DNSStubListener), will not ask anybody there,
# and answers the host no longer if it finds one of them taken when it starts (seen with 252). So
# where it runs, or did since the host was started, the host's own address is another one.
STUBS: Final = ("127.0.0.53", "127.0.0.54")
INSTEAD_OF_STUB: Final = "127.0.0.55"
RESOLVED: Final = Path("/run/systemd/resolve")
_BACKLOG: Final = 128
_RECEIVE_BYTES: Final = 4 * 1024 * 1024  # the kernel gives at most net.core.rmem_max of it


class Listeners(Listening):
    """UDP for `server` and TCP for `tcp`, at each port of each address."""

    def __init__(self, server: DnsServer, tcp: TcpServer, changed: Callable[[], None]) -> None:
        super().__init__(changed)
        self._server = server
        self._tcp = tcp
        self._settings = RegistrySettings()

    def _configure(self, settings: RegistrySettings) -> None:
        self._settings = settings

    def _wanted(self) -> set[Place]:
        addresses = set(self._gateways())
        own = self._settings.host_address
        if own:
            addresses.add(INSTEAD_OF_STUB if own in STUBS and RESOLVED.exists() else own)
        ports = [port for port in (self._settings.port, self._settings.consul_port) if port]
        return {Place(address, port) for address in addresses for port in ports}

    def _is_unsettled(self) -> bool:
        """systemd-resolved may be installed at any time."""
        return self._settings.host_address in STUBS

    def _listen(self, place: Place) -> "_Sockets":
        return _Sockets(place, self._server, self._tcp)


class _Sockets:
    """UDP and TCP at one place. Raises OSError when either cannot be had."""

    def __init__(self, place: Place, server: DnsServer, tcp: TcpServer) -> None:
        self._server = server
        self._udp = bind(place, socket.SOCK_DGRAM)
        try:
            self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
            self._tcp = Acceptor(place, tcp.connection, _BACKLOG)
        except OSError:
            self._udp.close()
            raise
        server.serve(self._udp)

    async def accept(self) -> None:
        await self._tcp.accept()

    def close(self) -> None:
        self._server.release(self._udp)
        self._udp.close()
        self._tcp.close()
