"""What is registered, as it would be registered again."""

from typing import Any

from netd.model.service import CheckSpec, ServiceSpec
from netd.registry.catalog.records import Instance
from netd.registry.consul.check_bodies import CheckBody, own_id


class Checks:
    """The checks of an instance, as they are to be registered."""

    def __init__(self, known: Instance | None) -> None:
        self.specs: dict[str, CheckSpec] = {}
        self.extra: dict[str, Any] = {}
        self._ids: dict[str, str] = {}  # by what Consul calls them
        for check in () if known is None else known.service.checks:
            if known is None or check.spec is None:
                continue
            self.specs[check.id] = check.spec
            self._ids[known.check_ident(check)] = check.id
            extra = known.check_extra(check)
            if extra:
                self.extra[check.id] = extra

    def put(self, check: CheckBody) -> None:
        ident = self._ids.get(check.ident) or own_id(check.ident, set(self.specs))
        self.specs[ident] = check.called(ident, self.specs.get(ident))
        self.extra[ident] = check.extra
        self._ids[check.ident] = ident

    def drop(self, ident: str) -> None:
        own = self._ids.pop(ident, None)
        if own is not None:
            del self.specs[own]
            self.extra.pop(own, None)


def as_registered(known: Instance) -> ServiceSpec:
    """What would make an instance as it is."""
    service = known.service
    follows_host = not service.endpoint and known.extra.get("address") == ""
    return ServiceSpec(
        name=service.name,
        address="" if follows_host or known.is_node else service.address,
        port=service.port,
        tags=service.tags,
        meta=service.meta,
        weights=service.weights,
        endpoint=service.endpoint,
        pid=service.pid,
        network="" if follows_host else service.network,
        extra=service.extra,
    )
