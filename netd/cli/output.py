"""What goes to standard output: tables and fields for people, JSON for programs."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from netd.cli.ports import format_ports
from netd.cli.rates import format_rate
from netd.client.printable import clean as clean

Json = Any  # what json.loads returns

_LEVEL_COLOURS = {
    "ok": "green",
    "ready": "green",
    "passing": "green",
    "critical": "red",
    "warning": "yellow",
    "error": "red",
    "failed": "red",
}


def print_json(value: Json) -> None:
    """Print an answer of the API as it is: indented on a terminal, else on one line.

    Everything but ASCII is escaped, so that no value can steer a terminal.
    """
    if sys.stdout.isatty():
        click.echo(json.dumps(value, indent=2))
    else:
        print_line(value)


def print_line(value: Json) -> None:
    """Print one of many answers, always on one line."""
    click.echo(json.dumps(value, separators=(",", ":")))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows in aligned columns, two blanks apart; no value is ever cut."""
    lines = [list(headers), *([text(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def print_fields(fields: Mapping[str, object]) -> None:
    """Print an object: one line for each field, then its conditions if it has any."""
    shown = {name: value for name, value in fields.items() if name != "conditions"}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        click.echo(f"{name:<{width}}  {text(value)}")
    print_conditions(fields.get("conditions") or ())


def print_conditions(conditions: object) -> None:
    """Print what is wrong with an object and what to do about it."""
    for condition in conditions if isinstance(conditions, list | tuple) else ():
        since = f" (since {text(condition['since'])})" if condition.get("since") else ""
        code, detail = text(condition["code"]), text(condition["detail"])
        click.echo(f"{level(condition['severity'])} {code}: {detail}{since}")
        if condition.get("remedy"):
            click.echo(f"  remedy: {text(condition['remedy'])}")


def counted(number: int, noun: str) -> str:
    """e.g. `1 operation`, `2 operations`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def level(name: str) -> str:
    """A level's name, coloured; the colour goes where there is no terminal or it is unwanted."""
    return click.style(name, fg=_LEVEL_COLOURS.get(name))


def state(obj: Mapping[str, Any]) -> str:
    """One word on an object's health: the codes of its conditions, `ready` without any."""
    codes = [condition["code"] for condition in obj.get("conditions", ())]
    return ",".join(codes) or str(obj.get("state", "ready"))


def text(value: Json) -> str:
    """Any value of the API on one line; `-` for nothing."""
    match value:
        case bool():
            return "yes" if value else "no"
        case {"host_port": _, "container_port": _}:
            return format_ports(value)
        case {"ingress_bps": _} | {"egress_bps": _}:
            rates = {name.removesuffix("_bps"): rate for name, rate in value.items() if rate}
            return text({name: format_rate(rate) for name, rate in rates.items()})
        case Mapping():
            parts = {name: text(part) for name, part in value.items()}
            return clean(" ".join(f"{name}={part}" for name, part in parts.items())) or "-"
        case list() | tuple():
            return ",".join(map(text, value)) or "-"
        case None | "":
            return "-"
        case _:
            return clean(str(value))
