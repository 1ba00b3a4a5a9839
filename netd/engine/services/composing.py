"""From what is asked for to the instance that it comes to; nothing is changed here."""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from netd.engine.parts import Parts
from netd.engine.services import checks, rules
from netd.engine.services.places import Places
from netd.engine.services.process import Process
from netd.engine.services.records import bare_size
from netd.model.errors import Invalid
from netd.model.service import (
    NODE_SERVICE,
    Service,
    ServiceRecord,
    ServiceSpec,
    node_record,
    shown_on,
    stands_for_node,
)

SIZE_MAX: Final = 48 * 1024  # bytes of an instance in the cluster's log, without what checks say


class Composer:
    """`targets` has the ids of the instances whose status an instance takes over."""

    def __init__(self, parts: Parts, places: Places, targets: Callable[[str], set[str]]) -> None:
        self._parts = parts
        self._places = places
        self._targets = targets

    def compose(
        self, service_id: str, spec: ServiceSpec, known: ServiceRecord | None
    ) -> ServiceRecord:
        """The instance of a registration; `known` is the one that it takes the place of.

        Raises `Invalid`, `NotFound` (endpoint, network), `Unavailable` (no address).
        """
        rules.check_name(spec.name)
        rules.check_tags(spec.tags)
        rules.check_meta(spec.meta)
        rules.check_extra(spec.extra)
        address, network = self._places.find(spec)
        settings = self._parts.settings
        specs = checks.complete(spec.checks, spec.port, scripts=settings.script_checks)
        self._demand_no_circle(service_id, checks.alias_targets(specs))
        now = self._parts.now()
        begun = tuple(checks.begin(check, now, None) for check in specs)
        service = Service(
            id=service_id,
            name=spec.name,
            node=settings.node,
            address=address,
            other_addresses=self._places.others(spec, address),
            port=spec.port,
            tags=spec.tags,
            meta=spec.meta,
            weights=spec.weights,
            checks=begun,
            status=checks.worst(begun),
            endpoint=spec.endpoint,
            network=network,
            pid=spec.pid,
            created_at=known.service.created_at if known else now,
            extra=spec.extra,
        )
        _demand_id_of_node(service)
        if bare_size(service) > SIZE_MAX:
            raise Invalid(f"name, tags, meta and checks have more than {SIZE_MAX} bytes together")
        record = ServiceRecord(service=service, spec=spec)
        return record if known is None else renewed(record, known)

    def _demand_no_circle(self, service_id: str, targets: set[str]) -> None:
        """Raise `Invalid` when an instance would depend on itself by aliases of aliases."""
        seen: set[str] = set()
        ahead = sorted(targets)
        while ahead:
            target = ahead.pop()
            if target == service_id:
                raise Invalid(
                    f"the alias leads back to {service_id!r}: once critical, it would stay so",
                    field="checks",
                )
            if target not in seen:
                seen.add(target)
                ahead += sorted(self._targets(target))


def _demand_id_of_node(service: Service) -> None:
    """Raise `Invalid` for an instance of the name of nodes that stands for none."""
    if service.name == NODE_SERVICE and not stands_for_node(service):
        ident = node_record(shown_on(service))
        raise Invalid(
            f"{NODE_SERVICE} has the checks of a node, and the id of its instance is {ident!r}; "
            "choose another name",
            field="name",
        )


def renewed(record: ServiceRecord, known: ServiceRecord) -> ServiceRecord:
    """The record with what checks have found that `known` has, too, and with its maintenance."""
    found = {check.id: check for check in known.service.checks}
    kept = [
        checks.begin(check.spec, check.since, found.get(check.id))
        for check in record.service.checks
        if check.spec is not None
    ]
    if checks.MAINTENANCE in found:
        kept.append(found[checks.MAINTENANCE])
    service = replace(record.service, checks=tuple(kept), status=checks.worst(tuple(kept)))
    return replace(record, service=service)


def is_same(record: ServiceRecord, known: ServiceRecord) -> bool:
    """Whether a registration leaves things as they are."""
    return record.spec == known.spec and record.service == known.service and not known.labelled


def with_process(record: ServiceRecord, process: Process | None, boot_id: str) -> ServiceRecord:
    """The record, with what its process is recognised by after a restart."""
    if process is None:
        return record
    return replace(record, pid_start_ticks=process.start_ticks, boot_id=boot_id)
