"""Keys, sessions and locks in memory, without a cluster, a disk or time that passes."""

import hashlib

from netd.engine.interfaces import KeyListeners, Snapshot
from netd.kv import keys, queries, sessions
from netd.kv.commands import (
    Command,
    Create,
    Destroy,
    Find,
    List,
    ListSessions,
    Nothing,
    OneSession,
    Read,
    Renew,
    Result,
    Transact,
    Transacted,
)
from netd.kv.draft import Draft
from netd.kv.space import Space
from netd.model.errors import NotFound
from netd.model.kv import KeyStatus


class MemoryKeys:
    """Implements `netd.engine.interfaces.KeyValues`."""

    def __init__(self, listeners: KeyListeners) -> None:
        self._listeners = listeners
        self._space = Space()
        self._ids = 0
        self.holder = "here"

    async def restore(self, snapshot: Snapshot) -> None:
        """There is nothing to restore."""

    def start(self) -> None:
        self._listeners.live.set()

    async def stop(self) -> None:
        """There is nothing to stop."""

    async def perform(self, command: Command) -> Result:
        self._listeners.live.set()
        match command:
            case Read() | List() | Find() | ListSessions():
                return queries.answer(self._space, command)
            case Renew():
                session = self._space.session(command.session)
                if session is None:
                    raise NotFound(f"there is no session {command.session!r}")
                return OneSession(session)
            case Transact():
                draft, outcome = keys.transact(self._space, command.operations, 0.0)
                self._take(draft)
                return Transacted(outcome)
            case Create():
                draft = Draft(self._space, 0.0)
                self._ids += 1
                digits = hashlib.sha256(b"%d" % self._ids).hexdigest()
                session = sessions.create(draft, digits[:32], command.spec)
                self._take(draft)
                return OneSession(session)
            case Destroy():
                draft = Draft(self._space, 0.0)
                sessions.end(draft, command.session)
                self._take(draft)
                return Nothing()

    def _take(self, draft: Draft) -> None:
        before = self._space.numbers.index
        self._space.take(draft.stored(), 0.0)
        if self._space.numbers.index > before:
            self._listeners.tell(draft.told())

    async def status(self) -> KeyStatus:
        return KeyStatus(
            backend="embedded",
            holder=self.holder,
            state="here",
            term=1,
            index=self._space.numbers.index,
            keys=self._space.count,
            bytes=self._space.size,
            sessions=self._space.session_count,
        )

    async def move(self, node: str, *, abandon: bool) -> KeyStatus:
        if node not in ("here", "there"):
            raise NotFound(f"there is no member {node!r}", field="node")
        self.holder = node
        return await self.status()

    def counters(self) -> dict[str, int]:
        return {}

    def levels(self) -> dict[str, int]:
        return {}
