"""`netctl plan` and `netctl reconcile`: what differs from the kernel, and putting it right."""

from typing import Any

import click

from netd.cli import options as shared
from netd.cli.connection import connect
from netd.cli.failure import Failure, say
from netd.cli.output import clean, counted, print_json


@click.command(epilog="\b\nExample:\n  netctl plan --exit-code")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when there is something to do.")
@shared.as_json
def plan(exit_code: bool, as_json: bool) -> None:
    """Show what would be changed in the kernel now.

    Each line is one operation with its reason, in the order in which they would run.
    """
    with connect() as client:
        operations = client.plan()
    if as_json:
        print_json(operations)
    else:
        for operation in operations:
            click.echo(_line(operation))
        if not operations:
            click.echo("nothing to do")
    if exit_code and operations:
        click.get_current_context().exit(1)


@click.command(epilog="\b\nExample:\n  netctl reconcile")
@shared.as_json
def reconcile(as_json: bool) -> None:
    """Run the plan now and show what was done.

    When an operation fails, the others still run, and the exit code is 1.
    """
    with connect() as client:
        report = client.reconcile()
    applied, failed, swept = report["applied"], report["failed"], report["swept"]
    if as_json:
        print_json(report)
    else:
        for operation in (*applied, *failed):
            click.echo(_line(operation))
        for endpoint in swept:
            click.echo(f"sweep endpoint {clean(endpoint)}")
        if not (applied or failed or swept):
            click.echo("nothing to do")
        say(
            f"{len(applied)} applied, {len(failed)} failed, {len(swept)} swept "
            f"in {report['duration_ms']:.1f} ms"
        )
    if failed:
        raise Failure(
            f"{counted(len(failed), 'operation')} failed", hint="'netctl doctor' may say why."
        )


def _line(operation: dict[str, Any]) -> str:
    """e.g. `add address 10.20.0.2/24 dev eth0 in net:[4026532]  # it is missing`."""
    where = f" in {operation['ns']}" if operation["ns"] else ""
    error = f"; failed: {operation['error']}" if operation.get("error") else ""
    return clean(
        f"{operation['verb']} {operation['object']}{where}  # {operation['reason']}{error}"
    )
