"""What can be configured: one struct for each table of the file, with defaults and checks.

Units are in the names. `NEEDS_RESTART` lists what a reload cannot change in a running daemon.
"""

import socket
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Final, Literal

import msgspec

from netd.cluster import addresses
from netd.model.errors import Invalid
from netd.model.names import check_endpoint_name

SOCKET_PATH_MAX_BYTES: Final = 107  # sizeof(sun_path) - 1, unix(7)
TAGS_MAX: Final = 64
TAG_MAX_BYTES: Final = 256
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
    """`name` is what the others call this host: one DNS label, unique in the cluster.

    `tags` say what they should know of it, e.g. its rack or its purpose.
    """

    name: str = msgspec.field(default_factory=host_name)
    tags: dict[str, str] = {}

    def __post_init__(self) -> None:
        try:
            check_endpoint_name(self.name, "name")
        except Invalid as error:
            raise WrongValue("name", f"{error.detail}; the default is the host's name") from None
        if len(self.tags) > TAGS_MAX:
            raise WrongValue("tags", f"{len(self.tags)} tags; at most {TAGS_MAX} are told")
        for key, value in self.tags.items():
            if not key or max(len(key.encode()), len(value.encode())) > TAG_MAX_BYTES:
                raise WrongValue(
                    "tags",
                    f"tag {key[:40]!r}: keys have 1 to {TAG_MAX_BYTES} bytes, values at most "
                    f"{TAG_MAX_BYTES}",
                )


class Cluster(_Table, frozen=True):
    """How this host is a member of a cluster; it is alone without a key, `bind` and `join`.

    An empty `bind` is port 7940 on all IPv4 addresses, an empty `advertise` the address of the
    host that leads to the others. A key comes from `key_file`, or by the token in
    `join_token_file` once. `insecure` lets a host without a key be reached by others.
    """

    bind: str = ""
    advertise: str = ""
    join: tuple[str, ...] = ()
    profile: Literal["lan", "fast", "wan"] = "lan"
    key_file: str = ""
    join_token_file: str = ""
    insecure: bool = False

    def __post_init__(self) -> None:
        try:
            if self.bind:
                addresses.parse_own(self.bind, "bind")
            if self.advertise:
                host, _ = addresses.parse_own(self.advertise, "advertise")
                if addresses.is_wildcard(host):
                    raise Invalid(
                        f"{self.advertise!r} is no address that others reach", field="advertise"
                    )
            for index, seed in enumerate(self.join):
                addresses.parse(seed, f"join[{index}]")
        except Invalid as error:
            raise WrongValue(error.field or "", error.detail) from None
        for key, path in (("key_file", self.key_file), ("join_token_file", self.join_token_file)):
            if path:
                _check_absolute(key, path)


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
    cluster: Cluster = Cluster()
    origins: Mapping[str, str] = {}

    def __post_init__(self) -> None:
        if self.cluster.key_file and self.cluster.join_token_file:
            raise WrongValue(
                "cluster.join_token_file",
                f"excludes cluster.key_file ({self.cluster.key_file}): a token is for hosts that "
                "have no key",
            )


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
        *(f"cluster.{key}" for key in Cluster.__struct_fields__),
    }
)
