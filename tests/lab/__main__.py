"""The command `scripts/lab`: a lab on this machine that stays until it is taken down."""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tests.lab.machine import Machine, running
from tests.lab.namespaces import NamespaceHost, NamespaceLab
from tests.lab.underlay import HOSTS_MAX, OUTSIDE

DEFAULT: Final = os.environ.get("NETD_LAB", "/run/netd-lab")
EPILOG: Final = """
examples:
  scripts/lab up 3
  scripts/lab exec host-1 netctl member ls
  scripts/lab off host-3
  scripts/lab on host-3
  scripts/lab down
"""


class Wrong(Exception):
    """What the caller should know; there is nothing to be done with it."""


def main(words: Sequence[str]) -> None:
    """Do what the words say; ends the process with 1 and a message where that cannot be done."""
    arguments = _parser().parse_args(words)
    if os.geteuid() != 0:
        sys.exit("scripts/lab: run it as root: it makes network namespaces")
    do: Callable[[argparse.Namespace], None] = arguments.do
    try:
        do(arguments)
    except (Wrong, AssertionError, OSError, RuntimeError) as error:
        sys.exit(f"scripts/lab: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except subprocess.CalledProcessError as error:
        sys.exit(f"scripts/lab: {error}: {error.stderr}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/lab",
        description="Hosts with netd, in one cluster, as network namespaces of this machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, do: Callable[[argparse.Namespace], None], text: str) -> _Arguments:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(do=do)
        made.add_argument(
            "--dir", type=Path, default=Path(DEFAULT), help=f"the lab's folder ({DEFAULT})"
        )
        return made.add_argument

    argument = command("up", _up, "make a lab: host-1, host-2, ..., and a machine outside")
    argument("count", metavar="N", type=int, help="how many hosts")
    argument("--profile", choices=("lan", "fast", "wan"), default="lan", help="the cluster's")
    argument("--family", type=int, choices=(4, 6), default=4, help="IP version between hosts")
    argument = command("exec", _exec, "run a command on a host, or outside")
    argument("host", metavar="HOST")
    argument("command", metavar="CMD", nargs=argparse.REMAINDER)
    command("ls", _ls, "list the hosts")
    argument = command("off", _off, "cut a host's power: nothing is left but its disk")
    argument("host", metavar="HOST")
    argument = command("on", _on, "start a host, and netd if it does not run")
    argument("host", metavar="HOST")
    command("down", _down, "remove the lab")
    return parser


_Arguments = Callable[..., argparse.Action]


def _up(arguments: argparse.Namespace) -> None:
    folder: Path = arguments.dir.resolve()
    if not 1 <= arguments.count <= HOSTS_MAX:
        raise Wrong(f"a lab has 1 to {HOSTS_MAX} hosts")
    if (folder / "lab.json").exists():
        raise Wrong(f"there is a lab in {folder}: scripts/lab down{_dir_flag(folder)}")
    if folder.exists() and any(folder.iterdir()):
        raise Wrong(f"{folder} is not empty")
    folder.mkdir(parents=True, exist_ok=True)
    lab = NamespaceLab(folder, tied=False)
    try:
        lab.up(arguments.count, profile=arguments.profile, family=arguments.family)
    except BaseException:
        lab.down()
        raise
    _ls(arguments)


def _exec(arguments: argparse.Namespace) -> None:
    machine = _machine(arguments)
    command = arguments.command or ["bash"]
    wrapped = machine.wrap(*command)
    os.execvp(wrapped[0], wrapped)


def _ls(arguments: argparse.Namespace) -> None:
    lab = _lab(arguments)
    on = {machine.folder for machine in running(lab.folder)}
    for host in lab.hosts:
        state = "off" if host.machine.folder not in on else "on" if host.netd_runs else "no netd"
        print(f"{host.name:<10} {host.address:<15} {state}")


def _off(arguments: argparse.Namespace) -> None:
    _host(arguments).cut_power()


def _on(arguments: argparse.Namespace) -> None:
    host = _host(arguments)
    if running(host.machine.folder):
        host.launch_netd()
    else:
        host.restore_power()
    host.await_ready()


def _down(arguments: argparse.Namespace) -> None:
    _lab(arguments).down()


def _lab(arguments: argparse.Namespace) -> NamespaceLab:
    folder: Path = arguments.dir.resolve()
    if not (folder / "lab.json").exists():
        labs = sorted({str(machine.folder.parent) for machine in running()})
        others = f"; there are labs in {', '.join(labs)}" if labs else ""
        raise Wrong(f"there is no lab in {folder}{others}")
    return NamespaceLab(folder, tied=False)


def _host(arguments: argparse.Namespace) -> NamespaceHost:
    lab = _lab(arguments)
    for host in lab.hosts:
        if host.name == arguments.host:
            return host
    names = ", ".join(host.name for host in lab.hosts)
    raise Wrong(f"there is no host {arguments.host!r}; there are {names}")


def _machine(arguments: argparse.Namespace) -> Machine:
    outside = arguments.host == OUTSIDE
    machine = _lab(arguments).outside if outside else _host(arguments).machine
    if not running(machine.folder):
        raise Wrong(f"{machine.name} is off: scripts/lab on {machine.name}")
    return machine


def _dir_flag(folder: Path) -> str:
    return "" if folder == Path(DEFAULT) else f" --dir {folder}"


if __name__ == "__main__":
    main(sys.argv[1:])
