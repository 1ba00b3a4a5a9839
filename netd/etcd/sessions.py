"""Sessions in etcd: under leases, and ended by whoever sees first that they have."""

import asyncio
import logging
import math
from collections.abc import Iterable
from typing import Final, Protocol

from msgspec.structs import replace

from netd.engine.interfaces import Clock, SessionHealth
from netd.etcd import layout
from netd.etcd.gateway import Gateway
from netd.etcd.layout import SessionRow
from netd.etcd.transactions import Rows, Writes, commit, pause
from netd.kv import sessions
from netd.kv.sessions import GRACE_S
from netd.model.errors import Invalid, NetdError, NotFound, Unavailable
from netd.model.kv import NODE_CHECK, Session, SessionListing, SessionSpec

NODE_TTL_S: Final = 15
RENEW_S: Final = 4.0
RETRY_S: Final = 1.0
DELAY_KEPT_MAX: Final = 32  # keys whose delay one transaction begins

log = logging.getLogger(__name__)


class Indexes(Protocol):
    """What a watch has seen. Asked before what it is to be the index of is read: a change that is
    seen meanwhile may be missing there, and whoever waits is to be woken by it.
    """

    @property
    def sessions(self) -> int:
        """The revision of the last change of a session."""
        ...


class EtcdSessions:
    """`node` is this host's name. A host is there while its netd renews its lease.

    A session has ended when its row is gone, or that of its node if it depends on it. What it
    holds is released in one transaction that this is a condition of, by any host: so it does not
    matter who does, nor how often it is tried.
    """

    def __init__(self, gateway: Gateway, clock: Clock, health: SessionHealth, node: str) -> None:
        self._suspected = asyncio.Event()
        self._gateway = gateway
        self._clock = clock
        self._health = health
        health.changed = self._suspected.set
        self._node = node
        self._node_lease = 0

    # Reading

    async def find(self, session_id: str, indexes: Indexes) -> SessionListing:
        seen = indexes.sessions
        session = await self.living(Rows(self._gateway), session_id)
        found = () if session is None else (session,)
        newest = max((one.modify_index for one in found), default=1)
        return SessionListing(index=max(newest, seen), sessions=found)

    async def all(self, node: str, indexes: Indexes) -> SessionListing:
        seen = indexes.sessions
        rows = Rows(self._gateway)
        found = [layout.session(row).session for row in await rows.all(layout.SESSIONS)]
        nodes = {layout.name(row, layout.NODES) for row in await rows.all(layout.NODES)}
        newest = max((one.modify_index for one in found), default=1)
        kept = tuple(
            one
            for one in found
            if node in ("", one.node) and (NODE_CHECK not in one.node_checks or one.node in nodes)
        )
        return SessionListing(index=max(newest, seen), sessions=kept)

    async def living(self, rows: Rows, session_id: str) -> Session | None:
        """The session, unless it has ended; that this stays so is a condition from now on."""
        row = await rows.one(layout.session_of(session_id))
        if row is None:
            return None
        session = layout.session(row).session
        if NODE_CHECK not in session.node_checks:
            return session
        # Renewals of the lease do not change the row of the node.
        node = await rows.one(layout.node_of(session.node))
        return None if node is None else session

    # Writing

    async def create(self, spec: SessionSpec) -> Session:
        """Raises `Invalid` for a node that is not there."""
        self._health.check(spec)
        session_id = sessions.id_of(self._clock.new_id() + self._clock.new_id())
        session = sessions.made(session_id, spec)
        rows = Rows(self._gateway)
        if NODE_CHECK in spec.node_checks and await rows.one(layout.node_of(spec.node)) is None:
            raise Invalid(f"there is no living member {spec.node!r}", field="node")
        lease = await self._grant(spec.ttl_s + GRACE_S) if spec.ttl_s else 0
        writes = Writes()
        body = layout.session_body(SessionRow(session, lease))
        writes.put(layout.session_of(session_id), body, lease)
        revision = await commit(self._gateway, rows, writes)
        if revision is None:
            raise Unavailable(f"{spec.node} has just gone")
        return replace(session, create_index=revision, modify_index=revision)

    async def renew(self, session_id: str) -> Session:
        """Raises `NotFound`."""
        missing = NotFound(f"there is no session {session_id!r}", field="session")
        rows = Rows(self._gateway)
        session = await self.living(rows, session_id)
        row = await rows.one(layout.session_of(session_id))
        if session is None or row is None:
            raise missing
        lease = layout.session(row).lease
        if lease and not await self._keep(lease):
            raise missing
        return session

    async def end(self, session_id: str) -> None:
        """End a session that has not ended yet, or finish what has."""
        await self._finish(session_id, wanted=True)

    async def end_all(self, session_ids: Iterable[str]) -> None:
        """Release what sessions hold that have ended; one that has not stays."""
        for session_id in session_ids:
            await self._finish(session_id, wanted=False)

    async def _finish(self, session_id: str, *, wanted: bool) -> None:
        attempt = 0
        while True:
            rows = Rows(self._gateway)
            if not wanted and await self.living(rows, session_id) is not None:
                return
            row = await rows.one(layout.session_of(session_id))
            held = await rows.all(layout.held_by(session_id))
            if row is None and not held:
                return
            ending = layout.session(row if row is not None else held[0])
            # In parts, where it holds more than one transaction can release: the session goes
            # first, so nothing can be locked by it any more.
            part = held[:DELAY_KEPT_MAX]
            writes = Writes()
            writes.delete(layout.session_of(session_id))
            lease = 0
            if part and ending.session.lock_delay_s:
                lease = await self._grant(ending.session.lock_delay_s)
            for held_row in part:
                await self._release(rows, writes, ending.session, held_row, lease)
            if await commit(self._gateway, _without_range(rows, held, part), writes) is not None:
                if ending.lease:
                    await self._revoke(ending.lease)
                if len(held) <= len(part):
                    return
                wanted = True
                continue
            await pause(attempt)
            attempt += 1

    async def _release(
        self, rows: Rows, writes: Writes, session: Session, held: layout.Row, lease: int
    ) -> None:
        key = layout.name(held, layout.held_by(session.id))
        writes.delete(layout.held_by(session.id) + key.encode())
        row = await rows.one(layout.key_of(key))
        entry = layout.entry(row) if row is not None else None
        if entry is None or entry.session != session.id:
            return
        if session.behavior == "delete":
            writes.delete(layout.key_of(key))
        else:
            writes.put(layout.key_of(key), layout.body(replace(entry, session="")))
        if lease:
            writes.put(layout.delay_of(key), b"", lease)

    # What has ended by itself

    def suspect(self, session_ids: set[str], nodes: set[str]) -> None:
        """Have a look: sessions have gone, or nodes."""
        if session_ids or nodes:
            self._suspected.set()

    async def sweep(self, interval_s: float) -> None:
        """Finish sessions that have ended: those that are suspected, and now and then all."""
        while True:
            try:
                async with asyncio.timeout(interval_s):
                    await self._suspected.wait()
            except TimeoutError:
                pass
            self._suspected.clear()
            try:
                await self._sweep()
            except NetdError as error:
                log.info("sessions in etcd: %s", error.detail)
                await asyncio.sleep(RETRY_S)
                self._suspected.set()

    async def _sweep(self) -> None:
        rows = Rows(self._gateway)
        holding = {
            layout.name(row, layout.HELD).partition("/")[0]
            for row in await rows.all(layout.HELD, guarded=False)
        }
        nodes = {layout.name(row, layout.NODES) for row in await rows.all(layout.NODES)}
        known = [layout.session(row).session for row in await rows.all(layout.SESSIONS)]
        lost = {one.id for one in known if NODE_CHECK in one.node_checks and one.node not in nodes}
        gone = holding - {one.id for one in known}
        await self.end_all(lost | gone)
        # Each host sees to the checks of its own services.
        own = [one for one in known if one.node == self._node]
        for session_id in self._health.lost(own):
            await self.end(session_id)

    # This host

    async def keep_alive(self) -> None:
        """Have this host be there, as long as etcd can be reached."""
        while True:
            try:
                if not self._node_lease or not await self._keep(self._node_lease):
                    self._node_lease = 0
                    lease = await self._grant(NODE_TTL_S)
                    writes = Writes()
                    writes.put(layout.node_of(self._node), b"", lease)
                    await commit(self._gateway, Rows(self._gateway), writes)
                    self._node_lease = lease
                await asyncio.sleep(RENEW_S)
            except NetdError as error:
                log.warning("etcd: %s", error.detail)
                await asyncio.sleep(RETRY_S)

    async def _grant(self, seconds: float) -> int:
        asked = {"TTL": str(max(1, math.ceil(seconds)))}
        answer = await self._gateway.write("/v3/lease/grant", asked)
        return int(answer["ID"])

    async def _keep(self, lease: int) -> bool:
        """Whether the lease was still there."""
        answer = await self._gateway.read("/v3/lease/keepalive", {"ID": str(lease)})
        return int(answer.get("result", {}).get("TTL", 0)) > 0

    async def _revoke(self, lease: int) -> None:
        try:
            await self._gateway.write("/v3/lease/revoke", {"ID": str(lease)})
        except NetdError as error:
            log.debug("a lease is left to expire: %s", error.detail)


def _without_range(rows: Rows, held: list[layout.Row], part: list[layout.Row]) -> Rows:
    """Only what is released now has to be as it was read."""
    rows.forget([layout.place(row) for row in held if row not in part])
    return rows
