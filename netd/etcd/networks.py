"""Networks that span hosts, and who owns their addresses, decided by transactions of etcd.

netd/networks/d/NAME        a network there is
netd/networks/turn          written with each decision on networks, so that there is one after the
                            other
netd/networks/a/ID/MEMBER   the addresses of a network that a member owns
netd/networks/e/ID          the epoch of a network's addresses; written with each change of them

Values are JSON.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import msgspec

from netd.engine.interfaces import Decided, Propose
from netd.etcd.gateway import Gateway, decode
from netd.etcd.layout import Row, place
from netd.etcd.transactions import Rows, Writes, commit, pause
from netd.model.blocks import Allotment, Epoch
from netd.model.errors import Conflict, NotFound, Unavailable
from netd.model.overlay import Kept

ROOT: Final = b"netd/networks/"
DEFINITIONS: Final = ROOT + b"d/"
TURN: Final = ROOT + b"turn"
OWNED: Final = ROOT + b"a/"
EPOCHS: Final = ROOT + b"e/"
DECISION_S: Final = 10.0  # a caller of the API waits for 20 s at most

T = TypeVar("T")

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
                if _read(row, Kept).definition.id != kept.definition.id:
                    raise Conflict(
                        f"another network has the name {kept.definition.name!r} by now; try again"
                    )
                writes = Writes()
                writes.put(TURN, b"")
                writes.delete(_place_of(kept))
                writes.delete_all(_owned(kept.definition.id))
                writes.delete(_epoch(kept.definition.id))
                revision = await self._commit(rows, writes, attempt)
                if revision is not None:
                    return revision
                attempt += 1

    async def allot(
        self, name: str, network_id: str, step: Callable[[Allotment], Allotment]
    ) -> Allotment:
        async with _deadline():
            attempt = 0
            while True:
                rows = Rows(self._gateway)
                row = await rows.one(DEFINITIONS + name.encode())
                if row is None or _read(row, Kept).definition.id != network_id:
                    raise NotFound(f"network {name!r} ({network_id}) was deleted")
                epoch = await rows.one(_epoch(network_id))
                owned = await rows.all(_owned(network_id), guarded=False)
                before = _allotment(epoch, owned)
                after = step(before)
                if after == before:
                    return before
                writes = _changes(network_id, before, after)
                if await self._commit(rows, writes, attempt) is not None:
                    return after
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
        return rows, [_read(row, Kept) for row in found], _turn(turn)

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


def _owned(network_id: str) -> bytes:
    return OWNED + network_id.encode() + b"/"


def _epoch(network_id: str) -> bytes:
    return EPOCHS + network_id.encode()


def _allotment(epoch: Row | None, owned: Iterable[Row]) -> Allotment:
    return Allotment(
        epoch=Epoch() if epoch is None else _read(epoch, Epoch),
        owned={
            place(row).rpartition(b"/")[2].decode(): _read(row, tuple[str, ...]) for row in owned
        },
    )


def _changes(network_id: str, before: Allotment, after: Allotment) -> Writes:
    writes = Writes()
    writes.put(_epoch(network_id), msgspec.json.encode(after.epoch))
    for member in before.owned.keys() - after.owned.keys():
        writes.delete(_owned(network_id) + member.encode())
    for member, prefixes in after.owned.items():
        if prefixes != before.owned.get(member):
            writes.put(_owned(network_id) + member.encode(), msgspec.json.encode(prefixes))
    return writes


def _read(row: Row, what: type[T]) -> T:
    """Raises `Unavailable` for what no netd has written."""
    try:
        return msgspec.json.decode(decode(row.get("value", "")), type=what)
    except (msgspec.MsgspecError, ValueError) as error:
        key = place(row).decode(errors="replace")
        raise Unavailable(
            f"etcd has something at {key} that netd has not put there: {error}"
        ) from None
