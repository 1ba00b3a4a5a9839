"""Services: what is registered, whether it is well, and the addresses that stand for them."""

import uuid
from typing import Annotated, Any, Final, Literal

import msgspec

from netd.model.condition import Condition
from netd.model.names import Word

CheckStatus = Literal["passing", "warning", "critical"]
SEVERITY: Final[dict[CheckStatus, int]] = {"passing": 0, "warning": 1, "critical": 2}
CheckKind = Literal["http", "tcp", "udp", "ttl", "told", "grpc", "h2ping", "script", "alias"]
Transport = Literal["tcp", "udp"]
Affinity = Literal["none", "source"]

# An instance of this name, and of the id `node_record`, has the checks of a node as a whole.
NODE_SERVICE: Final = "_node"
TOGETHER_MAX: Final = 4000  # instances that are changed by one call
NODE_IDS: Final = uuid.UUID("8e2bb6c8-5d5c-5b2f-9a0a-6f1f6c9e5b10")  # namespace of ids of nodes

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Weight = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
Times = Annotated[int, msgspec.Meta(ge=1, le=100)]
Text = Annotated[str, msgspec.Meta(max_length=4096)]
Revision = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much of the load an instance takes, by how it is. 0 takes none."""

    passing: Weight = 1
    warning: Weight = 1


class CheckSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to find out whether an instance is well.

    `id` and `name` are chosen when they are empty. What is looked at is `target`: a URL for http,
    `host:port` for tcp, udp and h2ping, `host:port[/service]` for grpc; empty is the instance's own
    address and port. For alias it is the id of another instance, on this host unless `node` says
    on which one; with a `node` alone it is that node. `args` is the program of a script check. A
    ttl check is told its status by the service itself, at least each `ttl_s`; a told one by
    whoever looks after it, and what it was told holds until it is told otherwise.
    """

    kind: CheckKind
    id: Word = ""
    name: Word = ""
    notes: Text = ""
    target: Text = ""
    node: Word = ""
    method: Word = "GET"
    headers: dict[str, tuple[Text, ...]] = {}
    body: Text = ""
    follow_redirects: bool = True
    tls: bool = False
    tls_server_name: Word = ""
    tls_skip_verify: bool = False
    args: tuple[Text, ...] = ()
    ttl_s: Seconds | None = None
    interval_s: Seconds = 10.0
    timeout_s: Seconds | None = None
    successes_before_passing: Times = 1
    failures_before_warning: Times | None = None
    failures_before_critical: Times = 1
    deregister_after_s: Annotated[float, msgspec.Meta(ge=60, le=31_536_000)] | None = None
    status: CheckStatus = "critical"  # until it has run for the first time


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """A check and its last result. `since` (RFC 3339) is when its status became what it is.

    Other hosts learn of a status at once, of an `output` that alone has changed now and then.
    """

    id: str
    name: str
    kind: str  # a CheckKind; `maintenance` and kinds of a newer netd come from others
    status: CheckStatus
    output: str = ""
    notes: str = ""
    since: str = ""
    spec: CheckSpec | None = None  # on the host that owns the instance only


class CheckResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a check has found; of its output, the first 4,096 characters are kept."""

    status: CheckStatus
    output: Annotated[str, msgspec.Meta(max_length=65_536)] = ""


class CheckReport(CheckResult, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the check `check` of the instance `service` has found."""

    service: Word
    check: Word


