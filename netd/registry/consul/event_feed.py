"""Events between hosts: those of here go to the daemon, those of others come by the feed."""

from collections.abc import Callable

from netd.model.directory import Entry
from netd.model.user_event import UserEvent, UserEventSpec
from netd.registry.api import Refused, Unreachable
from netd.registry.consul.events import Event
from netd.registry.consul.keys_api import KeysApi
from netd.registry.feed import Entries, Reader
from netd.registry.http.call import Failure


class EventFeed(Reader):
    """`take` is given each event once for as long as the daemon tells of it."""

    def __init__(self, api: KeysApi, take: Callable[[Event], None]) -> None:
        self._api = api
        self._take = take
        self._seen: set[str] = set()  # of the feed's entries

    async def spread(self, event: Event) -> None:
        """Have all hosts know an event. Raises `Failure`."""
        spec = UserEventSpec(
            id=event.id,
            name=event.name,
            payload=event.payload or b"",
            node_filter=event.node_filter,
            service_filter=event.service_filter,
            tag_filter=event.tag_filter,
            version=event.version,
            time=event.time,
        )
        try:
            await self._api.fire(spec)
        except Unreachable as error:
            raise Failure(500, f"netd does not answer, so nobody was told: {error}") from None
        except Refused as refused:
            raise Failure(400 if refused.status == 400 else 500, refused.detail) from None

    # As a reader of the feed

    def replace(self, entries: Entries) -> None:
        """Events that came while there was no daemon are taken in the order they were fired."""
        there = {entry.id: entry.user_event for entry in entries.values() if entry.user_event}
        new = [event for ident, event in there.items() if ident not in self._seen]
        self._seen = set(there)
        for event in sorted(new, key=lambda each: (each.fired_ms, each.id)):
            self._take(_event(event))

    def change(self, old: Entry | None, new: Entry) -> None:
        if new.kind != "user_event":
            return
        if new.user_event is None:
            self._seen.discard(new.id)
        elif new.id not in self._seen:
            self._seen.add(new.id)
            self._take(_event(new.user_event))


def _event(told: UserEvent) -> Event:
    return Event(
        id=told.id,
        name=told.name,
        payload=told.payload or None,
        node_filter=told.node_filter,
        service_filter=told.service_filter,
        tag_filter=told.tag_filter,
        version=told.version,
        time=told.time,
    )
