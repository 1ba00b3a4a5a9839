"""Secrets on their way in and out: never on a command line, in files only for their owner."""

import os
import sys
from pathlib import Path

import click

from netd.cli.failure import Failure, say

_MOST_BYTES = 4096


def read_secret(path: str) -> str:
    """What `path` has on its one line; `-` is standard input. Raises `click.UsageError`."""
    try:
        if path == "-":
            data = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise click.UsageError(f"{path} cannot be read: {error.strerror}") from None
    try:
        text = data.decode("ascii").strip()
    except UnicodeDecodeError:
        text = ""
    if not text or len(data) > _MOST_BYTES or len(text.split()) > 1:
        raise click.UsageError(f"{path} does not have one line of text")
    return text


def hand_out(secret: str, path: str | None) -> None:
    """Print the secret, or make a file of it that its owner alone can read."""
    if path is None:
        click.echo(secret)
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Failure(
            f"{path} exists already, and is left as it is",
            hint="Remove it first, or name another file.",
        ) from None
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
    say(f"written to {path}, readable for its owner only")
