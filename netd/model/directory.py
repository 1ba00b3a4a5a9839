"""What the daemon and its registry tell each other."""

from typing import Literal

import msgspec

from netd.model.position import Position
from netd.model.service import Service, Virtual
from netd.model.user_event import UserEvent

EntryKind = Literal[
    "zone", "network", "endpoint", "node", "service", "virtual", "user_event", "sync"
]


class RegistrySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is configured for the registry; see `Dns` and `Registry` in daemon/settings/registry.py.

    `consul_acl_token` is the hash of a token that may do everything, "": there is none.
    """

    host_address: str = "127.0.0.54"
    port: int = 53
    consul_port: int = 8600
    consul_zone: str = "consul"
    consul_address: str = ""
    consul_gateways: bool = True
    consul_guests: bool = True
    consul_acl: bool = False
    consul_acl_default: Literal["allow", "deny"] = "deny"
    consul_acl_token: str = ""
    eureka_address: str = ""
    eureka_gateways: bool = True
    page_enabled: bool = True
    page_address: str = ""
    eureka_clients: tuple[str, ...] = ()
    upstreams: tuple[str, ...] = ()
    ttl_s: int = 2
    cache_entries: int = 20_000
    queries_per_s: int = 5_000
    script_checks: bool = False


class ZoneEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What holds for all names; id "". `node` is this host."""

    zone: str
    node: str
    node_id: str
    settings: RegistrySettings = RegistrySettings()


class NetworkEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A network; id its name. `resolvers` are the addresses of this host on it, to listen at:
    none while the host has no endpoint there.
    """

    subnets: tuple[str, ...] = ()
    resolvers: tuple[str, ...] = ()
    internal: bool = False


class EndpointEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An endpoint of any host; id its id. `addresses` are bare."""

    network: str
    container_id: str
    name: str
    node: str
    addresses: tuple[str, ...]
    aliases: tuple[str, ...] = ()


class NodeEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A host that is alive; id its name. The first address of a family is the one to use.

    `rtt_ms` is the time to it and back, as of when it last changed by more than a fifth; None
    for this host, and for one that has not been measured. `position` is where it says it is.
    """

    node_id: str
    addresses: tuple[str, ...]
    tags: dict[str, str] = {}
    rtt_ms: float | None = None
    position: Position | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One line of `GET /v1/directory?watch=1`.

    First everything there is, then one `sync` line, then changes as they happen. The field that
    is called as `kind` has what there is now; None: there is no such thing any more.
    """

    revision: int
    kind: EntryKind
    id: str = ""
    zone: ZoneEntry | None = None
    network: NetworkEntry | None = None
    endpoint: EndpointEntry | None = None
    node: NodeEntry | None = None
    service: Service | None = None
    virtual: Virtual | None = None
    user_event: UserEvent | None = None  # id: the host's, a slash and its own


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the registry has counted since it started."""

    name: str
    labels: dict[str, str] = {}
    value: float = 0


class RegistryState(msgspec.Struct, frozen=True, kw_only=True):
    """The registry as the daemon sees it. The rest is of its last report, if there is one.

    `connected`: it follows the directory and has reported lately. `behind` is how many lines of
    the directory it had not taken over by its last report.
    """

    wanted: bool
    connected: bool
    reported_at: str = ""
    behind: int = 0
    pid: int = 0
    listening: tuple[str, ...] = ()
    problems: dict[str, str] = {}
    upstreams: tuple[str, ...] = ()
    counts: tuple[Count, ...] = ()


class RegistryReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The registry's word to the daemon (`PUT /v1/registry`): now and then, and at once when it
    has opened or closed a socket.

    `revision` is of the last line that it has taken over, `listening` are `address:port`, and
    `problems` say by address and port why it cannot listen there.
    """

    revision: int
    pid: int
    listening: tuple[str, ...] = ()
    problems: dict[str, str] = {}
    upstreams: tuple[str, ...] = ()
    counts: tuple[Count, ...] = ()
