"""`netctl service`: instances of services, their checks and maintenance."""

from typing import Any

import click

from netd.cli import options as shared
from netd.cli.checks import CHECK
from netd.cli.connection import connect
from netd.cli.failure import NotFound, for_each, say
from netd.cli.live import endpoint_ids, network_names, service_ids
from netd.cli.output import clean, level, print_fields, print_json, print_table, text
from netd.cli.values import DURATION, given, labels
from netd.cli.virtual import expose, unexpose, virtual

_STATUSES = {"pass": "passing", "warn": "warning", "fail": "critical"}


@click.group(no_args_is_help=True)
def service() -> None:
    """Register instances of services, list them, say how they are."""


@service.command(
    epilog="\b\nExamples:\n  netctl service ls\n  netctl service ls --name web --passing"
)
@click.option("--name", metavar="NAME", help="Only instances of this service.")
@click.option("--node", metavar="NODE", help="Only those on this host.")
@click.option(
    "--network", metavar="NETWORK", shell_complete=network_names, help="Only those on this network."
)
@click.option("--passing", is_flag=True, help="Only those that are well.")
@shared.quiet_ids
@shared.as_json
def ls(
    name: str | None,
    node: str | None,
    network: str | None,
    passing: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """List the instances of services of all hosts, sorted by name and id."""
    with connect() as client:
        services = client.services(name=name, node=node, network=network, passing=passing)
    if as_json:
        print_json(services)
        return
    services.sort(key=lambda one: (one["name"], one["id"]))
    if quiet:
        for one in services:
            click.echo(clean(one["id"]))
        return
    print_table(
        ("NAME", "ID", "ADDRESS", "PORT", "NODE", "NETWORK", "TAGS", "STATUS"),
        (
            (
                one["name"],
                one["id"],
                one["address"],
                one["port"] or None,
                one["node"],
                one["network"],
                one["tags"],
                _status(one),
            )
            for one in services
        ),
    )


def _status(one: dict[str, Any]) -> str:
    """How it is, and what is wrong: e.g. `critical,maintenance`."""
    words = [one["status"]]
    words += ["maintenance" for check in one["checks"] if check["kind"] == "maintenance"]
    words += [condition["code"] for condition in one.get("conditions", ())]
    return ",".join(words)


@service.command(epilog="\b\nExample:\n  netctl service inspect web-host-1")
@click.argument("service", metavar="ID", shell_complete=service_ids)
@shared.as_json
def inspect(service: str, as_json: bool) -> None:
    """Show all of the instance ID."""
    with connect() as client:
        found = client.service(service)
    if as_json:
        print_json(found)
        return
    # What an API keeps of it is that API's to read: its name is enough.
    shown = {**found, "extra": sorted(found.get("extra", ()))}
    print_fields({name: value for name, value in shown.items() if name != "checks"})
    for check in found["checks"]:
        said = f": {text(check['output'])}" if check["output"] else ""
        name = f"{text(check['id'])} ({text(check['kind'])})"
        click.echo(f"{level(check['status'])} {name} since {text(check['since'])}{said}")


@service.command(
    epilog="\b\nA CHECK is one of\n"
    "  http[=URL|/PATH]   tcp[=HOST:PORT]   udp[=HOST:PORT]   grpc[=HOST:PORT[/SERVICE]]\n"
    "  h2ping[=HOST:PORT] ttl=TIME          told              alias=ID\n"
    "  script=COMMAND\n"
    "\n\b\nExamples:\n"
    "  netctl service register web --port 80 --check http=/health --interval 5s\n"
    "  netctl service register db --id db-1 --endpoint 3f9a1c0de5b72468 --port 5432 --check tcp\n"
    "  netctl service register job --pid 4711 --check ttl=30s --tag v1"
)
@click.argument("name")
@click.option("--id", "ident", metavar="ID", help="The instance's id. [default: NAME-HOST]")
@click.option(
    "--address", metavar="ADDRESS", help="Its address. [default: the endpoint's or host's]"
)
@click.option("--port", type=click.IntRange(0, 65535), metavar="PORT", help="Its port.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A tag; can be repeated.")
@click.option(
    "--meta",
    multiple=True,
    metavar="KEY=VALUE",
    callback=labels,
    help="Something to know about it; can be repeated.",
)
@click.option(
    "--weight",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="How much of the load it takes; 0 is none. [default: 1]",
)
@click.option(
    "--endpoint",
    metavar="ID",
    shell_complete=endpoint_ids,
    help="The endpoint whose address it has and that it goes with.",
)
@click.option("--pid", type=click.IntRange(min=1), metavar="PID", help="A process it goes with.")
@click.option(
    "--network",
    metavar="NETWORK",
    shell_complete=network_names,
    help="Whose containers see it. [default: that of its address; without one, all do]",
)
@click.option(
    "--check",
    "checks",
    multiple=True,
    type=CHECK,
    metavar="CHECK",
    help="A health check, see below; can be repeated.",
)
@click.option(
    "--interval", type=DURATION, metavar="TIME", help="How often checks run. [default: 10s]"
)
@click.option("--timeout", type=DURATION, metavar="TIME", help="How long a check may take.")
@click.option(
    "--deregister-after",
    type=DURATION,
    metavar="TIME",
    help="Deregister it when a check was critical for that long, 1m or more.",
)
@shared.as_json_not_id
def register(
    name: str,
    ident: str | None,
    weight: int | None,
    checks: tuple[dict[str, Any], ...],
    interval: int | None,
    timeout: int | None,
    deregister_after: int | None,
    as_json: bool,
    **spec: Any,
) -> None:
    """Register an instance of the service NAME on this host.

    Prints its id. Another registration of the id takes its place; the same one again changes
    nothing.
    """
    times = {
        "interval_s": interval,
        "timeout_s": timeout,
        "deregister_after_s": deregister_after,
    }
    spec["checks"] = [check | given(times) for check in checks]
    if weight is not None:
        spec["weights"] = {"passing": weight, "warning": min(weight, 1)}
    with connect() as client:
        made = client.register(
            ident or f"{name}-{client.status()['node']}",
            name=name,
            **{key: value for key, value in spec.items() if value not in (None, (), {}, [])},
        )
    if as_json:
        print_json(made)
        return
    click.echo(made["id"])
    place = f"{made['address']}:{made['port']}" if made["port"] else made["address"]
    say(f"{made['name']} at {place}: {made['status']}")


@service.command(epilog="\b\nExample:\n  netctl service deregister web-host-1")
@click.argument("services", nargs=-1, required=True, metavar="ID...", shell_complete=service_ids)
def deregister(services: tuple[str, ...]) -> None:
    """Deregister instances of this host, by ID.

    Each that is gone is printed. After a failure the others are still deregistered.
    """

    def deregister_one(service_id: str) -> None:
        with connect() as client:
            # The API's delete is idempotent; asking first finds a mistyped id.
            client.service(service_id)
            client.deregister(service_id)
        click.echo(service_id)

    for_each(services, deregister_one)


@service.command(
    epilog="\b\nExamples:\n"
    "  netctl service maintenance web-host-1 on --reason 'new disk'\n"
    "  netctl service maintenance web-host-1 off"
)
@click.argument("service", metavar="ID", shell_complete=service_ids)
@click.argument("switch", type=click.Choice(["on", "off"]))
@click.option("--reason", default="", metavar="TEXT", help="Why it is out.")
@shared.as_json_not_id
def maintenance(service: str, switch: str, reason: str, as_json: bool) -> None:
    """Take the instance ID out, or let it in again, as its checks find."""
    if reason and switch == "off":
        raise click.UsageError("a --reason is for taking it out")
    with connect() as client:
        changed = client.maintain(service, switch == "on", reason)
    if as_json:
        print_json(changed)
        return
    click.echo(changed["id"])


def _report(verb: str) -> click.Command:
    @click.command(name=verb, epilog=f"\b\nExample:\n  netctl service {verb} job-1 ttl")
    @click.argument("service", metavar="ID", shell_complete=service_ids)
    @click.argument("check", required=False)
    @click.option("--output", default="", metavar="TEXT", help="What there is to say about it.")
    def report(service: str, check: str | None, output: str) -> None:
        with connect() as client:
            named = check or _only_told_check(client.service(service))
            client.report(service, named, _STATUSES[verb], output)
        say(f"{service}: {named} is {_STATUSES[verb]}")

    report.help = (
        f"Say that a CHECK of the instance ID is {_STATUSES[verb]}.\n\n"
        "Without CHECK it is the instance's only ttl or told check."
    )
    return report


def _only_told_check(found: dict[str, Any]) -> str:
    told = ("ttl", "told")
    names: list[str] = [check["id"] for check in found["checks"] if check["kind"] in told]
    if len(names) == 1:
        return names[0]
    if not names:
        raise NotFound(f"{found['id']} has no ttl or told check")
    raise click.UsageError(f"{found['id']} has several: name one of {', '.join(sorted(names))}")


for _verb in _STATUSES:
    service.add_command(_report(_verb))
for _command in (expose, unexpose, virtual):
    service.add_command(_command)
