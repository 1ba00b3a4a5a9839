"""`netctl resolve`: look a name up as a container would."""

import ipaddress
from typing import Any, Final

import click

from netd.cli import options as shared
from netd.cli.connection import connect
from netd.cli.failure import Failure, NotFound
from netd.cli.live import container_ids
from netd.cli.output import print_json, print_table, text
from netd.client import Client

RECORD_TYPES: Final = ("A", "AAAA", "SRV", "TXT", "PTR", "SOA", "NS", "ANY")

of_type = click.option(
    "--type",
    type=click.Choice(RECORD_TYPES, case_sensitive=False),
    default="A",
    show_default=True,
    help="The kind of record.",
)
asked_from = click.option(
    "--from",
    metavar="CONTAINER|ADDRESS",
    shell_complete=container_ids,
    help="Answer as to this container, or the one with this address: it sees the names of its "
    "networks.",
)


def address_of(client: Client, asker: str | None) -> str | None:
    """The address that `asker` asks from: what it is itself, or one of that container's.

    A container has its networks by any of its addresses; the first one is near. Raises
    `NotFound`.
    """
    if asker is None or _is_address(asker):
        return asker
    for endpoint in client.endpoints(container_id=asker):
        for address in endpoint["addresses"]:
            return str(address).partition("/")[0]
    raise NotFound(f"--from: {asker!r} is neither an address nor a container with one")


def _is_address(asker: str) -> bool:
    try:
        ipaddress.ip_address(asker)
    except ValueError:
        return False
    return True


@click.command(
    epilog="\b\nExamples:\n"
    "  netctl resolve web.blue.netd.internal\n"
    "  netctl resolve web --from db-1 --type AAAA --quiet\n"
    "  netctl resolve web.service.netd.internal --type SRV"
)
@click.argument("name")
@of_type
@asked_from
@click.option("-q", "--quiet", is_flag=True, help="Print the data of the records only.")
@shared.as_json
def resolve(name: str, quiet: bool, as_json: bool, **question: Any) -> None:
    """Look NAME up and print its records. No record is exit code 3."""
    record_type, source = question["type"], question["from"]  # words that Python has taken
    with connect() as client:
        answer = client.resolve(name, record_type, address_of(client, source))
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
