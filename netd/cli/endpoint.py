"""`netctl endpoint`: containers' attachments to networks."""

from typing import Any

import click

from netd.cli import options as shared
from netd.cli.connection import connect
from netd.cli.failure import for_each, say
from netd.cli.live import container_ids, endpoint_ids, network_names
from netd.cli.output import print_fields, print_json, print_table, state, text
from netd.cli.values import NETNS, RATE, RATE_OR_NONE, given


@click.group(no_args_is_help=True)
def endpoint() -> None:
    """Attach containers to networks, list, change and detach them."""


@endpoint.command(epilog="\b\nExample:\n  netctl endpoint ls --network blue")
@click.option(
    "--network", metavar="NETWORK", shell_complete=network_names, help="Only those on this network."
)
@click.option(
    "--container",
    "container_id",
    metavar="ID",
    shell_complete=container_ids,
    help="Only those of this container.",
)
@click.option("--node", metavar="NODE", help="Only those on this host.")
@shared.quiet_ids
@shared.as_json
def ls(
    network: str | None, container_id: str | None, node: str | None, quiet: bool, as_json: bool
) -> None:
    """List the endpoints, sorted by network and name."""
    with connect() as client:
        endpoints = client.endpoints(network=network, container_id=container_id, node=node)
    if as_json:
        print_json(endpoints)
        return
    endpoints.sort(key=lambda end: (end["network"], end["name"], end["id"]))
    if quiet:
        for end in endpoints:
            click.echo(end["id"])
        return
    print_table(
        ("ID", "NAME", "NETWORK", "CONTAINER", "ADDRESSES", "PORTS", "NODE", "STATE"),
        (
            (
                end["id"],
                end["name"],
                end["network"],
                end["container_id"],
                end["addresses"],
                end["ports"],
                end["node"],
                state(end),
            )
            for end in endpoints
        ),
    )


@endpoint.command(
    epilog=shared.PORTS_HELP + "\b\nExamples:\n"
    "  netctl endpoint attach blue --container c1 --pid 4711\n"
    "  netctl endpoint attach blue --container c2 --netns c2 --name web --egress 10mbit\n"
    "  netctl endpoint attach blue --container c3 --netns /run/netns/c3"
    " --publish '[2001:db8::10]:5353:53/udp'"
)
@click.argument("network", shell_complete=network_names)
@click.option(
    "--container",
    "container_id",
    required=True,
    metavar="ID",
    help="The container's id, as its runtime calls it.",
)
@click.option(
    "--netns",
    type=NETNS,
    metavar="PATH",
    help="The container's network namespace: a path, or a name of ip-netns(8).",
)
@click.option(
    "--pid",
    type=click.IntRange(min=1),
    metavar="PID",
    help="A process in the container's network namespace.",
)
@click.option("--name", metavar="NAME", help="Its name in the network's DNS.")
@shared.alias
@click.option(
    "--ifname", metavar="NAME", help="The interface's name in the container. [default: eth0]"
)
@click.option(
    "--address",
    "addresses",
    multiple=True,
    metavar="ADDRESS",
    help="A fixed address; at most one for each subnet.",
)
@click.option("--mac", metavar="MAC", help="A fixed MAC address.")
@shared.publish
@shared.label
@click.option(
    "--ingress", "ingress_bps", type=RATE, metavar="RATE", help="What it may receive, e.g. 10mbit."
)
@click.option(
    "--egress", "egress_bps", type=RATE, metavar="RATE", help="What it may send, e.g. 10mbit."
)
@click.option(
    "--default-route/--no-default-route",
    default=None,
    help="Whether its default route is in NETWORK. [default: in the first one]",
)
@shared.as_json_not_id
def attach(
    network: str,
    ingress_bps: int | None,
    egress_bps: int | None,
    as_json: bool,
    **request: Any,
) -> None:
    """Attach a container to NETWORK and print the endpoint's id.

    The same command again changes nothing; another one for the same container, network and
    interface is a conflict. One of --netns and --pid names the container's network namespace.
    """
    if request["netns"] and request["pid"]:
        raise click.UsageError("--netns and --pid exclude each other: give one of them")
    request["bandwidth"] = given({"ingress_bps": ingress_bps, "egress_bps": egress_bps})
    with connect() as client:
        made = client.attach(network, **given(request))
    if as_json:
        print_json(made)
        return
    click.echo(made["id"])
    say(f"endpoint {made['name']} on {made['network']}: {text(made['addresses'])}")


