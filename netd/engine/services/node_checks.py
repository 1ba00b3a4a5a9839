"""What the checks of a node as a whole make of the instances that are on it."""

from collections import defaultdict
from typing import Final

from msgspec.structs import replace

from netd.model.condition import Condition
from netd.model.service import SEVERITY, Service, shown_on, stands_for_node

_SAID_MAX: Final = 200  # characters of what a check has said that are shown

Place = tuple[str, str]  # a host, and the node of which it tells; in lower case


class NodeChecks:
    """An instance is at best as well as its node.

    The one that stands for a node has the checks of the node. It counts for the instances of
    the same host only, as nobody speaks of what others own.
    """

    def __init__(self) -> None:
        self._ailing: defaultdict[Place, dict[str, Service]] = defaultdict(dict)
        self._instances: defaultdict[Place, set[str]] = defaultdict(set)

    def changed(self, before: Service | None, now: Service | None) -> frozenset[str]:
        """Take note of an instance; the ids of those that may be otherwise by it."""
        affected: set[str] = set()
        for service in (before, now):
            if service is None:
                continue
            place = _place(service)
            if stands_for_node(service):
                affected |= self._instances.get(place, set())
                _discard(self._ailing, place, service.id)
                if service is now and service.status != "passing":
                    self._ailing[place][service.id] = service
            elif service is now:
                self._instances[place].add(service.id)
            else:
                self._instances[place].discard(service.id)
                if not self._instances[place]:
                    del self._instances[place]
        return frozenset(affected)

    def applied(self, service: Service) -> Service:
        """An instance with what its node makes of it: the worse status, and why."""
        ailing = self._ailing.get(_place(service))
        if not ailing or stands_for_node(service):
            return service
        node = max(ailing.values(), key=lambda each: (SEVERITY[each.status], each.id))
        status = max(service.status, node.status, key=SEVERITY.__getitem__)
        return replace(service, status=status, conditions=(*service.conditions, _why(node)))


def _place(service: Service) -> Place:
    return service.node.lower(), shown_on(service).lower()


def _why(node: Service) -> Condition:
    bad = [check for check in node.checks if check.status == node.status]
    said = "; ".join(f"{check.id}: {check.output[:_SAID_MAX]}" for check in bad)
    return Condition(
        code=f"node-{node.status}",
        severity="error" if node.status == "critical" else "warning",
        detail=f"node {shown_on(node)} is {node.status}: {said}",
        remedy=f"`netctl service inspect {node.id}` shows the checks of the node",
        since=max((check.since for check in bad), default=""),
    )


def _discard(index: "defaultdict[Place, dict[str, Service]]", key: Place, ident: str) -> None:
    index[key].pop(ident, None)
    if not index[key]:
        del index[key]
