"""`netctl kv`: keys and their values, the same on all hosts."""

import sys
from pathlib import Path
from typing import Any

import click

from netd.cli import options as shared
from netd.cli.connection import connect
from netd.cli.failure import Conflict, Failure, NotFound, say
from netd.cli.output import clean, print_fields, print_json, print_table

_VALUE_MAX_BYTES = 512 << 10
_SHOWN_MAX = 40  # characters of a value in a table


@click.group(no_args_is_help=True)
def kv() -> None:
    """Read and write keys that all hosts of the cluster have in common."""


@kv.command(
    epilog="\b\nExamples:\n  netctl kv get config/port\n  netctl kv get logo --raw >logo.png"
)
@click.argument("key")
@click.option("--raw", is_flag=True, help="Print the value's bytes, with nothing after them.")
@shared.as_json
def get(key: str, raw: bool, as_json: bool) -> None:
    """Print the value of KEY."""
    with connect() as client:
        if as_json:
            found = client.kv.get(key)
            print_json(found | {"entry": _plain(found["entry"])})
            return
        entry = client.kv.get(key)["entry"]
    if entry is None:
        raise NotFound(f"there is no key {key}")
    if raw:
        sys.stdout.buffer.write(entry["value"])
        sys.stdout.buffer.flush()
    else:
        click.echo(_text(entry["value"]))


@kv.command(
    epilog="\b\nExamples:\n  netctl kv put config/port 8080\n"
    "  netctl kv put logo --file logo.png\n"
    "  netctl kv put config/port 8081 --cas 7"
)
@click.argument("key")
@click.argument("value", required=False)
@click.option("--file", metavar="FILE", help="Take the value from a file; - is standard input.")
@click.option("--flags", type=click.IntRange(0, 2**64 - 1), metavar="N", help="A number with it.")
@click.option(
    "--cas",
    type=click.IntRange(min=0),
    metavar="INDEX",
    help="Only if the key's modify index is INDEX; 0: only if there is no such key.",
)
@click.option("--acquire", metavar="SESSION", help="Only if SESSION can hold the key as a lock.")
@click.option("--release", metavar="SESSION", help="Only if SESSION holds the key; release it.")
def put(key: str, value: str | None, file: str | None, **fields: Any) -> None:
    """Have KEY have a VALUE. Exits with 4 when that was not allowed by an option."""
    if value is not None and file is not None:
        raise click.UsageError("VALUE and --file exclude each other")
    data = (value or "").encode() if file is None else _contents(file)
    given = {name: field for name, field in fields.items() if field is not None}
    with connect() as client:
        done = client.kv.put(key, data, **given)
    if not done:
        raise Conflict(f"{key} was not written: {_why(given)}")


def _why(given: dict[str, Any]) -> str:
    if "cas" in given:
        return f"its index is not {given['cas']}" if given["cas"] else "it exists"
    if "acquire" in given:
        return "another session holds it, or has held it until just now"
    return "the session does not hold it"


@kv.command(
    epilog="\b\nExamples:\n  netctl kv delete config/port\n  netctl kv delete --tree config/"
)
@click.argument("key", metavar="KEY")
@click.option("--tree", is_flag=True, help="Delete all keys that begin with KEY.")
@click.option(
    "--cas",
    type=click.IntRange(min=1),
    metavar="INDEX",
    help="Only if the key's modify index is INDEX.",
)
def delete(key: str, tree: bool, cas: int | None) -> None:
    """Delete KEY. It is no error when there is none."""
    if tree and cas is not None:
        raise click.UsageError("--tree and --cas exclude each other")
    with connect() as client:
        if tree:
            client.kv.delete_tree(key)
        elif not client.kv.delete(key, cas):
            raise Conflict(f"{key} was not deleted: its index is not {cas}")


@kv.command(epilog="\b\nExamples:\n  netctl kv ls\n  netctl kv ls config/ --separator / -q")
@click.argument("prefix", default="")
@click.option(
    "--separator", default="", metavar="TEXT", help="Only names, up to the first TEXT after PREFIX."
)
@shared.quiet_names
@shared.as_json
def ls(prefix: str, separator: str, quiet: bool, as_json: bool) -> None:
    """List the keys that begin with PREFIX, with values."""
    with connect() as client:
        if quiet or separator:
            names = client.kv.names(prefix, separator)
            if as_json:
                print_json(names)
                return
            for name in names["keys"]:
                click.echo(clean(name))
            return
        listing = client.kv.entries(prefix)
    if as_json:
        print_json(listing | {"entries": [_plain(entry) for entry in listing["entries"]]})
        return
    print_table(
        ("KEY", "VALUE", "FLAGS", "INDEX", "SESSION"),
        (
            (
                entry["key"],
                _short(entry["value"]),
                entry["flags"],
                entry["modify_index"],
                entry["session"],
            )
            for entry in listing["entries"]
        ),
    )


@kv.command(epilog="\b\nExample:\n  netctl kv status")
@shared.as_json
def status(as_json: bool) -> None:
    """Show which host holds the keys, and how many there are."""
    with connect() as client:
        found = client.kv.status()
    if as_json:
        print_json(found)
    else:
        print_fields(found)


@kv.command(epilog="\b\nExample:\n  netctl kv move host-2")
@click.argument("node", metavar="HOST")
@click.option(
    "--abandon",
    is_flag=True,
    help="The host that holds the keys is lost for good: begin without any on HOST.",
)
@click.option("--yes", is_flag=True, help="Do not ask before --abandon.")
def move(node: str, abandon: bool, yes: bool) -> None:
    """Have HOST hold the keys from now on. Run it on the host that holds them.

    Nobody can read or write them meanwhile, which takes a moment.
    """
    if abandon and not yes:
        click.confirm("All keys, sessions and locks will be gone. Go on?", abort=True, err=True)
    with connect() as client:
        client.kv.move(node, abandon)
    say(f"{node} holds the keys")


def _contents(file: str) -> bytes:
    try:
        if file == "-":
            data = sys.stdin.buffer.read(_VALUE_MAX_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(_VALUE_MAX_BYTES + 1)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from error
    if len(data) > _VALUE_MAX_BYTES:
        raise Failure(f"{file} has more than {_VALUE_MAX_BYTES} bytes, the most of a value")
    return data


def _text(value: bytes) -> str:
    """A value for people: what is not UTF-8, or does not print, is escaped."""
    text = value.decode(errors="backslashreplace")
    return "\n".join(clean(line) for line in text.split("\n"))


def _short(value: bytes) -> str:
    text = clean(value[: 4 * _SHOWN_MAX].decode(errors="backslashreplace"))
    return text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 1]}…"


def _plain(entry: dict[str, Any] | None) -> dict[str, Any] | None:
    """As the API has it, with the value in base64."""
    if entry is None:
        return None
    import base64

    return entry | {"value": base64.b64encode(entry["value"]).decode()}
