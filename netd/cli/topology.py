"""`netctl topology`: hosts, networks and endpoints, drawn as text or as a picture."""

from pathlib import Path

import click

from netd.cli import options as shared
from netd.cli.connection import connect
from netd.cli.failure import Failure
from netd.cli.output import print_json


@click.command(
    epilog="\b\nExamples:\n  netctl topology\n  netctl topology --svg /tmp/netd.svg",
)
@click.option(
    "--svg",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="Write a picture to FILE instead; - is standard output.",
)
@shared.as_json
def topology(svg: Path | None, as_json: bool) -> None:
    """Draw hosts, their networks, and the endpoints on them.

    As far as this host knows: of other hosts, the overlay networks that it has open itself.
    """
    with connect() as client:
        found = client.topology()
    if as_json:
        print_json(found)
    elif svg is None:
        from netd.cli.tree import tree

        for line in tree(found):
            click.echo(line)
    else:
        from netd.client.picture import picture

        _write(svg, picture(found))


def _write(path: Path, text: str) -> None:
    if str(path) == "-":
        click.echo(text, nl=False)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}") from error
