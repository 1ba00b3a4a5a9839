"""How the targets of alias checks are."""

from collections.abc import Mapping
from typing import Final

from netd.engine.parts import Parts
from netd.engine.services.catalogue import Catalogue
from netd.model.service import (
    CheckResult,
    CheckSpec,
    Service,
    ServiceRecord,
    node_record,
    shown_on,
    stands_for_node,
)

SETTLE_S: Final = 10.0  # after a start; until then what is elsewhere may not have been heard of


class Aliases:
    """`records` are the instances of this host."""

    def __init__(
        self, parts: Parts, catalogue: Catalogue, records: Mapping[str, ServiceRecord]
    ) -> None:
        self._parts = parts
        self._catalogue = catalogue
        self._records = records
        self._settled_s = parts.clock.monotonic_s() + SETTLE_S

    @property
    def settle_s(self) -> float:
        """How long it is until nothing more is to be heard of."""
        return max(0.0, self._settled_s - self._parts.clock.monotonic_s())

    def look(self, spec: CheckSpec, asking: Service) -> CheckResult | None:
        """What an alias of `asking` says. A container is told only of what it sees. None: that
        cannot be known yet.
        """
        networks = self._networks_of(asking)
        if not spec.node:
            return self._look_here(spec.target, networks)
        if networks is not None:
            networks = {""}  # a network of another host's may be another one of the same name
        found = self._look_at_node(spec.node, spec.target, networks)
        if found is None and not self.settle_s:
            what = f"instance {spec.target} on " if spec.target else ""
            return _critical(f"there is no {what}node {spec.node}")
        return found

    def _look_here(self, target: str, networks: set[str] | None) -> CheckResult:
        record = self._records.get(target)
        if networks is not None and (record is None or record.service.network not in networks):
            return _critical(f"its container sees no instance {target} of this host")
        if record is None:
            return _critical(f"this host has no instance {target}")
        status = record.service.status
        return CheckResult(status=status, output=f"{target} is {status}")

    def _look_at_node(
        self, node: str, target: str, networks: set[str] | None
    ) -> CheckResult | None:
        """None: there is no such thing."""
        own = self._records.get(target)
        # Without what its node makes of it, which may have an alias of it.
        service = self._catalogue.find(target or node_record(node)) if own is None else own.service
        if not target:
            if service is not None and stands_for_node(service):
                status = service.status
                return CheckResult(status=status, output=f"node {node} is {status}")
            if self._catalogue.has_host(node):
                return CheckResult(status="passing", output=f"node {node} is passing")
            return None
        if service is None or shown_on(service).lower() != node.lower():
            return None
        if networks is not None and service.network not in networks:
            return _critical(f"its container sees no instance {target} of node {node}")
        return CheckResult(status=service.status, output=f"{target} is {service.status}")

    def _networks_of(self, service: Service) -> set[str] | None:
        """Where what the instance's container sees is, "" for everywhere; None: it sees all."""
        intent = self._parts.intent
        record = intent.records.get(service.endpoint)
        if record is None or not service.network:
            return None
        others = intent.of_container(record.endpoint.container_id)
        return {"", service.network, *(each.endpoint.network for each in others)}


def _critical(output: str) -> CheckResult:
    return CheckResult(status="critical", output=output)
