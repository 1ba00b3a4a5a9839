"""Instances that an endpoint's labels ask for.

`netd.service=web:80,admin:8080/udp` are two, `netd.service.tags=a,b` are the tags of both. What
speaks UDP is tagged `udp`, so that it is found as `_admin._udp`.
"""

import re
from collections.abc import Mapping
from typing import Final

from netd.engine.services.rules import check_name, check_tags
from netd.model.errors import Invalid
from netd.model.service import NODE_SERVICE, ServiceSpec

SERVICE: Final = "netd.service"
TAGS: Final = "netd.service.tags"
_FIELD: Final = f"labels.{SERVICE}"
_INSTANCES_MAX: Final = 16
_PLACE = re.compile(r"(?P<name>[^:/]+)(:(?P<port>[0-9]{1,5})(/(?P<protocol>tcp|udp))?)?\Z")


def specs_of(labels: Mapping[str, str], endpoint: str) -> dict[str, ServiceSpec]:
    """What to register for an endpoint, by id. Raises `Invalid` for labels that say it wrongly."""
    text = labels.get(SERVICE, "")
    if not text.strip():
        return {}
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > _INSTANCES_MAX:
        raise Invalid(f"{len(parts)} services; a label has up to {_INSTANCES_MAX}", field=_FIELD)
    tags = tuple(tag for part in labels.get(TAGS, "").split(",") if (tag := part.strip()))
    specs: dict[str, ServiceSpec] = {}
    for part in parts:
        spec = _spec(part, tags, endpoint)
        if any((known.name, known.port) == (spec.name, spec.port) for known in specs.values()):
            raise Invalid(f"{part!r} is there twice", field=_FIELD)
        ident = f"{spec.name}-{endpoint}"
        if ident in specs:
            ident = f"{ident}-{spec.port}"
        specs[ident] = spec
    return specs


def _spec(part: str, tags: tuple[str, ...], endpoint: str) -> ServiceSpec:
    place = _PLACE.match(part)
    if place is None or int(place["port"] or 0) > 65_535:
        raise Invalid(f"{part!r}: write name:port, e.g. web:80 or dns:53/udp", field=_FIELD)
    check_name(place["name"], _FIELD)
    if place["name"] == NODE_SERVICE:
        raise Invalid(
            f"{NODE_SERVICE} has the checks of the host; choose another name", field=_FIELD
        )
    own = (*tags, "udp") if place["protocol"] == "udp" and "udp" not in tags else tags
    check_tags(own)
    for tag in own:
        if len(tag) > 256:
            raise Invalid(f"tag {tag[:40]!r} has more than 256 characters", field=f"labels.{TAGS}")
    return ServiceSpec(
        name=place["name"], port=int(place["port"] or 0), tags=own, endpoint=endpoint
    )
