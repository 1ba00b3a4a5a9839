"""Keys, sessions and locks whose one order is etcd's."""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from netd.engine.interfaces import Clock, KeyListeners, SessionHealth, Snapshot
from netd.etcd import layout
from netd.etcd.gateway import Gateway
from netd.etcd.sessions import EtcdSessions
from netd.etcd.transactions import Rows, Writes, commit, pause
from netd.etcd.watching import Watching
from netd.kv import keys, sessions
from netd.kv.commands import (
    Command,
    Create,
    Destroy,
    Find,
    KeyRead,
    KeysListed,
    List,
    ListSessions,
    Nothing,
    OneSession,
    Read,
    Renew,
    Result,
    SessionsListed,
    Transact,
    Transacted,
)
from netd.kv.space import Numbers, Space, Stored
from netd.model.errors import Conflict, NetdError
from netd.model.kv import Entry, KeyListing, KeyReading, KeyStatus, Operation, Outcome
from netd.tasks import Tasks

SWEEP_S: Final = 30.0  # between looks for sessions that ended while nobody watched
_TREES: Final = frozenset({"get-tree", "delete-tree"})


class EtcdKeys:
    """Implements `netd.engine.interfaces.KeyValues`. `node` is this host's name.

    What a write means is decided by the same rules as elsewhere (`netd.kv`), from rows that etcd
    finds unchanged when it is done.
    """

    def __init__(
        self,
        gateway: Gateway,
        clock: Clock,
        listeners: KeyListeners,
        health: SessionHealth,
        *,
        node: str,
    ) -> None:
        self._gateway = gateway
        self._clock = clock
        self._health = health
        self._tasks = Tasks()
        self._sessions = EtcdSessions(gateway, clock, health, node)
        self._watching = Watching(gateway, listeners, self._sessions.suspect)
        self.conflicts = 0

    async def restore(self, snapshot: Snapshot) -> None:
        """Nothing of it is on this host."""

    def start(self) -> None:
        self._health.start()
        self._tasks.start("watch keys in etcd", self._watching.run())
        self._tasks.start("this host in etcd", self._sessions.keep_alive())
        self._tasks.start("sessions that have ended in etcd", self._sessions.sweep(SWEEP_S))

    async def stop(self) -> None:
        self._health.stop()
        await self._tasks.stop()
        await self._gateway.close()

    async def perform(self, command: Command) -> Result:
        match command:
            case Read():
                return KeyRead(await self._read(command.key))
            case List():
                return KeysListed(await self._list(command))
            case Find():
                return SessionsListed(await self._sessions.find(command.session, self._watching))
            case ListSessions():
                return SessionsListed(await self._sessions.all(command.node, self._watching))
            case Transact():
                return Transacted(await self._transact(command.operations))
            case Create():
                sessions.check(command.spec)
                return OneSession(await self._sessions.create(command.spec))
            case Renew():
                return OneSession(await self._sessions.renew(command.session))
            case Destroy():
                await self._sessions.end(command.session)
                return Nothing()

    async def status(self) -> KeyStatus:
        shown = KeyStatus(backend="etcd", holder=self._gateway.name, state="elsewhere")
        try:
            rows = Rows(self._gateway)
            found = await rows.count(layout.KEYS)
            held = await rows.count(layout.SESSIONS)
        except NetdError as error:
            return replace(shown, state="unreachable", detail=error.detail)
        return replace(shown, index=rows.revision, keys=found, sessions=held)

    async def move(self, node: str, *, abandon: bool) -> KeyStatus:
        raise Conflict("the keys are in etcd (kv.backend): no host holds them")

    def counters(self) -> dict[str, int]:
        return {"kv_questions": self._gateway.calls, "kv_conflicts": self.conflicts}

    def levels(self) -> dict[str, int]:
        return {}

    # Reading

    async def _read(self, key: str) -> KeyReading:
        deleted = self._watching.deleted(key)  # as of before: see `Indexes`
        row = await Rows(self._gateway).one(layout.key_of(key))
        if row is not None:
            entry = layout.entry(row)
            return KeyReading(index=entry.modify_index, entry=entry)
        return KeyReading(index=max(deleted, 1))

    async def _list(self, command: List) -> KeyListing:
        prefix = layout.key_of(command.prefix)
        deleted = self._watching.deleted_under(command.prefix)  # as of before: see `Indexes`
        rows = await Rows(self._gateway).all(prefix, guarded=False)
        entries = tuple(layout.entry(row) for row in rows)
        newest = max((entry.modify_index for entry in entries), default=0)
        index = max(newest, deleted, 1)
        if not command.names:
            return KeyListing(index=index, entries=entries)
        names = [entry.key for entry in entries]
        return KeyListing(index=index, keys=keys.cut(names, command.prefix, command.separator))

    # Writing

    async def _transact(self, operations: tuple[Operation, ...]) -> Outcome:
        keys.check(operations)
        attempt = 0
        while True:
            rows = Rows(self._gateway)
            space = await self._look(rows, operations)
            draft, outcome = keys.transact(space, operations, 0.0)
            if ended := self._ended_holders(outcome, operations, space):
                await self._sessions.end_all(ended)
            elif not draft.changed or outcome.failures:
                return outcome
            else:
                writes = _writes(draft.stored(), space, operations)
                revision = await commit(self._gateway, rows, writes)
                if revision is not None:
                    return _at(outcome, revision)
            self.conflicts += 1
            await pause(attempt)
            attempt += 1

    async def _look(self, rows: Rows, operations: Sequence[Operation]) -> Space:
        """What the operations depend on: keys, sessions that lock, and delays."""
        entries: dict[str, Entry | None] = {}
        for prefix in {op.key for op in operations if op.verb in _TREES}:
            # A lone deletion of a tree deletes whatever is there by then.
            guarded = len(operations) > 1
            for row in await rows.all(layout.key_of(prefix), guarded=guarded):
                entries[layout.name(row, layout.KEYS)] = layout.entry(row)
        for key in {op.key for op in operations if op.verb not in _TREES}:
            found = await rows.one(layout.key_of(key))
            if found is not None:
                entries[key] = layout.entry(found)
        locks = [op for op in operations if op.verb == "lock" and op.session]
        delays = {
            op.key: 1.0 for op in locks if await rows.one(layout.delay_of(op.key)) is not None
        }
        living = {}
        for session_id in {op.session for op in locks} | {
            entry.session for op in locks if (entry := entries.get(op.key)) and entry.session
        }:
            session = await self._sessions.living(rows, session_id)
            if session is not None:
                living[session_id] = session
        numbers = Numbers(index=rows.revision, keys=rows.revision, sessions=rows.revision)
        return Space(Stored(numbers=numbers, entries=entries, sessions=living, delays=delays), 0.0)

    def _ended_holders(
        self, outcome: Outcome, operations: Sequence[Operation], space: Space
    ) -> set[str]:
        """Sessions that hold what is to be locked and have ended: nobody has released it yet."""
        held = {
            entry.session
            for failure in outcome.failures
            if failure.fault == "held"
            and (entry := space.entry(operations[failure.operation].key)) is not None
        }
        return {session_id for session_id in held if space.session(session_id) is None}