@endpoint.command(epilog="\b\nExample:\n  netctl endpoint inspect 3f9a1c0de5b72468")
@click.argument("endpoint", metavar="ID", shell_complete=endpoint_ids)
@shared.as_json
def inspect(endpoint: str, as_json: bool) -> None:
    """Show all of the endpoint ID."""
    with connect() as client:
        found = client.endpoint(endpoint)
    if as_json:
        print_json(found)
    else:
        print_fields(found)


@endpoint.command(
    epilog=shared.PORTS_HELP + "\b\nExample:\n"
    "  netctl endpoint update 3f9a1c0de5b72468 --publish 8080:80 --ingress 10mbit --egress none"
)
@click.argument("endpoint", metavar="ID", shell_complete=endpoint_ids)
@shared.publish
@click.option("--no-ports", is_flag=True, help="Publish no ports any more.")
@shared.alias
@click.option("--no-aliases", is_flag=True, help="Take all its aliases away.")
@shared.label
@click.option("--no-labels", is_flag=True, help="Take all its labels away.")
@click.option(
    "--ingress",
    "ingress_bps",
    type=RATE_OR_NONE,
    metavar="RATE|none",
    help="What it may receive, e.g. 10mbit.",
)
@click.option(
    "--egress",
    "egress_bps",
    type=RATE_OR_NONE,
    metavar="RATE|none",
    help="What it may send, e.g. 10mbit.",
)
@shared.as_json_not_id
def update(
    endpoint: str,
    ingress_bps: int | None,
    egress_bps: int | None,
    as_json: bool,
    **replacements: Any,
) -> None:
    """Change the live endpoint ID and print its id.

    --publish, --alias and --label replace all that the endpoint had of their kind. What is
    not named stays as it is.
    """
    patch = _patch(**replacements)
    rates = {"ingress_bps": ingress_bps, "egress_bps": egress_bps}
    rates = {name: rate for name, rate in rates.items() if rate is not None}
    if not patch and not rates:
        raise click.UsageError("nothing to change: give at least one option")
    with connect() as client:
        if rates:
            # The API replaces both limits at once.
            limits = client.endpoint(endpoint)["bandwidth"] | rates
            patch["bandwidth"] = {name: rate or None for name, rate in limits.items()}
        changed = client.update_endpoint(endpoint, **patch)
    if as_json:
        print_json(changed)
        return
    click.echo(changed["id"])


def _patch(**replacements: Any) -> dict[str, Any]:
    """What to replace: a list that was given, or an empty one where `--no-…` was."""
    patch: dict[str, Any] = {}
    for name, singular, empty in (
        ("ports", "--publish", ()),
        ("aliases", "--alias", ()),
        ("labels", "--label", {}),
    ):
        if replacements[f"no_{name}"] and replacements[name]:
            raise click.UsageError(f"{singular} and --no-{name} exclude each other")
        if replacements[f"no_{name}"] or replacements[name]:
            patch[name] = replacements[name] or empty
    return patch


@endpoint.command(
    epilog="\b\nExamples:\n"
    "  netctl endpoint detach 3f9a1c0de5b72468\n"
    "  netctl endpoint detach --container c1"
)
@click.argument("endpoints", nargs=-1, metavar="[ID]...", shell_complete=endpoint_ids)
@click.option(
    "--container",
    "container_id",
    metavar="ID",
    shell_complete=container_ids,
    help="Detach all that this container has; none is no error.",
)
def detach(endpoints: tuple[str, ...], container_id: str | None) -> None:
    """Detach endpoints, by ID or all of a container.

    Each that is gone is printed. After a failure the others are still detached.
    """
    if bool(endpoints) == bool(container_id):
        raise click.UsageError("give either endpoint ids or --container")
    if container_id:
        with connect() as client:
            found = client.endpoints(container_id=container_id)
            client.detach_container(container_id)
        for end in found:
            click.echo(end["id"])
        return

    def detach_one(endpoint_id: str) -> None:
        with connect() as client:
            # The API's delete is idempotent; asking first finds a mistyped id.
            client.endpoint(endpoint_id)
            client.detach(endpoint_id)
        click.echo(endpoint_id)

    for_each(endpoints, detach_one)
