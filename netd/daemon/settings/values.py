"""What values have to be, whatever table they are in. All that is here raises `WrongValue`."""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

import msgspec

_SOCKET_PATH_MAX_BYTES: Final = 107  # sizeof(sun_path) - 1, unix(7)


class WrongValue(ValueError):
    """A value that its key cannot have. `key` is the key within its table."""

    def __init__(self, key: str, detail: str) -> None:
        super().__init__(detail)
        self.key = key
        self.detail = detail


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file."""


def check_absolute(key: str, path: str) -> None:
    if not path.startswith("/") or "\0" in path:
        raise WrongValue(key, f"{path!r} is not an absolute path")


def check_socket(key: str, path: str) -> None:
    check_absolute(key, path)
    if len(path.encode()) > _SOCKET_PATH_MAX_BYTES:
        raise WrongValue(key, f"longer than {_SOCKET_PATH_MAX_BYTES} bytes")


def network_of(key: str, text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise WrongValue(key, f"not a network in CIDR form: {error}") from None


def check_member_url(key: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        right = parts.hostname and url.rstrip("/") == f"http://{parts.netloc}" and parts.port
    except ValueError:
        right = False
    if not right:
        raise WrongValue(key, f"{url!r} is not of the form http://HOST:PORT")


def check_place(key: str, place: str) -> None:
    host, _, port = place.rpartition(":")
    try:
        ip_address(host.removeprefix("[").removesuffix("]") if ":" in host else host)
        right = port.isascii() and port.isdigit() and 0 < int(port) < 65_536
    except ValueError:
        right = False
    if not right or (":" in host) != place.startswith("["):
        raise WrongValue(key, f"{place!r} is not of the form ADDRESS:PORT or [ADDRESS]:PORT")
