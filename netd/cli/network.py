"""`netctl network`: networks of the daemon."""

from typing import Any

import click

from netd.cli import options as shared
from netd.cli.connection import connect, netctl
from netd.cli.failure import Conflict, for_each, say
from netd.cli.live import network_names
from netd.cli.output import print_fields, print_json, print_table, state, text
from netd.cli.values import given, options
from netd.client import ApiError, Client

DRIVERS = ("bridge", "overlay", "host", "none", "macvlan", "ipvlan")
USERS_SHOWN = 10


@click.group(no_args_is_help=True)
def network() -> None:
    """Create, list, inspect and remove networks."""


@network.command(epilog="\b\nExample:\n  netctl network ls --quiet")
@shared.quiet_names
@shared.as_json
def ls(quiet: bool, as_json: bool) -> None:
    """List the networks, sorted by name."""
    with connect() as client:
        networks = client.networks()
    if as_json:
        print_json(networks)
        return
    networks.sort(key=lambda net: net["name"])
    if quiet:
        for net in networks:
            click.echo(net["name"])
        return
    print_table(
        ("NAME", "ID", "DRIVER", "SUBNETS", "MTU", "STATE"),
        (
            (net["name"], net["id"], net["driver"], net["subnets"], net["mtu"], state(net))
            for net in networks
        ),
    )


@network.command(
    epilog="\b\nExamples:\n"
    "  netctl network create blue\n"
    "  netctl network create lan --driver macvlan --parent eth0 --subnet 192.168.1.0/24\n"
    "  netctl network create green --driver overlay --subnet 10.20.0.0/16"
)
@click.argument("name")
@click.option(
    "--driver",
    type=click.Choice(DRIVERS),
    default="bridge",
    show_default=True,
    help="How the network is made.",
)
@click.option(
    "--subnet",
    "subnets",
    multiple=True,
    metavar="CIDR",
    help="A subnet; repeat it for IPv4 and IPv6. [default: free ones are chosen]",
)
@click.option(
    "--gateway",
    "gateways",
    multiple=True,
    metavar="ADDRESS",
    help="The gateway's address in a subnet, in the order of the subnets.",
)
@click.option("--internal", is_flag=True, help="Give it no way to the outside.")
@click.option(
    "--no-isolation",
    "isolated",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Let other networks of this host reach it.",
)
@click.option(
    "--mtu",
    type=click.IntRange(min=576, max=65535),
    metavar="BYTES",
    help="The largest packet; with IPv6 at least 1280. [default: the uplink's]",
)
@click.option(
    "--vni",
    type=click.IntRange(min=1, max=(1 << 24) - 1),
    metavar="NUMBER",
    help="An overlay's number in packets. [default: by its name]",
)
@click.option("--parent", metavar="LINK", help="The host's link that macvlan and ipvlan sit on.")
@shared.label
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    callback=options,
    help="An option of the driver; true, false and integers are typed.",
)
@shared.as_json_not_id
def create(as_json: bool, **spec: Any) -> None:
    """Create the network NAME and print its id.

    The same command again changes nothing; another one for an existing name is a conflict.
    """
    with connect() as client:
        made = client.create_network(**given(spec))
    if as_json:
        print_json(made)
        return
    click.echo(made["id"])
    say(f"network {made['name']}: {made['driver']} {text(made['subnets'])}")


@network.command(epilog="\b\nExample:\n  netctl network inspect blue --json")
@click.argument("network", shell_complete=network_names)
@shared.as_json
def inspect(network: str, as_json: bool) -> None:
    """Show all of one NETWORK, given by name or id."""
    with connect() as client:
        found = client.network(network)
    if as_json:
        print_json(found)
        return
    if found.get("driver") != "overlay":
        found.pop("seeds", None)  # who owns addresses, of networks that span hosts only
    print_fields(found)


@network.command(epilog="\b\nExample:\n  netctl network reclaim blue host-3")
@click.argument("network", shell_complete=network_names)
@click.argument("members", nargs=-1, required=True, metavar="MEMBER...")
@shared.as_json
def reclaim(network: str, members: tuple[str, ...], as_json: bool) -> None:
    """Take over the addresses that MEMBERs own of an overlay NETWORK.

    For hosts that died and will not come back. One that comes back all the same drops what it
    owned, and its containers have to be attached anew. Each prefix that this host owns now, or that
    is free in etcd, is printed.
    """
    with connect() as client:
        got = client.reclaim(network, list(members))
    if as_json:
        print_json(got)
        return
    for prefix in got["prefixes"]:
        click.echo(prefix)


@network.command(epilog="\b\nExample:\n  netctl network rm blue green")
@click.argument(
    "networks", nargs=-1, required=True, metavar="NETWORK...", shell_complete=network_names
)
def rm(networks: tuple[str, ...]) -> None:
    """Remove networks, given by name or id.

    Each that is gone is printed. A network with endpoints is left alone. After a failure the
    others are still removed.
    """

    def remove(ref: str) -> None:
        with connect() as client:
            _remove(client, ref)
        click.echo(ref)

    for_each(networks, remove)


def _remove(client: Client, ref: str) -> None:
    # The API's delete is idempotent; asking first tells a mistyped name from a removed one.
    found = client.network(ref)
    try:
        client.delete_network(found["id"])
    except ApiError as error:
        users = client.endpoints(network=found["id"]) if error.code == "conflict" else []
        if not users:
            raise
        raise _in_use(found["name"], users) from error


def _in_use(name: str, users: list[dict[str, Any]]) -> Conflict:
    users.sort(key=lambda user: (user["name"], user["id"]))
    shown = [f"{user['name']} (container {user['container_id']})" for user in users[:USERS_SHOWN]]
    if len(users) > USERS_SHOWN:
        shown.append(f"{len(users) - USERS_SHOWN} more")
    me = netctl()
    return Conflict(
        f"network {name} is in use by {', '.join(shown)}",
        hint=f"Detach them first: {me} endpoint detach $({me} endpoint ls -q --network {name})",
    )
