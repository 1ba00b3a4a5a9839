"""The instances of this host, as they are now. Only synchronous code: each change is seen whole."""

from collections import defaultdict, deque
from typing import Final

from msgspec.structs import replace

from netd.engine.parts import Parts
from netd.engine.services import checks
from netd.engine.services.alarm import Alarm, Due
from netd.engine.services.aliases import Aliases
from netd.engine.services.catalogue import Catalogue
from netd.engine.services.keeper import Keeper
from netd.engine.services.process import Process
from netd.indexes import discard
from netd.model.service import Check, CheckResult, CheckSpec, Service, ServiceRecord, node_record

_OF_CHECKS: Final = ("expiry", "end", "alias")  # what is due of one check

OUTPUT_TOLD_S: Final = 30.0  # how often others are told of an output that alone has changed


class OwnServices:
    """`keeper` is told of each instance whose record in the store is not right any more.

    What happens to an instance is published at once, and is an event.
    """

    def __init__(self, parts: Parts, catalogue: Catalogue, keeper: Keeper) -> None:
        self._parts = parts
        self._catalogue = catalogue
        self._keep = keeper.keep
        self._alarm = Alarm(parts.clock, self._rung)
        self.records = keeper.records
        self._aliases = Aliases(parts, catalogue, self.records)
        self._processes: dict[str, Process] = {}
        self._of_endpoint: defaultdict[str, set[str]] = defaultdict(set)
        self._followers: defaultdict[str, set[str]] = defaultdict(set)  # by alias, of the target
        self._stale: deque[str] = deque()  # ids of instances whose targets have changed
        self._following = False
        self._told_s: dict[str, float] = {}  # when the others were last told
        self.registered = 0
        self.deregistered = 0  # for whatever reason
        self.ended = 0  # of these, with their process, their endpoint, or critical for too long
        self.results = 0
        catalogue.subscribe(lambda service_id, _: self._tell_followers(service_id))
        catalogue.subscribe_hosts(lambda node: self._tell_followers(node_record(node)))

    def stop(self) -> None:
        self._alarm.stop()
        for process in self._processes.values():
            process.stop()
        self._processes.clear()

    def of_endpoint(self, endpoint_id: str) -> set[str]:
        """The ids of the instances that go with an endpoint."""
        return set(self._of_endpoint.get(endpoint_id, ()))

    def targets(self, service_id: str) -> set[str]:
        """The ids of the instances whose status an instance takes over."""
        record = self.records.get(service_id)
        return set() if record is None else checks.alias_targets(_specs(record))

    # An instance comes and goes

    def put(self, record: ServiceRecord, process: Process | None, *, restored: bool) -> None:
        """Take an instance in, or its new version. `process` is watched by now, and runs."""
        ident = record.service.id
        old = self.records.get(ident)
        self._release(ident, record.service.checks)
        mirrored = self._mirrored(record.service)
        if mirrored != record.service:
            record = replace(record, service=mirrored)
            self._keep(ident)
        self.records[ident] = record
        if record.spec.endpoint:
            self._of_endpoint[record.spec.endpoint].add(ident)
        for target in checks.alias_targets(_specs(record)):
            self._followers[target].add(ident)
        if process is not None:
            self._processes[ident] = process
            process.follow(lambda: self.end(ident, f"process {process.pid} has ended"))
        for check in record.service.checks:
            self._set_expiry(ident, check, afresh=old is None or check not in old.service.checks)
        if not restored:
            self.registered += old is None
            kind = "service.registered" if old is None else "service.updated"
            self._emit(kind, record.service)
        self._show(ident, None if old is None else old.service)

    def end(self, service_id: str, why: str) -> None:
        """An instance is over, by what happened to it rather than by a call."""
        if self.remove(service_id, why):
            self.ended += 1
            self._keep(service_id)

    def remove(self, service_id: str, why: str = "") -> bool:
        """Forget an instance, if it is there; the store does not have it, or need not."""
        record = self.records.get(service_id)
        if record is None:
            return False
        self._release(service_id, ())
        del self.records[service_id]
        self._told_s.pop(service_id, None)
        self._alarm.clear(Due("output", service_id, ""))
        self.deregistered += 1
        self._parts.conditions.forget(about(service_id))
        self._catalogue.drop(service_id)
        self._emit("service.deregistered", record.service, why)
        self._tell_followers(service_id)
        return True

    def _release(self, service_id: str, kept: tuple[Check, ...]) -> None:
        """Let go of what an instance has beside its record, but for what is due of some checks."""
        record = self.records.get(service_id)
        if record is None:
            return
        process = self._processes.pop(service_id, None)
        if process is not None:
            process.stop()
        discard(self._of_endpoint, record.spec.endpoint, service_id)
        for target in checks.alias_targets(_specs(record)):
            discard(self._followers, target, service_id)
        for check in record.service.checks:
            if check not in kept:
                for what in _OF_CHECKS:
                    self._alarm.clear(Due(what, service_id, check.id))

    # How it is

    def become(self, service: Service) -> None:
        """The instance is otherwise: its address, or one of its checks."""
        old = self.records[service.id]
        if service != old.service:
            self.records[service.id] = replace(old, service=service)
            self._show(service.id, old.service)

    def report(self, service_id: str, check: Check, result: CheckResult) -> None:
        """What one of its checks has found."""
        self.results += 1
        if not checks.says(check, result):
            self._set_result(service_id, check, result)
        self._set_expiry(service_id, check, afresh=True)

    def _set_result(self, service_id: str, check: Check, result: CheckResult) -> None:
        service = self.records[service_id].service
        found = checks.with_result(check, result, self._parts.now())
        self.become(checks.with_check(service, found))

    def _show(self, service_id: str, before: Service | None) -> None:
        """Have everybody see how it is now, and what follows from that."""
        service = self.records[service_id].service
        for check in service.checks:
            self._set_end(service_id, check)
        if before is not None and _without_output(service) == _without_output(before):
            self._tell_later(service_id)
            return
        self._told_s[service_id] = self._parts.clock.monotonic_s()
        self._alarm.clear(Due("output", service_id, ""))
        self._catalogue.put(service)
        if before is None or service.status != before.status:
            if before is not None:
                self._emit(f"service.{service.status}", service, _reasons(service))
            self._tell_followers(service_id)
        if before is not None:
            self._keep(service_id)

    def _tell_later(self, service_id: str) -> None:
        due = Due("output", service_id, "")
        if due not in self._alarm:
            elapsed_s = self._parts.clock.monotonic_s() - self._told_s.get(service_id, 0.0)
            self._alarm.set(due, max(0.0, OUTPUT_TOLD_S - elapsed_s))

    # Aliases

    def _tell_followers(self, service_id: str) -> None:
        """Have alias checks say how their target is. No chain of them comes back to itself."""
        self._stale.extend(sorted(self._followers.get(service_id, ())))
        if self._following:  # further up: chains may be long
            return
        self._following = True
        try:
            while self._stale:
                record = self.records.get(self._stale.popleft())
                if record is not None:
                    self.become(self._mirrored(record.service))
        finally:
            self._following = False

    def _mirrored(self, service: Service) -> Service:
        for check in service.checks:
            if check.spec is None or check.spec.kind != "alias":
                continue
            result = self._aliases.look(check.spec, service)
            if result is None:
                due = Due("alias", service.id, check.id)
                self._alarm.set(due, self._aliases.settle_s)
                continue
            found = checks.with_result(check, result, self._parts.now())
            service = checks.with_check(service, found)
        return service

    # What time brings

    def ring_due(self) -> None:
        """Do what is due by now."""
        self._alarm.ring_due()

    def _set_expiry(self, service_id: str, check: Check, *, afresh: bool) -> None:
        """A ttl check becomes critical when nobody says for that long how it is."""
        due = Due("expiry", service_id, check.id)
        ttl_s = None if check.spec is None or check.kind != "ttl" else check.spec.ttl_s
        if ttl_s is not None and (afresh or due not in self._alarm):
            self._alarm.set(due, ttl_s)

    def _set_end(self, service_id: str, check: Check) -> None:
        """An instance goes when one of its checks has been critical for too long."""
        due = Due("end", service_id, check.id)
        after_s = None if check.spec is None else check.spec.deregister_after_s
        if after_s is None or check.status != "critical":
            self._alarm.clear(due)
        elif due not in self._alarm:
            self._alarm.set(due, after_s)

    def _rung(self, due: Due) -> None:
        record = self.records.get(due.service)
        if record is None:
            return
        check = checks.find(record.service, due.check)
        if due.what == "output":
            self._told_s[due.service] = self._parts.clock.monotonic_s()
            self._catalogue.put(record.service)
        elif check is None or check.spec is None:
            return
        elif due.what == "alias":
            self.become(self._mirrored(record.service))
        elif due.what == "expiry" and check.spec.ttl_s is not None:
            output = f"no word for {check.spec.ttl_s:g} s"
            self._set_result(due.service, check, CheckResult(status="critical", output=output))
        elif due.what == "end" and check.spec.deregister_after_s is not None:
            after_s = check.spec.deregister_after_s
            self.end(due.service, f"check {check.id} was critical for {after_s:g} s")

    def _emit(self, kind: str, service: Service, detail: str = "") -> None:
        self._parts.events.emit(
            kind,
            about=service.id,
            name=service.name,
            detail=detail,
            address=service.address,
            port=service.port,
        )


def about(service_id: str) -> str:
    """The name under which conditions of a service are kept; ids of other objects have no colon."""
    return f"service:{service_id}"


def _specs(record: ServiceRecord) -> tuple[CheckSpec, ...]:
    return tuple(check.spec for check in record.service.checks if check.spec is not None)


def _without_output(service: Service) -> Service:
    """All but what checks say. That one has said anything at all is news: why it is critical."""
    return replace(
        service,
        checks=tuple(
            replace(check, output="-" if check.output else "") for check in service.checks
        ),
    )


def _reasons(service: Service) -> str:
    """What the checks say that make the instance what it is."""
    if service.status == "passing":
        return ""
    said = (c for c in service.checks if c.status == service.status)
    return "; ".join(f"{check.id}: {check.output[:200]}" for check in said)
