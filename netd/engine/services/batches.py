"""Several instances changed together: all of what is asked for, or nothing."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

from msgspec.structs import replace

from netd.engine.interfaces import Change
from netd.engine.parts import Parts
from netd.engine.services import checks
from netd.engine.services.composing import Composer, is_same, renewed, with_process
from netd.engine.services.keeper import Keeper
from netd.engine.services.own import OwnServices
from netd.engine.services.places import Places
from netd.engine.services.process import Process
from netd.engine.services.shares import Shares
from netd.model.errors import Invalid, NetdError
from netd.model.service import CheckReport, ServiceChanges, ServiceRecord

Found = dict[str, ServiceRecord]
Running = dict[str, Process]


class Batches:
    """The caller holds the locks of all instances of a batch, and has found that they are this
    host's. `is_gone` says so of an endpoint, by its id.
    """

    def __init__(
        self,
        parts: Parts,
        places: Places,
        own: OwnServices,
        shares: Shares,
        keeper: Keeper,
        is_gone: Callable[[str], bool],
    ) -> None:
        self._parts = parts
        self._places = places
        self._own = own
        self._shares = shares
        self._keeper = keeper
        self._is_gone = is_gone

    async def run(self, asked: ServiceChanges) -> None:
        """Raises what `Services.change` raises; all of it before anything is stored."""
        found = self._composed(asked)
        gone = [ident for ident in asked.delete if ident in self._own.records]
        if not found and not gone:
            return
        with ExitStack() as stack:
            for ident in (*found, *gone):
                stack.enter_context(self._keeper.work_on(ident))
            for ident, record in found.items():
                stack.enter_context(self._shares.held(ident, record.spec.endpoint))
            processes = stack.enter_context(self._watched(found))
            boot_id = self._parts.facts.boot_id
            stored = [
                with_process(record, processes.get(ident), boot_id)
                for ident, record in found.items()
            ]
            change = Change(put_services=tuple(stored), delete_services=tuple(gone))
            await self._parts.store.commit(change)
            for ident in gone:
                self._own.remove(ident)
            for record in stored:
                self._show(record, processes, asked.reports)

    def _composed(self, asked: ServiceChanges) -> Found:
        """The instances that are to be otherwise."""

        def targets(service_id: str) -> set[str]:
            spec = asked.put.get(service_id)
            if spec is None:
                return self._own.targets(service_id)
            return checks.alias_targets(spec.checks)

        composer = Composer(self._parts, self._places, targets)
        reported = {report.service for report in asked.reports}
        if not reported <= asked.put.keys():
            raise Invalid("these are for the checks of what is in put", field="reports")
        found: Found = {}
        for ident, spec in asked.put.items():
            known = self._own.records.get(ident)
            try:
                record = composer.compose(ident, spec, known)
            except NetdError as error:
                error.field = f"put.{ident}" + (f".{error.field}" if error.field else "")
                raise
            if known is None or ident in reported or not is_same(record, known):
                found[ident] = self._told(record, asked.reports)
        return found

    def _told(self, record: ServiceRecord, reports: Iterable[CheckReport]) -> ServiceRecord:
        """The record with what is reported of it. Raises `NotFound` and `Conflict`."""
        service, now = record.service, self._parts.now()
        for report in reports:
            if report.service == service.id:
                check = checks.to_be_told(service, report.check)
                service = checks.with_check(service, checks.with_result(check, report, now))
        return replace(record, service=service)

    @contextmanager
    def _watched(self, found: Found) -> Iterator[Running]:
        """The processes that instances go with. Raises what `Process` raises."""
        processes: Running = {}
        try:
            for ident, record in found.items():
                if record.spec.pid is not None:
                    processes[ident] = Process(self._parts.kernel, record.spec.pid)
            yield processes
        except BaseException:
            for process in processes.values():
                process.stop()
            raise

    def _show(
        self, record: ServiceRecord, processes: Running, reports: Iterable[CheckReport]
    ) -> None:
        """Have everybody see it. What it goes with may have ended while it was stored: then it has
        been registered, and has ended with that.
        """
        ident = record.service.id
        known = self._own.records.get(ident)
        if known is not None:  # a check may have found something meanwhile
            record = self._told(renewed(record, known), reports)
        process = processes.get(ident)
        over = process is not None and process.over
        if over and process is not None:
            process.stop()
        self._own.put(record, None if over else process, restored=False)
        for report in reports:
            if report.service == ident:
                self._own.report(ident, checks.to_be_told(record.service, report.check), report)
        if over or self._is_gone(record.spec.endpoint):
            self._own.end(ident, "what it goes with is gone")
