"""A host of its own where systemd runs netd, reached by ssh: a virtual machine."""

import shlex
import subprocess
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.lab.host import READY_DEADLINE_S, LabHost
from tests.lab.waiting import wait_for

# netd.socket would start netd again with the next call.
UNITS: Final = ("netd.socket", "netd.service")


class ServiceHost(LabHost):
    """A host with systemd in a virtual machine."""

    def __init__(self, name: str, address: str) -> None:
        super().__init__()
        self.name = name
        self.address = address

    @abstractmethod
    def ssh(self) -> list[str]:
        """The local command that takes the host's name and a command for its shell."""

    def wrap(self, *command: str) -> list[str]:
        return [*self.ssh(), self.name, shlex.join(command)]

    def launch_netd(self) -> None:
        self.run("systemctl", "start", "--no-block", *UNITS)

    def stop_netd(self) -> None:
        self.run("systemctl", "stop", *UNITS)

    def kill_netd(self) -> None:
        # At once: systemd would start it again after a second.
        units = " ".join(UNITS)
        kill = "systemctl kill --kill-who=main --signal=KILL netd.service"
        self.run("sh", "-c", f"{kill} && systemctl stop {units}")

    def await_ready(self) -> None:
        ask = (
            "curl",
            "-sf",
            "--max-time",
            "20",
            "--unix-socket",
            "/run/netd/netd.sock",
            "http://netd/readyz",
        )
        try:  # by curl: an emulated processor takes seconds to start netctl
            wait_for(
                lambda: self.succeeds(*ask),
                READY_DEADLINE_S * self.slowness,
                what=f"netd on {self} ready",
            )
        except AssertionError as error:
            log = self.run("journalctl", "-u", "netd", "-n", "50", "--no-pager", code=None)
            raise AssertionError(f"{error}\n{log}") from None


def write_ssh_config(file: Path, key: Path, ports: dict[str, int]) -> None:
    """For machines that listen on ports of 127.0.0.1: the configuration of ssh(1), by name.

    Connections share one for each machine, which `hold_connection` makes.
    """
    common = (
        f"IdentityFile {key}\nControlPath {file.parent}/%n.ssh\n"
        "User root\nHostName 127.0.0.1\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\n"
        "LogLevel ERROR\nBatchMode yes\nConnectTimeout 20\n"
    )
    hosts = "".join(f"Host {name}\nPort {port}\n" for name, port in ports.items())
    file.write_text(f"{hosts}Host *\n{common}")


def hold_connection(ssh: Sequence[str], name: str, timeout_s: float) -> bool:
    """Connect, in the background, for as long as the machine lives; False when it is not up."""
    # Its standard error would be held open by what stays in the background.
    command = [*ssh, "-o", "ControlMaster=yes", "-f", "-N", name]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
