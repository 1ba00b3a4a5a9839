"""`netctl version`: of the command line and of the daemon."""

import click

from netd import __version__
from netd.cli import options as shared
from netd.cli.connection import connect
from netd.cli.failure import NoDaemon
from netd.cli.output import print_fields, print_json


@click.command(epilog="\b\nExample:\n  netctl version --json")
@shared.as_json
def version(as_json: bool) -> None:
    """Show the versions of netctl and of the daemon.

    Without a daemon its version is left open, which is no error.
    """
    versions: dict[str, str | None] = {"netctl": __version__, "netd": _daemon()}
    if as_json:
        print_json(versions)
    else:
        print_fields(versions)


def _daemon() -> str | None:
    try:
        with connect() as client:
            found: str = client.status()["version"]
            return found
    except NoDaemon:
        return None
