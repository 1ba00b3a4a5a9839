"""Networks, and the addresses that they and services are given."""

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Final

import msgspec

from netd.daemon.settings.values import Table, WrongValue, network_of
from netd.model.errors import Invalid
from netd.model.names import check_endpoint_name
from netd.plan.overlay import VXLAN_PORT

POOL_PREFIX_MAX: Final = 29  # a gateway and five more hosts
_UNIQUE_LOCAL: Final = IPv6Network("fd00::/8")  # RFC 4193, locally assigned


class Pool(Table, frozen=True):
    """Where subnets are taken from: blocks of length `prefix` out of `base`."""

    base: str
    prefix: Annotated[int, msgspec.Meta(ge=8, le=POOL_PREFIX_MAX)]

    def __post_init__(self) -> None:
        base = network_of("base", self.base)
        if not isinstance(base, IPv4Network):
            raise WrongValue("base", f"{self.base!r} is not an IPv4 network")
        if base.is_multicast or base.is_loopback or base.is_link_local or base.is_reserved:
            raise WrongValue("base", f"{self.base!r} is not for hosts' addresses (RFC 6890)")
        if self.prefix < base.prefixlen:
            raise WrongValue("prefix", f"{self.prefix} is more than all of {self.base}")


class Networks(Table, frozen=True):
    """Defaults of new networks. An empty `ula` lets the daemon choose one, once.

    `quarantine_s` is how long a released address is not handed out to anybody else.
    """

    ipv4_pools: tuple[Pool, ...] = (Pool(base="10.192.0.0/11", prefix=20),)
    ula: str = ""
    zone: str = "netd.internal"
    quarantine_s: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 60

    def __post_init__(self) -> None:
        if self.ula:
            prefix = network_of("ula", self.ula)
            unique_local = isinstance(prefix, IPv6Network) and prefix.subnet_of(_UNIQUE_LOCAL)
            if not unique_local or prefix.prefixlen != 48:
                raise WrongValue("ula", f"{self.ula!r} is not a /48 of fd00::/8 (RFC 4193)")
        for label in self.zone.split("."):
            try:
                check_endpoint_name(label, "zone")
            except Invalid as error:
                raise WrongValue("zone", f"{self.zone!r}: {error.detail}") from None


class Overlay(Table, frozen=True):
    """`port` is the UDP port of VXLAN, the same on all hosts of a cluster."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = VXLAN_PORT


class Services(Table, frozen=True):
    """Where virtual addresses of services are taken from, the same on all hosts of a cluster."""

    virtual_ipv4: str = "10.191.0.0/16"
    virtual_ipv6: str = "fd6e:6574:6400::/112"

    def __post_init__(self) -> None:
        for key, version, text in (
            ("virtual_ipv4", 4, self.virtual_ipv4),
            ("virtual_ipv6", 6, self.virtual_ipv6),
        ):
            prefix = network_of(key, text)
            if prefix.version != version or not 16 <= prefix.num_addresses.bit_length() - 1 <= 24:
                raise WrongValue(
                    key, f"{text!r} is not an IPv{version} network of 2^16 to 2^24 addresses"
                )
