"""Who is asked for names that are not ours."""

import ipaddress
import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

log = logging.getLogger(__name__)

RESOLV_CONF: Final = "/etc/resolv.conf"
RESOLVED_CONF: Final = "/run/systemd/resolve/resolv.conf"  # systemd-resolved.service(8)
UPSTREAMS_MAX: Final = 8
DNS_PORT: Final = 53

_LOOK_EACH_S: Final = 0.5
_FILE_BYTES_MAX: Final = 65_536
# Where systemd-resolved listens: the stub, and its proxy (resolved.conf(5), DNSStubListener).
_STUBS: Final = ("127.0.0.53", "127.0.0.54")


class Upstream(NamedTuple):
    """A name server: a bare IP address, a port, and the link of a link-local address."""

    host: str
    port: int = DNS_PORT
    link: str = ""

    def __str__(self) -> str:
        host = f"{self.host}%{self.link}" if self.link else self.host
        if self.port == DNS_PORT:
            return host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    def sockaddr(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """As `connect` wants it. Raises OSError if there is no such link."""
        if ":" not in self.host:
            return self.host, self.port
        return self.host, self.port, 0, socket.if_nametoindex(self.link) if self.link else 0


class Upstreams:
    """The name servers to ask, most preferred first.

    They are `configured`, or those of `resolv_conf`, which is read again and again.
    The stub of systemd-resolved would ask us again for what it was told to ask us, so those that
    it asks itself are taken instead. `is_own` says whether we listen at an address.
    """

    def __init__(
        self,
        is_own: Callable[[str, int], bool],
        resolv_conf: str = RESOLV_CONF,
        resolved_conf: str = RESOLVED_CONF,
    ) -> None:
        self.configured: tuple[str, ...] = ()
        self._is_own = is_own
        self._files = (resolv_conf, resolved_conf)
        self._look_s = 0.0
        self._usable: tuple[Upstream, ...] = ()

    def current(self) -> tuple[Upstream, ...]:
        """Those to ask now. Reads the files, at most each half second."""
        now_s = time.monotonic()
        if now_s >= self._look_s:
            self._look_s = now_s + _LOOK_EACH_S
            self._look()
        return self._usable

    def look_now(self) -> None:
        """Look at the settings, the files and where we listen when asked for the next time."""
        self._look_s = 0.0

    def _look(self) -> None:
        found = self._find()
        usable = tuple(each for each in found if not self._is_own(each.host, each.port))
        if usable != self._usable:
            self._usable = usable
            log.info("other names are asked for at %s", ", ".join(map(str, usable)) or "nobody")

    def _find(self) -> tuple[Upstream, ...]:
        if self.configured:
            return _upstreams(self.configured)
        resolv_conf, resolved_conf = self._files
        found = _servers_in(resolv_conf)
        behind = [each for each in found or () if each.host not in _STUBS]
        if found and not behind:
            asked = _servers_in(resolved_conf)
            if asked is None:  # nothing is known but the stub
                return found
            behind = [each for each in asked if each.host not in _STUBS]
        return tuple(behind)


def parse_upstream(text: str) -> Upstream:
    """An address, `ADDRESS:PORT` or `[ADDRESS]:PORT`. Raises ValueError."""
    host, port = text, str(DNS_PORT)
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is no address")
        port = rest[1:] or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    host, _, link = host.partition("%")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{text!r}: {port!r} is no port")
    return Upstream(str(ipaddress.ip_address(host)), int(port), link)


def _upstreams(texts: tuple[str, ...]) -> tuple[Upstream, ...]:
    """Those that can be read, each once."""
    found: dict[Upstream, None] = {}
    for text in texts:
        try:
            found[parse_upstream(text)] = None
        except ValueError as error:
            log.debug("not a name server: %s", error)
    return tuple(found)[:UPSTREAMS_MAX]


def _servers_in(path: str) -> tuple[Upstream, ...] | None:
    """The name servers that a file in the form of resolv.conf(5) has; None: there is no file."""
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            lines = file.read(_FILE_BYTES_MAX).splitlines()
    except OSError as error:
        log.debug("%s: %s", path, error)
        return None
    words = [line.split() for line in lines]
    return _upstreams(tuple(line[1] for line in words if len(line) > 1 and line[0] == "nameserver"))
