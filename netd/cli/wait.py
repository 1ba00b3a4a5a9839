"""`netctl wait`: until netd is ready, for scripts and for what is started after it."""

import time
from collections.abc import Callable

import click

from netd.cli.connection import refusal, socket_path, unreachable
from netd.cli.failure import Failure, say
from netd.client import ApiError, Client, Unreachable

# There may be no socket yet, so nothing could tell.
POLL_S = 0.1


class TooLate(Failure):
    """It has not come true in time."""


@click.command(
    epilog="\b\nExamples:\n  netctl wait\n  netctl wait --members 3 --timeout 120",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait, in all.",
)
@click.option(
    "--members",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="NUMBER",
    help="How many members of the cluster are to be alive, this host included.",
)
def wait(timeout_s: float, members: int) -> None:
    """Wait until netd is ready.

    That is when its networks and endpoints are as they should be. With --members it waits also
    until so many hosts see each other.
    """
    deadline_s = time.monotonic() + timeout_s
    with Client(socket_path(), timeout_s=max(timeout_s, 1.0)) as client:
        _until(client.ready, deadline_s)

        def are_there() -> None:
            alive = sum(member["state"] == "alive" for member in client.members())
            if alive < members:
                raise TooLate(f"{alive} members are alive, not {members}")

        if members > 1:
            _until(are_there, deadline_s)
    say("ready" if members == 1 else f"ready, and {members} members are alive")


def _until(question: Callable[[], None], deadline_s: float) -> None:
    """Ask until there is an answer that is no failure; after the deadline fail with the last."""
    while True:
        try:
            question()
        except Unreachable as error:
            failure: Failure = unreachable(error)
        except ApiError as error:
            failure = refusal(error)
            if error.code != "unavailable":
                raise failure from error
        except TooLate as error:
            failure = error
        else:
            return
        if time.monotonic() >= deadline_s:
            raise failure
        time.sleep(POLL_S)
