"""How much of a host's catalogue one container may fill."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from netd.engine.parts import Parts
from netd.engine.services.own import OwnServices
from netd.model.errors import Exhausted

INSTANCES_MAX: Final = 256  # that go with endpoints of one container


class Shares:
    """Instances that are being registered count, too: many may be at once."""

    def __init__(self, parts: Parts, own: OwnServices) -> None:
        self._parts = parts
        self._own = own
        self._coming: defaultdict[str, set[str]] = defaultdict(set)  # ids, by container

    @contextmanager
    def held(self, service_id: str, endpoint_id: str) -> Iterator[None]:
        """Room for an instance of the container of an endpoint. Raises `Exhausted`."""
        record = self._parts.intent.records.get(endpoint_id)
        if record is None:
            yield
            return
        container = record.endpoint.container_id
        others = self._ids_of(container) - {service_id}
        if len(others) >= INSTANCES_MAX:
            raise Exhausted(
                f"container {container} has {INSTANCES_MAX} services, the most one may have"
            )
        self._coming[container].add(service_id)
        try:
            yield
        finally:
            self._coming[container].discard(service_id)
            if not self._coming[container]:
                del self._coming[container]

    def _ids_of(self, container: str) -> set[str]:
        found = set(self._coming.get(container, ()))
        for each in self._parts.intent.of_container(container):
            found |= self._own.of_endpoint(each.endpoint.id)
        return found
