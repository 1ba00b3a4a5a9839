"""Health checks as people write them: `KIND` or `KIND=WHAT`."""

import shlex
from typing import Any

from netd.cli.durations import parse_duration
from netd.cli.values import notation

_WITH_TARGET = ("http", "tcp", "udp", "grpc", "h2ping")


def parse_check(text: str) -> dict[str, Any]:
    """Read e.g. `http=/health`, `tcp`, `ttl=30s`. Raises `ValueError`."""
    kind, equals, what = text.partition("=")
    if equals and not what:
        raise ValueError(f"{text!r}: nothing follows '='")
    if kind == "told" and not equals:
        return {"kind": kind}
    if kind in _WITH_TARGET:
        return {"kind": kind, "target": what} if what else {"kind": kind}
    if kind in ("ttl", "alias", "script") and not what:
        raise ValueError(f"{text!r}: write {kind}={_FORMS[kind]}")
    match kind:
        case "ttl":
            return {"kind": kind, "ttl_s": parse_duration(what)}
        case "alias":
            return {"kind": kind, "target": what}
        case "script":
            return {"kind": kind, "args": _words(what)}
    raise ValueError(
        f"{text!r}: a check is one of http, tcp, udp, grpc, h2ping, ttl=TIME, told, "
        "alias=ID, script=COMMAND"
    )


_FORMS = {"ttl": "TIME, e.g. ttl=30s", "alias": "ID", "script": "COMMAND"}


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise ValueError(f"{command!r}: {error}") from None


CHECK = notation(parse_check)
