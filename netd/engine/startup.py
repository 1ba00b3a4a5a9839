"""From what the store holds to intent in memory."""

import logging
from collections.abc import Sequence

from netd.engine.allocation import leases_of
from netd.engine.blocks import Blocks
from netd.engine.interfaces import Change, Clock, Snapshot, Store
from netd.engine.parts import Parts
from netd.engine.publishing import Publishing
from netd.model.condition import Condition
from netd.model.endpoint import EndpointRecord
from netd.plan.diff import removal
from netd.plan.facts import Facts
from netd.plan.ports import describe

log = logging.getLogger(__name__)

BOOT_ID = "boot-id"  # facts in the store
NODE_ID = "node-id"


def same_boot(snapshot: Snapshot, facts: Facts) -> bool:
    """Whether the snapshot was written since the host was booted."""
    return snapshot.facts.get(BOOT_ID, facts.boot_id) == facts.boot_id


async def remember_node(store: Store, snapshot: Snapshot, clock: Clock) -> str:
    """The node's id, made at the first start and kept for good."""
    node_id = snapshot.facts.get(NODE_ID)
    if node_id is None:
        node_id = clock.new_id() + clock.new_id()
        await store.commit(Change(put_facts={NODE_ID: node_id}))
    return node_id


async def restore(
    parts: Parts, snapshot: Snapshot, publishing: Publishing, blocks: Blocks
) -> tuple[str, ...]:
    """Fill intent; return the ids of endpoints that ended: by a reboot, or half-way.

    Network namespaces do not survive a reboot, so neither do endpoints. What the daemon was
    killed at attaching or detaching is taken back. The addresses are remembered: a container
    that comes back under its name gets them again.
    """
    intent = parts.intent
    for network in snapshot.networks:
        intent.add_network(network)
    blocks.restore(snapshot)
    intent.restore_leases(snapshot.leases)
    if not same_boot(snapshot, parts.facts):
        await _sweep(parts, snapshot.endpoints, "the host has rebooted")
        return tuple(record.endpoint.id for record in snapshot.endpoints)
    unfinished = [record for record in snapshot.endpoints if record.unfinished]
    for record in snapshot.endpoints:
        if record.unfinished:
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
    for record in unfinished:
        await _take_back(parts, record)
    await _sweep(parts, unfinished, "netd was killed while it attached or detached it")
    return tuple(record.endpoint.id for record in unfinished)


async def _take_back(parts: Parts, record: EndpointRecord) -> None:
    """Remove what is left of an endpoint, but for what others have in its place by now."""
    desired = parts.intent.desired.state
    network = parts.intent.find_network(record.endpoint.network_id)
    if network is None:  # deleted since, as it had no endpoint
        return
    objects = parts.intent.objects_of(network, record)
    operations = removal([obj for obj in objects if obj.key not in desired], "unfinished")
    sandboxes = {record.sandbox.key: record.sandbox} if record.sandbox else {}
    for failure in await parts.kernel.apply(operations, sandboxes):
        log.warning("endpoint %s: %s", record.endpoint.id, failure.text())


async def _sweep(parts: Parts, ended: Sequence[EndpointRecord], why: str) -> None:
    if not ended:
        return
    log.info("%d endpoints ended: %s", len(ended), why)
    now_s = parts.clock.wall_s()
    leases = tuple(
        lease
        for record in ended
        for lease in leases_of(
            record.endpoint, parts.intent.pools.get(record.endpoint.network_id, ()), now_s
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
            "endpoint.swept", about=record.endpoint.id, name=record.endpoint.name, detail=why
        )
