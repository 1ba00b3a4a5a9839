"""`netctl key`: the keys that the hosts of the cluster seal their packets with."""

import base64
import binascii
import os

import click

from netd.cli import options as shared
from netd.cli.connection import connect
from netd.cli.failure import for_each
from netd.cli.live import key_ids
from netd.cli.output import print_json, print_table
from netd.cli.rotation import Rotation
from netd.cli.secrets import hand_out, read_secret
from netd.cli.values import DURATION

KEY_BYTES = 32


@click.group(no_args_is_help=True)
def key() -> None:
    """Make keys for a cluster, and change them while it runs."""


@key.command(epilog="\b\nExample:\n  netctl key ls")
@shared.quiet_ids
@shared.as_json
def ls(quiet: bool, as_json: bool) -> None:
    """List the keys: who has them, who sends with them. The primary is first."""
    with connect() as client:
        keys = client.keys()
    if as_json:
        print_json(keys)
    elif quiet:
        for found in keys:
            click.echo(found["id"])
    else:
        print_table(
            ("ID", "PRIMARY", "HOLDERS", "USERS"),
            ((found["id"], found["primary"], found["holders"], found["users"]) for found in keys),
        )


@key.command(epilog="\b\nExample:\n  netctl key generate --output /etc/netd/cluster.key")
@click.option(
    "--output", metavar="FILE", help="Make a file of it, for its owner only, instead of printing."
)
def generate(output: str | None) -> None:
    """Print a new key of 32 random bytes, in base64. Needs no daemon.

    A file with it goes to all hosts of a new cluster, see cluster.key_file.
    """
    hand_out(base64.b64encode(os.urandom(KEY_BYTES)).decode(), output)


@key.command(epilog="\b\nExamples:\n  netctl key install\n  netctl key install /root/next.key")
@click.argument("file", required=False)
@shared.as_json_not_id
def install(file: str | None, as_json: bool) -> None:
    """Give all members the key in FILE, or a new one, and print its id.

    Nobody sends with it yet. FILE is as 'netctl key generate' makes it; - is standard input.
    """
    secret = None if file is None else _checked(read_secret(file), file)
    with connect() as client:
        made = client.install_key(secret)
    if as_json:
        print_json(made)
    else:
        click.echo(made["id"])


@key.command(epilog="\b\nExample:\n  netctl key use 8f31c09a")
@click.argument("key", metavar="ID", shell_complete=key_ids)
@shared.as_json_not_id
def use(key: str, as_json: bool) -> None:
    """Have all members send with the key ID, and print its id.

    Members that do not have it yet are a conflict.
    """
    with connect() as client:
        used = client.use_key(key)
    if as_json:
        print_json(used)
    else:
        click.echo(used["id"])


@key.command(epilog="\b\nExample:\n  netctl key rm 8f31c09a")
@click.argument("keys", nargs=-1, required=True, metavar="ID...", shell_complete=key_ids)
def rm(keys: tuple[str, ...]) -> None:
    """Have all members forget keys.

    Each that is gone is printed. A key that somebody sends with is left alone. After a failure
    the others are still removed.
    """

    def remove(key_id: str) -> None:
        with connect() as client:
            client.remove_key(key_id)
        click.echo(key_id)

    for_each(keys, remove)


@key.command(epilog="\b\nExample:\n  netctl key rotate --timeout 5m")
@click.option(
    "--timeout",
    "timeout_s",
    type=DURATION,
    default="2m",
    show_default=True,
    metavar="TIME",
    help="How long to wait for all members, in all.",
)
def rotate(timeout_s: int) -> None:
    """Replace the primary key by a new one on all members.

    The new key's id is printed. It is installed, used once all members that are alive have it,
    and the old one is removed once nobody sends with it. No packet is lost by it. What is not
    done in time is told, with the commands that are left to do.
    """
    with connect() as client:
        click.echo(Rotation(client, timeout_s).run())


def _checked(secret: str, file: str) -> str:
    try:
        size = len(base64.b64decode(secret, validate=True))
    except binascii.Error:
        size = 0
    if size != KEY_BYTES:
        raise click.UsageError(
            f"{file} does not have a key of {KEY_BYTES} bytes in base64; "
            "'netctl key generate' makes one"
        )
    return secret
