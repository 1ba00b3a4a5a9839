"""What checks look at: `host:port` or URLs, the instance itself where these leave it out."""

from typing import Final

import msgspec

from netd.registry.checks.probe import Failed, Probe

_PORT_MAX: Final = 65535


class Target(msgspec.Struct, frozen=True):
    """A host, by name or bare address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return join(self.host, self.port)


def join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_port(probe: Probe, text: str) -> Target:
    """`host:port`, `[IPv6]:port` or `:port`; "" is the instance itself. Raises `Failed`."""
    host, port = _split(text)
    target = Target(host or probe.address, probe.port if port is None else port)
    if not 1 <= target.port <= _PORT_MAX:
        where = f"target {text!r}" if text else "the instance"
        raise Failed(
            f"{where} has no port; a target is host:port, e.g. 10.0.0.1:80 or [fd00::1]:80"
        )
    return target


def url(probe: Probe) -> str:
    """The URL that an http check asks for; what begins with `/` is a path of the instance's."""
    text = probe.spec.target
    if text and not text.startswith("/"):
        return text
    scheme = "https" if probe.spec.tls else "http"
    return f"{scheme}://{host_port(probe, '')}{text or '/'}"


def grpc_service(probe: Probe) -> tuple[Target, str]:
    """Where to ask, and for which service: `host:port/service`."""
    place, _, service = probe.spec.target.partition("/")
    return host_port(probe, place), service


def _split(text: str) -> tuple[str, int | None]:
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host or text.endswith("]"):
        raise Failed(f"target {text!r}: write an IPv6 address and its port as [address]:port")
    if not colon:
        return text, None
    if not (port.isascii() and port.isdigit() and len(port) <= len(str(_PORT_MAX))):
        raise Failed(f"target {text!r}: {port[:20]!r} is not a port")
    return host, int(port)
