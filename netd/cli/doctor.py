"""`netctl doctor`: checks of the host, each with its remedy."""

from typing import Any

import click

from netd.cli import options as shared
from netd.cli.connection import connect
from netd.cli.failure import NoDaemon, say
from netd.cli.output import counted, level, print_json, text


@click.command(epilog="\b\nExample:\n  netctl doctor")
@shared.as_json
def doctor(as_json: bool) -> None:
    """Check the host for what stands in netd's way.

    Each finding says what was seen and what to do about it. An error among them is exit code
    1; no daemon is a finding too, with exit code 5.
    """
    findings, code = _findings()
    if as_json:
        print_json(findings)
    else:
        width = max((len(finding["check"]) for finding in findings), default=0)
        for finding in findings:
            name = text(finding["check"]).ljust(width)
            padding = " " * (len("warning") - len(finding["level"]))
            click.echo(f"{level(finding['level'])}{padding}  {name}  {text(finding['detail'])}")
            if finding.get("remedy"):
                click.echo(f"         remedy: {text(finding['remedy'])}")
        errors, warnings = (_count(findings, name) for name in ("error", "warning"))
        say(
            f"{counted(len(findings), 'check')}: {counted(errors, 'error')}, "
            f"{counted(warnings, 'warning')}"
        )
    click.get_current_context().exit(code or int(_count(findings, "error") > 0))


def _findings() -> tuple[list[dict[str, Any]], int]:
    """The daemon's findings, or the one that there is no daemon; and the exit code for that."""
    try:
        with connect() as client:
            return client.doctor(), 0
    except NoDaemon as failure:
        finding = {
            "check": "daemon",
            "level": "error",
            "detail": failure.message,
            "remedy": failure.hint,
        }
        return [finding], failure.exit_code


def _count(findings: list[dict[str, Any]], name: str) -> int:
    return sum(finding["level"] == name for finding in findings)
