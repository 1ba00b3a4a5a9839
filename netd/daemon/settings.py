"""What can be configured: one struct for each table of the file, with defaults and checks.

Units are in the names. `NEEDS_RESTART` lists what a reload cannot change in a running daemon.
"""

import socket
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec

from netd.cluster import addresses
from netd.model.errors import Invalid
from netd.model.names import check_endpoint_name, check_network_name
from netd.plan.overlay import VXLAN_PORT

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


def _check_member_url(key: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        right = parts.hostname and url.rstrip("/") == f"http://{parts.netloc}" and parts.port
    except ValueError:
        right = False
    if not right:
        raise WrongValue(key, f"{url!r} is not of the form http://HOST:PORT")


def _check_place(key: str, place: str) -> None:
    host, _, port = place.rpartition(":")
    try:
        ip_address(host.removeprefix("[").removesuffix("]") if ":" in host else host)
        right = port.isascii() and port.isdigit() and 0 < int(port) < 65_536
    except ValueError:
        right = False
    if not right or (":" in host) != place.startswith("["):
        raise WrongValue(key, f"{place!r} is not of the form ADDRESS:PORT or [ADDRESS]:PORT")


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


class Overlay(_Table, frozen=True):
    """`port` is the UDP port of VXLAN, the same on all hosts of a cluster."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = VXLAN_PORT


class Services(_Table, frozen=True):
    """Where virtual addresses of services are taken from, the same on all hosts of a cluster."""

    virtual_ipv4: str = "10.191.0.0/16"
    virtual_ipv6: str = "fd6e:6574:6400::/112"

    def __post_init__(self) -> None:
        for key, version, text in (
            ("virtual_ipv4", 4, self.virtual_ipv4),
            ("virtual_ipv6", 6, self.virtual_ipv6),
        ):
            prefix = _network(key, text)
            if prefix.version != version or not 16 <= prefix.num_addresses.bit_length() - 1 <= 24:
                raise WrongValue(
                    key, f"{text!r} is not an IPv{version} network of 2^16 to 2^24 addresses"
                )


class Registry(_Table, frozen=True):
    """The process that answers names and runs health checks.

    `start`: whether netd starts it; `auto` does where netd itself was not started by a service
    manager, which then has a unit for it. It then runs as `api.registry_user`, or as `nobody`
    where there is no such user.
    """

    start: Literal["auto", "always", "never"] = "auto"
    script_checks: bool = False


class Dns(_Table, frozen=True):
    """How names are answered.

    `host_address` is where this host's own programs ask, "" for nowhere; where somebody else has
    its port 53 it is not used, and `netctl doctor` says so. `consul_port` is for Consul's names on
    that address and at the gateways. Without `upstreams`, those of the host's resolv.conf are
    asked for all other names. `ttl_s` is how long answers of netd's zones may be kept.
    """

    host_address: str = "127.0.0.54"
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 53
    consul_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8600
    consul_zone: str = "consul"
    upstreams: tuple[str, ...] = ()
    ttl_s: Annotated[int, msgspec.Meta(ge=0, le=3600)] = 2
    cache_entries: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 20_000
    queries_per_s: Annotated[int, msgspec.Meta(ge=10, le=1_000_000)] = 5_000


class Consul(_Table, frozen=True):
    """Consul's HTTP API. `address` is where this host's own programs ask; with `gateways` it is
    also at the same port of this host's addresses in networks. `guests` says whether containers
    may use keys, sessions, events and queries: there is one set of them for all.

    With `acl` calls show tokens, which say what they may do; `acl_default` is what holds where
    no rule does, and `acl_token_file` has a token that may do everything. Both are the same on
    all hosts.
    """

    enabled: bool = True
    address: str = "127.0.0.1:8500"
    gateways: bool = True
    guests: bool = True
    acl: bool = False
    acl_default: Literal["allow", "deny"] = "deny"
    acl_token_file: str = ""

    def __post_init__(self) -> None:
        _check_place("address", self.address)
        if self.acl_token_file:
            _check_absolute("acl_token_file", self.acl_token_file)


class Eureka(_Table, frozen=True):
    """Eureka's API. `address` is where this host's own programs ask; with `gateways` it is also at
    the same port of this host's addresses in networks. `clients` are networks of machines without
    netd: programs there may register what is at their own address. It has no tokens: where Consul's
    API has, it is off unless `despite_acl`.
    """

    enabled: bool = True
    address: str = "127.0.0.1:8761"
    gateways: bool = True
    clients: tuple[str, ...] = ()
    despite_acl: bool = False

    def __post_init__(self) -> None:
        _check_place("address", self.address)
        for text in self.clients:
            _network("clients", text)


class Page(_Table, frozen=True):
    """The page to look at. It is on the socket `page.sock` beside the API's, open to those who may
    read there, and at `address`, open to all programs of this host; "" for nowhere.
    """

    enabled: bool = True
    address: str = ""

    def __post_init__(self) -> None:
        if self.address:
            _check_place("address", self.address)


class Docker(_Table, frozen=True):
    """The network and IPAM driver `netd` of Docker Engines. `socket` is where they look for it.

    `api` is the engine's own socket, where netd hears the names of containers; "" for nowhere.
    """

    enabled: bool = False
    socket: str = "/run/docker/plugins/netd.sock"
    api: str = "/run/docker.sock"

    def __post_init__(self) -> None:
        for key, path in (("socket", self.socket), ("api", self.api)):
            if path or key == "socket":
                _check_absolute(key, path)
            if len(path.encode()) > SOCKET_PATH_MAX_BYTES:
                raise WrongValue(key, f"longer than {SOCKET_PATH_MAX_BYTES} bytes")


class Kv(_Table, frozen=True):
    """Where keys, sessions and locks are.

    `holder` is the name of the host that is to hold them when no host of the cluster does yet, ""
    for the cluster's first; it is the same on all hosts. With the backend `etcd` they are in a
    cluster of etcd v3, whose members are reached at `etcd`.
    """

    backend: Literal["embedded", "etcd"] = "embedded"
    holder: str = ""
    etcd: tuple[str, ...] = ("http://127.0.0.1:2379",)

    def __post_init__(self) -> None:
        if self.holder:
            try:
                check_endpoint_name(self.holder, "holder")
            except Invalid as error:
                raise WrongValue("holder", error.detail) from None
        if not self.etcd:
            raise WrongValue("etcd", "the address of a member at least, as http://HOST:PORT")
        for url in self.etcd:
            _check_member_url("etcd", url)


class Cni(_Table, frozen=True):
    """What runtimes that speak CNI are offered once netd is ready, see CNI.md.

    `conflist` is the file that is installed for them, "" for none, and `name` the network's name
    in it. Containers come to the network called `network`; without one to a bridge network of this
    host, with `subnets`, or with subnets chosen. `masquerade` off: its containers keep their
    addresses on the way out and are reached at them. `withdraw`: the file goes when netd stops.
    """

    conflist: str = ""
    name: str = "netd"
    network: str = ""
    subnets: tuple[str, ...] = ()
    masquerade: bool = True
    withdraw: bool = False

    def __post_init__(self) -> None:
        if self.conflist:
            _check_absolute("conflist", self.conflist)
            if not self.conflist.endswith(".conflist"):
                raise WrongValue("conflist", f"{self.conflist!r} does not end with .conflist")
        for key, name in (("name", self.name), ("network", self.network)):
            try:
                if name or key == "name":
                    check_network_name(name)
            except Invalid as error:
                raise WrongValue(key, error.detail) from None
        if self.network and (self.subnets or not self.masquerade):
            raise WrongValue("network", f"network {self.network!r} has its own subnets and options")
        for subnet in self.subnets:
            _network("subnets", subnet)


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
    overlay: Overlay = Overlay()
    services: Services = Services()
    registry: Registry = Registry()
    dns: Dns = Dns()
    consul: Consul = Consul()
    eureka: Eureka = Eureka()
    page: Page = Page()
    docker: Docker = Docker()
    kv: Kv = Kv()
    cni: Cni = Cni()
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
        "overlay.port",
        "services.virtual_ipv4",
        "services.virtual_ipv6",
        *(f"registry.{key}" for key in Registry.__struct_fields__),
        *(f"dns.{key}" for key in Dns.__struct_fields__),
        *(f"consul.{key}" for key in Consul.__struct_fields__),
        *(f"eureka.{key}" for key in Eureka.__struct_fields__),
        *(f"page.{key}" for key in Page.__struct_fields__),
        *(f"docker.{key}" for key in Docker.__struct_fields__),
        *(f"kv.{key}" for key in Kv.__struct_fields__),
        *(f"cni.{key}" for key in Cni.__struct_fields__),
        *(f"cluster.{key}" for key in Cluster.__struct_fields__),
    }
)
