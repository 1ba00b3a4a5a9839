"""Networks that span hosts, decided by transactions of etcd.

netd/networks/d/NAME   a network there is, as JSON
netd/networks/turn     written with each decision, so that there is one after the other
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from netd.engine.interfaces import Decided, Propose
from netd.etcd.gateway import Gateway, decode
from netd.etcd.layout import Row, place
from netd.etcd.transactions import Rows, Writes, commit, pause
from netd.model.errors import Conflict, Unavailable
from netd.model.overlay import Kept

ROOT: Final = b"netd/networks/"
DEFINITIONS: Final = ROOT + b"d/"
TURN: Final = ROOT + b"turn"
DECISION_S: Final = 10.0  # a caller of the API waits for 20 s at most

log = logging.getLogger(__name__)


class EtcdNetworks:
    """Implements `netd.engine.interfaces.NetworkAuthority`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @property
    def identity(self) -> str:
        return self._gateway.cluster

    def trust(self, identity: str) -> None:
        self._gateway.cluster = identity

    async def define(self, propose: Propose) -> tuple[Kept | None, bool, int]:
        sent: list[Kept] = []
        async with _deadline():
            attempt = 0
            while True:
                rows, known, _ = await self._read()
                made = next((kept for kept in known if kept in sent), None)
                kept = made or propose(known, rows.revision + 1)
                if kept is None or kept in known:
                    return kept, made is not None, rows.revision
                sent.append(kept)
                writes = Writes()
                writes.put(TURN, b"")
                writes.put(_place_of(kept), msgspec.json.encode(kept))
                revision = await self._commit(rows, writes, attempt)
                if revision is not None:
                    return kept, True, revision
                attempt += 1

    async def end(self, kept: Kept) -> int:
        async with _deadline():
            attempt = 0
            while True:
                rows = Rows(self._gateway)
                await rows.one(TURN)
                row = await rows.one(_place_of(kept))
                if row is None:
                    return rows.revision
                if _read(row).definition.id != kept.definition.id:
                    raise Conflict(
                        f"another network has the name {kept.definition.name!r} by now; try again"
                    )
                writes = Writes()
                writes.put(TURN, b"")
                writes.delete(_place_of(kept))
                revision = await self._commit(rows, writes, attempt)
                if revision is not None:
                    return revision
                attempt += 1

    async def look(self, turn: int | None) -> Decided | None:
        async with _deadline():
            if turn is not None:
                row = await Rows(self._gateway).one(TURN)
                if _turn(row) == turn:
                    return None
            rows, known, now = await self._read()
            return Decided(kept=tuple(known), revision=rows.revision, turn=now)

    async def close(self) -> None:
        await self._gateway.close()

    async def _read(self) -> tuple[Rows, Sequence[Kept], int]:
        """All networks, guarded by the turn."""
        rows = Rows(self._gateway)
        turn = await rows.one(TURN)
        found = await rows.all(DEFINITIONS, guarded=False)
        return rows, [_read(row) for row in found], _turn(turn)

    async def _commit(self, rows: Rows, writes: Writes, attempt: int) -> int | None:
        """The revision; None when it is to be tried again.

        Whether a write that was not answered was made is seen then: of two that were decided on
        the same turn, only one is.
        """
        try:
            revision = await commit(self._gateway, rows, writes)
        except Unavailable as error:
            log.info("networks in etcd: %s", error.detail)
            revision = None
        if revision is None:
            await pause(attempt)
        return revision


@asynccontextmanager
async def _deadline() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(DECISION_S):
            yield
    except TimeoutError:
        raise Unavailable(f"there is no decision within {DECISION_S:g} s") from None


def _place_of(kept: Kept) -> bytes:
    return DEFINITIONS + kept.definition.name.encode()


def _turn(row: Row | None) -> int:
    return int(row["mod_revision"]) if row is not None else 0


def _read(row: Row) -> Kept:
    """Raises `Unavailable` for what no netd has written."""
    try:
        return msgspec.json.decode(decode(row.get("value", "")), type=Kept)
    except (msgspec.MsgspecError, ValueError) as error:
        key = place(row).decode(errors="replace")
        raise Unavailable(
            f"etcd has something at {key} that netd has not put there: {error}"
        ) from None
