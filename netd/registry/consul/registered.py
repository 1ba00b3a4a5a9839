"""What is registered, as it would be registered again."""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

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

    def __contains__(self, ident: str) -> bool:
        return ident in self._ids

    def put(self, check: CheckBody) -> str:
        """netd's id for it."""
        ident = self._ids.get(check.ident) or own_id(check.ident, set(self.specs))
        self.specs[ident] = check.called(ident, self.specs.get(ident))
        self.extra[ident] = check.extra
        self._ids[check.ident] = ident
        return ident

    def drop(self, ident: str) -> str:
        """netd's id for what is gone, "" where there was none."""
        own = self._ids.pop(ident, "")
        if own:
            del self.specs[own]
            self.extra.pop(own, None)
        return own


def as_registered(known: Instance) -> ServiceSpec:
    """What would make an instance as it is, but for its checks."""
    service = known.service
    is_foreign = known.node != service.node  # on a node that is no host
    follows_host = not service.endpoint and not is_foreign and known.extra.get("address") == ""
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


def with_checks(spec: ServiceSpec, extra: Mapping[str, Any], checks: Checks) -> ServiceSpec:
    """`spec` with these checks, and with `extra` as what Consul's API keeps of it."""
    kept = {**spec.extra, "consul": {**extra, "checks": checks.extra}}
    return replace(spec, checks=tuple(checks.specs.values()), extra=kept)
