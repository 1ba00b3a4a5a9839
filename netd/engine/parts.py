"""What all use cases share."""

import dataclasses

from netd.engine.busy import Busy
from netd.engine.conditions import Conditions
from netd.engine.directory import Feed
from netd.engine.events import EventLog
from netd.engine.intent import Intent
from netd.engine.interfaces import Clock, Kernel, Store
from netd.engine.names import NameTable
from netd.engine.reaper import Reaper
from netd.engine.registry import Registry
from netd.engine.settings import Settings
from netd.engine.times import rfc3339
from netd.locks import KeyedLocks
from netd.model.directory import ZoneEntry
from netd.plan.facts import Facts
from netd.tasks import Tasks


@dataclasses.dataclass
class Parts:
    """The engine's shared state. `facts` is the last observation of the host."""

    kernel: Kernel
    store: Store
    clock: Clock
    settings: Settings
    facts: Facts
    intent: Intent
    feed: Feed
    names: NameTable
    registry: Registry
    events: EventLog
    conditions: Conditions
    busy: Busy
    locks: KeyedLocks[str]
    tasks: Tasks
    reaper: Reaper

    @classmethod
    def make(
        cls,
        kernel: Kernel,
        store: Store,
        clock: Clock,
        settings: Settings,
        facts: Facts,
        cluster_id: str,
    ) -> "Parts":
        """With nothing in them. `cluster_id` is this host's id as a member."""
        events = EventLog(clock)
        zone = ZoneEntry(
            zone=settings.zone, node=settings.node, node_id=cluster_id, settings=settings.registry
        )
        feed = Feed(zone, begins=round(clock.wall_s() * 1000))
        return cls(
            kernel=kernel,
            store=store,
            clock=clock,
            settings=settings,
            facts=facts,
            intent=Intent(settings.quarantine_s, settings.virtual_pools),
            feed=feed,
            names=NameTable(settings.zone, settings.registry.ttl_s, feed),
            registry=Registry(clock, feed, wanted=settings.registry_wanted),
            events=events,
            conditions=Conditions(events),
            busy=Busy(),
            locks=KeyedLocks(),
            tasks=Tasks(),
            reaper=Reaper(kernel, clock),
        )

    def now(self) -> str:
        return rfc3339(self.clock.wall_s())
