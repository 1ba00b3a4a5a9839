"""`netctl member`: the hosts of the cluster."""

import click

from netd.cli import options as shared
from netd.cli.connection import connect
from netd.cli.output import print_json, print_table


@click.group(no_args_is_help=True)
def member() -> None:
    """List the hosts of the cluster."""


@member.command(epilog="\b\nExample:\n  netctl member ls")
@shared.quiet_names
@shared.as_json
def ls(quiet: bool, as_json: bool) -> None:
    """List the members, sorted by name; this host is one of them. RTT is in milliseconds."""
    with connect() as client:
        members = client.members()
    if as_json:
        print_json(members)
        return
    members.sort(key=lambda host: (host["name"], host["id"]))
    if quiet:
        for host in members:
            click.echo(host["name"])
        return
    print_table(
        ("NAME", "ID", "ADDRESS", "STATE", "RTT", "VERSION"),
        (
            (
                host["name"],
                host["id"],
                host["address"],
                host["state"],
                f"{host['rtt_ms']:.1f}",
                host["version"],
            )
            for host in members
        ),
    )
