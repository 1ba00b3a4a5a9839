"""The command line of `netd`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, NoReturn

import netd

Command = Literal["run", "config check", "config show", "cleanup"]


# Of clusters: this version does not join hosts.
NOT_IN_THIS_VERSION: Final = (
    "--bind",
    "--advertise",
    "--join",
    "--profile",
    "--cluster-key",
    "--join-token",
)


class Options(NamedTuple):
    """What is asked for. `flags` has the form of the configuration file and wins over it."""

    command: Command
    config: Path | None
    flags: dict[str, dict[str, Any]]
    registry: bool


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Parse `arguments`, by default the process's own; exits with 2 when they are wrong."""
    found = vars(_parser().parse_args(arguments))
    flags: dict[str, dict[str, Any]] = {}
    for name, table, key in (
        ("node", "node", "name"),
        ("socket", "api", "socket"),
        ("state_dir", "state", "dir"),
    ):
        if name in found:
            flags.setdefault(table, {})[key] = found[name]
    return Options(
        command=found.get("command", "run"),
        config=found.get("config"),
        flags=flags,
        registry=found.get("registry", True),
    )


def _parser() -> argparse.ArgumentParser:
    # Flags may stand before or after a command. Absent ones leave no trace (SUPPRESS), so the
    # command's parser does not put its defaults over what came before.
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="configuration, with drop-ins in FILE.d (default: /etc/netd/netd.toml)",
    )
    common.add_argument("--node", metavar="NAME", help="this host's name in the cluster")
    common.add_argument("--socket", metavar="PATH", type=_absolute, help="Unix socket of the API")
    common.add_argument(
        "--state-dir", metavar="DIR", type=_absolute, help="folder of the durable state"
    )
    common.add_argument(
        "--no-registry",
        dest="registry",
        action="store_false",
        help="accepted for later versions: this one has no registry to start",
    )
    for flag in NOT_IN_THIS_VERSION:
        common.add_argument(flag, nargs="?", action=_Refused, help=argparse.SUPPRESS)
    parser = argparse.ArgumentParser(
        prog="netd",
        parents=[common],
        argument_default=argparse.SUPPRESS,
        description="Run the container-networking daemon, or the command that is given.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"netd {netd.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add(commands, common, "cleanup", "remove all that netd has made in the kernel")
    config = commands.add_parser("config", help="check or show the configuration")
    inner = config.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add(inner, common, "check", "exit with 0 if the configuration is right", "config check")
    _add(inner, common, "show", "print the settings in force and their origin", "config show")
    return parser


class _Refused(argparse.Action):
    """Ends with 2, as for any wrong command line, and says why."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        _namespace: argparse.Namespace,
        _values: object,
        option_string: str | None = None,
    ) -> NoReturn:
        parser.error(f"{option_string} is not in this version: it does not join hosts to a cluster")


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    common: argparse.ArgumentParser,
    name: str,
    text: str,
    command: Command | None = None,
) -> None:
    parser = commands.add_parser(
        name,
        parents=[common],
        argument_default=argparse.SUPPRESS,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        allow_abbrev=False,
    )
    parser.set_defaults(command=command or name)


def _absolute(path: str) -> str:
    """A path on the command line is relative to where it was typed."""
    return str(Path(path).absolute())
