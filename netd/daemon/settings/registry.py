"""The registry: names, the APIs of Consul and Eureka, the page."""

from typing import Annotated, Literal

import msgspec

from netd.daemon.settings.values import Table, check_absolute, check_place, network_of


class Registry(Table, frozen=True):
    """The process that answers names and runs health checks.

    `start`: whether netd starts it; `auto` does where netd itself was not started by a service
    manager, which then has a unit for it. It then runs as `api.registry_user`, or as `nobody`
    where there is no such user.
    """

    start: Literal["auto", "always", "never"] = "auto"
    script_checks: bool = False


class Dns(Table, frozen=True):
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


class Consul(Table, frozen=True):
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
        check_place("address", self.address)
        if self.acl_token_file:
            check_absolute("acl_token_file", self.acl_token_file)


class Eureka(Table, frozen=True):
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
        check_place("address", self.address)
        for text in self.clients:
            network_of("clients", text)


class Page(Table, frozen=True):
    """The page to look at. It is on the socket `page.sock` beside the API's, open to those who may
    read there, and at `address`, open to all programs of this host; "" for nowhere.
    """

    enabled: bool = True
    address: str = ""

    def __post_init__(self) -> None:
        if self.address:
            check_place("address", self.address)