def _writes(change: Stored, space: Space, operations: Sequence[Operation]) -> Writes:
    writes = Writes()
    trees = [op.key for op in operations if op.verb == "delete-tree"]
    for prefix in trees:
        writes.delete_all(layout.key_of(prefix))
    for key, entry in change.entries.items():
        before = space.entry(key)
        if before is not None and before.session and (not entry or entry.session != before.session):
            writes.delete(layout.held_by(before.session) + key.encode())
        if entry is not None:
            writes.put(layout.key_of(key), layout.body(entry))
        elif not any(key.startswith(prefix) for prefix in trees):
            writes.delete(layout.key_of(key))
        if entry is not None and entry.session:
            session = space.session(entry.session)
            if session is not None:
                row = layout.session_body(layout.SessionRow(session, 0))
                writes.put(layout.held_by(session.id) + key.encode(), row)
    return writes


def _at(outcome: Outcome, revision: int) -> Outcome:
    """The outcome with the index that it was given when it was decided on replaced by etcd's."""
    drafted = outcome.index

    def at(entry: Entry) -> Entry:
        return replace(
            entry,
            create_index=revision if entry.create_index == drafted else entry.create_index,
            modify_index=revision if entry.modify_index == drafted else entry.modify_index,
        )

    return replace(outcome, index=revision, results=tuple(map(at, outcome.results)))
