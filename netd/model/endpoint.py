"""An endpoint: one container's attachment to one network."""

from typing import Annotated, Literal

import msgspec

from netd.model.condition import Condition
from netd.model.names import PathName, Word

Protocol = Literal["tcp", "udp", "sctp"]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]
RateBps = Annotated[int, msgspec.Meta(ge=8_000, le=1_000_000_000_000)]


class PortMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """A published port, or a range of them.

    `count` ports from `host_port` on lead to as many from `container_port` on. An empty
    `host_ip` means every address of the host, of both families.
    """

    host_port: PortNumber
    container_port: PortNumber
    protocol: Protocol = "tcp"
    host_ip: Word = ""
    count: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1


class Bandwidth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits in bits per second, seen from the container: ingress is what it receives."""

    ingress_bps: RateBps | None = None
    egress_bps: RateBps | None = None


class Dns(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs into the container's resolv.conf."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


class AttachRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a runtime asks for. One of `netns` and `pid` names the network namespace.

    Without `hold_ports` it is somebody else who keeps published ports from other programs.
    """

    container_id: Word
    netns: PathName | None = None
    pid: Annotated[int, msgspec.Meta(ge=1, le=4_194_304)] | None = None
    name: Word = ""
    aliases: tuple[Word, ...] = ()
    ifname: Word = "eth0"
    addresses: tuple[Word, ...] = ()
    mac: Word | None = None
    ports: tuple[PortMapping, ...] = ()
    hold_ports: bool = True
    labels: dict[str, str] = {}
    bandwidth: Bandwidth = Bandwidth()
    default_route: bool | None = None


class EndpointPatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What can be changed on a live endpoint. A field that is left out stays as it is; the name
    "" is the one that an endpoint has which asked for none.
    """

    ports: tuple[PortMapping, ...] | None = None
    aliases: tuple[Word, ...] | None = None
    labels: dict[str, str] | None = None
    bandwidth: Bandwidth | None = None
    name: Word | None = None


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """Which network namespace an endpoint lives in, so that it is recognised later.

    `inode` alone is not enough: nsfs reuses inode numbers. `cookie` (SO_NETNS_COOKIE, Linux
    5.14) is unique for one boot; 0 where the kernel has none. `pid_start_ticks` guards a
    `/proc/PID` path against a reused pid.
    """

    path: str
    inode: int
    cookie: int = 0
    boot_id: str = ""
    pid: int | None = None
    pid_start_ticks: int | None = None

    @property
    def key(self) -> str:
        """The namespace's name within one boot, as readlink of /proc/PID/ns/net shows it."""
        return f"net:[{self.inode}]"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint as it is shown. `addresses` are in CIDR form, `mtu` is in bytes."""

    id: str
    network: str
    network_id: str
    container_id: str
    name: str
    node: str
    ifname: str
    host_ifname: str = ""
    mac: str = ""
    mtu: int | None = None
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    dns: Dns = Dns()
    ports: tuple[PortMapping, ...] = ()
    aliases: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    bandwidth: Bandwidth = Bandwidth()
    default_route: bool = False
    netns: str = ""
    state: Literal["ready", "degraded"] = "ready"
    created_at: str = ""
    conditions: tuple[Condition, ...] = ()


class EndpointRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint as it is stored: with the request that made it and where it lives.

    One that is `unfinished` is being attached or detached: a start that finds it ends it.
    """

    endpoint: Endpoint
    request: AttachRequest
    sandbox: Sandbox | None = None
    unfinished: bool = False

    @property
    def handed_over(self) -> bool:
        """Whether the container's end is a runtime's to move and to set up.

        Where it is then is not known: the endpoint lives as long as its link on the host.
        """
        return self.sandbox is None and bool(self.endpoint.host_ifname)


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds, or last held, an address. `released_s` is Unix time; None while held."""

    network_id: str
    address: str
    name: str
    endpoint_id: str
    released_s: float | None = None
