"""What instances follow by themselves: restarts, endpoints, their labels, the host's address."""

import logging

from msgspec.structs import replace

from netd.engine.interfaces import Snapshot
from netd.engine.parts import Parts
from netd.engine.services import labels
from netd.engine.services.composing import Composer
from netd.engine.services.keeper import Keeper
from netd.engine.services.own import OwnServices
from netd.engine.services.places import Places
from netd.engine.services.process import Process
from netd.model.endpoint import Endpoint
from netd.model.errors import NetdError, NotFound
from netd.model.service import Service, ServiceRecord, ServiceSpec

log = logging.getLogger(__name__)


class Following:
    """Nothing here raises: what is asked for was checked when it was asked for."""

    def __init__(
        self, parts: Parts, own: OwnServices, places: Places, composer: Composer, keeper: Keeper
    ) -> None:
        self._parts = parts
        self._own = own
        self._places = places
        self._composer = composer
        self._keeper = keeper

    def restore(self, snapshot: Snapshot) -> None:
        """Go on with what is stored, but for what has ended; after endpoints were restored."""
        for record in snapshot.services:
            try:
                self._restore(record)
            except NetdError as error:
                ident = record.service.id
                self._parts.events.emit(
                    "service.deregistered", about=ident, name=record.spec.name, detail=error.detail
                )
                self._keeper.keep(ident)
        for known in list(self._parts.intent.records.values()):
            self._sync(known.endpoint, restored=True)

    def _restore(self, record: ServiceRecord) -> None:
        """Raises `NetdError` when the instance has ended."""
        spec, parts = record.spec, self._parts
        known = parts.intent.records.get(spec.endpoint)
        if spec.endpoint and known is None:
            raise NotFound("its endpoint is gone")
        if record.labelled and known is not None:
            wanted = labels.specs_of(known.endpoint.labels, spec.endpoint)
            if wanted.get(record.service.id) != spec:
                raise NotFound("its endpoint's label is gone")
        process = None
        if spec.pid is not None:
            if record.boot_id != parts.facts.boot_id:
                raise NotFound("the host has rebooted")
            try:
                process = Process(parts.kernel, spec.pid, record.pid_start_ticks)
            except NotFound:
                raise NotFound(f"process {spec.pid} has ended") from None
        service = self._at_home(replace(record.service, node=parts.settings.node), spec)
        self._own.put(replace(record, service=service), process, restored=True)

    def endpoint_changed(self, endpoint: Endpoint) -> None:
        """An endpoint is new, or its labels may be others."""
        self._sync(endpoint, restored=False)

    def endpoint_ended(self, endpoint_id: str) -> None:
        for service_id in sorted(self._own.of_endpoint(endpoint_id)):
            self._own.end(service_id, f"endpoint {endpoint_id} is gone")

    def host_has(self, addresses: tuple[str, ...]) -> None:
        """The host's addresses, in CIDR form; instances that have none of their own follow."""
        if addresses != self._places.addresses:
            self._places.addresses = addresses
            for record in list(self._own.records.values()):
                self._own.become(self._at_home(record.service, record.spec))

    def _at_home(self, service: Service, spec: ServiceSpec) -> Service:
        """The instance with the host's address, if it has no other; the last one is better than
        none. One of an endpoint has all that the endpoint has.
        """
        service = replace(service, other_addresses=self._places.others(spec, service.address))
        if not self._places.addresses or not self._places.follows_host(spec):
            return service
        return replace(service, address=self._places.host_address())

    def _sync(self, endpoint: Endpoint, *, restored: bool) -> None:
        """Have an endpoint the instances that its labels ask for, and no others of that kind."""
        try:
            wanted = labels.specs_of(endpoint.labels, endpoint.id)
        except NetdError as error:  # of a time when netd did not read this label
            log.warning("endpoint %s: %s", endpoint.id, error.detail)
            wanted = {}
        for service_id in sorted(self._own.of_endpoint(endpoint.id) - wanted.keys()):
            if self._own.records[service_id].labelled:
                self._own.end(service_id, "its endpoint's label is gone")
        for service_id, spec in wanted.items():
            known = self._own.records.get(service_id)
            if known is None or (known.labelled and known.spec != spec):
                self._put_labelled(service_id, spec, known, endpoint, restored=restored)

    def _put_labelled(
        self,
        service_id: str,
        spec: ServiceSpec,
        known: ServiceRecord | None,
        endpoint: Endpoint,
        *,
        restored: bool,
    ) -> None:
        try:
            record = self._composer.compose(service_id, spec, known)
        except NetdError as error:
            log.warning("endpoint %s: no service %s: %s", endpoint.id, spec.name, error.detail)
            return
        service = replace(record.service, created_at=endpoint.created_at)
        self._own.put(replace(record, service=service, labelled=True), None, restored=restored)
