"""What a Eureka client registers as a service of the catalogue, and services as its instances.

The whole registration is in the field `extra` of the service. Its lease is a ttl check: passing
from the first word of the client until the time of the lease has passed without one. While the
instance is not UP, it is in maintenance, so that names and Consul leave it out, too.
"""

import hashlib
import ipaddress
import re
from datetime import datetime
from typing import Final

import msgspec
from msgspec.structs import replace

from netd.model.service import Check, CheckResult, CheckSpec, CheckStatus, Service
from netd.model.service import ServiceSpec as Spec
from netd.registry.catalog.records import NODE_SERVICE, extra_of
from netd.registry.eureka.instances import (
    UNKNOWN,
    DataCenter,
    Instance,
    Lease,
    Malformed,
    PortOf,
    status_of,
)
from netd.registry.eureka.objects import Object, from_object, to_object

LEASE: Final = "eureka-lease"  # the id of its check
EXTRA_MAX: Final = 16 * 1024  # bytes of the field `extra`
RENEWED: Final = CheckResult(status="passing", output="the lease has been renewed")
DEREGISTER_AFTER_S: Final = 60.0
DURATION_MAX_S: Final = 86_400
_META_MAX: Final = 64
_META_KEY_MAX: Final = 128  # characters
_META_VALUE_MAX: Final = 512
_NAME_MAX: Final = 63
_NO_NAME: Final = re.compile(r"[^a-z0-9_-]")
_NO_ID: Final = re.compile(r"[^A-Za-z0-9_.:@-]")
_OF_NODES: Final = (NODE_SERVICE, "consul")  # to Consul's clients, the hosts are the latter
_SECURE_PORT: Final = 443
_MAINTENANCE: Final = "maintenance"


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """What a client has registered. `own_status` is its own word, `instance.status` what holds.

    If several hosts have one of the same instance, that with the latest `stamp_ms` counts, and
    the others remove theirs; one that is `cancelled` is there for that only. `is_out`: it is in
    maintenance because its status is not UP, and not because somebody else has asked for that.
    """

    instance: Instance
    own_status: str
    stamp_ms: int
    cancelled: bool = False
    is_out: bool = False


def service_id(app: str, instance_id: str, node: str, network: str = "") -> str:
    """The id of the service: another one on each host, as an id belongs to one host, and in each
    network, as those of others are not to know of it.
    """
    parts = (app, instance_id, node, network) if network else (app, instance_id, node)
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return f"{_NO_ID.sub('-', instance_id)[:96]}-{digest[:16]}"


def service_name(app: str) -> str:
    """The name of the service: the application's in lower case, as far as a DNS label has it, and
    never one that stands for nodes.
    """
    name = _NO_NAME.sub("-", app.lower()).strip("-")
    if name and len(name) <= _NAME_MAX and name not in _OF_NODES:
        return name
    digest = hashlib.sha256(app.encode()).hexdigest()[:8]
    kept = name[: _NAME_MAX - len(digest) - 1].rstrip("-")
    return f"{kept}-{digest}" if kept else f"app-{digest}"


def begun_as(own: Service | None, *, up: bool) -> CheckStatus:
    """What the lease says before the client has said more. One that this host has already keeps
    what it began with, for another check would begin anew.
    """
    lease = None if own is None else _find(own, LEASE)
    if lease is not None and lease.spec is not None:
        return lease.spec.status
    return "passing" if up else "critical"


def spec_of(registration: Registration, endpoint: str, begun: CheckStatus) -> Spec:
    """How it is registered with the daemon. `endpoint` is that of the container it is in, or "".

    Raises `Malformed` when it is too large to be kept.
    """
    instance = registration.instance
    port = instance.port if instance.port.enabled else instance.secure_port
    extra = {"eureka": _written(registration)}
    if len(msgspec.json.encode(extra)) > EXTRA_MAX:
        raise Malformed(f"the instance has more than {EXTRA_MAX} bytes")
    lease = CheckSpec(
        kind="ttl",
        id=LEASE,
        name="Eureka lease",
        ttl_s=float(max(1, min(instance.lease.duration_s, DURATION_MAX_S))),
        deregister_after_s=DEREGISTER_AFTER_S,
        status=begun,
    )
    return Spec(
        name=service_name(instance.app),
        address=instance.ip_addr,
        port=port.number if port.enabled else 0,
        meta=_meta(instance.metadata),
        checks=(lease,),
        endpoint=endpoint,
        extra=extra,
    )


