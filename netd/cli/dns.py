"""`netctl dns`: how names are answered, and by whom."""

from typing import Any

import click

from netd.cli import options as shared
from netd.cli.connection import connect
from netd.cli.failure import say
from netd.cli.output import level, print_fields, print_json, print_table, text
from netd.cli.resolve import address_of, asked_from, of_type


@click.group(epilog="\b\nExamples:\n  netctl dns status\n  netctl dns trace web --from 10.20.0.2")
def dns() -> None:
    """See how names are answered."""


@dns.command(
    epilog="\b\nExamples:\n"
    "  netctl dns trace web.service.netd.internal --type SRV\n"
    "  netctl dns trace web --from db-1"
)
@click.argument("name")
@of_type
@asked_from
@shared.as_json
def trace(name: str, as_json: bool, **question: Any) -> None:
    """Look NAME up, and tell each step that leads to its answer."""
    with connect() as client:
        source = address_of(client, question["from"])
        answer = client.trace(name, question["type"], source)
    if as_json:
        print_json(answer)
        return
    for number, step in enumerate(answer["steps"], 1):
        click.echo(f"{number:>2}  {text(step)}")
    rows = [
        (section, record["name"], record["ttl_s"], record["type"], record["data"])
        for section, records in (
            ("answer", answer["records"]),
            ("authority", answer["authority"]),
            ("additional", answer["additional"]),
        )
        for record in records
    ]
    if rows:
        print_table(("SECTION", "NAME", "TTL", "TYPE", "DATA"), rows)
    say(f"{name}: {answer['rcode']}")


@dns.command(epilog="\b\nExample:\n  netctl dns status")
@shared.as_json
def status(as_json: bool) -> None:
    """Show where the registry listens, and what it has counted.

    `upstreams` are those that it asks for all other names. A registry that is wanted and not
    connected is exit code 1.
    """
    with connect() as client:
        state = client.registry()
    if as_json:
        print_json(state)
    else:
        _print(state)
    click.get_current_context().exit(int(state["wanted"] and not state["connected"]))


def _print(state: dict[str, Any]) -> None:
    fields = {name: state[name] for name in ("wanted", "connected", "reported_at", "behind", "pid")}
    print_fields({**fields, "upstreams": state["upstreams"], "listening": state["listening"]})
    for where, why in sorted(state["problems"].items()):
        click.echo(f"{level('warning')} cannot listen at {text(where)}: {text(why)}")
    if state["counts"]:
        print_table(
            ("COUNT", "LABELS", "VALUE"),
            (
                (count["name"], count["labels"], f"{count['value']:.15g}")
                for count in sorted(
                    state["counts"], key=lambda count: (count["name"], text(count["labels"]))
                )
            ),
        )
