"""Decides which kernel events deserve a pass.

Events come for netd's own changes too, several for each. So the last event of each object is
kept for a moment and then compared with intent: what is as wanted by then is forgotten.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from netd.engine.departures import Departures
from netd.engine.host import Host
from netd.engine.interfaces import Trigger
from netd.engine.parts import Parts
from netd.engine.reconciler import Reconciler
from netd.model.errors import NetdError
from netd.model.names import is_endpoint_link
from netd.plan.objects import HOST, HOST_OWNER, Bridge, Key, Link, Macvlan, Object, Veth
from netd.plan.tunnels import FdbEntry, Neighbour, Vxlan

log = logging.getLogger(__name__)

RETRY_S = 1.0
ROLLING = 50  # namespaces looked into at each interval
HERE = -2  # stands for the host where namespace ids are keys; the kernel's begin at 0


class Watch:
    """Collects triggers and runs passes."""

    def __init__(
        self, parts: Parts, host: Host, reconciler: Reconciler, departures: Departures
    ) -> None:
        self._parts = parts
        self._host = host
        self._reconciler = reconciler
        self._departures = departures
        self._latest: dict[tuple[str, int, str, Key], Trigger] = {}
        self._news = asyncio.Event()
        self._rolling_at = 0
        self._stop: Callable[[], None] | None = None

    @property
    def waiting(self) -> int:
        """How many objects have news that was not looked at yet."""
        return len(self._latest)

    def start(self) -> None:
        self._stop = self._parts.kernel.watch(self.notify)

    def stop(self) -> None:
        if self._stop is not None:
            self._stop()
            self._stop = None

    def notify(self, trigger: Trigger) -> None:
        """Take note of an event; called on the event loop."""
        self._departures.notice(trigger)
        namespace = HERE if trigger.host else trigger.nsid
        self._latest[(trigger.kind, namespace, trigger.name, trigger.key)] = trigger
        self._news.set()

    async def run(self) -> None:
        """Work until cancelled."""
        clock = self._parts.clock
        looked_s = clock.monotonic_s()
        while True:
            # News must not put the rolling look off: not all that may change makes news.
            due_s = looked_s + self._parts.settings.interval_s - clock.monotonic_s()
            try:
                # Not wait_for: before Python 3.12 it ignores a cancellation that meets news.
                async with asyncio.timeout(due_s):
                    await self._news.wait()
            except TimeoutError:
                await self._attempt(self._rolling_look)
                looked_s = clock.monotonic_s()
                continue
            # Let a burst of events, and the use case that causes them, come to their end.
            await asyncio.sleep(self._parts.settings.debounce_s)
            self._news.clear()
            await self._attempt(self._answer_news)

    async def _attempt(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:
            # Also for what nobody foresaw: without this task nothing is ever repaired.
            expected = isinstance(error, NetdError)
            log.error("a look failed, will try again: %s", error, exc_info=not expected)
            asyncio.get_running_loop().call_later(
                RETRY_S, self.notify, Trigger(kind="lost", verb="new")
            )

    async def _answer_news(self) -> None:
        latest, self._latest = self._latest, {}
        triggers = list(latest.values())
        if any(trigger.kind == "lost" for trigger in triggers):
            await self._reconciler.full_pass()
            return
        if any(self._concerns_facts(trigger) for trigger in triggers):
            await self._host.look()
        if any(self._is_from_elsewhere(trigger) for trigger in triggers):
            await self._reconciler.pass_over(())  # learns which namespace has which id
        # A link takes its addresses and routes along; their events say nothing new then.
        died = {t.nsid for t in triggers if not t.host and t.kind == "link" and t.verb == "delete"}
        owners: set[str] = set()
        for trigger in triggers:
            if trigger.host or trigger.kind == "link" or trigger.nsid not in died:
                owners |= self._concerned(trigger)
        if owners:
            await self._reconciler.pass_over(owners & self._parts.intent.records.keys())

    async def _rolling_look(self) -> None:
        """Without any trigger: the host, and some namespaces in turn."""
        ids = sorted(self._parts.intent.records)
        at = self._rolling_at if self._rolling_at < len(ids) else 0
        self._rolling_at = at + ROLLING
        await self._host.look()
        await self._reconciler.pass_over(ids[at : at + ROLLING])

    def _concerns_facts(self, trigger: Trigger) -> bool:
        """Whether the host's facts may have changed: something that is not netd's did."""
        if trigger.kind == "ruleset":
            return True
        if not trigger.host or trigger.kind not in ("link", "address", "route"):
            return False
        if trigger.kind == "link" and is_endpoint_link(trigger.name):
            return False  # comes and goes with an endpoint, which is no fact about the host
        return (HOST, "link", trigger.name) not in self._parts.intent.desired.state

    def _concerned(self, trigger: Trigger) -> set[str]:
        """The owners of what is no longer as wanted; empty for an event that is no news."""
        desired = self._parts.intent.desired
        match trigger.kind:
            case "link" if trigger.host:
                obj = desired.state.get((HOST, "link", trigger.name))
                gone = obj is not None and (trigger.verb == "delete" or _is_wrong(obj, trigger))
                return {obj.owner} if obj is not None and gone else set()
            case "link":
                return self._macvlans_named(trigger.name) if trigger.verb == "delete" else set()
            case "address" if trigger.verb == "delete":
                owner = desired.owner_of_address(trigger.name)
                return set() if owner is None else {owner}
            case "route" | "rule" if trigger.verb == "delete":
                return {HOST_OWNER} if trigger.host else self._endpoints_at(trigger.nsid)
            case "shaping" if trigger.verb == "delete":
                keys = ((HOST, kind, trigger.name) for kind in ("shaper", "redirect"))
                return {desired.state[key].owner for key in keys if key in desired.state}
            case "fdb" | "neighbour":
                return self._owners_of_entry(trigger)
            case "sysctl" | "ruleset":
                return {HOST_OWNER} if desired.of(HOST_OWNER) else set()
            case _:
                return set()

    def _owners_of_entry(self, trigger: Trigger) -> set[str]:
        desired = self._parts.intent.desired.state
        match desired.get(trigger.key):
            case FdbEntry(destination=wanted) | Neighbour(mac=wanted) as entry:
                right = trigger.verb == "new" and trigger.value == wanted
                return set() if right else {entry.owner}
            case _ if trigger.verb == "new":
                link = desired.get((HOST, "link", trigger.key[2]))
                return set() if link is None else {link.owner}
            case _:
                return set()

    def _macvlans_named(self, ifname: str) -> set[str]:
        """Endpoints without a link on the host, of which only the namespace tells."""
        return {
            record.endpoint.id
            for record in self._parts.intent.records.values()
            if record.endpoint.ifname == ifname and not record.endpoint.host_ifname
        }

    def _is_from_elsewhere(self, trigger: Trigger) -> bool:
        """Whether the last look at the host did not tell whose namespace the event is of."""
        return (
            not trigger.host
            and trigger.kind in ("route", "rule")
            and trigger.verb == "delete"
            and trigger.nsid not in self._reconciler.nsids
        )

    def _endpoints_at(self, nsid: int) -> set[str]:
        """The endpoints in a namespace; all without a link on the host if that is not known."""
        links = self._reconciler.nsids.get(nsid)
        if links is None:
            records = self._parts.intent.records.values()
            return {
                r.endpoint.id for r in records if r.endpoint.ifname and not r.endpoint.host_ifname
            }
        desired = self._parts.intent.desired.state
        objects = (desired.get((HOST, "link", name)) for name in links)
        return {obj.owner for obj in objects if obj is not None}


def _is_wrong(obj: Object, trigger: Trigger) -> bool:
    """Whether a link is other than wanted, as far as the event tells."""
    match obj:
        case Link() if not trigger.up or trigger.owner != obj.owner:
            return True
        case Link(mtu=int(mtu)) if trigger.mtu not in (0, mtu):
            return True
        case Veth(master=master):
            return trigger.master != master
        case Vxlan(master=master, mac=mac):
            right = (master, mac, obj.flood, obj.quiet)
            return (trigger.master, trigger.mac, trigger.flood, trigger.quiet) != right
        case Bridge(mac=mac) | Macvlan(mac=mac):
            return mac is not None and trigger.mac != mac
        case _:
            return False
