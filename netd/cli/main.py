"""`netctl`: the command line of netd."""

import os
import signal
from importlib import import_module

import click

from netd import __version__
from netd.client import DEFAULT_SOCKET

# Each command and its module. Modules are imported when needed, so that each command costs its
# own imports only.
_COMMANDS = {
    "completion": "completion",
    "dns": "dns",
    "doctor": "doctor",
    "endpoint": "endpoint",
    "events": "events",
    "explain": "explain",
    "import": "importing",
    "key": "key",
    "kv": "kv",
    "member": "member",
    "network": "network",
    "plan": "plan",
    "reconcile": "plan",
    "resolve": "resolve",
    "run": "run",
    "service": "service",
    "status": "status",
    "topology": "topology",
    "version": "version",
    "wait": "wait",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        name = module if cmd_name == "import" else cmd_name  # Python has that word for itself
        command: click.Command = getattr(import_module(f"netd.cli.{module}"), name)
        return command


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExit codes:\n"
    "  0 done   1 failed   2 wrong usage   3 not found   4 conflict   5 no daemon\n"
    "\n\b\nExample:\n  netctl network create blue",
)
@click.option(
    "--socket",
    envvar="NETD_SOCKET",
    default=DEFAULT_SOCKET,
    show_default=True,
    show_envvar=True,
    metavar="PATH",
    help="The daemon's socket.",
)
@click.version_option(__version__, prog_name="netctl", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, socket: str) -> None:
    """Connect containers to networks on this host, and hosts with each other, through netd.

    Data goes to standard output, everything else to standard error. With --json a command
    prints exactly what the daemon's API answers.
    """
    # https://no-color.org; where there is no terminal, click leaves colours out by itself.
    context.color = False if os.environ.get("NO_COLOR") else None


def main() -> None:
    """Run netctl. An interrupt ends it at once and in silence, as the shell expects."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    cli(prog_name="netctl")


if __name__ == "__main__":
    main()
