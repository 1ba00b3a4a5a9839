"""What happens to sessions, and to what they hold."""

import heapq
from typing import Final

from msgspec.structs import replace

from netd.kv.draft import Draft
from netd.kv.space import Space
from netd.model.errors import Invalid
from netd.model.kv import Session, SessionListing, SessionSpec

TTL_MIN_S: Final = 10.0
GRACE_S: Final = 5.0  # a renewal may be on its way; with TTL_MIN_S this is within twice the TTL


def check(spec: SessionSpec) -> None:
    """Raise `Invalid` for a session that cannot be."""
    if spec.ttl_s and spec.ttl_s < TTL_MIN_S:
        raise Invalid(
            f"{spec.ttl_s:g} s is too short: a TTL is 10 s to 24 h, or 0 for none", field="ttl_s"
        )


def id_of(digits: str) -> str:
    """32 hexadecimal digits as a UUID, whose form some clients check (RFC 9562, version 4)."""
    variant = "89ab"[int(digits[16], 16) % 4]
    digits = f"{digits[:12]}4{digits[13:16]}{variant}{digits[17:]}"
    parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    return "-".join(parts)


def made(session_id: str, spec: SessionSpec, index: int = 0) -> Session:
    """The session that is asked for, as of an index."""
    return Session(
        id=session_id,
        name=spec.name,
        node=spec.node,
        lock_delay_s=spec.lock_delay_s,
        behavior=spec.behavior,
        ttl_s=spec.ttl_s,
        node_checks=spec.node_checks,
        service_checks=spec.service_checks,
        create_index=index,
        modify_index=index,
    )


def create(draft: Draft, session_id: str, spec: SessionSpec) -> Session:
    """Raises `Exhausted`."""
    session = made(session_id, spec, draft.index)
    draft.put_session(session)
    return session


def end(draft: Draft, session_id: str) -> None:
    """End a session, and release or delete what it holds; nothing when there is none."""
    session = draft.session(session_id)
    if session is None:
        return
    draft.delete_session(session_id)
    for key in sorted(draft.held(session_id)):
        entry = draft.entry(key)
        assert entry is not None  # it is held
        if session.behavior == "delete":
            draft.delete(key)
        else:
            draft.put(replace(entry, session="", modify_index=draft.index))
        if session.lock_delay_s:
            draft.delay(key, session.lock_delay_s)


def read(space: Space, session_id: str) -> SessionListing:
    """One session, or none."""
    session = space.session(session_id)
    found = () if session is None else (session,)
    return SessionListing(index=max(space.numbers.sessions, 1), sessions=found)


def list_all(space: Space, node: str) -> SessionListing:
    """The sessions of a node, "": all."""
    sessions = (space.session(session_id) for session_id in space.session_ids())
    found = (session for session in sessions if session and node in ("", session.node))
    return SessionListing(index=max(space.numbers.sessions, 1), sessions=tuple(found))


class Deadlines:
    """When sessions that are not renewed end. They are not stored: a restart renews all."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def renew(self, session: Session, now_s: float) -> None:
        if session.ttl_s:
            at_s = now_s + session.ttl_s + GRACE_S
            self._at[session.id] = at_s
            heapq.heappush(self._heap, (at_s, session.id))
            if len(self._heap) > 2 * len(self._at) + 64:
                self._heap = [(at_s, session_id) for session_id, at_s in self._at.items()]
                heapq.heapify(self._heap)

    def drop(self, session_id: str) -> None:
        self._at.pop(session_id, None)

    def due(self, now_s: float) -> list[str]:
        """The sessions to be ended; they stay due until they are dropped or renewed."""
        found = []
        while self._heap and self._heap[0][0] <= now_s:
            at_s, session_id = heapq.heappop(self._heap)
            if self._at.get(session_id) == at_s:
                found.append(session_id)
        for session_id in found:
            heapq.heappush(self._heap, (self._at[session_id], session_id))
        return found

    def next_s(self) -> float | None:
        """When the next one is due, None: none will be."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
