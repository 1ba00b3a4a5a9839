"""An instance as Eureka's clients know it: Netflix's `InstanceInfo`."""

from typing import Final, NamedTuple

import msgspec

MY_OWN: Final = "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo"
UNKNOWN: Final = "UNKNOWN"
STATUSES: Final = frozenset({"UP", "DOWN", "STARTING", "OUT_OF_SERVICE", UNKNOWN})
RENEWAL_S: Final = 30
DURATION_S: Final = 90


class Malformed(Exception):
    """What came is no instance; the text says why."""


class PortOf(NamedTuple):
    number: int
    enabled: bool


class DataCenter(msgspec.Struct, frozen=True, kw_only=True):
    """Where an instance runs. `kind` is the name of a class of Java's."""

    kind: str = MY_OWN
    name: str = "MyOwn"
    metadata: dict[str, str] = {}


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Intervals in seconds, times in Unix milliseconds; 0 is never."""

    renewal_s: int = RENEWAL_S
    duration_s: int = DURATION_S
    registered_ms: int = 0
    renewed_ms: int = 0
    evicted_ms: int = 0
    up_ms: int = 0


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """`status` is what holds, `overridden_status` what somebody has set instead of the instance's
    own word, UNKNOWN for nothing. `dirty_ms` is the client's stamp of its last change.
    """

    instance_id: str
    host_name: str
    app: str
    ip_addr: str
    status: str = "UP"
    overridden_status: str = UNKNOWN
    app_group: str = ""
    asg_name: str = ""
    port: PortOf = PortOf(7001, True)
    secure_port: PortOf = PortOf(7002, False)
    country_id: int = 1
    data_center: DataCenter | None = DataCenter()
    lease: Lease = Lease()
    metadata: dict[str, str] = {}
    home_page_url: str = ""
    status_page_url: str = ""
    health_check_url: str = ""
    secure_health_check_url: str = ""
    vip_address: str = ""
    secure_vip_address: str = ""
    is_coordinating: bool = False
    updated_ms: int = 0
    dirty_ms: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """What clients know it by."""
        return self.app, self.instance_id


def complaint(instance: Instance, app: str) -> str:
    """What a registration at `apps/{app}` lacks, in Netflix's words; "" if nothing."""
    for value, what in (
        (instance.instance_id, "instanceId"),
        (instance.host_name, "hostname"),
        (instance.ip_addr, "ip address"),
        (instance.app, "appName"),
    ):
        if not value.strip():
            return f"Missing {what}"
    if instance.app != app.upper():
        return f"Mismatched appName, expecting {app} but was {instance.app}"
    if instance.data_center is None:
        return "Missing dataCenterInfo"
    if not instance.data_center.name:
        return "Missing dataCenterInfo Name"
    return ""


def status_of(value: object, default: str) -> str:
    """A status; UNKNOWN for a word that is none, `default` for nothing."""
    if value is None or value == "":
        return default
    text = str(value).upper() if isinstance(value, str) else ""
    return text if text in STATUSES else UNKNOWN
