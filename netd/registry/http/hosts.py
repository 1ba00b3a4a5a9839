"""What a browser of this host must not do for pages of others.

A page may have its own name lead to this host (DNS rebinding): its browser then takes what it
reads here for the page's own. And it may send what changes something without being let read the
answer. Programs do neither: they ask for a name of this host, and say no `Origin`.
"""

import ipaddress
import socket
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

from netd.model.directory import ZoneEntry
from netd.registry.http.call import Call, Failure

_READING: Final = ("GET", "HEAD", "OPTIONS")
_HOSTS: Final = Path("/etc/hosts")
_REMEMBERED: Final = 1024


def admit(call: Call, zone: ZoneEntry | None) -> None:
    """Raises `Failure` 403 for a change that a page asks for, and 421 when the host itself asks
    by a name that may not be its own. Who has no more rights than its address is not asked for
    a name: a page gains nothing there. HTTP/1.0 needs none, and browsers always say one.
    """
    if call.method not in _READING and call.header("Origin"):
        raise Failure(403, "programs may change things here, pages may not")
    if not call.caller.is_host or "Host" not in call.request.headers:
        return
    host = call.header("Host")
    if not is_own(host, zone, unix=_is_unix(call)):
        raise Failure(
            421,
            f"{host[:80]!r} is no name of this host: ask for localhost, an address, the host's "
            "name or one in netd's zones. A name that somebody else may lead anywhere would let "
            "their pages read what is here.",
        )


def is_own(host: str, zone: ZoneEntry | None, *, unix: bool = False) -> bool:
    """Whether a header `Host` has a name that nobody but this host and netd leads anywhere: an
    address, `localhost`, a name of the host's or one in netd's zones; by a Unix socket also
    `netd`.
    """
    name = _name_of(host)
    if not name:
        return False
    if name == "localhost" or _is_address(name) or (unix and name == "netd"):
        return True
    if name in own_names():
        return True
    if zone is None:
        return False
    ends = [each.lower() for each in (zone.zone, zone.settings.consul_zone) if each]
    return name == zone.node.lower() or any(name.endswith("." + end) for end in ends)


@cache
def own_names() -> frozenset[str]:
    """The system's names of this host, in lower case: its own, and what /etc/hosts has beside it
    and beside `localhost`, which nobody's DNS can change.
    """
    name = socket.gethostname().lower()
    try:
        text = _HOSTS.read_text(errors="replace")
    except OSError:
        text = ""
    return frozenset({name}) | names_beside(name, text) | names_beside("localhost", text)


def names_beside(name: str, hosts: str) -> frozenset[str]:
    """All names of those lines of a file like /etc/hosts that have `name`, in lower case."""
    found: set[str] = set()
    for line in hosts.splitlines():
        names = line.partition("#")[0].lower().split()[1:]
        if name in names:
            found.update(names)
    return frozenset(found)


@lru_cache(maxsize=_REMEMBERED)
def _name_of(host: str) -> str:
    """Without the port, in lower case and without the last dot; "" for what is no host."""
    name = host
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
        if port and not port.startswith(":"):
            return ""
    elif ":" in host:
        name, _, port = host.partition(":")
        if not (port.isascii() and port.isdigit()):
            return ""
    return name.lower().removesuffix(".")


@lru_cache(maxsize=_REMEMBERED)
def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_unix(call: Call) -> bool:
    transport = call.request.transport
    return transport is not None and not isinstance(transport.get_extra_info("sockname"), tuple)
