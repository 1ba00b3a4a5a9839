"""`netctl run`: a command in a network namespace of its own, attached to a network."""

import fcntl
import os
import shutil
import signal
import tempfile
from contextlib import suppress
from types import FrameType
from typing import Any, Final

import click

from netd.cli import options as shared
from netd.cli.connection import connect
from netd.cli.failure import Failure, say
from netd.cli.live import network_names
from netd.cli.output import text
from netd.cli.values import given
from netd.client import Client, Unreachable

# What the new process does once it has its namespaces: it says so, waits for its network, and
# becomes the command. Only descriptors of one digit can be closed by every sh(1).
_SAYS: Final = 8
_WAITS: Final = 9
_BEGIN: Final = """
printf . >&8
read -r _ <&9 || exit 1
exec 8>&- 9<&-
if [ -s "$1" ]; then mount --bind "$1" /etc/resolv.conf; fi
shift
exec "$@"
"""
_FORWARDED: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_BY_SIGNAL: Final = 128  # plus the signal's number, as shells have it
_NOT_FOUND: Final = 127


@click.command(
    epilog=shared.PORTS_HELP + "\b\nExamples:\n"
    "  netctl run blue -- ping -c 1 web\n"
    "  netctl run --name web --publish 8080:80 blue -- python3 -m http.server 80",
)
@click.argument("network", shell_complete=network_names)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--name", metavar="NAME", help="Its name in the network's DNS.")
@shared.alias
@click.option(
    "--address",
    "addresses",
    multiple=True,
    metavar="ADDRESS",
    help="A fixed address; at most one for each subnet.",
)
@shared.publish
@shared.label
def run(network: str, command: tuple[str, ...], **request: Any) -> None:
    """Run COMMAND attached to NETWORK.

    Nothing else is changed for it: it has a network namespace of its own, and asks the network's
    DNS servers for names. When it ends the endpoint is gone. The exit code is the command's.
    """
    if os.geteuid() != 0:
        raise Failure("a network namespace can be made by root only", hint="Try it with sudo.")
    if shutil.which(command[0]) is None:
        raise _NoCommand(f"there is no command {command[0]!r}")
    with tempfile.NamedTemporaryFile("w", prefix="netctl-resolv-") as resolv, connect() as client:
        process = _Process(resolv.name, command)
        container = f"run-{process.pid}-{os.urandom(4).hex()}"
        try:
            process.await_namespaces()
            made = client.attach(network, container_id=container, pid=process.pid, **given(request))
            say(f"endpoint {made['name']} on {made['network']}: {text(made['addresses'])}")
            resolv.write(_resolv_conf(made["dns"]))
            resolv.flush()
            os.fchmod(resolv.fileno(), 0o644)  # whoever the command becomes reads it
            code = process.run()
        finally:
            process.end()
            _detach(client, container)
    click.get_current_context().exit(code)


class _NoCommand(Failure):
    """As shells say it."""

    exit_code = _NOT_FOUND


class _Process:
    """What becomes the command, from its start in new namespaces to its end."""

    def __init__(self, resolv_conf: str, command: tuple[str, ...]) -> None:
        self._ready, says = os.pipe()
        waits, self._go = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _become(says, waits, resolv_conf, command)
        os.close(says)
        os.close(waits)
        self._begun = self._ended = False
        for number in (signal.SIGINT, *_FORWARDED):
            signal.signal(number, self._heed)

    def await_namespaces(self) -> None:
        if not os.read(self._ready, 1):
            raise Failure("the command's namespaces could not be made")

    def run(self) -> int:
        """Let it begin, and wait for its end; the exit code as shells have it."""
        self._begun = True
        with suppress(BrokenPipeError):  # it has been ended before it began
            os.write(self._go, b"\n")
        return self._wait()

    def end(self) -> None:
        """Without its network it is not to run."""
        if not self._ended:
            os.kill(self.pid, signal.SIGKILL)
            self._wait()

    def _wait(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        self._ended = True
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else _BY_SIGNAL - code

    def _heed(self, number: int, _: FrameType | None) -> None:
        """End before the command begins; from then on it decides what a signal means."""
        if not self._begun:
            raise SystemExit(_BY_SIGNAL + number)
        if not self._ended and number != signal.SIGINT:  # a terminal sends that to both
            os.kill(self.pid, number)


def _become(says: int, waits: int, resolv_conf: str, command: tuple[str, ...]) -> None:
    """Be another program; for the process that was made for it."""
    try:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, programs do not
        says, waits = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (says, waits))
        os.dup2(says, _SAYS)
        os.dup2(waits, _WAITS)
        unshare = ("unshare", "--net", "--mount", "--propagation", "slave", "--")
        os.execvp(unshare[0], (*unshare, "sh", "-c", _BEGIN, "sh", resolv_conf, *command))  # noqa: S606
    finally:
        os._exit(_NOT_FOUND)


def _detach(client: Client, container: str) -> None:
    """Whatever has come of the attach. If the daemon is away it will see for itself."""
    try:
        client.detach_container(container)
    except Unreachable:
        say("netd is away; it removes the endpoint when it is back")


def _resolv_conf(dns: dict[str, Any]) -> str:
    lines = [f"nameserver {address}" for address in dns["nameservers"]]
    if lines and dns["search"]:
        lines.append(f"search {' '.join(dns['search'])}")
    return "".join(f"{line}\n" for line in lines)
