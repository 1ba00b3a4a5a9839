"""What a client's registration comes to, after what is known of the instance already."""

from msgspec.structs import replace

from netd.registry.eureka.instances import UNKNOWN, Instance
from netd.registry.eureka.registrations import Registration
from netd.registry.eureka.statuses import effective


def registering(
    instance: Instance,
    known: Registration | None,
    now_ms: int,
    *,
    live: bool,
    replicated: bool,
) -> Registration:
    """`live`: the lease of what is `known` holds. Then a version that is newer than the client's
    stays as it is.
    """
    before = known.instance if known is not None and live else None
    if known is not None and before is not None and before.dirty_ms > instance.dirty_ms:
        return known
    override = instance.overridden_status
    if known is not None and known.instance.overridden_status != UNKNOWN:
        override = known.instance.overridden_status
    leased = UNKNOWN if before is None else before.status
    status = effective(instance.status, override, leased, replicated=replicated)
    up_ms = 0 if before is None else before.lease.up_ms
    lease = replace(
        instance.lease,
        registered_ms=now_ms if before is None else before.lease.registered_ms,
        renewed_ms=now_ms,
        evicted_ms=0,
        up_ms=up_ms or (now_ms if status == "UP" else 0),
    )
    settled = replace(
        instance, status=status, overridden_status=override, lease=lease, updated_ms=now_ms
    )
    return Registration(
        instance=settled,
        own_status=instance.status,
        stamp_ms=now_ms if known is None else known.stamp_ms,
    )
