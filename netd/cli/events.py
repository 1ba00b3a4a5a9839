"""`netctl events`: what happens, as it happens."""

import os
import select
import stat
from threading import Thread
from typing import Any

import click

from netd.cli.connection import connect, netctl
from netd.cli.failure import Failure
from netd.cli.output import print_line, text

STDOUT = 1


@click.command(epilog="\b\nExample:\n  netctl events --since 120")
@click.option(
    "--since",
    type=click.IntRange(min=0),
    metavar="REVISION",
    help="Begin with what came after this revision. [default: with what comes next]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the API's JSON, one event a line.")
def events(since: int | None, as_json: bool) -> None:
    """Print events, one a line, until interrupted.

    When the daemon ends the stream, the exit code is 1.
    """
    if stat.S_ISFIFO(os.fstat(STDOUT).st_mode):
        Thread(target=_end_with_reader, daemon=True).start()
    last = since
    with connect() as client, client.events(since) as stream:
        for event in stream:
            last = event["revision"]
            if as_json:
                print_line(event)
            else:
                click.echo(_line(event))
    raise Failure(
        "the daemon ended the stream: it stops, or this reader was too slow",
        hint="" if last is None else f"Go on with '{netctl()} events --since {last}'.",
    )


def _end_with_reader() -> None:
    """End this process when nobody reads its output any more, as `tail -f` does.

    Else `netctl events | head -1` would last until a second event could not be written.
    """
    pipe = select.poll()
    pipe.register(STDOUT, 0)  # POLLERR is reported without being asked for
    pipe.poll()
    os._exit(1)


def _line(event: dict[str, Any]) -> str:
    """e.g. `2026-01-02T03:04:05Z 17 endpoint.attached web-1 on blue name=web-1`."""
    parts = [event["at"], event["revision"], event["type"], event["name"] or event["object"]]
    parts += [part for part in (event.get("detail"), event.get("data")) if part]
    return " ".join(map(text, parts))
