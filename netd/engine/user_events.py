"""Events that users fire: told to all hosts by records that are there for some minutes.

Which of them somebody has seen is not known here; the registries remember that.
"""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Callable
from typing import Final

import msgspec

from netd.engine.interfaces import Cluster, ClusterChange, Record, RecordChange
from netd.engine.parts import Parts
from netd.model.directory import Entry
from netd.model.errors import Exhausted, Invalid
from netd.model.user_event import UserEvent, UserEventSpec

TABLE: Final = "user-event"  # the key is the event's id, the scope that of all members
KEPT_S: Final = 600.0  # as long as a record is there for hosts that could not hear of it
SPREAD_S: Final = 5.0  # until an event that newer ones need the room of has reached who is there
EVENTS_MAX: Final = 64  # of a host
BYTES_MAX: Final = 8192
RESTART_S: Final = 10.0  # a restart of netd takes less; its registry hears of what was fired then


class UserEvents:
    """Nothing that another member sends makes it raise.

    Not told are events from before this netd began: a host that is switched on is not to do what
    others were asked for minutes ago.
    """

    def __init__(self, parts: Parts, cluster: Cluster) -> None:
        self._parts = parts
        self._cluster = cluster
        self._since_ms = round((parts.clock.wall_s() - RESTART_S) * 1000)
        self._own: dict[str, float] = {}  # id -> when it was fired, the oldest first
        self._told: defaultdict[str, set[str]] = defaultdict(set)  # by owner
        self._fired_first = asyncio.Event()
        self._stop: Callable[[], None] = lambda: None
        self.fired = 0
        self.heard = 0
        self.ignored = 0  # records that could not be read, or were too many

    def start(self) -> None:
        """Follow the cluster, from what is so now."""
        self._stop = self._cluster.watch(self._changed)
        self._parts.tasks.start("user events", self._forget_old())

    def stop(self) -> None:
        self._stop()

    def fire(self, spec: UserEventSpec) -> None:
        """Tell all hosts, this one's registry among them. The same id again is the same event.

        Raises `Invalid`, and `Exhausted` where too many were fired in the last seconds.
        """
        try:
            uuid.UUID(spec.id)
        except ValueError:
            raise Invalid(f"{spec.id!r} is not a UUID", field="id") from None
        if spec.id in self._own:
            return
        now_ms = round(self._parts.clock.wall_s() * 1000)
        event = UserEvent(**msgspec.structs.asdict(spec), fired_ms=now_ms)
        value = msgspec.json.encode(event)
        if len(value) > BYTES_MAX:
            raise Invalid(f"the event has {len(value)} bytes; at most {BYTES_MAX} are told")
        self._make_room()
        self.fired += 1
        self._own[spec.id] = self._parts.clock.monotonic_s()
        self._fired_first.set()
        self._cluster.publish([Record(table=TABLE, key=spec.id, value=value)])
        self._tell(self._cluster.id, event)

    def counters(self) -> dict[str, int]:
        return {
            "user_events_fired": self.fired,
            "user_events_heard": self.heard,
            "user_event_records_ignored": self.ignored,
        }

    def levels(self) -> dict[str, int]:
        return {"user_events": sum(map(len, self._told.values()))}

    # Its own

    def _make_room(self) -> None:
        if len(self._own) < EVENTS_MAX:
            return
        oldest = next(iter(self._own))
        if self._parts.clock.monotonic_s() - self._own[oldest] < SPREAD_S:
            raise Exhausted(f"{EVENTS_MAX} events were fired in the last {SPREAD_S:g} s")
        self._forget(oldest)

    def forget_old(self) -> float | None:
        """Delete what has been there for long; when the next is due, in seconds. None: never."""
        while self._own:
            oldest = next(iter(self._own))
            left_s = self._own[oldest] + KEPT_S - self._parts.clock.monotonic_s()
            if left_s > 0:
                return left_s
            self._forget(oldest)
        return None

    async def _forget_old(self) -> None:
        """Work until cancelled."""
        while True:
            left_s = self.forget_old()
            if left_s is not None:
                await asyncio.sleep(left_s)
                continue
            self._fired_first.clear()
            await self._fired_first.wait()

    def _forget(self, event_id: str) -> None:
        del self._own[event_id]
        self._cluster.publish([Record(table=TABLE, key=event_id, value=None)])
        self._untell(self._cluster.id, event_id)

    # Of others

    def _changed(self, change: ClusterChange) -> None:
        match change:
            case RecordChange(table=table, owner=owner) if table == TABLE:
                if owner != self._cluster.id:
                    self._heard(owner, change.key, change.value)

    def _heard(self, owner: str, key: str, value: bytes | None) -> None:
        if value is None:
            self._untell(owner, key)
            return
        event = read(key, value)
        if event is None or len(self._told.get(owner, ())) >= EVENTS_MAX:
            self.ignored += 1
        elif event.fired_ms - self._clock_offset_ms(owner) >= self._since_ms:
            self.heard += 1
            self._tell(owner, event)

    def _clock_offset_ms(self, owner: str) -> float:
        """How much the clock of a member is ahead, as far as that is known."""
        offsets = (each.clock_offset_ms for each in self._cluster.members() if each.id == owner)
        return next(offsets, None) or 0.0

    # The registry

    def _tell(self, owner: str, event: UserEvent) -> None:
        self._told[owner].add(event.id)
        entry_id = f"{owner}/{event.id}"
        self._parts.feed.put(Entry(revision=0, kind="user_event", id=entry_id, user_event=event))

    def _untell(self, owner: str, event_id: str) -> None:
        self._told[owner].discard(event_id)
        if not self._told[owner]:
            del self._told[owner]
        self._parts.feed.drop("user_event", f"{owner}/{event_id}")


def read(key: str, value: bytes) -> UserEvent | None:
    """The event in a record of another host; None for one that no netd would write."""
    if len(value) > BYTES_MAX:
        return None
    try:
        event = msgspec.json.decode(value, type=UserEvent)
        uuid.UUID(event.id)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    return event if event.id == key else None