def registration_of(service: Service) -> Registration | None:
    """What a client has registered, if this is one of Eureka's."""
    known = extra_of(service, "eureka")
    if not known:
        return None
    try:
        instance = from_object(known.get("instance"))
    except Malformed:
        return None
    stamp_ms, own_status = known.get("stamp"), known.get("ownStatus")
    if not isinstance(stamp_ms, int) or not isinstance(own_status, str):
        return None
    return Registration(
        instance=instance,
        own_status=status_of(own_status, UNKNOWN),
        stamp_ms=stamp_ms,
        cancelled=known.get("cancelled") is True,
        is_out=known.get("out") is True,
    )


def is_live(service: Service) -> bool:
    """Whether the lease of an instance of Eureka's holds."""
    lease = _find(service, LEASE)
    return lease is not None and lease.status != "critical"


def is_out(service: Service) -> bool:
    """Whether it is in maintenance, whoever has asked for that."""
    return _find(service, _MAINTENANCE) is not None


def shown(service: Service, registration: Registration | None) -> Instance | None:
    """The service as an instance; None for what Eureka's clients do not see."""
    if registration is None:
        return None if service.name == NODE_SERVICE else _as_instance(service)
    if registration.cancelled or not is_live(service):
        return None
    instance = registration.instance
    out = is_out(service)
    if out and not registration.is_out:
        return replace(instance, status="OUT_OF_SERVICE", overridden_status="OUT_OF_SERVICE")
    if instance.status == "UP" and service.status == "critical" and not out:
        return replace(instance, status="DOWN")
    return instance


def _written(registration: Registration) -> Object:
    instance = to_object(registration.instance)
    del instance["actionType"]
    found: Object = {
        "instance": instance,
        "ownStatus": registration.own_status,
        "stamp": registration.stamp_ms,
    }
    if registration.cancelled:
        found["cancelled"] = True
    if registration.is_out:
        found["out"] = True
    return found


def _meta(metadata: dict[str, str]) -> dict[str, str]:
    """As much of it as all see; Eureka's clients see all of it."""
    fitting = [
        (key, value)
        for key, value in metadata.items()
        if len(key) <= _META_KEY_MAX and len(value) <= _META_VALUE_MAX
    ]
    return dict(fitting[:_META_MAX])


def _as_instance(service: Service) -> Instance:
    """What somebody else has registered. Its host name is its address, which all can use."""
    created_ms = _ms(service.created_at)
    changed_ms = max((_ms(check.since) for check in service.checks), default=0)
    changed_ms = max(created_ms, changed_ms)
    status = "DOWN" if service.status == "critical" else "UP"
    override = UNKNOWN
    if is_out(service):
        status = override = "OUT_OF_SERVICE"
    host = f"[{service.address}]" if _is_ipv6(service.address) else service.address
    base = f"http://{host}:{service.port}/" if service.port else ""
    metadata = dict(service.meta)
    if service.tags:
        metadata.setdefault("tags", ",".join(service.tags))
    return Instance(
        instance_id=service.id,
        host_name=host,
        app=service.name.upper(),
        ip_addr=service.address,
        status=status,
        overridden_status=override,
        port=PortOf(service.port, bool(service.port)),
        secure_port=PortOf(_SECURE_PORT, False),
        data_center=DataCenter(),
        lease=Lease(
            registered_ms=created_ms,
            renewed_ms=changed_ms,
            up_ms=created_ms if status == "UP" else 0,
        ),
        metadata=metadata,
        home_page_url=base,
        vip_address=service.name,
        secure_vip_address=service.name,
        updated_ms=changed_ms,
        dirty_ms=changed_ms,
    )


def _find(service: Service, check_id: str) -> Check | None:
    return next((check for check in service.checks if check.id == check_id), None)


def _ms(time: str) -> int:
    """Unix milliseconds of a time of RFC 3339; 0 for what is none."""
    try:
        return max(0, int(datetime.fromisoformat(time).timestamp() * 1000))
    except (ValueError, OverflowError):
        return 0


def _is_ipv6(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).version == 6
    except ValueError:
        return False