class CheckReports(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What many checks have found, in the order in which they are taken."""

    reports: Annotated[tuple[CheckReport, ...], msgspec.Meta(max_length=1000)]


class CheckFault(msgspec.Struct, frozen=True, kw_only=True):
    """Why something that was said of a check was not taken; `code` as that of a problem."""

    service: str
    check: str
    code: str
    detail: str


class Maintenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Take an instance out, or let it in again."""

    enable: bool
    reason: Text = ""


class ServiceSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An instance of a service, as it is registered.

    `endpoint` is the id of an endpoint of this host: the address, if left out, is then its
    address, and the instance goes with it. `address` may be left out otherwise too: then it is
    the host's. `pid` is a process of this host that the instance goes with. `network` is the
    network whose containers see it; left out, it is that of the endpoint or of the address, and
    "" without one: then everybody sees it. `extra` is what an API knows of the instance that has
    no field here: an object for each API, shown to all hosts as it is.
    """

    name: Word
    address: Word = ""
    port: Port = 0
    tags: tuple[Word, ...] = ()
    meta: dict[str, str] = {}
    weights: Weights = Weights()
    checks: tuple[CheckSpec, ...] = ()
    endpoint: Word = ""
    pid: Annotated[int, msgspec.Meta(ge=1, le=4_194_304)] | None = None
    network: Word = ""
    extra: dict[str, Any] = {}


class ServiceChanges(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Instances of this host that are changed together, by their ids: all, or none.

    Those in `put` are registered as they would be one by one, then `reports` are taken of them.
    `seen` has, for instances that the caller went by, the revision of each one's entry in the
    directory, 0 where there was none: has one of them changed since, nothing is done.
    """

    put: Annotated[dict[Word, ServiceSpec], msgspec.Meta(max_length=TOGETHER_MAX)] = {}
    delete: Annotated[tuple[Word, ...], msgspec.Meta(max_length=TOGETHER_MAX)] = ()
    reports: Annotated[tuple[CheckReport, ...], msgspec.Meta(max_length=TOGETHER_MAX)] = ()
    seen: Annotated[dict[Word, Revision], msgspec.Meta(max_length=2 * TOGETHER_MAX)] = {}


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """An instance as it is shown. `node` is the host that owns it, the only one to change it.

    `status` is the worst of its checks, and of those of its node as a whole; it is `critical`,
    whatever they say, while its endpoint or process is gone or it is in maintenance. It is at
    `address`; where that is its endpoint's, at the one of the other family, too.
    """

    id: str
    name: str
    node: str
    address: str
    other_addresses: tuple[str, ...] = ()
    port: int = 0
    tags: tuple[str, ...] = ()
    meta: dict[str, str] = {}
    weights: Weights = Weights()
    checks: tuple[Check, ...] = ()
    endpoint: str = ""
    network: str = ""
    status: CheckStatus = "passing"
    pid: int | None = None
    created_at: str = ""
    conditions: tuple[Condition, ...] = ()
    extra: dict[str, Any] = {}

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.address, *self.other_addresses)


def shown_on(service: Service) -> str:
    """The node that an instance is on: the host that owns it, or one that is no host, of which
    Consul's API was told.
    """
    told = service.extra.get("consul")
    node = told.get("node") if isinstance(told, dict) else None
    name = node.get("Node") if isinstance(node, dict) else None
    return name if isinstance(name, str) and name else service.node


def node_record(node: str) -> str:
    """The id of the instance that stands for a node."""
    clean = "".join(
        char if (char.isascii() and char.isalnum()) or char in "-." else "-" for char in node
    )
    if clean == node and len(node) <= 100:
        return f"{NODE_SERVICE}-{node}"
    return f"{NODE_SERVICE}-{uuid.uuid5(NODE_IDS, node)}"


def stands_for_node(service: Service) -> bool:
    """Whether it is the one that has the checks of the node that it is on. Its name alone is
    none: whoever may register an instance chooses that.
    """
    return service.name == NODE_SERVICE and service.id == node_record(shown_on(service))


class ServiceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An instance as its host stores it: `spec` is what was asked for, `service` what it became.

    `pid_start_ticks` and `boot_id` guard its pid against reuse. One that is `labelled` was asked
    for by a label of its endpoint.
    """

    service: Service
    spec: ServiceSpec
    pid_start_ticks: int | None = None
    boot_id: str = ""
    labelled: bool = False


class VirtualPort(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A port of a virtual address. `target_port` None leads to the port of each instance."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    protocol: Transport = "tcp"
    target_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None


class VirtualSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """That a service has virtual addresses, and what they lead to.

    `affinity` source: a client gets the same instance as long as the instances stay the same.
    An instance that is taken out keeps its connections for `drain_s`.
    """

    ports: Annotated[tuple[VirtualPort, ...], msgspec.Meta(min_length=1, max_length=64)]
    affinity: Affinity = "none"
    drain_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 30.0


class Virtual(msgspec.Struct, frozen=True, kw_only=True):
    """The virtual addresses of a service, the same on all hosts."""

    id: str  # the service's name
    addresses: tuple[str, ...]  # bare, one of each family
    ports: tuple[VirtualPort, ...]
    affinity: Affinity = "none"
    drain_s: float = 30.0
    instances: int = 0  # that take connections just now
    created_at: str = ""
    conditions: tuple[Condition, ...] = ()
