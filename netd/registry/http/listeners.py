"""Where an API over HTTP is asked: at one address of the host's own, and at those in networks."""

from collections.abc import Callable
from typing import Final, NamedTuple

from netd.model.directory import RegistrySettings
from netd.registry.http.server import HttpServer
from netd.registry.listening import Acceptor, Listening, Place

_BACKLOG: Final = 1024
_ALL: Final = ("0.0.0.0", "::")  # noqa: S104 # what is listened for is what is configured


class Wanted(NamedTuple):
    """`place` None: nowhere at all. With `gateways` also at the same port of this host's
    addresses in networks; where `place` is all addresses of a family, that one has its gateways.
    """

    place: Place | None = None
    gateways: bool = False

    @classmethod
    def at(cls, address: str, *, gateways: bool = False) -> "Wanted":
        """`address` is `host:port`, `[IPv6]:port`, or "" for nowhere."""
        host, _, port = address.rpartition(":")
        return cls(Place(host.strip("[]"), int(port)), gateways) if address else cls()


class HttpListeners(Listening):
    """Of one server. What is wanted is what `wanted` makes of the settings."""

    def __init__(
        self,
        server: HttpServer,
        wanted: Callable[[RegistrySettings], Wanted],
        changed: Callable[[], None],
    ) -> None:
        super().__init__(changed)
        self._server = server
        self._wanted_by = wanted
        self._now = Wanted()

    def _configure(self, settings: RegistrySettings) -> None:
        self._now = self._wanted_by(settings)

    def _wanted(self) -> set[Place]:
        own = self._now.place
        if own is None:
            return set()
        addresses = set(self._gateways()) if self._now.gateways else set()
        if own.address in _ALL:
            addresses = {each for each in addresses if (":" in each) != (":" in own.address)}
        return {own, *(Place(address, own.port) for address in addresses)}

    def _listen(self, place: Place) -> Acceptor:
        return Acceptor(place, self._server.factory, _BACKLOG)
