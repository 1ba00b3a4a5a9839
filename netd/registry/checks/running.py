"""Runs checks when they are due, as many at a time as there is room for."""

import asyncio
import logging
import resource
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from netd.model.directory import Count
from netd.model.service import CheckResult
from netd.registry.checks import grpc, http, http2, script, tcp, udp
from netd.registry.checks.names import Names
from netd.registry.checks.probe import Failed, Probe, Run, critical
from netd.registry.checks.schedule import Schedule

log = logging.getLogger(__name__)

SOCKETS_MAX: Final = 4096
SCRIPTS_MAX: Final = 8
BURST_MAX: Final = 8  # begun in one turn of the event loop, which answers names meanwhile
STALL_S: Final = 0.1  # a deadline that is seen so late says more of this process than of others
STALLS_MAX: Final = 3  # in a row; then it counts
TICK_S: Final = 0.002  # what is due within this time is begun together
_FAULT: Final = "a fault of netd's; the log of the registry has it"

Key = tuple[str, str]  # an instance's id and a check's
Found = Callable[[Key, CheckResult], None]
Outcome = CheckResult | Coroutine[Any, Any, CheckResult]


class Room:
    """How many runs of a sort may be under way, and those that wait, the longest first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self.waiting: deque[tuple[Key, Run, float]] = deque()


class Runner:
    """Each check is either scheduled, waiting for room, or running. `found` gets the results.

    Runs begin an interval apart. One that takes longer is followed at once by the next.
    """

    def __init__(self, names: Names, found: Found, *, scripts: bool) -> None:
        self.scripts = scripts
        self._names = names
        self._found = found
        self._checks: dict[Key, Run] = {}
        self._schedule: Schedule[Key] = Schedule()
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # those that are being ended, too
        self._sockets = Room(_room_for_sockets())
        self._programs = Room(SCRIPTS_MAX)
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0.0
        self._stopped = False
        self._runs: Counter[tuple[str, str]] = Counter()
        self._delayed = 0
        self._stalled = 0

    def put(self, key: Key, probe: Probe, delay_s: float) -> None:
        """Run `probe` after `delay_s` and each interval from then on, instead of what `key` was."""
        self.remove(key)
        self._checks[key] = Run(probe)
        self._schedule.put(key, self._now() + delay_s)
        self._arm()

    def remove(self, key: Key) -> None:
        """Do not run it any more; what runs is ended, and its result not told."""
        self._checks.pop(key, None)
        self._schedule.remove(key)
        if (task := self._running.pop(key, None)) is not None:
            task.cancel()

    async def stop(self) -> None:
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._names.stop()

    def counts(self) -> Iterable[Count]:
        for sort, number in Counter(run.probe.kind for run in self._checks.values()).items():
            yield Count(name="checks", labels={"kind": sort}, value=number)
        for (kind, status), number in self._runs.items():
            labels = {"kind": kind, "status": status}
            yield Count(name="check_runs_total", labels=labels, value=number)
        yield Count(name="check_runs_delayed_total", value=self._delayed)
        yield Count(name="check_runs_stalled_total", value=self._stalled)
        for uses, room in (("socket", self._sockets), ("script", self._programs)):
            yield Count(name="checks_running", labels={"uses": uses}, value=room.running)
            yield Count(name="checks_waiting", labels={"uses": uses}, value=len(room.waiting))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _arm(self) -> None:
        """Wake up when something is due, and not sooner than `TICK_S` from now."""
        due = self._schedule.next()
        if due is None or self._stopped:
            return
        at = max(due, self._now() + TICK_S)
        if self._timer is not None:
            if self._armed_for <= at:
                return
            self._timer.cancel()
        self._armed_for = at
        self._timer = asyncio.get_running_loop().call_at(at, self._wake)

    def _wake(self) -> None:
        self._timer = None
        for key, due in self._schedule.take(self._now(), BURST_MAX):
            run = self._checks[key]
            room = self._room_of(run)
            if room.running < room.limit:
                self._begin(key, run, due)
            else:
                self._delayed += 1
                room.waiting.append((key, run, due))
        self._arm()

    def _begin(self, key: Key, run: Run, due: float) -> None:
        outcome: Outcome
        try:
            outcome = self._outcome(run)
        except Failed as error:
            outcome = critical(str(error))
        except Exception:  # it must not end the others
            log.exception("check %s", key)
            outcome = critical(_FAULT)
        if isinstance(outcome, CheckResult):
            self._end(key, run, due, outcome)
            return
        self._room_of(run).running += 1
        work = self._run(key, run, due, outcome)
        task = asyncio.get_running_loop().create_task(work, name=f"check {key}")
        self._running[key] = task
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._leave(done, run))
        task.add_done_callback(lambda _: outcome.close())  # if the task has not even begun

    def _outcome(self, run: Run) -> Outcome:
        kind = run.probe.kind
        if kind == "tcp":
            return tcp.run(run, self._names)
        if kind == "http":
            return http.run(run, self._names)
        if kind == "udp":
            return udp.run(run, self._names)
        if kind == "grpc":
            return grpc.run(run, self._names)
        if kind == "h2ping":
            return http2.ping(run, self._names)
        if not self.scripts:
            raise Failed("script checks are off on this host (registry.script_checks)")
        if run.probe.within is not None:
            raise Failed(
                "scripts are not run for an instance that has a network; an alias check can "
                "take over the status of one that has none"
            )
        return script.run(run)

    async def _run(
        self, key: Key, run: Run, due: float, work: Coroutine[Any, Any, CheckResult]
    ) -> None:
        limit_s = run.probe.deadline_s
        ends_s = self._now() + limit_s
        result: CheckResult | None
        try:
            async with asyncio.timeout_at(ends_s):
                result = await work
        except TimeoutError:
            result = critical(f"{run.stage}: not within {limit_s:g} s")
            if self._now() > ends_s + STALL_S and run.stalls < STALLS_MAX:
                result = None  # the answer may have been there for long
        except Failed as error:
            result = critical(str(error))
        except Exception:  # the check has to go on
            log.exception("check %s", key)
            result = critical(_FAULT)
        if self._running.get(key) is not asyncio.current_task():
            return  # it is not wanted any more
        del self._running[key]
        if result is None:
            run.stalls += 1
            self._stalled += 1
            self._schedule.put(key, self._now())
            self._arm()
        else:
            run.stalls = 0
            self._end(key, run, due, result)

    def _end(self, key: Key, run: Run, due: float, result: CheckResult) -> None:
        self._runs[run.probe.kind, result.status] += 1
        self._schedule.put(key, max(due + run.probe.interval_s, self._now()))
        self._arm()
        self._found(key, result)

    def _leave(self, task: "asyncio.Task[None]", run: Run) -> None:
        self._tasks.discard(task)
        room = self._room_of(run)
        room.running -= 1
        while room.waiting and room.running < room.limit and not self._stopped:
            key, waiting, due = room.waiting.popleft()
            if self._checks.get(key) is waiting:
                self._begin(key, waiting, due)

    def _room_of(self, run: Run) -> Room:
        return self._programs if run.probe.kind == "script" else self._sockets


def _room_for_sockets() -> int:
    """Half of what descriptors there are: the other half is for names and the daemon."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return SOCKETS_MAX if soft == resource.RLIM_INFINITY else min(SOCKETS_MAX, soft // 2)
