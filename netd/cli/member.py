"""`netctl member`: the hosts of the cluster."""

from typing import Any

import click

from netd.cli import options as shared
from netd.cli.connection import connect, netctl
from netd.cli.failure import Conflict, NotFound, say
from netd.cli.live import member_names
from netd.cli.output import clean, counted, print_fields, print_json, print_table, text
from netd.cli.secrets import hand_out, read_secret
from netd.cli.values import DURATION


@click.group(no_args_is_help=True)
def member() -> None:
    """List the hosts of the cluster, join them, and leave."""


@member.command(epilog="\b\nExample:\n  netctl member ls")
@shared.quiet_names
@shared.as_json
def ls(quiet: bool, as_json: bool) -> None:
    """List the members, sorted by name; this host is one of them. RTT is in milliseconds."""
    with connect() as client:
        members = client.members()
    if as_json:
        print_json(members)
        return
    members.sort(key=lambda host: (host["name"], host["id"]))
    if quiet:
        for host in members:
            click.echo(clean(host["name"]))
        return
    print_table(
        ("NAME", "ID", "ADDRESS", "STATE", "RTT", "VERSION", "TAGS"),
        (
            (
                host["name"],
                host["id"],
                host["address"],
                _state(host),
                "-" if host["rtt_ms"] is None else f"{host['rtt_ms']:.1f}",
                host["version"],
                host["tags"],
            )
            for host in members
        ),
    )


def _state(host: dict[str, Any]) -> str:
    """Its state, and what is wrong with it: e.g. `alive,unreachable`."""
    words = [host["state"]]
    if host["state"] == "alive" and not host.get("reachable", True):
        words.append("unreachable")
    words += [condition["code"] for condition in host.get("conditions", ())]
    return ",".join(words)


@member.command(epilog="\b\nExample:\n  netctl member inspect host-2 --json")
@click.argument("member", shell_complete=member_names)
@shared.as_json
def inspect(member: str, as_json: bool) -> None:
    """Show all of one MEMBER, given by name or id."""
    with connect() as client:
        found = [host for host in client.members() if member in (host["name"], host["id"])]
    if not found:
        raise NotFound(
            f"there is no member {member}", hint=f"'{netctl()} member ls' lists those there are."
        )
    if len(found) > 1:
        ids = ", ".join(host["id"] for host in found)
        raise Conflict(f"{len(found)} members are called {member}", hint=f"Give an id: {ids}")
    if as_json:
        print_json(found[0])
    else:
        print_fields(found[0])


@member.command(
    epilog="\b\nExamples:\n"
    "  netctl member join 192.0.2.11\n"
    "  netctl member join host-2.example.net:7940 '[2001:db8::3]:7940'\n"
    "  ssh host-1 netctl member token | netctl member join --token-file -"
)
@click.argument("addresses", nargs=-1, metavar="[ADDRESS]...")
@click.option(
    "--token-file",
    "token",
    metavar="FILE",
    help="A token that 'netctl member token' has printed on a member; - is standard input.",
)
@shared.as_json
def join(addresses: tuple[str, ...], token: str | None, as_json: bool) -> None:
    """Join the hosts at the ADDRESSes, and with them all that they know.

    An ADDRESS is HOST, HOST:PORT or [IPv6]:PORT; the port is 7940 when it is left out. One that
    answers is enough: it is printed. A host without a key needs a token, which names the
    addresses, too.
    """
    if not addresses and token is None:
        raise click.UsageError("whom to join? Give at least one ADDRESS, or --token-file")
    secret = None if token is None else read_secret(token)
    with connect() as client:
        joined = client.join(list(addresses), secret)
    if as_json:
        print_json(joined)
        return
    for result in joined["results"]:
        if result["error"]:
            say(f"{result['address']}: {result['error']}")
        else:
            click.echo(clean(result["address"]))
    names = text([host["name"] for host in joined["members"] if host["state"] == "alive"])
    say(f"the cluster has {counted(len(joined['members']), 'member')}; alive: {names}")


@member.command(epilog="\b\nExample:\n  netctl member leave")
def leave() -> None:
    """Take this host out of the cluster; it goes on alone.

    The others know at once that it is not coming back. Containers stay connected. When it is
    on its own already, nothing happens.
    """
    with connect() as client:
        client.leave()
    say("this host has left the cluster")


@member.command(
    epilog="\b\nExamples:\n"
    "  netctl member token\n"
    "  netctl member token --uses 20 --expires 15m --output /root/token"
)
@click.option(
    "--expires",
    "expires_s",
    type=DURATION,
    default="1h",
    show_default=True,
    metavar="TIME",
    help="How long it is good, e.g. 15m or 7d.",
)
@click.option(
    "--uses",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="How many hosts it lets in.",
)
@click.option(
    "--output", metavar="FILE", help="Make a file of it, for its owner only, instead of printing."
)
@click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")
def token(expires_s: int, uses: int, output: str | None, as_json: bool) -> None:
    """Print a token by which hosts without a key can join.

    Whoever has it can enter the cluster until it is used up or expires. This host must be
    reachable while it is used.
    """
    if output and as_json:
        raise click.UsageError("--output and --json exclude each other")
    with connect() as client:
        made = client.issue_token(expires_s, uses)
    if as_json:
        print_json(made)
        return
    hand_out(made["token"], output)
    say(f"good for {counted(made['uses'], 'host')} until {made['expires_at']}")
