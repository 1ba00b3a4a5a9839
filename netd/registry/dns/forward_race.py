"""One question to several name servers: the first good answer counts."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from netd.registry.dns import records
from netd.registry.dns.forward_answer import FAILURE, Foreign
from netd.registry.dns.forward_ask import Unanswered, ask
from netd.registry.dns.upstreams import Upstream
from netd.registry.dns.wire import Query

TOTAL_S: Final = 5.0  # glibc asks again after so long
NEXT_S: Final = 0.2  # until the next one is asked besides
AGAIN_S: Final = (1.0, 2.0)  # until those that are silent are asked again
LOOK_EACH_S: Final = 0.5  # whether there are others to ask
SLOW_S: Final = 10.0  # how long one that was too slow is asked after the others
RESULTS_MAX: Final = 256

# The name server would not or could not say; another one may.
_NO_ANSWERS: Final = (records.SERVFAIL, records.NOTIMP, records.REFUSED, records.FORMERR)


Turn = tuple[Upstream, float]  # whom to ask, and how long to wait before the next is asked


class Race:
    """Asks name servers, in their order, and remembers which have been slow.

    `results` counts what came of asking, by name server and outcome: `answer`, `lost` (another
    one was faster), `silent`, or why there was none. `ignored` counts packets that answered
    nothing that had been asked.
    """

    def __init__(self) -> None:
        self.results: Counter[tuple[Upstream, str]] = Counter()
        self.ignored: Counter[str] = Counter()
        self._slow: dict[Upstream, float] = {}  # until when

    async def run(self, query: Query, current: Callable[[], Sequence[Upstream]]) -> Foreign:
        """The best answer within `TOTAL_S`; SERVFAIL if there is none.

        `current` are those to ask now: some that come meanwhile are asked as well, as when the
        host has moved to another network, where those of the last cannot be reached.
        """
        running: dict[asyncio.Task[Foreign], Upstream] = {}
        try:
            return await self._run(query, current, running)
        finally:
            for task in running:
                task.cancel()
            if running:
                await asyncio.gather(*running, return_exceptions=True)

    async def _run(
        self,
        query: Query,
        current: Callable[[], Sequence[Upstream]],
        running: dict[asyncio.Task[Foreign], Upstream],
    ) -> Foreign:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + TOTAL_S
        known: tuple[Upstream, ...] = ()
        begun_s: dict[Upstream, float] = {}
        to_ask: list[Turn] = []
        failed: set[Upstream] = set()
        best = FAILURE
        next_s = loop.time()
        while (now_s := loop.time()) < end_s:
            news = [each for each in current() if each not in known]
            if news:
                known += tuple(news)
                to_ask = _plan(self._in_order(news)) + to_ask
                next_s = now_s
            to_ask = [turn for turn in to_ask if turn[0] not in failed]
            if to_ask and (now_s >= next_s or not running):
                upstream, pause_s = to_ask.pop(0)
                begun_s.setdefault(upstream, now_s)
                running[loop.create_task(ask(upstream, query, self.ignored))] = upstream
                next_s = now_s + pause_s
            if not running:
                break
            until_s = min(now_s + LOOK_EACH_S, end_s, next_s if to_ask else end_s)
            done, _ = await asyncio.wait(
                running, timeout=until_s - now_s, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                upstream = running.pop(task)
                foreign = self._result(upstream, task)
                if foreign is not None and not foreign.truncated:
                    self._judge(upstream, begun_s, failed)
                    return foreign
                failed.add(upstream)
                best = foreign or best
                if to_ask and to_ask[0][0] not in begun_s:
                    next_s = now_s  # there is nothing to wait for
        self._judge(None, begun_s, failed)
        return best

    def _in_order(self, upstreams: Sequence[Upstream]) -> list[Upstream]:
        """Those that have not been slow lately first."""
        now_s = asyncio.get_running_loop().time()
        self._slow = {each: until_s for each, until_s in self._slow.items() if until_s > now_s}
        return sorted(upstreams, key=self._slow.__contains__)

    def _result(self, upstream: Upstream, task: asyncio.Task[Foreign]) -> Foreign | None:
        """What asking came to; None if others have to be asked."""
        try:
            foreign = task.result()
        except Unanswered as error:
            self._count(upstream, error.reason)
            self._be_slow(upstream)
            return None
        if foreign.rcode in _NO_ANSWERS or foreign.rcode > 0xF:
            self._count(upstream, "failure")
            return None
        self._count(upstream, "truncated" if foreign.truncated else "answer")
        return foreign

    def _judge(
        self, winner: Upstream | None, begun_s: dict[Upstream, float], failed: set[Upstream]
    ) -> None:
        """What to make of those that have not answered, at the end."""
        now_s = asyncio.get_running_loop().time()
        for upstream, since_s in begun_s.items():
            if upstream in failed:
                continue
            if upstream == winner:
                self._slow.pop(upstream, None)
            elif now_s - since_s < NEXT_S:
                self._count(upstream, "lost")
            else:
                self._count(upstream, "silent")
                self._be_slow(upstream)

    def _count(self, upstream: Upstream, result: str) -> None:
        if len(self.results) >= RESULTS_MAX and (upstream, result) not in self.results:
            self.results.clear()  # of name servers that there were
        self.results[upstream, result] += 1

    def _be_slow(self, upstream: Upstream) -> None:
        self._slow[upstream] = asyncio.get_running_loop().time() + SLOW_S


def _plan(upstreams: Sequence[Upstream]) -> list[Turn]:
    """One after the other, and all of them again."""
    plan: list[Turn] = []
    for pause_s in (*AGAIN_S, TOTAL_S):
        turn = [(upstream, NEXT_S) for upstream in upstreams]
        plan += [*turn[:-1], (upstreams[-1], pause_s)]
    return plan
