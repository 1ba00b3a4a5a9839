"""Published ports in Docker's notation, e.g. `127.0.0.1:8080-8089:80-89/tcp`."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Final

FORM: Final = "[HOST_IP:]HOST_PORT[-END]:CONTAINER_PORT[-END][/tcp|udp|sctp]"
COUNT_MAX: Final = 1024  # as netd.model.endpoint.PortMapping

# The host address is taken as it stands and judged by `ipaddress`: greedy, so that the last two
# colons part the ports. An IPv6 address has to be in brackets, as in URLs.
_MAPPING = re.compile(
    r"(?:(?P<host_ip>\[[^\[\]]+\]|[^\[\]:]+):)?"
    r"(?P<host>[0-9]{1,5}(?:-[0-9]{1,5})?):(?P<container>[0-9]{1,5}(?:-[0-9]{1,5})?)"
    r"(?:/(?P<protocol>[A-Za-z]+))?",
    re.ASCII,
)


def parse_ports(text: str) -> dict[str, Any]:
    """Read one mapping; return it as the API's port object.

    Raises `ValueError`, whose text says what was wrong and what would be right.
    """
    found = _MAPPING.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} does not have the form {FORM}; an IPv6 host is in brackets")
    protocol = (found["protocol"] or "tcp").lower()
    if protocol not in ("tcp", "udp", "sctp"):
        raise ValueError(f"{protocol!r} is not a protocol: use tcp, udp or sctp")
    host, container = _range(found["host"]), _range(found["container"])
    if len(host) != len(container):
        raise ValueError(
            f"{found['host']} and {found['container']} are ranges of different size: "
            f"{len(host)} and {len(container)} ports"
        )
    return {
        "host_port": host[0],
        "container_port": container[0],
        "protocol": protocol,
        "host_ip": _address(found["host_ip"] or ""),
        "count": len(host),
    }


def format_ports(mapping: Mapping[str, Any]) -> str:
    """Write a port object so that `parse_ports` reads it back."""
    host_ip: str = mapping.get("host_ip", "")
    bracketed = f"[{host_ip}]" if ":" in host_ip else host_ip
    prefix = f"{bracketed}:" if bracketed else ""
    count: int = mapping.get("count", 1)
    host = _span(mapping["host_port"], count)
    container = _span(mapping["container_port"], count)
    return f"{prefix}{host}:{container}/{mapping.get('protocol', 'tcp')}"


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    begin, end = int(first), int(last or first)
    if not 1 <= begin <= 65535 or not 1 <= end <= 65535:
        raise ValueError(f"{text} is out of range: ports are 1 to 65535")
    if end < begin:
        raise ValueError(f"{text} runs backwards: write {end}-{begin}")
    ports = range(begin, end + 1)
    if len(ports) > COUNT_MAX:
        raise ValueError(f"{text} has {len(ports)} ports: one range has at most {COUNT_MAX}")
    return ports


def _span(first: int, count: int) -> str:
    return str(first) if count == 1 else f"{first}-{first + count - 1}"


def _address(text: str) -> str:
    if not text:
        return ""
    bare = text.strip("[]")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        raise ValueError(f"{bare!r} is not an IP address of the host") from None
    if text.startswith("[") != (address.version == 6):
        raise ValueError(f"{text}: brackets are for IPv6 addresses")
    return str(address)
