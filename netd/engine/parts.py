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

    def now(self) -> str:
        return rfc3339(self.clock.wall_s())
