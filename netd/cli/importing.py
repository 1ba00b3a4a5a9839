"""`netctl import`: networks of other engines on this host, made anew in netd."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from netd.cli.connection import connect, netctl, refusal
from netd.cli.failure import Conflict, Failure, NotFound, say
from netd.cli.foreign import cni as cni_networks
from netd.cli.foreign import docker as docker_networks
from netd.cli.foreign import podman as podman_networks
from netd.cli.foreign.found import CANNOT, DIFFERS, HELD, NEW, SAME, Found, Item, command, judge
from netd.cli.output import counted, print_json, print_table
from netd.client import ApiError, Client
from netd.client.http import Connection

F = TypeVar("F", bound=Callable[..., Any])

FILE_BYTES_MAX: Final = 1024 * 1024
ENGINE_TIMEOUT_S: Final = 10.0

_apply = click.option("--apply", is_flag=True, help="Make what is new.")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")


def _from(default: str, what: str) -> Callable[[F], F]:
    return click.option(
        "--from", "place", default=default, show_default=True, metavar="PATH", help=what
    )


@click.group("import", no_args_is_help=True)
def importing() -> None:
    """Make networks of other engines in netd.

    Without --apply it is only shown what would be made. What is new is made, nothing is ever
    changed or deleted: neither in netd nor in the other engine.
    """


@importing.command(epilog="\b\nExample:\n  netctl import docker --apply")
@_from("/var/run/docker.sock", "The engine's socket.")
@_apply
@_as_json
def docker(place: str, apply: bool, as_json: bool) -> None:
    """Networks of a Docker Engine.

    Addresses that users chose for containers are listed, to be asked for again.
    """
    with closing(Connection(place, ENGINE_TIMEOUT_S)) as engine:
        documents = _ask(engine, "/networks")
        containers = _ask(engine, "/containers/json?all=1")
    _take(docker_networks.networks(documents, containers), apply, as_json)


@importing.command(epilog="\b\nExample:\n  netctl import cni --from /etc/cni/net.d")
@_from("/etc/cni/net.d", "The folder of configurations.")
@click.option(
    "--leases",
    default="/var/lib/cni/networks",
    show_default=True,
    metavar="PATH",
    help="The folder of host-local's leases.",
)
@_apply
@_as_json
def cni(place: str, leases: str, apply: bool, as_json: bool) -> None:
    """Networks of CNI configurations.

    Addresses that host-local has given are listed, to be asked for again.
    """
    documents = list(_documents(place, (".conflist", ".conf", ".json")))
    held = {
        str(document["name"]): list(_lease_files(Path(leases), str(document["name"])))
        for _, document in documents
        if isinstance(document, dict) and "name" in document
    }
    _take(cni_networks.networks(documents, held), apply, as_json)


@importing.command(epilog="\b\nExample:\n  netctl import podman --apply")
@_from("/etc/containers/networks", "The folder of networks.")
@_apply
@_as_json
def podman(place: str, apply: bool, as_json: bool) -> None:
    """Networks of Podman with netavark."""
    _take(podman_networks.networks(_documents(place, (".json",))), apply, as_json)


def _take(networks: list[Found], apply: bool, as_json: bool) -> None:
    not_made = 0
    links = [name for _, name in socket.if_nameindex()]
    with connect() as client:
        items = judge(networks, client.networks(), links)
        _show(items, as_json)
        left = [item for item in items if item.state in (DIFFERS, HELD, CANNOT)]
        if apply:
            new = [item.found for item in items if item.state == NEW]
            failures = _make(client, new)
            same = sum(item.state == SAME for item in items)
            not_made = len(left) + len(failures)
            made = counted(len(new) - len(failures), "network")
            say(f"{made} made, {same} there already, {not_made} left alone")
    for item in left:
        if item.state == HELD:
            say(f"{item.found.name}: {_instead(item.found)}")
    if not_made:
        raise Conflict(f"{counted(not_made, 'network')} could not be taken over, see above")


def _make(client: Client, networks: list[Found]) -> list[Failure]:
    """Make all that can be made; why the others could not, which has been said already."""
    failures = []
    for found in networks:
        try:
            client.create_network(**found.spec)
        except ApiError as error:
            why = refusal(error)
            hint = f"If the old network is in the way: {_instead(found)}" if found.removal else ""
            failure = type(why)(f"{found.name}: {why.message}", hint=hint)
            failure.show()
            failures.append(failure)
    return failures


def _instead(found: Found) -> str:
    """The command that has netd's network take the place of the old one."""
    return f"{found.removal} && {command(netctl(), found.spec)}"


def _show(items: list[Item], as_json: bool) -> None:
    if as_json:
        print_json([_shown(item) for item in items])
        return
    print_table(
        ("NETWORK", "DRIVER", "SUBNETS", "STATE", "WHY"),
        (
            (
                item.found.name,
                item.found.spec.get("driver"),
                item.found.spec.get("subnets"),
                item.state,
                item.why,
            )
            for item in items
        ),
    )
    if notes := [(item.found.name, note) for item in items for note in item.found.notes]:
        click.echo()
        print_table(("NETWORK", "NOTE"), notes)
    kept = [(item.found.name, *held) for item in items for held in item.found.kept]
    if kept:
        click.echo()
        print_table(("NETWORK", "ADDRESS", "HELD BY"), kept)


def _shown(item: Item) -> dict[str, Any]:
    return {
        "name": item.found.name,
        "state": item.state,
        "why": item.why,
        "spec": item.found.spec,
        "notes": list(item.found.notes),
        "addresses": [kept._asdict() for kept in item.found.kept],
    }


def _ask(engine: Connection, target: str) -> list[dict[str, Any]]:
    """A list that the engine answers with."""
    try:
        response = engine.request("GET", target)
        body = response.read()
    except OSError as error:
        reason = error.strerror or str(error)
        raise Failure(f"no engine answers on {engine.path}: {reason}") from error
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if (
        response.status != 200
        or not isinstance(answer, list)
        or not all(isinstance(entry, dict) for entry in answer)
    ):
        raise Failure(
            f"what answers on {engine.path} is no Docker Engine: {target} has status "
            f"{response.status}"
        )
    return answer


def _documents(folder: str, suffixes: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """The JSON of all files with these endings by name; what is no JSON as its text."""
    try:
        entries = sorted(entry for entry in Path(folder).iterdir() if entry.suffix in suffixes)
    except OSError as error:
        raise NotFound(f"{folder} cannot be read: {error.strerror}") from error
    for file in filter(Path.is_file, entries):
        text = _text(file)
        try:
            yield file.name, json.loads(text)
        except (ValueError, RecursionError):
            yield file.name, text


def _lease_files(folder: Path, network: str) -> Iterator[tuple[str, str]]:
    place = folder / network
    if "/" in network or network in ("", ".", "..") or not place.is_dir():
        return
    for file in filter(Path.is_file, place.iterdir()):
        yield file.name, _text(file)


def _text(file: Path) -> str:
    try:
        with file.open("rb") as source:
            data = source.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}") from error
    if len(data) > FILE_BYTES_MAX:
        raise Failure(f"{file} has more than {FILE_BYTES_MAX} bytes")
    return data.decode(errors="replace")
