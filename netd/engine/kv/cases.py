"""What front ends ask about keys and sessions, whoever holds them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

from msgspec.structs import replace

from netd.engine.interfaces import KeyValues, Snapshot
from netd.engine.kv.changes import Changes, Interest
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
    OneSession,
    Read,
    Renew,
    SessionsListed,
    Transact,
    Transacted,
)
from netd.model.errors import Invalid, Unavailable
from netd.model.kv import (
    Failure,
    KeyChange,
    KeyDone,
    KeyListing,
    KeyMove,
    KeyPut,
    KeyReading,
    KeyStatus,
    Operation,
    Outcome,
    Session,
    SessionListing,
    SessionSpec,
)

PATIENCE_S: Final = 3.0

_Reading = TypeVar("_Reading", KeyReading, KeyListing, SessionListing)
Kind = TypeVar("Kind")


class KeyCases:
    """`node` is this host's name. Reads with an `index` wait up to `wait_s` for a larger one."""

    def __init__(self, values: KeyValues, changes: Changes, node: str) -> None:
        self.values = values
        self.changes = changes
        self._node = node

    async def restore(self, snapshot: Snapshot) -> None:
        await self.values.restore(snapshot)

    def start(self) -> None:
        self.values.start()

    async def stop(self) -> None:
        await self.values.stop()

    def end_streams(self) -> None:
        self.changes.close()

    # Keys

    async def read(self, key: str, index: int = 0, wait_s: float = 0.0) -> KeyReading:
        _check_key(key)

        async def read() -> KeyReading:
            return (await self._perform(Read(key), KeyRead)).value

        return await self._await(Interest("key", key), read, index, wait_s)

    async def entries(self, prefix: str, index: int = 0, wait_s: float = 0.0) -> KeyListing:
        return await self._list(List(prefix), index, wait_s)

    async def names(
        self, prefix: str, separator: str, index: int = 0, wait_s: float = 0.0
    ) -> KeyListing:
        """Only the keys, each up to the first separator after `prefix`."""
        return await self._list(List(prefix, names=True, separator=separator), index, wait_s)

    async def put(self, key: str, asked: KeyPut) -> KeyDone:
        """Raises `Invalid` when more than one condition is given, and for an unknown session."""
        given = [asked.cas is not None, bool(asked.acquire), bool(asked.release)]
        if sum(given) > 1:
            raise Invalid("cas, acquire and release exclude each other", field="cas")
        operation = Operation(verb="set", key=key, value=asked.value, flags=asked.flags)
        if asked.cas is not None:
            operation = replace(operation, verb="cas", index=asked.cas)
        elif asked.acquire:
            operation = replace(operation, verb="lock", session=asked.acquire)
        elif asked.release:
            operation = replace(operation, verb="unlock", session=asked.release)
        return await self._one(operation)

    async def delete(self, key: str, cas: int | None) -> KeyDone:
        """Raises `Invalid` for `cas` 0: there is no such key to delete."""
        if cas is None:
            return await self._one(Operation(verb="delete", key=key))
        if cas == 0:
            raise Invalid("the index of a key to delete is greater than 0", field="cas")
        return await self._one(Operation(verb="delete-cas", key=key, index=cas))

    async def delete_tree(self, prefix: str) -> KeyDone:
        return await self._one(Operation(verb="delete-tree", key=prefix))

    async def transact(self, operations: tuple[Operation, ...]) -> Outcome:
        keys.check(operations)
        return (await self._perform(Transact(operations), Transacted)).value

    # Sessions

    async def create_session(self, spec: SessionSpec) -> Session:
        """Raises `Invalid` for a node or check that is not there, or not well."""
        sessions.check(spec)
        spec = replace(spec, node=spec.node or self._node)
        return (await self._perform(Create(spec), OneSession)).value

    async def renew_session(self, session_id: str) -> Session:
        """Raises `NotFound`."""
        return (await self._perform(Renew(session_id), OneSession)).value

    async def destroy_session(self, session_id: str) -> None:
        """Does nothing when there is none."""
        await self.values.perform(Destroy(session_id))

    async def session(self, session_id: str, index: int = 0, wait_s: float = 0.0) -> SessionListing:
        return await self._sessions(Find(session_id), index, wait_s)

    async def sessions(self, node: str, index: int = 0, wait_s: float = 0.0) -> SessionListing:
        """Those of a node, "": all."""
        return await self._sessions(ListSessions(node), index, wait_s)

    # The whole

    def follow(self) -> AsyncIterator[KeyChange]:
        """All that changes from now on. Raises `Exhausted`."""
        return self.changes.follow()

    async def status(self) -> KeyStatus:
        return replace(await self.values.status(), waiting=self.changes.waiting)

    async def move(self, asked: KeyMove) -> KeyStatus:
        return await self.values.move(asked.node, abandon=asked.abandon)

    def counters(self) -> dict[str, int]:
        return self.values.counters()

    def levels(self) -> dict[str, int]:
        return {"kv_waiting": self.changes.waiting, **self.values.levels()}

    async def _list(self, command: List, index: int, wait_s: float) -> KeyListing:
        async def read() -> KeyListing:
            return (await self._perform(command, KeysListed)).value

        return await self._await(Interest("prefix", command.prefix), read, index, wait_s)

    async def _sessions(
        self, command: Find | ListSessions, index: int, wait_s: float
    ) -> SessionListing:
        async def read() -> SessionListing:
            return (await self._perform(command, SessionsListed)).value

        return await self._await(Interest("sessions"), read, index, wait_s)

    async def _one(self, operation: Operation) -> KeyDone:
        outcome = await self.transact((operation,))
        if outcome.failures:
            _check_session(outcome.failures[0], operation)
        return KeyDone(done=not outcome.failures, index=outcome.index)

    async def _perform(self, command: Command, kind: type[Kind]) -> Kind:
        result = await self.values.perform(command)
        if not isinstance(result, kind):
            raise Unavailable("the host that holds the keys has answered something else")
        return result

    async def _await(
        self,
        interest: Interest,
        read: Callable[[], Awaitable[_Reading]],
        index: int,
        wait_s: float,
    ) -> _Reading:
        """Read, and read again until the index is larger than `index`, or the time is over."""
        if index <= 0 or wait_s <= 0:
            return await read()
        deadline_s = asyncio.get_running_loop().time() + wait_s
        with self.changes.subscribe(interest) as news:
            reading = await read()
            while reading.index <= index:
                # Whoever is not told of changes reads again when he is.
                event = news if self.changes.live.is_set() else self.changes.live
                news.clear()
                reading = await self._patiently(read)
                if reading.index > index:
                    break
                try:
                    async with asyncio.timeout_at(deadline_s):
                        await event.wait()
                except TimeoutError:
                    break
            return reading

    async def _patiently(self, read: Callable[[], Awaitable[_Reading]]) -> _Reading:
        """Read; if that fails, again when changes are told again: the keys may be moving."""
        try:
            return await read()
        except Unavailable:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self.changes.live.wait()
            except TimeoutError:
                pass
        return await read()


def _check_key(key: str) -> None:
    if not key:
        raise Invalid("a key has at least one character", field="key")


def _check_session(failure: Failure, operation: Operation) -> None:
    """A lock by a session that is not there is an error, not a lock that somebody else holds."""
    if failure.fault == "no-session":
        raise Invalid(f"there is no session {operation.session!r}", field="acquire")
