"""The command line of `netd`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import netd

Command = Literal["run", "config check", "config show", "cleanup"]


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
        ("bind", "cluster", "bind"),
        ("advertise", "cluster", "advertise"),
        ("join", "cluster", "join"),
        ("profile", "cluster", "profile"),
        ("cluster_key", "cluster", "key_file"),
        ("join_token", "cluster", "join_token_file"),
        ("insecure", "cluster", "insecure"),
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
        help="start no registry, whatever is configured: nobody answers names, or somebody else "
        "starts one",
    )
    _add_cluster(common)
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


def _add_cluster(common: argparse.ArgumentParser) -> None:
    """Flags that win over the table `cluster` of the configuration."""
    common.add_argument(
        "--bind",
        metavar="ADDR:PORT",
        help="listen for the other hosts here (default: port 7940 of all IPv4 addresses, once "
        "this host has a key)",
    )
    common.add_argument(
        "--advertise", metavar="ADDR:PORT", help="where the other hosts reach this one"
    )
    common.add_argument(
        "--join",
        metavar="ADDR:PORT",
        action="append",
        help="a host to join; can be repeated (default port: 7940)",
    )
    common.add_argument(
        "--profile",
        choices=("lan", "fast", "wan"),
        help="how quickly a host that fails is noticed (default: lan)",
    )
    entry = common.add_mutually_exclusive_group()
    entry.add_argument(
        "--cluster-key",
        metavar="FILE",
        type=_absolute,
        help="the key of the cluster, as 'netctl key generate' prints it",
    )
    entry.add_argument(
        "--join-token",
        metavar="FILE",
        type=_absolute,
        help="a token that 'netctl member token' has printed on a member",
    )
    common.add_argument(
        "--insecure",
        action="store_true",
        help="let other hosts reach this one although it has no key",
    )


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
