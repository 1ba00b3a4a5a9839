"""What can be configured: one struct for each table of the file, with defaults and checks.

Units are in the names. `NEEDS_RESTART` lists what a reload cannot change in a running daemon.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from netd.daemon.settings.cluster import Cluster, Kv
from netd.daemon.settings.host import Api, Host, Log, Node, Reconcile, State
from netd.daemon.settings.networks import Networks, Overlay, Services
from netd.daemon.settings.registry import Consul, Dns, Eureka, Page, Registry
from netd.daemon.settings.runtimes import Cni, Docker
from netd.daemon.settings.values import Table, WrongValue


class Config(Table, frozen=True):
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
