"""Health checks as they are registered: what may be asked for, and what is filled in."""

import re
from typing import Final

from msgspec.structs import replace

from netd.engine.services.records import CHECKS_MAX
from netd.engine.services.rules import check_id
from netd.model.errors import Conflict, Invalid, NotFound
from netd.model.service import (
    SEVERITY,
    Check,
    CheckResult,
    CheckSpec,
    CheckStatus,
    Service,
    node_record,
)

MAINTENANCE: Final = "maintenance"  # kind and id of the check that keeps an instance out
ARGS_MAX: Final = 64
HEADERS_MAX: Final = 64
INTERVAL_MIN_S: Final = 0.05
OUTPUT_MAX: Final = 4096  # characters that are kept of what a check has said

_BY_PORT: Final = ("http", "tcp", "udp", "grpc", "h2ping")
_URL = re.compile(r"https?://[^\s/?#]+([/?#]\S*)?\Z|/\S*\Z")
_PLACE = re.compile(r"([^\s:/\[\]]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?\Z")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110 5.6.2: token
_METHOD = re.compile(r"[A-Z]+\Z")


def complete(specs: tuple[CheckSpec, ...], port: int, *, scripts: bool) -> tuple[CheckSpec, ...]:
    """The checks with ids and names. `port` is the instance's, 0 without one.

    Raises `Invalid` for the first thing that cannot be right; scripts are refused unless
    `scripts`.
    """
    if len(specs) > CHECKS_MAX:
        raise Invalid(f"{len(specs)} checks; at most {CHECKS_MAX} are run", field="checks")
    done: dict[str, CheckSpec] = {}
    taken = {spec.id for spec in specs}
    for index, spec in enumerate(specs):
        field = f"checks[{index}]"
        _check(spec, port, field, scripts=scripts)
        ident = spec.id or _free_id(spec.kind, {*done, *taken})
        if ident in done or ident == MAINTENANCE:
            raise Invalid(f"another check has the id {ident!r}", field=f"{field}.id")
        done[ident] = replace(spec, id=ident, name=spec.name or ident)
    return tuple(done.values())


def begin(spec: CheckSpec, now: str, known: Check | None) -> Check:
    """A check before it has run; one that is registered again as it was goes on as it is."""
    if known is not None and known.spec == spec:
        return known
    return Check(
        id=spec.id,
        name=spec.name,
        kind=spec.kind,
        status=spec.status,
        notes=spec.notes,
        since=now,
        spec=spec,
    )


def says(check: Check, result: CheckResult) -> bool:
    """Whether the check is the same after that result."""
    return check.status == result.status and check.output == result.output[:OUTPUT_MAX]


def with_result(check: Check, result: CheckResult, now: str) -> Check:
    """The check after a run; `since` stays while its status does."""
    since = now if result.status != check.status else check.since
    return replace(check, status=result.status, output=result.output[:OUTPUT_MAX], since=since)


def out_of_service(reason: str, now: str) -> Check:
    """The check of an instance that is in maintenance."""
    return Check(
        id=MAINTENANCE,
        name="Maintenance",
        kind=MAINTENANCE,
        status="critical",
        output=reason or "in maintenance",
        since=now,
    )


def worst(checks: tuple[Check, ...]) -> CheckStatus:
    """How an instance is that has these checks; well without any."""
    return max((check.status for check in checks), key=SEVERITY.__getitem__, default="passing")


def with_check(service: Service, check: Check) -> Service:
    """The instance with another state of one of its checks, or with one more."""
    others = {known.id: known for known in service.checks}
    checks = tuple((others | {check.id: check}).values())
    return replace(service, checks=checks, status=worst(checks))


def without_check(service: Service, check_id: str) -> Service:
    checks = tuple(check for check in service.checks if check.id != check_id)
    return replace(service, checks=checks, status=worst(checks))


def find(service: Service, check_id: str) -> Check | None:
    return next((check for check in service.checks if check.id == check_id), None)


def to_be_told(service: Service, check_id: str) -> Check:
    """A check of which a caller may say what it has found. Raises `NotFound` and `Conflict`."""
    check = find(service, check_id)
    if check is None:
        raise NotFound(f"service {service.id!r} has no check {check_id!r}")
    if check.kind in ("alias", MAINTENANCE):
        raise Conflict(f"check {check_id!r} is netd's own to set")
    return check


def alias_targets(checks: tuple[CheckSpec, ...]) -> set[str]:
    """The ids of the instances whose status these checks take over."""
    return {spec.target or node_record(spec.node) for spec in checks if spec.kind == "alias"}


def _check(spec: CheckSpec, port: int, field: str, *, scripts: bool) -> None:
    if spec.id:
        check_id(spec.id, f"{field}.id")
    if spec.interval_s < INTERVAL_MIN_S:
        raise Invalid(f"checks run at most each {INTERVAL_MIN_S} s", field=f"{field}.interval_s")
    match spec.kind:
        case "http":
            _check_http(spec, field)
        case "tcp" | "udp" | "grpc" | "h2ping":
            place = spec.target.partition("/")[0] if spec.kind == "grpc" else spec.target
            if not _PLACE.match(place):
                raise Invalid(
                    f"target {spec.target[:200]!r}: write host:port, e.g. 10.0.0.1:80 or "
                    "[fd00::1]:80",
                    field=f"{field}.target",
                )
        case "ttl" if spec.ttl_s is None:
            raise Invalid("a ttl check needs ttl_s", field=f"{field}.ttl_s")
        case "alias" if spec.target or not spec.node:
            check_id(spec.target, f"{field}.target")
        case "script":
            _check_script(spec, field, scripts=scripts)
    if spec.kind in _BY_PORT and not port and not _names_port(spec):
        raise Invalid(
            f"the instance has no port that a {spec.kind} check could look at; give it a port, or "
            "the check a target",
            field=f"{field}.target",
        )


def _check_http(spec: CheckSpec, field: str) -> None:
    if spec.target and not _URL.match(spec.target):
        raise Invalid(
            f"target {spec.target[:200]!r}: write a URL, http://… or https://…, or a path of the "
            "instance's, which begins with /",
            field=f"{field}.target",
        )
    if not _METHOD.match(spec.method):
        raise Invalid(f"{spec.method!r} is no method of HTTP", field=f"{field}.method")
    if len(spec.headers) > HEADERS_MAX:
        raise Invalid(f"at most {HEADERS_MAX} headers are sent", field=f"{field}.headers")
    for name, values in spec.headers.items():
        if not _HEADER.match(name) or any(set(value) & {"\r", "\n", "\0"} for value in values):
            raise Invalid(f"{name[:40]!r} cannot be sent", field=f"{field}.headers")


def _check_script(spec: CheckSpec, field: str, *, scripts: bool) -> None:
    if not scripts:
        raise Invalid(
            "scripts are off on this host; registry.script_checks in netd's configuration "
            "allows them",
            field=f"{field}.kind",
        )
    if not spec.args or not spec.args[0] or len(spec.args) > ARGS_MAX:
        raise Invalid(f"give a program and up to {ARGS_MAX - 1} arguments", field=f"{field}.args")
    if any("\0" in arg for arg in spec.args):
        raise Invalid("an argument has a null byte", field=f"{field}.args")


def _names_port(spec: CheckSpec) -> bool:
    if spec.kind == "http":
        return spec.target.startswith("http")
    place = spec.target.partition("/")[0]
    found = _PLACE.match(place)
    return found is not None and found[2] is not None


def _free_id(kind: str, taken: set[str]) -> str:
    number = 1
    while (ident := kind if number == 1 else f"{kind}-{number}") in taken:
        number += 1
    return ident
