"""Services as Consul's clients write them."""

import ipaddress
import re
import uuid
from typing import Any, Final, NamedTuple

from netd.model.service import NODE_SERVICE, Weights
from netd.registry.consul.check_bodies import CheckBody, Rules, check_of
from netd.registry.consul.fields import Fields
from netd.registry.http.call import Failure

META_MAX: Final = 64
META_KEY_MAX: Final = 128
META_VALUE_MAX: Final = 512
NAME_MAX: Final = 256

_META_KEY: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_NOT_IN_NAME: Final = re.compile(r"[^a-z0-9_-]+")
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z")
_PLAIN_NODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,60}\Z")
_IDS: Final = uuid.UUID("5b8b0f52-0a0c-5f0e-8a53-0f1c6ac8a2a7")  # namespace of ids made here
# Kept and shown as they came.
_KEPT: Final = (
    ("kind", "Kind"),
    ("socketpath", "SocketPath"),
    ("locality", "Locality"),
    ("proxy", "Proxy"),
    ("taggedaddresses", "TaggedAddresses"),
)


class ServiceBody(NamedTuple):
    """`sidecar` is the body of a second service that goes with it. `extra` is kept as it is."""

    ident: str
    name: str
    address: str
    port: int
    tags: tuple[str, ...]
    meta: dict[str, str]
    weights: Weights
    checks: tuple[CheckBody, ...]
    extra: dict[str, Any]
    sidecar: Fields | None


def service_of(fields: Fields, rules: Rules) -> ServiceBody:
    """Raises `Failure` 400 for what Consul refuses."""
    name = fields.text("name") or fields.text("service")
    if not name:
        raise Failure(400, "Missing service name")
    if len(name) > NAME_MAX or not name.isprintable():
        raise Failure(400, f"Invalid service name: use up to {NAME_MAX} printable characters")
    ident = fields.text("id") or name
    if len(ident) > NAME_MAX or not ident.isprintable():
        raise Failure(400, f"Invalid service ID: use up to {NAME_MAX} printable characters")
    address = fields.text("address")
    if _is_wildcard(address):
        raise Failure(400, "Invalid service address")
    port = fields.number("port")
    if not 0 <= port <= 65_535:
        raise Failure(400, f"Invalid service port {port}")
    connect = fields.fields("connect")
    return ServiceBody(
        ident=ident,
        name=name,
        address=address,
        port=port,
        tags=tuple(tag for tag in fields.texts("tags") if tag),
        meta=checked_meta(fields.mapping("meta")),
        weights=_weights(fields),
        checks=_checks(fields, ident, name, rules),
        extra=_extra(fields),
        sidecar=None if connect is None else connect.fields("sidecarservice"),
    )


def own_name(name: str) -> str:
    """netd's name for a service, which must be a label of DNS; never that of a node."""
    lower = name.lower()
    if _NAME.match(lower) and lower != NODE_SERVICE:
        return lower
    clean = _NOT_IN_NAME.sub("-", lower).strip("-")
    # Different names must not become one by what is left out of them.
    mark = uuid.uuid5(_IDS, lower).hex[:8]
    return f"{clean[:54].strip('-')}-{mark}" if clean else f"service-{mark}"


def own_instance_id(ident: str, node: str) -> str:
    """netd's id for an instance: in Consul an id is unique on its node only."""
    if _PLAIN_ID.match(ident) and _PLAIN_NODE.match(node):
        return f"{ident}@{node}"
    return f"{uuid.uuid5(_IDS, f'{ident}@{node}')}@consul"


def checked_meta(meta: dict[str, str]) -> dict[str, str]:
    """Raises `Failure` 400."""
    if len(meta) > META_MAX:
        raise Failure(400, f"Invalid Service Meta: cannot have more than {META_MAX} pairs")
    for key, value in meta.items():
        if not key:
            raise Failure(400, "Invalid Service Meta: key cannot be blank")
        if not _META_KEY.match(key) or len(key) > META_KEY_MAX:
            raise Failure(400, f"Invalid Service Meta: key {key[:80]!r} has other characters")
        if len(value) > META_VALUE_MAX:
            raise Failure(400, f"Invalid Service Meta: the value of {key!r} is too long")
    return meta


def _checks(fields: Fields, ident: str, name: str, rules: Rules) -> tuple[CheckBody, ...]:
    bodies = [Fields(each, "checks") for each in fields.list("checks")]
    single = fields.fields("check")
    if single:
        bodies.append(single)
    bodies = [body for body in bodies if body]
    default = f"service:{ident}"
    found = []
    for number, body in enumerate(bodies, 1):
        own = default if len(bodies) == 1 else f"{default}:{number}"
        found.append(check_of(body, own, f"Service '{name}' check", rules))
    if len({check.ident for check in found}) < len(found):
        raise Failure(400, "Invalid check: two checks have one CheckID")
    return tuple(found)


def _weights(fields: Fields) -> Weights:
    given = fields.fields("weights")
    if given is None:
        return Weights()
    passing, warning = given.number("passing", 1), given.number("warning", 1)
    if not 1 <= passing <= 65_535:
        raise Failure(400, "Invalid Weights: Passing must be greater than 0 and at most 65535")
    if not 0 <= warning <= 65_535:
        raise Failure(400, "Invalid Weights: Warning must be from 0 to 65535")
    return Weights(passing=passing, warning=warning)


def _extra(fields: Fields) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    for key, shown in _KEPT:
        if fields.raw(key):
            extra[shown] = fields.raw(key)
    if "TaggedAddresses" in extra:
        extra["TaggedAddresses"] = _tagged(fields)
    if fields.flag("enabletagoverride"):
        extra["EnableTagOverride"] = True
    connect = fields.fields("connect")
    if connect is not None and connect.flag("native"):
        extra["Connect"] = {"Native": True}
    return extra


def _tagged(fields: Fields) -> dict[str, Any]:
    """Some write the address alone."""
    found = {}
    for key, value in fields.object("taggedaddresses").items():
        if isinstance(value, str):
            found[key] = {"Address": value, "Port": fields.number("port")}
        else:
            place = Fields(value, "taggedaddresses")
            found[key] = {"Address": place.text("address"), "Port": place.number("port")}
    return found


def _is_wildcard(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_unspecified
    except ValueError:
        return False
