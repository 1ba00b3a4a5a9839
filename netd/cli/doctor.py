"""`netctl doctor`: checks of the host, each with its remedy."""

from typing import Any

import click

from netd.cli import options as shared
from netd.cli import resolved
from netd.cli.connection import connect
from netd.cli.failure import Failure, NoDaemon, say
from netd.cli.output import counted, level, print_json, text
from netd.client import Client


@click.command(epilog="\b\nExamples:\n  netctl doctor\n  netctl doctor --fix")
@click.option(
    "--fix", is_flag=True, help="Have systemd-resolved, if it runs, ask netd for netd's names."
)
@shared.as_json
def doctor(fix: bool, as_json: bool) -> None:
    """Check the host for what stands in netd's way.

    Each finding says what was seen and what to do about it. An error among them is exit code
    1; no daemon is a finding too, with exit code 5.
    """
    findings, code = _findings(fix)
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


def _findings(fix: bool) -> tuple[list[dict[str, Any]], int]:
    """The daemon's findings, or the one that there is no daemon; and the exit code for that."""
    try:
        with connect() as client:
            return [*client.doctor(), *_resolved(client, fix)], 0
    except NoDaemon as failure:
        finding = {
            "check": "daemon",
            "level": "error",
            "detail": failure.message,
            "remedy": failure.hint,
        }
        return [finding], failure.exit_code


def _resolved(client: Client, fix: bool) -> list[dict[str, Any]]:
    """What is to say of systemd-resolved. Raises `Failure` if it is to be told and cannot be."""
    if not resolved.runs():
        if fix:
            say("systemd-resolved does not run here: there is nothing to fix.")
        return []
    with client.directory() as lines:
        zone = next((line["zone"] for line in lines if line["kind"] == "zone"), None)
    if zone is None:
        raise Failure("the daemon does not say what its zone is")
    try:
        text = resolved.wanted(zone, client.registry()["listening"])
    except Failure as failure:
        if fix:
            raise
        return [
            {
                "check": "systemd-resolved",
                "level": "warning",
                "detail": failure.message,
                "remedy": failure.hint,
            }
        ]
    if fix and resolved.hand_over(text):
        say("systemd-resolved asks netd for netd's names now.")
    return [resolved.finding(text)]


def _count(findings: list[dict[str, Any]], name: str) -> int:
    return sum(finding["level"] == name for finding in findings)
