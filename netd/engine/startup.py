"""From what the store holds to intent in memory."""

import logging

from netd.engine.allocation import leases_of
from netd.engine.interfaces import Change, Snapshot
from netd.engine.parts import Parts
from netd.engine.publishing import Publishing
from netd.model.condition import Condition
from netd.model.endpoint import EndpointRecord
from netd.plan.facts import Facts
from netd.plan.ports import describe

log = logging.getLogger(__name__)

BOOT_ID = "boot-id"  # a fact in the store


def same_boot(snapshot: Snapshot, facts: Facts) -> bool:
    """Whether the snapshot was written since the host was booted."""
    return snapshot.facts.get(BOOT_ID, facts.boot_id) == facts.boot_id


async def restore(parts: Parts, snapshot: Snapshot, publishing: Publishing) -> tuple[str, ...]:
    """Fill intent; return the ids of endpoints that a reboot ended.

    Network namespaces do not survive a reboot, so neither do endpoints. Their addresses are
    remembered: a container that comes back under its name gets them again.
    """
    intent = parts.intent
    for network in snapshot.networks:
        intent.add_network(network)
    intent.restore_leases(snapshot.leases)
    ended = []
    for record in snapshot.endpoints:
        if not same_boot(snapshot, parts.facts):
            ended.append(record)
            continue
        intent.restore_addresses(record)
        intent.add_endpoint(record)
        parts.names.put(record.endpoint)
        network = intent.networks[record.endpoint.network_id]
        lost = publishing.restore(record, network)
        if lost:
            detail = ", ".join(map(describe, lost))
            log.warning("endpoint %s: other programs took %s", record.endpoint.id, detail)
            parts.conditions.replace(
                record.endpoint.id,
                "port-",
                [
                    Condition(
                        code="port-taken",
                        severity="warning",
                        detail=f"while netd was not running, other programs took {detail}",
                        remedy="packets still go to the container; stop the other program",
                        since=parts.now(),
                    )
                ],
            )
    await _sweep(parts, ended)
    return tuple(record.endpoint.id for record in ended)


async def _sweep(parts: Parts, ended: list[EndpointRecord]) -> None:
    if not ended:
        return
    log.info("the host has rebooted: %d endpoints ended with it", len(ended))
    now_s = parts.clock.wall_s()
    leases = tuple(
        lease
        for record in ended
        for lease in leases_of(
            record.endpoint, parts.intent.pools[record.endpoint.network_id], now_s
        )
    )
    parts.intent.restore_leases(leases)
    await parts.store.commit(
        Change(
            delete_endpoints=tuple(record.endpoint.id for record in ended),
            put_leases=leases,
        )
    )
    for record in ended:
        parts.events.emit(
            "endpoint.swept",
            about=record.endpoint.id,
            name=record.endpoint.name,
            detail="the host has rebooted",
        )
