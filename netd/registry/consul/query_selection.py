"""Which instances a prepared query finds, and in which order."""

import random
from collections.abc import Iterable, Sequence

from netd.naming.values import Scope
from netd.registry.catalog.records import Instance
from netd.registry.consul.acl_sight import Sight
from netd.registry.consul.forms import Row
from netd.registry.consul.health import Health
from netd.registry.consul.options import Options
from netd.registry.consul.parts import Parts
from netd.registry.consul.query_spec import Wanted


class Instances:
    """Instances of a service, as `health/service/NAME` shows them."""

    def __init__(self, parts: Parts, health: Health) -> None:
        self.parts = parts
        self._health = health

    def of(self, service: str, scope: Scope) -> list[tuple[Instance, Row]]:
        return [(each, self._row(each)) for each in self.parts.catalog.of_service(service, scope)]

    def _row(self, instance: Instance) -> Row:
        catalog, forms = self.parts.catalog, self.parts.forms
        node = catalog.node_or_stand_in(instance)
        known = catalog.node(node.name) is not None
        checks = self._health.of_node_itself(node) if known else []
        return {
            "Node": forms.node(node),
            "Service": forms.service(instance),
            "Checks": checks + forms.checks(instance),
        }


def chosen(
    instances: Instances, wanted: Wanted, options: Options, scope: Scope, sight: Sight
) -> list[Row]:
    """Those that are wanted, seen and not critical: shuffled, or the nearest first."""
    found = [
        (instance, row)
        for instance, row in instances.of(wanted.service, scope)
        if sight.sees_instance(instance) and is_wanted(row, wanted)
    ]
    random.shuffle(found)
    near = options.near or wanted.near
    key = instances.parts.nearest(options._replace(near=near))
    if key is not None:
        found.sort(key=lambda each: key(each[0]))
    return [row for _, row in found]


def is_wanted(row: Row, wanted: Wanted) -> bool:
    return (
        _is_well(row["Checks"], wanted)
        and _has(row["Node"]["Meta"], wanted.node_meta)
        and _has(row["Service"]["Meta"], wanted.service_meta)
        and has_tags(row["Service"]["Tags"], wanted.tags)
    )


def has_tags(own: Iterable[str], wanted: Sequence[str]) -> bool:
    """All of them, but none that begins with "!"; in whatever case."""
    known = {tag.lower() for tag in own}
    return all(
        tag[1:].lower() not in known if tag.startswith("!") else tag.lower() in known
        for tag in wanted
    )


def _is_well(checks: Iterable[Row], wanted: Wanted) -> bool:
    for check in checks:
        if check["CheckID"] in wanted.ignore_check_ids:
            continue
        if check["Status"] == "critical" or (wanted.only_passing and check["Status"] != "passing"):
            return False
    return True


def _has(own: dict[str, str], wanted: dict[str, str]) -> bool:
    return all(own.get(key) == value for key, value in wanted.items())
