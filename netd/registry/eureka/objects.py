"""An instance as the plain objects that it is read from and written as.

The shape is that of Netflix's JSON; XML is read into the same shape. What comes from clients is
taken as they write it: numbers as strings, a port with or without its wrapping, lists of one
element without their brackets.
"""

from typing import Any, Final

from netd.registry.eureka.instances import (
    DURATION_S,
    MY_OWN,
    RENEWAL_S,
    UNKNOWN,
    DataCenter,
    Instance,
    Lease,
    Malformed,
    PortOf,
    status_of,
)

EMPTY_MAP: Final = "java.util.Collections$EmptyMap"
TEXT_MAX: Final = 4096  # characters of one value
METADATA_MAX: Final = 256
_NUMBER_MAX: Final = 2**63 - 1

Object = dict[str, Any]


def from_object(value: object) -> Instance:
    """The instance of an object as JSON has it, with or without the `instance` around it.

    What is left out is as in `Instance`; an id, as Netflix's own, is then the host name. Raises
    `Malformed` for what has another shape.
    """
    fields = _object(_single(value), "instance")
    if "instance" in fields:
        fields = _object(_single(fields["instance"]), "instance")
    center = fields.get("dataCenterInfo")
    host_name = _text(fields, "hostName")
    status = fields.get("overriddenStatus", fields.get("overriddenstatus"))
    return Instance(
        instance_id=_text(fields, "instanceId") or host_name,
        host_name=host_name,
        app=_text(fields, "app").upper(),
        ip_addr=_text(fields, "ipAddr"),
        status=status_of(fields.get("status"), "UP"),
        overridden_status=status_of(status, UNKNOWN),
        app_group=_text(fields, "appGroupName").upper(),
        asg_name=_text(fields, "asgName"),
        port=_port(fields.get("port"), PortOf(7001, True)),
        secure_port=_port(fields.get("securePort"), PortOf(7002, False)),
        country_id=_number(fields, "countryId", 1),
        data_center=None if center is None else _data_center(center),
        lease=_lease(fields.get("leaseInfo")),
        metadata=_metadata(fields.get("metadata"), "metadata"),
        home_page_url=_text(fields, "homePageUrl"),
        status_page_url=_text(fields, "statusPageUrl"),
        health_check_url=_text(fields, "healthCheckUrl"),
        secure_health_check_url=_text(fields, "secureHealthCheckUrl"),
        vip_address=_text(fields, "vipAddress"),
        secure_vip_address=_text(fields, "secureVipAddress"),
        is_coordinating=_flag(fields.get("isCoordinatingDiscoveryServer"), False),
        updated_ms=_number(fields, "lastUpdatedTimestamp", 0),
        dirty_ms=_number(fields, "lastDirtyTimestamp", 0),
    )


def to_object(instance: Instance, action: str = "ADDED") -> Object:
    """As JSON has it: times of the instance are strings, those of its lease are numbers."""
    center = instance.data_center or DataCenter()
    lease = instance.lease
    fields: Object = {
        "instanceId": instance.instance_id,
        "hostName": instance.host_name,
        "app": instance.app,
        "appGroupName": instance.app_group,
        "ipAddr": instance.ip_addr,
        "status": instance.status,
        "overriddenStatus": instance.overridden_status,
        "port": _port_object(instance.port),
        "securePort": _port_object(instance.secure_port),
        "countryId": instance.country_id,
        "dataCenterInfo": {"@class": center.kind, "name": center.name},
        "leaseInfo": {
            "renewalIntervalInSecs": lease.renewal_s,
            "durationInSecs": lease.duration_s,
            "registrationTimestamp": lease.registered_ms,
            "lastRenewalTimestamp": lease.renewed_ms,
            "evictionTimestamp": lease.evicted_ms,
            "serviceUpTimestamp": lease.up_ms,
        },
        "metadata": instance.metadata or {"@class": EMPTY_MAP},
        "homePageUrl": instance.home_page_url,
        "statusPageUrl": instance.status_page_url,
        "healthCheckUrl": instance.health_check_url,
        "secureHealthCheckUrl": instance.secure_health_check_url,
        "vipAddress": instance.vip_address,
        "secureVipAddress": instance.secure_vip_address,
        "isCoordinatingDiscoveryServer": "true" if instance.is_coordinating else "false",
        "lastUpdatedTimestamp": str(instance.updated_ms),
        "lastDirtyTimestamp": str(instance.dirty_ms),
        "actionType": action,
        "asgName": instance.asg_name,
    }
    if center.metadata:
        fields["dataCenterInfo"]["metadata"] = center.metadata
    return {name: value for name, value in fields.items() if value != ""}


