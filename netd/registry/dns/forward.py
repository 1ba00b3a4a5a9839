"""Names that are not ours: asked elsewhere, and kept.

    forwarder.cached(query, limit)        # at once, or None
    await forwarder.answer(query, limit)  # in any case

Equal questions that come while one is being asked wait for its answer. So they cost nothing, and
a name server that asks us what we ask it gets no further than that.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

from netd.model.directory import Count, RegistrySettings
from netd.registry.dns import records
from netd.registry.dns.forward_admission import Admission
from netd.registry.dns.forward_answer import Foreign, relay
from netd.registry.dns.forward_cache import Cache
from netd.registry.dns.forward_race import Race
from netd.registry.dns.upstreams import Upstream, Upstreams
from netd.registry.dns.wire import CD, Query
from netd.registry.dns.wire_reply import encode_error
from netd.tasks import Tasks

_TRANSFERS: Final = (records.IXFR, records.AXFR)


class Forwarder:
    """Answers from others, or from what they have answered before."""

    def __init__(self, upstreams: Upstreams) -> None:
        self.upstreams = upstreams
        self.cache = Cache(RegistrySettings().cache_entries)
        self._race = Race()
        self._tasks = Tasks()
        self._running: dict[bytes, asyncio.Task[Foreign]] = {}
        self._admission = Admission()
        self._asked: tuple[Upstream, ...] = ()
        self._counters: Counter[str] = Counter()
        self._seconds = 0.0

    def configure(self, settings: RegistrySettings) -> None:
        self.upstreams.configured = settings.upstreams
        self.upstreams.look_now()
        self.cache.entries_max = settings.cache_entries

    async def close(self) -> None:
        await self._tasks.stop()

    def cached(self, query: Query, limit: int) -> bytes | None:
        """The reply, of at most `limit` bytes, if it is known."""
        self._follow_upstreams()
        found = self.cache.get(_key(query), time.monotonic())
        if found is None:
            return None
        self._counters["hit"] += 1
        return relay(found[0], query, found[1], limit)

    async def answer(self, query: Query, limit: int, party: str = "") -> bytes:
        """The reply, of at most `limit` bytes, whatever happens. `source` is the client's address:
        one that asks for too much gets SERVFAIL, as all do when too many wait.
        """
        if query.klass != records.CLASS_IN or query.type in _TRANSFERS:
            return encode_error(query, records.REFUSED)
        reply = self.cached(query, limit)
        if reply is not None:
            return reply
        if not self._admission.enter(party):
            return encode_error(query, records.SERVFAIL)
        self._counters["miss"] += 1
        try:
            # What one client hangs up on, others may wait for; and it is worth keeping.
            foreign = await asyncio.shield(self._running.get(_key(query)) or self._start(query))
        finally:
            self._admission.leave(party)
        return relay(foreign, query, 0, limit)

    def _start(self, query: Query) -> asyncio.Task[Foreign]:
        key = _key(query)
        task = self._tasks.start("forward", self._ask(key, query))
        self._running[key] = task
        return task

    async def _ask(self, key: bytes, query: Query) -> Foreign:
        begun_s = time.monotonic()
        upstreams = self._asked
        try:
            foreign = await self._race.run(query, self.upstreams.current)
        finally:
            del self._running[key]
        now_s = time.monotonic()
        self._counters["asked"] += 1
        self._seconds += now_s - begun_s
        if upstreams == self._asked:
            self.cache.put(key, foreign, now_s)
        return foreign

    def _follow_upstreams(self) -> None:
        """Others may say something else: with a VPN come names that there are only there."""
        asked = self.upstreams.current()
        if asked != self._asked:
            self._asked = asked
            self.cache.clear()

    def counts(self) -> Iterator[Count]:
        for (upstream, result), value in sorted(self._race.results.items()):
            labels = {"upstream": str(upstream), "result": result}
            yield Count(name="dns_forwarded_total", labels=labels, value=value)
        for result in ("hit", "miss"):
            value = self._counters[result]
            yield Count(name="dns_cache_total", labels={"result": result}, value=value)
        yield Count(name="dns_cache_entries", value=len(self.cache))
        yield Count(name="dns_cache_bytes", value=self.cache.size)
        yield Count(name="dns_forward_waiting", value=self._admission.waiting)
        yield Count(name="dns_forward_overload_total", value=self._admission.refused)
        yield Count(name="dns_forward_ignored_total", value=self._race.ignored.total())
        yield Count(name="dns_forward_asked_total", value=self._counters["asked"])
        yield Count(name="dns_forward_seconds_total", value=self._seconds)


def _key(query: Query) -> bytes:
    """What the answer of others depends on."""
    return query.key + bytes((query.flags & CD | query.dnssec_ok,))
