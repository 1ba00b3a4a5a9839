"""What the configuration says to the engine."""

from collections.abc import Mapping

import msgspec

from netd.model.directory import RegistrySettings
from netd.plan.addresses import Pool
from netd.plan.overlay import VXLAN_PORT
from netd.plan.virtual_rules import VirtualPools


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`ipv6_pools` empty means a /48 derived from the node's id. Times are in seconds.

    `tags` are what the other members are told of this host beside its addresses.
    """

    node: str
    version: str
    tags: Mapping[str, str] = {}
    zone: str = "netd.internal"
    quarantine_s: float = 60.0
    ipv4_pools: tuple[Pool, ...] = (Pool("10.192.0.0/11", 20),)
    ipv6_pools: tuple[Pool, ...] = ()
    forward_guard: bool = True
    manage_forwarding: bool = True
    vxlan_port: int = VXLAN_PORT
    virtual_pools: VirtualPools = VirtualPools("10.191.0.0/16", "fd6e:6574:6400::/112")
    registry: RegistrySettings = RegistrySettings()
    registry_wanted: bool = False  # containers are told to ask it for names
    script_checks: bool = False
    interval_s: float = 30.0
    kv_holder: str = ""
    debounce_s: float = 0.05

    def over(self, running: "Settings") -> "Settings":
        """What is in force when these take the place of `running` without a restart."""
        return msgspec.structs.replace(
            self,
            node=running.node,
            version=running.version,
            zone=running.zone,
            vxlan_port=running.vxlan_port,
            virtual_pools=running.virtual_pools,
            registry=running.registry,
            registry_wanted=running.registry_wanted,
            script_checks=running.script_checks,
        )


class Reload(msgspec.Struct, frozen=True, kw_only=True):
    """What of the configuration is not in force since the last reload; empty: nothing.

    `refused` says why none of it was taken over, `needs_restart` has the keys that differ from
    those that the daemon was started with and that it cannot change while it runs.
    """

    refused: str = ""
    needs_restart: tuple[str, ...] = ()

    def text(self) -> str:
        """Both in words."""
        parts = [f"the last reload was refused: {self.refused}"] if self.refused else []
        if self.needs_restart:
            parts.append(f"restart netd for: {', '.join(self.needs_restart)}")
        return "; ".join(parts)
