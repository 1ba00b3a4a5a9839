"""How a command fails: what was wrong, what to do, and the exit code."""

from collections.abc import Callable, Iterable
from typing import IO, Any

import click

from netd.cli.output import clean


class Failure(click.ClickException):
    """An error for the user: one line says what was wrong, `hint` what to do."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"Error: {clean(self.message)}", file=file, err=True)
        if self.hint:
            click.echo(clean(self.hint), file=file, err=True)


class InputRefused(Failure):
    """The daemon found the input wrong, as click does on the command line with the same code."""

    exit_code = 2


class NotFound(Failure):
    exit_code = 3


class Conflict(Failure):
    exit_code = 4


class NoDaemon(Failure):
    exit_code = 5


def say(message: str) -> None:
    """Tell the user something that is not data: on standard error."""
    click.echo(clean(message), err=True)


def for_each(things: Iterable[str], action: Callable[[str], None]) -> None:
    """Do `action` for all things, also after a failure; then exit with the worst code.

    Without a daemon it ends at once: the first failure speaks for all.
    """
    worst = 0
    for thing in dict.fromkeys(things):
        try:
            action(thing)
        except NoDaemon:
            raise
        except Failure as failure:
            failure.show()
            worst = max(worst, failure.exit_code)
    click.get_current_context().exit(worst)
