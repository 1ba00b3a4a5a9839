"""Transactions of etcd: what was read is as it was, or nothing is done.

A step reads rows, all at one revision, and decides what to write. It is committed if none of
the rows has changed since, and otherwise made again.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

from netd.etcd.gateway import Gateway, Json, after, encode
from netd.etcd.layout import Row, place
from netd.model.errors import Exhausted, Unavailable

TRIES: Final = 64
OPERATIONS_MAX: Final = 128  # of one transaction, by etcd's own default


class Rows:
    """What was read at `revision`, and is to be unchanged."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.revision = 0
        self._guards: dict[bytes, int] = {}  # modification by key, 0: there is none
        self._ranges: set[bytes] = set()

    async def one(self, key: bytes) -> Row | None:
        """Raises `Unavailable`."""
        rows = await self._range({"key": encode(key)})
        row = rows[0] if rows else None
        self._guards[key] = int(row["mod_revision"]) if row else 0
        return row

    async def all(self, prefix: bytes, *, guarded: bool = True) -> list[Row]:
        """All with that prefix, by key; none may come, change or go, if `guarded`."""
        rows = await self._range(span(prefix) | {"sort_target": "KEY", "sort_order": "ASCEND"})
        if guarded:
            self._ranges.add(prefix)
            for row in rows:
                self._guards[place(row)] = int(row["mod_revision"])
        return rows

    async def count(self, prefix: bytes) -> int:
        """How many there are with that prefix."""
        asked = span(prefix) | {"count_only": True}
        answer = await self._gateway.read("/v3/kv/range", asked)
        self.revision = int(answer["header"]["revision"])
        return int(answer.get("count", 0))

    async def _range(self, asked: Json) -> list[Row]:
        if self.revision:
            asked = asked | {"revision": str(self.revision)}
        answer = await self._gateway.read("/v3/kv/range", asked)
        self.revision = self.revision or int(answer["header"]["revision"])
        rows: list[Row] = answer.get("kvs", [])
        return rows

    def forget(self, keys: Iterable[bytes]) -> None:
        """Let these keys change."""
        for key in keys:
            self._guards.pop(key, None)

    def compares(self) -> list[Json]:
        alone: list[Json] = [
            {
                "key": encode(key),
                "target": "MOD",
                "result": "EQUAL",
                "mod_revision": str(revision),
            }
            for key, revision in self._guards.items()
        ]
        together = [
            span(prefix)
            | {"target": "MOD", "result": "LESS", "mod_revision": str(self.revision + 1)}
            for prefix in self._ranges
        ]
        return alone + together


class Writes:
    """What is to be done. etcd takes each key once: of a range, what is put is left out."""

    def __init__(self) -> None:
        self._puts: dict[bytes, Json] = {}
        self._deletes: dict[bytes, None] = {}
        self._ranges: set[bytes] = set()

    def __bool__(self) -> bool:
        return bool(self._puts or self._deletes or self._ranges)

    def put(self, key: bytes, value: bytes, lease: int = 0) -> None:
        self._deletes.pop(key, None)
        self._puts[key] = {"key": encode(key), "value": encode(value), "lease": str(lease)}

    def delete(self, key: bytes) -> None:
        self._puts.pop(key, None)
        self._deletes[key] = None

    def delete_all(self, prefix: bytes) -> None:
        self._ranges.add(prefix)

    def operations(self) -> list[Json]:
        found: list[Json] = [{"request_put": put} for put in self._puts.values()]
        widest = [
            prefix
            for prefix in self._ranges
            if not any(prefix != other and prefix.startswith(other) for other in self._ranges)
        ]
        for prefix in widest:
            found += [{"request_delete_range": piece} for piece in self._pieces(prefix)]
        found += [
            {"request_delete_range": {"key": encode(key)}}
            for key in self._deletes
            if not any(key.startswith(prefix) for prefix in widest)
        ]
        return found

    def _pieces(self, prefix: bytes) -> list[Json]:
        """The range without the keys that are put."""
        begin, pieces = prefix, []
        for key in sorted(key for key in self._puts if key.startswith(prefix)):
            if begin < key:
                pieces.append({"key": encode(begin), "range_end": encode(key)})
            begin = key + b"\0"
        pieces.append({"key": encode(begin), "range_end": encode(after(prefix))})
        return pieces


async def commit(gateway: Gateway, rows: Rows, writes: Writes) -> int | None:
    """The revision of what was done; None when something has changed and nothing was done.

    Raises `Exhausted` for what etcd does not take at once, `Unavailable`.
    """
    compares, operations = rows.compares(), writes.operations()
    if max(len(compares), len(operations)) > OPERATIONS_MAX:
        raise Exhausted(
            f"this takes {len(compares)} conditions and {len(operations)} operations, and etcd "
            f"takes {OPERATIONS_MAX} of each: do it in smaller parts"
        )
    answer = await gateway.write("/v3/kv/txn", {"compare": compares, "success": operations})
    if not answer.get("succeeded"):
        return None
    return int(answer["header"]["revision"])


async def pause(attempt: int) -> None:
    """Before another attempt. Raises `Unavailable` after too many."""
    if attempt >= TRIES:
        raise Unavailable("others change the same keys all the time: try again")
    await asyncio.sleep(min(0.001 * 2**attempt, 0.05))


def span(prefix: bytes) -> Json:
    return {"key": encode(prefix), "range_end": encode(after(prefix))}
