"""`netctl resolve`: look a name up as a container would."""

from typing import Any

import click

from netd.cli import options as shared
from netd.cli.connection import connect
from netd.cli.failure import Failure, NotFound
from netd.cli.output import print_json, print_table, text


@click.command(
    epilog="\b\nExamples:\n"
    "  netctl resolve web.blue.netd.internal\n"
    "  netctl resolve web --from 10.20.0.2 --type AAAA --quiet"
)
@click.argument("name")
@click.option(
    "--type",
    type=click.Choice(("A", "AAAA", "PTR"), case_sensitive=False),
    default="A",
    show_default=True,
    help="The kind of record.",
)
@click.option(
    "--from",
    metavar="ADDRESS",
    help="Answer as to the container with this address, which sees the names of its networks.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print the data of the records only.")
@shared.as_json
def resolve(name: str, quiet: bool, as_json: bool, **question: Any) -> None:
    """Look NAME up and print its records. No record is exit code 3."""
    record_type, source = question["type"], question["from"]  # words that Python has taken
    with connect() as client:
        answer = client.resolve(name, record_type, source)
    records = answer["records"]
    if as_json:
        print_json(answer)
    elif quiet:
        for record in records:
            click.echo(text(record["data"]))
    elif records:
        print_table(
            ("NAME", "TTL", "TYPE", "DATA"),
            (
                (record["name"], record["ttl_s"], record["type"], record["data"])
                for record in records
            ),
        )
    if answer["rcode"] == "REFUSED":
        raise Failure(f"{name} is in no zone that netd answers for (REFUSED)")
    if not records:
        raise NotFound(f"{name} has no {record_type} record ({answer['rcode']})")
