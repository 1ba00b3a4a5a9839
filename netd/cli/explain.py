"""`netctl explain`: the way of a packet, step by step."""

from typing import Any

import click

from netd.cli import options as shared
from netd.cli.connection import connect
from netd.cli.failure import say
from netd.cli.output import level, print_json, text


@click.command(
    epilog="\b\nExamples:\n"
    "  netctl explain web-1 db-1 --port 5432\n"
    "  netctl explain web-1.blue 198.51.100.7\n"
    "  netctl explain 198.51.100.7 host --port 8080"
)
@click.argument("source", metavar="FROM")
@click.argument("destination", metavar="TO")
@click.option("--port", type=click.IntRange(1, 65535), help="The port at TO.")
@click.option(
    "--protocol",
    type=click.Choice(("tcp", "udp", "sctp")),
    default="tcp",
    show_default=True,
    help="The protocol of the port.",
)
@shared.as_json
def explain(source: str, destination: str, port: int | None, protocol: str, as_json: bool) -> None:
    """Explain the way of packets, and name what stops them.

    FROM and TO are endpoints (a name, name.network or id), containers, hosts (a node's name, or
    `host` for this one) or addresses. A step that fails is exit code 1; what comes after it is
    not judged.
    """
    with connect() as client:
        answer = client.explain(source, destination, protocol, port)
    if as_json:
        print_json(answer)
    else:
        _print(answer)
    click.get_current_context().exit(int(answer["result"] == "failed"))


def _print(answer: dict[str, Any]) -> None:
    steps = answer["steps"]
    width = max(len(step["name"]) for step in steps)
    for step in steps:
        padding = " " * (len("skipped") - len(step["status"]))
        name = text(step["name"]).ljust(width)
        click.echo(f"{level(step['status'])}{padding}  {name}  {text(step['detail'])}")
        if step["remedy"]:
            click.echo(f"{'':{width + 11}}remedy: {text(step['remedy'])}")
    ends = f"{answer['from']} to {answer['to']}"
    match answer["result"]:
        case "failed":
            say(f"{ends}: fails at {answer['failed']}")
        case "unknown":
            say(f"{ends}: nothing fails, but not all could be judged")
        case _:
            say(f"{ends}: ok")
