"""Health checks as Consul's clients write them, made into netd's own."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from netd.model.service import CheckKind, CheckSpec, CheckStatus
from netd.registry.consul.durations import text_of
from netd.registry.consul.fields import Fields
from netd.registry.http.call import Failure

INTERVAL_MIN_S: Final = 1.0
INTERVAL_MAX_S: Final = 86_400.0
DEREGISTER_MIN_S: Final = 60.0
DEREGISTER_MAX_S: Final = 31_536_000.0
TIMES_MAX: Final = 100

_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_.:@-]{1,128}\Z")
_STATUSES: Final[Mapping[str, CheckStatus]] = {
    "passing": "passing",
    "warning": "warning",
    "critical": "critical",
}
_NOT_KNOWN: Final = ("dockercontainerid", "osservice")


class CheckBody(NamedTuple):
    """`ident` is its id in Consul; `extra` what is to be kept of it beside `spec`."""

    ident: str
    spec: CheckSpec
    extra: dict[str, Any]

    def called(self, own: str, known: CheckSpec | None) -> CheckSpec:
        """The check with netd's id for it. One that is told how it is stays the same check, if
        there is one, whatever it is told.
        """
        goes_on = known is not None and known.kind == self.spec.kind == "told"
        status = known.status if known is not None and goes_on else self.spec.status
        return replace(self.spec, id=own, status=status)


class Rules(NamedTuple):
    """`scripts`: whether these may be asked for. `find` gives what an alias looks at, as `node`
    and `target` of a `CheckSpec`: of an instance by what Consul calls it, on this host or on the
    node that is named, or with "" of that node.
    """

    scripts: bool
    find: Callable[[str, str], tuple[str, str]]


def check_of(fields: Fields, ident: str, default_name: str, rules: Rules) -> CheckBody:
    """`ident` is the id where the check gives none. Raises `Failure` 400."""
    ident = fields.text("checkid") or fields.text("id") or ident
    kind, node, target = _kind_of(fields, rules)
    name = fields.text("name") or default_name
    interval_s = _interval_s(fields, kind)
    timeout_s = fields.duration_s("timeout")
    spec = CheckSpec(
        kind=kind,
        name=name[:256],
        notes=fields.text("notes")[:4096],
        target=target,
        node=node,
        method=(fields.text("method") or "GET")[:256],
        headers=_headers(fields),
        body=fields.text("body")[:4096],
        follow_redirects=not fields.flag("disableredirects"),
        tls=_uses_tls(fields, kind),
        tls_server_name=fields.text("tlsservername")[:256],
        tls_skip_verify=fields.flag("tlsskipverify"),
        args=_args(fields) if kind == "script" else (),
        ttl_s=_ttl_s(fields) if kind == "ttl" else None,
        interval_s=10.0 if interval_s is None else interval_s,
        timeout_s=None if timeout_s is None else min(max(timeout_s, 0.001), INTERVAL_MAX_S),
        successes_before_passing=_times(fields, "successbeforepassing"),
        failures_before_warning=_warnings(fields),
        failures_before_critical=_times(fields, "failuresbeforecritical"),
        deregister_after_s=_deregister_after_s(fields),
        status=status_of(fields.text("status") or "critical"),
    )
    extra: dict[str, Any] = {"CheckID": ident}
    if interval_s is not None:
        extra["Interval"] = text_of(interval_s)
    if timeout_s is not None:
        extra["Timeout"] = text_of(timeout_s)
    return CheckBody(ident, spec, extra)


def told_check(fields: Fields) -> CheckBody:
    """One that somebody else runs, who registers it again to say how it is. Raises `Failure`."""
    ident = fields.text("checkid") or fields.text("name")
    if not ident:
        raise Failure(400, "a check needs a CheckID or a Name")
    spec = CheckSpec(
        kind="told",
        name=(fields.text("name") or ident)[:256],
        notes=fields.text("notes")[:4096],
        status=status_of(fields.text("status") or "critical"),
    )
    definition = fields.object("definition")
    return CheckBody(ident, spec, {"CheckID": ident, "Type": "", "Definition": definition})


def status_of(text: str) -> CheckStatus:
    """Raises `Failure` 400."""
    status = _STATUSES.get(text.lower())
    if status is None:
        raise Failure(
            400, f"Bad check status: {text[:80]!r} (must be one of passing, warning, critical)"
        )
    return status


def own_id(ident: str, taken: set[str]) -> str:
    """netd's id for a check that Consul's clients call `ident`, other than those `taken`."""
    clean = ident if _PLAIN_ID.match(ident) else re.sub(r"[^A-Za-z0-9_.:@-]", "-", ident)[:100]
    found = clean or "check"
    if found == "maintenance":  # netd's own
        found = "check-maintenance"
    number = 1
    while found in taken:
        number += 1
        found = f"{clean[:100]}-{number}"
    return found


def _kind_of(fields: Fields, rules: Rules) -> tuple[CheckKind, str, str]:
    """And the node and target that it looks at."""
    for name in _NOT_KNOWN:
        if fields.raw(name):
            raise _invalid(f"checks with {name} are not known to netd")
    if fields.raw("args") or fields.raw("scriptargs") or fields.raw("script"):
        if not rules.scripts:
            raise _invalid(
                "scripts are disabled on this agent; registry.script_checks in netd's "
                "configuration enables them, for programs of the host"
            )
        return "script", "", ""
    for name, kind in _BY_TARGET:
        target = fields.text(name)
        if not target:
            continue
        return kind, "", target[:4096]
    if fields.raw("ttl"):
        return "ttl", "", ""
    service, node = fields.text("aliasservice"), fields.text("aliasnode")
    if service or node:
        return "alias", *rules.find(service, node)
    raise _invalid(
        "a check needs one of http, tcp, udp, grpc, h2ping, ttl, args, alias_service or alias_node"
    )


def _uses_tls(fields: Fields, kind: CheckKind) -> bool:
    """An http check says so by its URL."""
    return {
        "tcp": fields.flag("tcpusetls"),
        "grpc": fields.flag("grpcusetls"),
        "h2ping": fields.flag("h2pingusetls", True),
    }.get(kind, False)


def _interval_s(fields: Fields, kind: CheckKind) -> float | None:
    interval_s = fields.duration_s("interval")
    if kind in ("ttl", "alias"):
        return None
    if interval_s is None or interval_s < 0:
        raise _invalid("Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or gRPC checks")
    return min(max(interval_s, INTERVAL_MIN_S), INTERVAL_MAX_S)


def _ttl_s(fields: Fields) -> float:
    ttl_s = fields.duration_s("ttl")
    if ttl_s is None or ttl_s <= 0:
        raise _invalid("TTL must be > 0 for TTL checks")
    return min(ttl_s, INTERVAL_MAX_S)


def _deregister_after_s(fields: Fields) -> float | None:
    after_s = fields.duration_s("deregistercriticalserviceafter")
    if after_s is None or after_s < 0:
        return None
    return min(max(after_s, DEREGISTER_MIN_S), DEREGISTER_MAX_S)


def _times(fields: Fields, name: str) -> int:
    """Consul counts those before the one that decides, netd all."""
    before = fields.number(name)
    if before < 0:
        raise _invalid(f"{name} must not be negative")
    return min(before + 1, TIMES_MAX)


def _warnings(fields: Fields) -> int | None:
    if "failuresbeforewarning" not in fields:
        return None
    warning = _times(fields, "failuresbeforewarning")
    critical = _times(fields, "failuresbeforecritical")
    if warning > critical:
        raise _invalid("FailuresBeforeWarning can't be higher than FailuresBeforeCritical")
    return warning if warning < critical else None


def _headers(fields: Fields) -> dict[str, tuple[str, ...]]:
    found = {}
    for name, values in fields.object("header").items():
        several = [values] if isinstance(values, str) else values
        if not isinstance(several, list) or not all(isinstance(each, str) for each in several):
            raise Failure(400, "Request decode failed: header is not an object of lists")
        found[name] = tuple(several)
    return found


def _args(fields: Fields) -> tuple[str, ...]:
    script = fields.raw("script")
    if isinstance(script, str) and script:
        return ("sh", "-c", script)
    return fields.texts("args") or fields.texts("scriptargs")


def _invalid(text: str) -> Failure:
    return Failure(400, f"Invalid check: {text}")


_BY_TARGET: Final[tuple[tuple[str, CheckKind], ...]] = (
    ("http", "http"),
    ("tcp", "tcp"),
    ("udp", "udp"),
    ("grpc", "grpc"),
    ("h2ping", "h2ping"),
)
