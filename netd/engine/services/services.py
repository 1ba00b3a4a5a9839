"""Use cases on services: register, deregister, what checks find, maintenance."""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from netd.engine.departures import Departures
from netd.engine.interfaces import Change, Cluster
from netd.engine.networks import Networks
from netd.engine.parts import Parts
from netd.engine.services import checks, labels, rules
from netd.engine.services.batches import Batches
from netd.engine.services.catalogue import Catalogue
from netd.engine.services.composing import Composer, is_same, renewed, with_process
from netd.engine.services.following import Following
from netd.engine.services.keeper import Keeper
from netd.engine.services.own import OwnServices, about
from netd.engine.services.places import Places
from netd.engine.services.process import Process
from netd.engine.services.shares import Shares
from netd.locks import KeyedLocks
from netd.model.condition import Condition
from netd.model.errors import Conflict, Exhausted, Invalid, NotFound
from netd.model.service import (
    CheckFault,
    CheckReport,
    CheckResult,
    Maintenance,
    Service,
    ServiceChanges,
    ServiceRecord,
    ServiceSpec,
)

INSTANCES_MAX: Final = 20_000  # of one host
_CODES: Final = "service-"  # of conditions


class Services:
    """Instances are the host's that registered them: nobody else changes them."""

    def __init__(
        self,
        parts: Parts,
        cluster: Cluster,
        catalogue: Catalogue,
        networks: Networks,
        departures: Departures,
    ) -> None:
        self._parts = parts
        self._catalogue = catalogue
        self._networks = networks
        self._departures = departures
        self._locks: KeyedLocks[str] = KeyedLocks()
        self._keeper = Keeper(parts.store)
        self._own = OwnServices(parts, catalogue, self._keeper)
        self._shares = Shares(parts, self._own)
        places = Places(parts, networks, cluster)
        self._composer = Composer(parts, places, self._own.targets)
        self._batches = Batches(parts, places, self._own, self._shares, self._keeper, self._is_gone)
        self.following = Following(parts, self._own, places, self._composer, self._keeper)

    def start(self) -> None:
        """Follow the cluster; after `following.restore`."""
        self._catalogue.subscribe(self._look_for_rivals)
        self._parts.tasks.start("stored services", self._keeper.run())

    def stop(self) -> None:
        self._own.stop()

    async def finish(self) -> None:
        """Write what is not in the store yet, once tasks have ended."""
        await self._keeper.finish()

    # What is asked

    def find(self, service_id: str) -> Service:
        """Raises `NotFound`."""
        service = self._catalogue.find(service_id)
        if service is None:
            raise NotFound(f"there is no service {service_id!r}; `netctl service ls` shows all")
        return self._shown(service)

    def all(
        self,
        *,
        name: str | None = None,
        node: str | None = None,
        network: str | None = None,
        passing: bool = False,
    ) -> tuple[Service, ...]:
        """All instances that match; raises `NotFound` for a network there is not."""
        of_network = None if network is None else self._networks.network(network).name
        of_name = self._catalogue.all() if name is None else self._catalogue.named(name)
        found = [
            service
            for service in of_name
            if node in (None, service.node)
            and of_network in (None, service.network)
            and (not passing or service.status == "passing")
        ]
        found.sort(key=lambda service: (service.name, service.id))
        return tuple(map(self._shown, found))

    def troubled(self) -> tuple[Service, ...]:
        """Instances with something wrong that is not for their checks to find."""
        conditions = self._parts.conditions
        wrong = (each for each in self._catalogue.all() if conditions.of(about(each.id)))
        return tuple(map(self._shown, wrong))

    def counters(self) -> dict[str, int]:
        return {
            "services_registered": self._own.registered,
            "services_deregistered": self._own.deregistered,
            "services_ended": self._own.ended,
            "service_check_results": self._own.results,
            "service_records_ignored": self._catalogue.ignored,
        }

    def levels(self) -> dict[str, int]:
        return {
            "services": len(self._catalogue.all()),
            "services_of_this_host": len(self._own.records),
            "services_to_store": self._keeper.waiting,
        }

    def _shown(self, service: Service) -> Service:
        own = self._own.records.get(service.id)
        if own is not None and service.node == own.service.node:
            # Others need not have the latest outputs yet.
            service = self._catalogue.on_node(own.service)
        conditions = self._parts.conditions.of(about(service.id)) + service.conditions
        return replace(service, conditions=conditions) if conditions else service

    # What is changed

    async def put(self, service_id: str, spec: ServiceSpec) -> tuple[Service, bool]:
        """Register an instance, or have it be as in `spec`: (instance, whether it is new).

        Checks that stay the same go on. Raises `Invalid`, `NotFound` (endpoint, network,
        process), `Conflict` (the id is another host's), `Exhausted`, `Unavailable`.
        """
        rules.check_id(service_id)
        async with self._locks.hold(service_id):
            known = self._own.records.get(service_id)
            if known is None:
                self._demand_free(service_id)
            record = self._composer.compose(service_id, spec, known)
            if known is not None and is_same(record, known):
                return self._shown(known.service), False
            process = None if spec.pid is None else Process(self._parts.kernel, spec.pid)
            try:
                boot_id = self._parts.facts.boot_id
                await self._take(with_process(record, process, boot_id), process)
            except Exception:
                if process is not None:
                    process.stop()
                raise
            return self._shown(self._own.records[service_id].service), known is None

    async def delete(self, service_id: str) -> None:
        """Deregister an instance; nothing to do when there is none.

        Raises `Conflict` for another host's, and for one that a label asks for.
        """
        async with self._locks.hold(service_id):
            self._demand_deletable(service_id)
            if service_id not in self._own.records:
                return
            with self._keeper.work_on(service_id):
                await self._parts.store.commit(Change(delete_services=(service_id,)))
                self._own.remove(service_id)

    async def change(self, asked: ServiceChanges) -> None:
        """Several registrations and deregistrations, all or none.

        Raises what `put`, `delete` and `report` raise, and `Conflict` when one of `seen` has
        changed.
        """
        if twice := sorted(asked.put.keys() & set(asked.delete)):
            raise Invalid(f"{twice[0]!r} cannot be put and deleted at once", field="delete")
        for service_id in asked.put:
            rules.check_id(service_id)
        async with self._locks.hold_all((*asked.put, *asked.delete, *asked.seen)):
            for service_id, revision in asked.seen.items():
                if self._parts.feed.revision_of("service", service_id) != revision:
                    raise Conflict(f"service {service_id!r} has changed", field="seen")
            new = [each for each in asked.put if each not in self._own.records]
            for service_id in new:
                self._demand_free(service_id, len(new))
            for service_id in asked.delete:
                self._demand_deletable(service_id)
            await self._batches.run(asked)

    def report(self, service_id: str, check_id: str, result: CheckResult) -> None:
        """What a check has found. Raises `NotFound`, `Conflict` where that is not for callers."""
        check = checks.to_be_told(self._record(service_id).service, check_id)
        self._own.report(service_id, check, result)

    def report_all(self, reports: Sequence[CheckReport]) -> tuple[CheckFault, ...]:
        """What many checks have found, each as by `report`; those that cannot be taken."""
        faults = []
        for each in reports:
            try:
                self.report(each.service, each.check, each)
            except (NotFound, Conflict) as error:
                fault = CheckFault(
                    service=each.service, check=each.check, code=error.code, detail=error.detail
                )
                faults.append(fault)
        return tuple(faults)

    async def maintain(self, service_id: str, asked: Maintenance) -> Service:
        """Take an instance out, or let it in again. Raises `NotFound`, `Conflict`."""
        async with self._locks.hold(service_id):
            service = self._record(service_id).service
            maintained = self._maintained(service, asked)
            if maintained != service:
                with self._keeper.work_on(service_id):
                    new = replace(self._record(service_id), service=maintained)
                    await self._parts.store.commit(Change(put_services=(new,)))
                    # It may have ended meanwhile, or a check found something.
                    service = self._record(service_id).service
                    self._own.become(self._maintained(service, asked))
            return self.find(service_id)

    # How it is done

    def _maintained(self, service: Service, asked: Maintenance) -> Service:
        """The instance, in maintenance or not, as it is asked for."""
        others = checks.without_check(service, checks.MAINTENANCE)
        if not asked.enable:
            return others
        known = checks.find(service, checks.MAINTENANCE)
        check = checks.out_of_service(asked.reason, self._parts.now())
        if known is not None and known.output == check.output:
            check = known
        return checks.with_check(others, check)

    async def _take(self, record: ServiceRecord, process: Process | None) -> None:
        """Store an instance and show it, unless what it goes with ends meanwhile."""
        ident = record.service.id
        share = self._shares.held(ident, record.spec.endpoint)
        with share, self._keeper.work_on(ident):
            await self._parts.store.commit(Change(put_services=(record,)))
            ended = process is not None and process.over
            if ended or self._is_gone(record.spec.endpoint):
                self._own.end(ident, "what it goes with is gone")
                self._keeper.keep(ident)
                field = "pid" if ended else "endpoint"
                raise NotFound(f"the {field} that it goes with has just ended", field=field)
            known = self._own.records.get(ident)  # a check may have found something meanwhile
            checked = record if known is None else renewed(record, known)
            self._own.put(checked, process, restored=False)

    def _is_gone(self, endpoint_id: str) -> bool:
        if not endpoint_id:
            return False
        return endpoint_id not in self._parts.intent.records or endpoint_id in self._departures

    def _record(self, service_id: str) -> ServiceRecord:
        record = self._own.records.get(service_id)
        if record is None:
            self._demand_own(service_id)
            raise NotFound(f"this host has no service {service_id!r}")
        return record

    def _demand_own(self, service_id: str) -> None:
        holder = self._catalogue.other_holder(service_id)
        if holder:
            raise Conflict(f"service {service_id!r} is registered on {holder}; change it there")

    def _demand_deletable(self, service_id: str) -> None:
        record = self._own.records.get(service_id)
        if record is None:
            self._demand_own(service_id)
        elif record.labelled:
            raise Conflict(
                f"label {labels.SERVICE} of endpoint {record.spec.endpoint} asks for it; "
                "change the label, or detach the endpoint"
            )

    def _demand_free(self, service_id: str, new: int = 1) -> None:
        """`new` is how many there will be more."""
        holder = self._catalogue.other_holder(service_id)
        if holder:
            raise Conflict(
                f"service {service_id!r} is registered on {holder}; choose another id", field="id"
            )
        if len(self._own.records) + new > INSTANCES_MAX:
            raise Exhausted(f"this host has {INSTANCES_MAX} services, the most it may have")

    def _look_for_rivals(self, service_id: str, service: Service | None) -> None:
        """Say of an own instance whose id another host has, too, that nobody sees it."""
        key, found = about(service_id), []
        if service_id in self._own.records and service is not None and not self._is_own(service):
            rival = Condition(
                code=f"{_CODES}hidden",
                severity="error",
                detail=f"the instance of this id on {service.node} is older, so nobody sees that "
                f"of {self._parts.settings.node}",
                remedy=f"on one of both: netctl service deregister {service_id}",
                since=self._parts.now(),
            )
            found.append(rival)
        elif not self._parts.conditions.of(key):
            return
        self._parts.conditions.replace(key, _CODES, found)

    def _is_own(self, service: Service) -> bool:
        own = self._own.records.get(service.id)
        return own is not None and own.service.node == service.node