_COMPACT: Final = frozenset(
    (
        *("instanceId", "hostName", "app", "ipAddr", "status", "port", "securePort"),
        *("dataCenterInfo", "metadata", "vipAddress", "secureVipAddress", "actionType"),
    )
)


def compact(fields: Object) -> Object:
    """What `X-Eureka-Accept: compact` leaves of an instance: who it is and how it is reached."""
    return {name: value for name, value in fields.items() if name in _COMPACT}


# How clients may write it


def _single(value: object) -> object:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _object(value: object, name: str) -> Object:
    if not isinstance(value, dict):
        raise Malformed(f"{name} is no object")
    return value


def _text(fields: Object, name: str, default: str = "") -> str:
    value = _single(fields.get(name))
    if value is None:
        return default
    text = _scalar(value, name)
    if len(text) > TEXT_MAX:
        raise Malformed(f"{name} has more than {TEXT_MAX} characters")
    return text


def _scalar(value: object, name: str) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int() | float():
            return str(value)
    raise Malformed(f"{name} is no text")


def _number(fields: Object, name: str, default: int) -> int:
    return _whole(_single(fields.get(name)), name, default)


def _whole(value: object, name: str, default: int) -> int:
    if value is None or value == "":
        return default
    text = _scalar(value, name).strip()
    if not text.isascii() or not text.removeprefix("-").isdigit() or len(text) > 20:
        raise Malformed(f"{name} {text[:40]!r} is no whole number")
    return max(0, min(int(text), _NUMBER_MAX))


def _flag(value: object, default: bool) -> bool:
    value = _single(value)
    return default if value is None else str(value).strip().lower() == "true"


def _port(value: object, default: PortOf) -> PortOf:
    value = _single(value)
    enabled = default.enabled
    if isinstance(value, dict):
        enabled = _flag(value.get("@enabled", value.get("enabled")), enabled)
        value = _single(value.get("$", value.get("port")))
    number = _whole(value, "port", default.number)
    if number > 65_535:
        raise Malformed(f"{number} is no port")
    return PortOf(number, enabled)


def _port_object(port: PortOf) -> Object:
    return {"$": port.number, "@enabled": "true" if port.enabled else "false"}


def _data_center(value: object) -> DataCenter:
    fields = _object(_single(value), "dataCenterInfo")
    return DataCenter(
        kind=_text(fields, "@class", MY_OWN),
        name=_text(fields, "name"),
        metadata=_metadata(fields.get("metadata"), "dataCenterInfo.metadata"),
    )


def _lease(value: object) -> Lease:
    value = _single(value)
    if value is None or value == "":
        return Lease()
    fields = _object(value, "leaseInfo")
    return Lease(
        renewal_s=_number(fields, "renewalIntervalInSecs", RENEWAL_S) or RENEWAL_S,
        duration_s=_number(fields, "durationInSecs", DURATION_S) or DURATION_S,
        registered_ms=_number(fields, "registrationTimestamp", 0),
        renewed_ms=_number(fields, "lastRenewalTimestamp", 0),
        evicted_ms=_number(fields, "evictionTimestamp", 0),
        up_ms=_number(fields, "serviceUpTimestamp", 0),
    )


def _metadata(value: object, name: str) -> dict[str, str]:
    value = _single(value)
    if value is None or value == "":
        return {}
    fields = _object(value, name)
    if len(fields) > METADATA_MAX:
        raise Malformed(f"{name} has {len(fields)} keys; at most {METADATA_MAX} are kept")
    found = {}
    for key in fields:
        if key in ("@class", "") or len(key) > TEXT_MAX:
            continue
        found[key] = _text(fields, key)
    return found
