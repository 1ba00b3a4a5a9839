"""Options that several commands have in common."""

import click

from netd.cli.ports import FORM
from netd.cli.values import PORTS, labels

as_json = click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")
as_json_not_id = click.option(
    "--json", "as_json", is_flag=True, help="Print the API's JSON instead of the id."
)
quiet_names = click.option("-q", "--quiet", is_flag=True, help="Print the names only.")
quiet_ids = click.option("-q", "--quiet", is_flag=True, help="Print the ids only.")

publish = click.option(
    "--publish",
    "ports",
    multiple=True,
    type=PORTS,
    metavar="PORTS",
    help="Ports of the host that lead to it, see below; can be repeated.",
)
PORTS_HELP = f"\b\nThe form of PORTS is\n  {FORM}\nwith brackets around an IPv6 address.\n\n"

alias = click.option(
    "--alias", "aliases", multiple=True, metavar="NAME", help="Another name; can be repeated."
)
label = click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="KEY=VALUE",
    callback=labels,
    help="A label; can be repeated.",
)
