"""The health checks of this host's instances: from what is registered to what is reported."""

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from netd.model.directory import Count
from netd.model.service import Check, CheckResult, Service
from netd.registry.checks.names import Names
from netd.registry.checks.probe import Probe, probe_of
from netd.registry.checks.running import Key, Runner
from netd.registry.checks.verdict import Verdict, judge, told

log = logging.getLogger(__name__)

OUTPUT_EACH_S: Final = 30.0  # how often a changed output is told while the status stays
FIRST_WITHIN_S: Final = 0.5  # how soon a check runs that has never run
FIRST_PER_S: Final = 1000  # of those that are there at the start; more of them take longer

AddressesOf = Callable[[str], Sequence[str]]


class Reports(Protocol):
    """Who tells the daemon."""

    def put(self, key: Key, result: CheckResult) -> None:
        """Tell `result` instead of what of this check is still to be told."""

    def drop(self, key: Key) -> None:
        """Tell nothing of this check any more."""

    def __contains__(self, key: Key) -> bool:
        """Whether something of this check is still to be told."""


class _Watched:
    """A check: how it is run, what is said of it, and what the daemon knows of that."""

    __slots__ = ("known", "probe", "told_at", "verdict")

    def __init__(self, probe: Probe, check: Check) -> None:
        self.probe = probe
        self.verdict = Verdict(status=check.status)
        self.known = CheckResult(status=check.status, output=check.output)
        self.told_at = float("-inf")


class Checks:
    """Runs the checks of the instances that this host owns: those that come with a `spec`.

    `addresses_of` says which addresses an endpoint has. All methods are for the event loop's
    thread; `clock` and `chance` (a number of [0, 1)) are for tests.
    """

    def __init__(
        self,
        reports: Reports,
        names: Names,
        addresses_of: AddressesOf,
        clock: Callable[[], float],
        *,
        scripts: bool = False,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._reports = reports
        self._addresses_of = addresses_of
        self._clock = clock
        self._chance = chance
        self._runner = Runner(names, self._found, scripts=scripts)
        self._watched: dict[Key, _Watched] = {}
        self._of_service: dict[str, frozenset[Key]] = {}

    @property
    def scripts(self) -> bool:
        """Whether script checks run; see `registry.script_checks`."""
        return self._runner.scripts

    @scripts.setter
    def scripts(self, on: bool) -> None:
        self._runner.scripts = on

    def apply(self, service: Service) -> None:
        """Take over an instance as it is now: its line of the directory, whatever has changed."""
        self._take(service, FIRST_WITHIN_S)

    def _take(self, service: Service, first_within_s: float) -> None:
        addresses = tuple(self._addresses_of(service.endpoint)) if service.endpoint else ()
        keys: set[Key] = set()
        for check in service.checks:
            probe = probe_of(service, check, addresses)
            if probe is not None:
                key = (service.id, check.id)
                keys.add(key)
                self._apply(key, probe, check, first_within_s)
        for key in self._of_service.get(service.id, frozenset()) - keys:
            self._drop(key)
        if keys:
            self._of_service[service.id] = frozenset(keys)
        else:
            self._of_service.pop(service.id, None)

    def remove(self, service_id: str) -> None:
        """The instance is gone, or not this host's any more."""
        for key in self._of_service.pop(service_id, frozenset()):
            self._drop(key)

    def replace(self, services: Iterable[Service]) -> None:
        """Take over all there is: what is not among `services` is gone."""
        known = tuple(services)
        never_run = sum(not check.output for each in known for check in each.checks)
        within_s = max(FIRST_WITHIN_S, never_run / FIRST_PER_S)
        ids = set()
        for service in known:
            ids.add(service.id)
            self._take(service, within_s)
        for service_id in self._of_service.keys() - ids:
            self.remove(service_id)

    async def stop(self) -> None:
        """End what runs. Nothing is reported after this."""
        await self._runner.stop()

    def counts(self) -> tuple[Count, ...]:
        return tuple(self._runner.counts())

    def _apply(self, key: Key, probe: Probe, check: Check, first_within_s: float) -> None:
        watched = self._watched.get(key)
        if watched is not None and watched.probe == probe:
            if key not in self._reports:
                # What the daemon says that it knows counts: it may have begun anew.
                watched.known = CheckResult(status=check.status, output=check.output)
            return
        self._watched[key] = _Watched(probe, check)
        # Of many that begin together, as when the registry starts, each waits for a moment of
        # its own, and keeps to that. What nobody knows anything of yet does not wait as long.
        new = not check.output or watched is not None
        spread_s = min(probe.interval_s, first_within_s) if new else probe.interval_s
        self._reports.drop(key)
        self._runner.put(key, probe, self._chance() * spread_s)

    def _drop(self, key: Key) -> None:
        del self._watched[key]
        self._runner.remove(key)
        self._reports.drop(key)

    def _found(self, key: Key, found: CheckResult) -> None:
        watched = self._watched[key]
        spec = watched.probe.spec
        before = watched.verdict.status
        watched.verdict = judge(watched.verdict, spec, found.status)
        result = told(watched.verdict, spec, found)
        if result.status != before:
            log.info("check %s of %s is %s: %s", key[1], key[0], result.status, result.output)
        now = self._clock()
        if result.status == watched.known.status and (
            result.output == watched.known.output or now - watched.told_at < OUTPUT_EACH_S
        ):
            return
        watched.known = result
        watched.told_at = now
        self._reports.put(key, result)
