"""What can be configured: one struct for each table of the file, with defaults and checks.

Units are in the names. `NEEDS_RESTART` lists what a reload cannot change in a running daemon.
"""

import socket
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Final, Literal

import msgspec

from netd.model.errors import Invalid
from netd.model.names import check_endpoint_name

SOCKET_PATH_MAX_BYTES: Final = 107  # sizeof(sun_path) - 1, unix(7)
POOL_PREFIX_MAX: Final = 29  # a gateway and five more hosts
_UNIQUE_LOCAL: Final = IPv6Network("fd00::/8")  # RFC 4193, locally assigned


class WrongValue(ValueError):
    """A value that its key cannot have. `key` is the key within its table."""

    def __init__(self, key: str, detail: str) -> None:
        super().__init__(detail)
        self.key = key
        self.detail = detail


def _check_absolute(key: str, path: str) -> None:
    if not path.startswith("/") or "\0" in path:
        raise WrongValue(key, f"{path!r} is not an absolute path")


def _network(key: str, text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise WrongValue(key, f"not a network in CIDR form: {error}") from None


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file."""


def host_name() -> str:
    """The first label of the host's name."""
    return socket.gethostname().partition(".")[0]


class Node(_Table, frozen=True):
    """`name` is what the others call this host: one DNS label, unique in the cluster."""

    name: str = msgspec.field(default_factory=host_name)

    def __post_init__(self) -> None:
        try:
            check_endpoint_name(self.name, "name")
        except Invalid as error:
            raise WrongValue("name", f"{error.detail}; the default is the host's name") from None


class Api(_Table, frozen=True):
    """Who may talk to the daemon. Groups and users that do not exist admit nobody."""

    socket: str = "/run/netd/netd.sock"
    group: str = "netd"
    view_group: str = "netd-view"
    registry_user: str = "netd-registry"

    def __post_init__(self) -> None:
        _check_absolute("socket", self.socket)
        if len(self.socket.encode()) > SOCKET_PATH_MAX_BYTES:
            raise WrongValue("socket", f"longer than {SOCKET_PATH_MAX_BYTES} bytes")


class State(_Table, frozen=True):
    """`dir` belongs to one daemon alone; it is made with mode 0700."""

    dir: str = "/var/lib/netd"

    def __post_init__(self) -> None:
        _check_absolute("dir", self.dir)


class Pool(_Table, frozen=True):
    """Where subnets are taken from: blocks of length `prefix` out of `base`."""

    base: str
    prefix: Annotated[int, msgspec.Meta(ge=8, le=POOL_PREFIX_MAX)]

    def __post_init__(self) -> None:
        base = _network("base", self.base)
        if not isinstance(base, IPv4Network):
            raise WrongValue("base", f"{self.base!r} is not an IPv4 network")
        if base.is_multicast or base.is_loopback or base.is_link_local or base.is_reserved:
            raise WrongValue("base", f"{self.base!r} is not for hosts' addresses (RFC 6890)")
        if self.prefix < base.prefixlen:
            raise WrongValue("prefix", f"{self.prefix} is more than all of {self.base}")


class Networks(_Table, frozen=True):
    """Defaults of new networks. An empty `ula` lets the daemon choose one, once.

    `quarantine_s` is how long a released address is not handed out to anybody else.
    """

    ipv4_pools: tuple[Pool, ...] = (Pool(base="10.192.0.0/11", prefix=20),)
    ula: str = ""
    zone: str = "netd.internal"
    quarantine_s: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 60

    def __post_init__(self) -> None:
        if self.ula:
            prefix = _network("ula", self.ula)
            unique_local = isinstance(prefix, IPv6Network) and prefix.subnet_of(_UNIQUE_LOCAL)
            if not unique_local or prefix.prefixlen != 48:
                raise WrongValue("ula", f"{self.ula!r} is not a /48 of fd00::/8 (RFC 4193)")
        for label in self.zone.split("."):
            try:
                check_endpoint_name(label, "zone")
            except Invalid as error:
                raise WrongValue("zone", f"{self.zone!r}: {error.detail}") from None


class Host(_Table, frozen=True):
    """What netd may do to the host beside its own objects.

    `docker_user_hook`: accept own traffic in Docker's chain DOCKER-USER.
    `forward_guard`: while netd switches forwarding on, refuse to forward what is not its own.
    `manage_forwarding`: switch IPv4 and IPv6 forwarding on when a network needs it.
    """

    docker_user_hook: bool = False
    forward_guard: bool = True
    manage_forwarding: bool = True


class Log(_Table, frozen=True):
    """`auto` is the journal when standard error leads there, else text."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "text", "journal"] = "auto"


class Reconcile(_Table, frozen=True):
    """A pass over everything each `interval_s`, and `debounce_ms` after a kernel event."""

    interval_s: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 30.0
    debounce_ms: Annotated[int, msgspec.Meta(ge=0, le=500)] = 50


class Config(_Table, frozen=True):
    """All settings. `origins` says for each key path which file or flag has set it."""

    node: Node = msgspec.field(default_factory=Node)
    api: Api = Api()
    state: State = State()
    networks: Networks = Networks()
    host: Host = Host()
    log: Log = Log()
    reconcile: Reconcile = Reconcile()
    origins: Mapping[str, str] = {}


NEEDS_RESTART: Final = frozenset(
    {
        "node.name",
        "api.socket",
        "api.group",
        "api.view_group",
        "api.registry_user",
        "state.dir",
        "host.docker_user_hook",
        "networks.zone",
    }
)
