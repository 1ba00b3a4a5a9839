"""`netctl service expose`, `unexpose` and `virtual`: virtual addresses of services."""

import re
from typing import Any, Final

import click

from netd.cli import options as shared
from netd.cli.connection import connect
from netd.cli.durations import parse_duration
from netd.cli.failure import for_each
from netd.cli.live import service_names, virtual_names
from netd.cli.output import clean, print_fields, print_json, print_table
from netd.cli.values import given, notation

FORM: Final = "PORT[:TARGET][/tcp|udp]"
_PORT = re.compile(
    r"(?P<port>[0-9]{1,5})(?::(?P<target>[0-9]{1,5}))?(?:/(?P<protocol>[A-Za-z]+))?", re.ASCII
)


def parse_port(text: str) -> dict[str, Any]:
    """Read a port of a virtual address; return it as the API's object.

    Raises `ValueError`, whose text says what was wrong and what would be right.
    """
    found = _PORT.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} does not have the form {FORM}")
    protocol = (found["protocol"] or "tcp").lower()
    if protocol not in ("tcp", "udp"):
        raise ValueError(f"{protocol!r} is not a protocol: use tcp or udp")
    ports = [int(number) for number in (found["port"], found["target"]) if number]
    if any(not 1 <= number <= 65535 for number in ports):
        raise ValueError(f"{text} is out of range: ports are 1 to 65535")
    return given(
        {
            "port": ports[0],
            "protocol": protocol,
            "target_port": ports[1] if found["target"] else None,
        }
    )


def format_port(port: dict[str, Any]) -> str:
    """Write a port so that `parse_port` reads it back."""
    target = port.get("target_port")
    return f"{port['port']}{f':{target}' if target else ''}/{port['protocol']}"


@click.command(
    epilog=f"\b\nA port is {FORM}.\n"
    "\n\b\nExamples:\n"
    "  netctl service expose web --port 80\n"
    "  netctl service expose web --port 80:8080 --port 443:8443 --affinity source\n"
    "  netctl service expose dns --port 53/udp --port 53 --drain 5s"
)
@click.argument("name", shell_complete=service_names)
@click.option(
    "--port",
    "ports",
    multiple=True,
    required=True,
    type=notation(parse_port),
    metavar="PORT",
    help="A port, and where it leads if not to each instance's own; can be repeated.",
)
@click.option(
    "--affinity",
    type=click.Choice(["none", "source"]),
    help="`source`: a client gets the same instance each time. [default: none]",
)
@click.option(
    "--drain",
    type=notation(lambda text: 0 if text in ("0", "0s") else parse_duration(text)),
    metavar="TIME",
    help="How long an instance that is taken out keeps its connections. [default: 30s]",
)
@shared.as_json
def expose(
    name: str,
    ports: tuple[dict[str, Any], ...],
    affinity: str | None,
    drain: int | None,
    as_json: bool,
) -> None:
    """Give the service NAME virtual addresses, the same on all hosts.

    Done again, it has these ports and no others, at the same addresses.
    """
    asked = given({"ports": ports, "affinity": affinity, "drain_s": drain})
    with connect() as client:
        virtual = client.expose(name, **asked)
    if as_json:
        print_json(virtual)
        return
    for address in virtual["addresses"]:
        click.echo(clean(address))


@click.command(epilog="\b\nExample:\n  netctl service unexpose web")
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=virtual_names)
def unexpose(names: tuple[str, ...]) -> None:
    """Take the virtual addresses of the services away; its instances stay."""
    with connect() as client:
        for_each(names, client.unexpose)


@click.group(no_args_is_help=True)
def virtual() -> None:
    """Look at virtual addresses of services."""


@virtual.command(epilog="\b\nExample:\n  netctl service virtual ls")
@shared.quiet_names
@shared.as_json
def ls(quiet: bool, as_json: bool) -> None:
    """List the services with virtual addresses, by name."""
    with connect() as client:
        virtuals = client.virtuals()
    if as_json:
        print_json(virtuals)
        return
    virtuals.sort(key=lambda one: str(one["id"]))
    if quiet:
        for one in virtuals:
            click.echo(clean(one["id"]))
        return
    print_table(
        ("SERVICE", "ADDRESSES", "PORTS", "AFFINITY", "INSTANCES", "CONDITIONS"),
        (
            (
                one["id"],
                one["addresses"],
                tuple(map(format_port, one["ports"])),
                one["affinity"],
                one["instances"],
                tuple(condition["code"] for condition in one["conditions"]),
            )
            for one in virtuals
        ),
    )


@virtual.command(epilog="\b\nExample:\n  netctl service virtual inspect web")
@click.argument("name", shell_complete=virtual_names)
@shared.as_json
def inspect(name: str, as_json: bool) -> None:
    """Show the virtual addresses of the service NAME."""
    with connect() as client:
        found = client.virtual(name)
    if as_json:
        print_json(found)
        return
    print_fields(found | {"ports": tuple(map(format_port, found["ports"]))})
