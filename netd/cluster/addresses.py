"""Addresses as people write them, and which of its own this host tells the others."""

import asyncio
import fcntl
import ipaddress
import re
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from netd.gossip.values import Address
from netd.model.errors import Invalid, Unavailable

PORT: Final = 7940
RESOLVE_S: Final = 5.0

_SIOCGIFADDR: Final = 0x8915  # include/uapi/linux/sockios.h
_HOST: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})\Z")
# Links of container runtimes: their addresses lead nowhere for another host.
_INNER_LINK: Final = re.compile(r"(lo|docker|br-|virbr|veth|cni|podman|nb|nv|ni)")


class Place(NamedTuple):
    """A host by name or address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def text(address: Address) -> str:
    """`1.2.3.4:7940` or `[2001:db8::1]:7940`."""
    return str(Place(*address))


def parse(written: str, field: str | None = None, default_port: int = PORT) -> Place:
    """Read `host`, `host:port`, `[v6]`, `[v6]:port` or `v6`. Raises `Invalid` with `field`."""
    host, port = written, ""
    if written.startswith("["):
        host, bracket, port = written[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise Invalid(f"{written!r}: an IPv6 address and port is [address]:port", field=field)
    elif written.count(":") == 1:
        host, _, port = written.partition(":")
        port = f":{port}"
    if port and not (port[1:].isascii() and port[1:].isdigit() and 0 <= int(port[1:]) < 65536):
        raise Invalid(f"{written!r}: {port[1:]!r} is not a port", field=field)
    if not is_address(host) and (":" in host or not _HOST.match(host)):
        raise Invalid(f"{written!r}: {host!r} is neither an address nor a name", field=field)
    return Place(host, int(port[1:]) if port else default_port)


def parse_own(written: str, field: str) -> Address:
    """As `parse`, of an address that this host binds to or is reached at: no names."""
    place = parse(written, field)
    if not is_address(place.host):
        raise Invalid(f"{written!r}: {place.host!r} is not an IP address", field=field)
    return place.host, place.port


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_wildcard(host: str) -> bool:
    return ipaddress.ip_address(host).is_unspecified


def is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback


async def resolve(place: Place, bound: str) -> list[Address]:
    """The addresses of a place that a socket bound to `bound` can reach.

    Raises `Unavailable` when there are none, or nobody says within `RESOLVE_S`.
    """
    if is_address(place.host):
        return [(place.host, place.port)]
    family = socket.AF_INET if ":" not in bound else socket.AF_UNSPEC
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_S):
            found = await loop.getaddrinfo(
                place.host, place.port, family=family, type=socket.SOCK_DGRAM
            )
    except TimeoutError:
        raise Unavailable(
            f"{place.host}: its address is not found within {RESOLVE_S:g} s"
        ) from None
    except OSError as error:
        raise Unavailable(f"{place.host}: {error.strerror}") from None
    return list(dict.fromkeys((str(item[4][0]), place.port) for item in found))


def advertised(bound: str, seeds: Sequence[str]) -> str:
    """Where the others reach a node that is bound to `bound`. `seeds` are addresses to join.

    For a wildcard that is the address it has on the way to the first seed, else on the way to
    everywhere, else the first one that is not of the host alone; else loopback.
    """
    if not is_wildcard(bound):
        return bound
    families = (socket.AF_INET,) if ":" not in bound else (socket.AF_INET6, socket.AF_INET)
    for seed in seeds:
        own = _toward(socket.AF_INET6 if ":" in seed else socket.AF_INET, seed)
        if own is not None:
            return own
    for family in families:
        # Addresses for documentation (RFC 5737, RFC 3849): only the default route has them.
        own = _toward(family, "192.0.2.1" if family == socket.AF_INET else "2001:db8::1")
        if own is not None and not is_loopback(own):
            return own
    own = next((own for family in families for own in _global(family)), None)
    return own or ("127.0.0.1" if families[-1] == socket.AF_INET and len(families) == 1 else "::1")


def leads_here(host: str) -> bool:
    """Whether packets to the address stay on this host. It is the own one that they would have."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return is_loopback(host) or _toward(family, host) == str(ipaddress.ip_address(host))


def has(host: str) -> bool:
    """Whether this host has the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


def _toward(family: socket.AddressFamily, host: str) -> str | None:
    """The own address that packets to `host` have. Nothing is sent."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, PORT))
            return str(probe.getsockname()[0])
    except OSError:  # no way there, or the kernel does not speak IPv6
        return None


def _global(family: socket.AddressFamily) -> Iterator[str]:
    return _global_ipv4() if family == socket.AF_INET else _global_ipv6()


def _global_ipv4() -> Iterator[str]:
    """The first address of each link, in the order in which they were made."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, link in socket.if_nameindex():
            if _INNER_LINK.match(link):
                continue
            request = struct.pack("16s24x", link.encode())
            try:
                answer = fcntl.ioctl(any_socket, _SIOCGIFADDR, request)
            except OSError:
                continue  # the link has none, or is gone
            yield socket.inet_ntop(socket.AF_INET, answer[20:24])


def _global_ipv6() -> Iterator[str]:
    try:
        lines = Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines()
    except OSError:
        return  # the kernel has no IPv6
    for line in lines:
        digits, _, _, scope, _, link = line.split()
        if scope == "00" and not _INNER_LINK.match(link):  # RT_SCOPE_UNIVERSE
            yield socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
