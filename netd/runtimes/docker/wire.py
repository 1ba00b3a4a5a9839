"""The plugin protocol's requests and answers, by the names that they have on the wire.

Unknown keys are ignored, as engines of all ages call. Go writes an empty list as null.
"""

from typing import Any

import msgspec


def _go_name(name: str) -> str:
    """`network_id` is `NetworkID` in Go."""
    words = name.split("_")
    return "".join(
        {"id": "ID", "ipv4": "IPv4", "ipv6": "IPv6", "v6": "V6"}.get(word, word.capitalize())
        for word in words
    )


class _Message(msgspec.Struct, frozen=True, kw_only=True, rename=_go_name, omit_defaults=True):
    """Base of all: what has its default is left out of an answer."""


class IpamData(_Message, frozen=True):
    """A pool that the engine has got for a network. `gateway` is an address in CIDR form."""

    address_space: str = ""
    pool: str = ""
    gateway: str = ""
    aux_addresses: dict[str, str] | None = None


class CreateNetwork(_Message, frozen=True):
    network_id: str
    options: dict[str, Any] | None = None
    ipv4_data: tuple[IpamData, ...] | None = msgspec.field(default=None, name="IPv4Data")
    ipv6_data: tuple[IpamData, ...] | None = msgspec.field(default=None, name="IPv6Data")


class NetworkCall(_Message, frozen=True):
    """DeleteNetwork, FreeNetwork, and as much of AllocateNetwork as is needed."""

    network_id: str


class Interface(_Message, frozen=True):
    """Addresses in CIDR form. In a request what is settled, in an answer what was not."""

    address: str = ""
    address_ipv6: str = msgspec.field(default="", name="AddressIPv6")
    mac_address: str = ""


class CreateEndpoint(_Message, frozen=True):
    network_id: str
    endpoint_id: str
    interface: Interface | None = None
    options: dict[str, Any] | None = None


class EndpointCall(_Message, frozen=True):
    """EndpointOperInfo, DeleteEndpoint, Leave, RevokeExternalConnectivity."""

    network_id: str
    endpoint_id: str


class Join(_Message, frozen=True):
    """Also ProgramExternalConnectivity, which has no `sandbox_key`."""

    network_id: str
    endpoint_id: str
    sandbox_key: str = ""
    options: dict[str, Any] | None = None


class PortBinding(_Message, frozen=True):
    """One of `com.docker.network.portmap`. `proto` is the IP protocol's number."""

    proto: int
    port: int
    host_ip: str | None = msgspec.field(default="", name="HostIP")
    host_port: int = 0
    host_port_end: int = 0


class RequestPool(_Message, frozen=True):
    address_space: str = ""
    pool: str = ""
    sub_pool: str = ""
    options: dict[str, str] | None = None
    v6: bool = False


class PoolCall(_Message, frozen=True):
    pool_id: str


class AddressCall(_Message, frozen=True):
    """RequestAddress and ReleaseAddress."""

    pool_id: str
    address: str = ""
    options: dict[str, str] | None = None


# Answers


class Activated(_Message, frozen=True):
    implements: tuple[str, ...]


class DriverCapabilities(_Message, frozen=True):
    scope: str
    connectivity_scope: str


class EndpointMade(_Message, frozen=True):
    interface: Interface


class Info(_Message, frozen=True):
    value: dict[str, str]


class InterfaceName(_Message, frozen=True):
    """A link on the host that the engine moves, and what its new name begins with."""

    src_name: str
    dst_prefix: str


class Joined(_Message, frozen=True):
    interface_name: InterfaceName
    gateway: str = ""
    gateway_ipv6: str = msgspec.field(default="", name="GatewayIPv6")
    disable_gateway_service: bool = False


class Allocated(_Message, frozen=True):
    """AllocateNetwork's answer: options for the hosts' CreateNetwork."""

    options: dict[str, str]


class AddressSpaces(_Message, frozen=True):
    local_default_address_space: str
    global_default_address_space: str


class Pool(_Message, frozen=True):
    pool_id: str
    pool: str


class Address(_Message, frozen=True):
    address: str
