"""What of the configuration the parts of the daemon are given."""

from pathlib import Path

import netd
from netd.cluster import addresses
from netd.cluster.settings import ClusterSettings
from netd.daemon.settings import Config
from netd.engine.settings import Settings
from netd.model.directory import RegistrySettings
from netd.plan.addresses import Pool, ula_subnets
from netd.plan.virtual_rules import VirtualPools


def engine_settings(config: Config, *, registry: bool = True, management: str = "") -> Settings:
    """The part of the configuration that is the engine's; `registry`: there may be one;
    `management` is what `consul_token.load` gives.
    """
    dns = config.dns
    eureka = config.eureka.enabled and (config.eureka.despite_acl or not config.consul.acl)
    return Settings(
        node=config.node.name,
        version=netd.__version__,
        tags=config.node.tags,
        zone=config.networks.zone,
        quarantine_s=config.networks.quarantine_s,
        ipv4_pools=tuple(Pool(pool.base, pool.prefix) for pool in config.networks.ipv4_pools),
        ipv6_pools=(ula_subnets(config.networks.ula),) if config.networks.ula else (),
        forward_guard=config.host.forward_guard,
        manage_forwarding=config.host.manage_forwarding,
        vxlan_port=config.overlay.port,
        virtual_pools=VirtualPools(config.services.virtual_ipv4, config.services.virtual_ipv6),
        registry=RegistrySettings(
            host_address=dns.host_address,
            port=dns.port,
            consul_port=dns.consul_port,
            consul_zone=dns.consul_zone,
            consul_address=config.consul.address if config.consul.enabled else "",
            consul_gateways=config.consul.gateways,
            consul_guests=config.consul.guests,
            consul_acl=config.consul.acl,
            consul_acl_default=config.consul.acl_default,
            consul_acl_token=management,
            eureka_address=config.eureka.address if eureka else "",
            eureka_gateways=config.eureka.gateways,
            page_enabled=config.page.enabled,
            page_address=config.page.address,
            eureka_clients=config.eureka.clients,
            upstreams=dns.upstreams,
            ttl_s=dns.ttl_s,
            cache_entries=dns.cache_entries,
            queries_per_s=dns.queries_per_s,
            script_checks=config.registry.script_checks,
        ),
        registry_wanted=registry and config.registry.start != "never",
        script_checks=config.registry.script_checks,
        kv_holder=config.kv.holder,
        interval_s=config.reconcile.interval_s,
        debounce_s=config.reconcile.debounce_ms / 1000,
    )


def cluster_settings(config: Config) -> ClusterSettings:
    """The part of the configuration that is the cluster's."""
    asked = config.cluster
    return ClusterSettings(
        directory=Path(config.state.dir),
        name=config.node.name,
        bind=addresses.parse_own(asked.bind, "bind") if asked.bind else None,
        advertise=addresses.parse_own(asked.advertise, "advertise") if asked.advertise else None,
        seeds=tuple(addresses.parse(seed) for seed in asked.join),
        profile=asked.profile,
        key_file=Path(asked.key_file) if asked.key_file else None,
        token_file=Path(asked.join_token_file) if asked.join_token_file else None,
        insecure=asked.insecure,
        version=netd.__version__,
    )
