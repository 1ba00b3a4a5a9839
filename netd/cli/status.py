"""`netctl status`: how the daemon is."""

from typing import Any

import click

from netd.cli import options as shared
from netd.cli.connection import connect, netctl
from netd.cli.output import clean, counted, level, print_conditions, print_fields, print_json


@click.command(epilog="\b\nExample:\n  netctl status --json")
@shared.as_json
def status(as_json: bool) -> None:
    """Show the daemon's state in short.

    That is what it holds, its drift from the kernel, and what is wrong.
    """
    with connect() as client:
        found = client.status()
    if as_json:
        print_json(found)
        return
    health = level("ready") if found["ready"] else level("error") + ": not ready"
    click.echo(f"netd {clean(found['version'])} on {clean(found['node'])}: {health}")
    print_fields(_summary(found))
    print_conditions(found.get("conditions"))


def _summary(found: dict[str, Any]) -> dict[str, object]:
    drift = f"{counted(found['drift'], 'operation')} needed; '{netctl()} plan' shows what"
    summary = {
        "networks": found["networks"],
        "endpoints": found["endpoints"],
        "members": found["members"],
        "drift": drift if found["drift"] else "none",
        "kernel": found.get("kernel"),
        "started": found.get("started_at"),
        "capabilities": sorted(found["capabilities"]),
        "config error": found.get("config_error"),
    }
    return {name: value for name, value in summary.items() if value not in (None, "")}
