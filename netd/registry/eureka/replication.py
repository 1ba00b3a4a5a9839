"""Batches that Eureka servers send to their peers: done one by one, and not sent any further."""

from typing import Any, Final

import msgspec

from netd.registry.eureka.instances import UNKNOWN, Instance, Malformed, status_of
from netd.registry.eureka.leases import Leases, Older
from netd.registry.eureka.objects import Object, from_object, to_object
from netd.registry.eureka.seen import Name
from netd.registry.http.call import Failure
from netd.registry.http.caller import Caller

BATCH_MAX: Final = 500  # Netflix sends 250 at most


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that has happened at the peer."""

    action: str
    key: Name
    dirty_ms: int | None
    status: str
    override: str
    instance: Instance | None


def items_of(value: Any) -> list[Item]:
    """The batch of a body. Raises `Malformed`."""
    entries = value.get("replicationList") if isinstance(value, dict) else None
    if isinstance(entries, dict):
        entries = [entries]
    if not isinstance(entries, list):
        raise Malformed("replicationList is no list")
    if len(entries) > BATCH_MAX:
        raise Malformed(f"{len(entries)} items; at most {BATCH_MAX} are taken")
    return [_item(entry) for entry in entries]


def _item(entry: object) -> Item:
    if not isinstance(entry, dict):
        raise Malformed("an item is no object")
    app, instance_id, action = (entry.get(name) for name in ("appName", "id", "action"))
    if not (isinstance(app, str) and isinstance(instance_id, str) and isinstance(action, str)):
        raise Malformed("an item lacks appName, id or action")
    dirty = entry.get("lastDirtyTimestamp")
    if isinstance(dirty, str) and dirty.isascii() and dirty.isdigit() and len(dirty) < 20:
        dirty = int(dirty)
    instance = entry.get("instanceInfo")
    return Item(
        action=action,
        key=(app.upper(), instance_id),
        dirty_ms=dirty if isinstance(dirty, int) else None,
        status=status_of(entry.get("status"), UNKNOWN),
        override=status_of(entry.get("overriddenStatus"), UNKNOWN),
        instance=None if instance is None else from_object(instance),
    )


async def do(items: list[Item], leases: Leases, caller: Caller) -> Object:
    """The answer to a batch: a status for each item."""
    return {"responseList": [await _answer(item, leases, caller) for item in items]}


async def _answer(item: Item, leases: Leases, caller: Caller) -> Object:
    try:
        await _do(item, leases, caller)
    except Older as older:
        return {"statusCode": 409, "responseEntity": to_object(older.instance)}
    except Failure as failure:
        return {"statusCode": failure.status}
    return {"statusCode": 200}


async def _do(item: Item, leases: Leases, caller: Caller) -> None:
    match item.action:
        case "Register":
            if item.instance is None:
                raise Failure(400, "Missing instanceInfo")
            await leases.register(item.instance, item.key[0], caller, replicated=True)
        case "Heartbeat":
            await leases.renew(
                item.key,
                caller,
                dirty_ms=item.dirty_ms,
                override=item.override,
                replicated=True,
            )
        case "Cancel":
            await leases.cancel(item.key, caller)
        case "StatusUpdate":
            await leases.set_status(item.key, item.status, caller)
        case "DeleteStatusOverride":
            await leases.clear_status(item.key, _given(item.status), caller)
        case _:
            raise Failure(400, f"there is no action {item.action[:40]!r}")


def _given(status: str) -> str:
    return "" if status == UNKNOWN else status
