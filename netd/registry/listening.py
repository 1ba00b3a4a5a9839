"""Sockets at this host's addresses in its networks, and at one of its own.

A socket lives as long as its place is wanted; that others come and go does not touch it.
"""

import asyncio
import logging
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol

from netd.model.directory import Entry, NetworkEntry, RegistrySettings
from netd.registry.feed import Entries, Reader
from netd.tasks import Tasks

log = logging.getLogger(__name__)

RETRY_S: Final = 2.0  # until a place that could not be had is tried again
_IP_FREEBIND: Final = 15  # include/uapi/linux/in.h
_IPV6_FREEBIND: Final = 78  # include/uapi/linux/in6.h


class Place(NamedTuple):
    """An address and a port of it, for UDP and TCP alike."""

    address: str
    port: int

    def __str__(self) -> str:
        shown = f"[{self.address}]" if ":" in self.address else self.address
        return f"{shown}:{self.port}"


class Sockets(Protocol):
    """What is open at a place."""

    async def accept(self) -> None:
        """Begin to accept connections; they wait in the kernel's queue until then."""

    def close(self) -> None: ...


class Listening(Reader, ABC):
    """Keeps sockets in step with the settings and the networks. `changed` is called when some
    came or went. Who inherits says where, and what is opened there.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._networks: dict[str, NetworkEntry] = {}
        self._open: dict[Place, Sockets] = {}
        self._problems: dict[Place, str] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._tasks = Tasks()

    @abstractmethod
    def _configure(self, settings: RegistrySettings) -> None:
        """The settings are these now."""

    @abstractmethod
    def _wanted(self) -> set[Place]:
        """Where to listen now. It may be asked at any time."""

    @abstractmethod
    def _listen(self, place: Place) -> Sockets:
        """Open what belongs there. Raises OSError when it cannot be had."""

    def _is_unsettled(self) -> bool:
        """Whether another place may be wanted without a word of the feed."""
        return False

    def __contains__(self, place: Place) -> bool:
        return place in self._open

    @property
    def listening(self) -> tuple[str, ...]:
        return tuple(sorted(map(str, self._open)))

    @property
    def problems(self) -> dict[str, str]:
        """Why it cannot listen at places where it should."""
        return {str(place): reason for place, reason in sorted(self._problems.items())}

    async def close(self) -> None:
        for place in list(self._open):
            self._end(place)
        if self._retry is not None:
            self._retry.cancel()
        await self._tasks.stop()

    # As a reader of the feed

    def replace(self, entries: Entries) -> None:
        self._networks = {}
        for entry in entries.values():
            self._take(entry)
        self._adjust()

    def change(self, old: Entry | None, new: Entry) -> None:
        if self._take(new):
            self._adjust()

    def _take(self, entry: Entry) -> bool:
        """Whether it has to do with places."""
        if entry.kind == "zone" and entry.zone is not None:
            self._configure(entry.zone.settings)
            return True
        if entry.kind != "network":
            return False
        if entry.network is not None:
            self._networks[entry.id] = entry.network
        else:
            self._networks.pop(entry.id, None)
        return True

    def _gateways(self) -> Iterator[str]:
        """This host's addresses in networks."""
        for network in self._networks.values():
            yield from network.resolvers

    # How it works

    def _adjust(self) -> None:
        wanted = self._wanted()
        news = False
        for place in self._open.keys() - wanted:
            self._end(place)
            news = True
        for place in self._problems.keys() - wanted:
            del self._problems[place]
            news = True
        for place in wanted - self._open.keys():
            news = self._begin(place) or news
        if (self._problems or self._is_unsettled()) and self._retry is None:
            self._retry = self._loop.call_later(RETRY_S, self._try_again)
        if news:
            self._changed()

    def _try_again(self) -> None:
        self._retry = None
        self._adjust()

    def _begin(self, place: Place) -> bool:
        """Listen at `place`; whether anything is another than before."""
        try:
            sockets = self._listen(place)
        except OSError as error:
            reason = error.strerror or str(error)
            if self._problems.get(place) == reason:
                return False
            log.warning("cannot listen at %s: %s", place, reason)
            self._problems[place] = reason
            return True
        self._problems.pop(place, None)
        self._open[place] = sockets
        self._tasks.start(f"accepting at {place}", sockets.accept())
        log.debug("listening at %s", place)
        return True

    def _end(self, place: Place) -> None:
        self._open.pop(place).close()
        log.debug("no longer listening at %s", place)


class Acceptor:
    """TCP at a place, with what `protocol` makes for each connection. Raises OSError when the
    place cannot be had.
    """

    def __init__(
        self, place: Place, protocol: Callable[[], asyncio.BaseProtocol], backlog: int
    ) -> None:
        self._protocol = protocol
        self._backlog = backlog
        self._server: asyncio.Server | None = None
        self._sock = bind(place, socket.SOCK_STREAM)
        try:
            self._sock.listen(backlog)
        except OSError:
            self._sock.close()
            raise

    async def accept(self) -> None:
        if self._is_closed():
            return
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._protocol, sock=self._sock, backlog=self._backlog)
        if self._is_closed():
            server.close()
        else:
            self._server = server

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._sock.close()

    def _is_closed(self) -> bool:
        return self._sock.fileno() < 0


def bind(place: Place, kind: socket.SocketKind) -> socket.socket:
    """A socket at `place`. The address may be one that the host does not have yet (ip(7),
    IP_FREEBIND). Raises OSError.
    """
    family = socket.AF_INET6 if ":" in place.address else socket.AF_INET
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        sock.bind(place)
    except OSError:
        sock.close()
        raise
    return sock
