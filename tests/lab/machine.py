"""A machine of its own inside this one: network, processes, mounts and name.

It is its first process: with this one all others end, and with these the namespaces. The process
is found by its arguments, so nothing has to be remembered about it.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.lab.process import die_with_parent
from tests.lab.waiting import wait_for

BIN: Final = Path(sys.executable).parent
DISK: Final = "/run/lab"
"""Where a machine has its folder; the rest of its /run is empty at first."""

_MARK: Final = "netd-lab"
# Arguments: the machine's folder. Bash, because it collects orphans that end.
_INIT: Final = """
set -e
mkdir -p "$1/run"
mount -t tmpfs tmpfs "$1/run"
mkdir "$1/run/lab" "$1/run/netd" "$1/run/lock"
mount --bind "$1" "$1/run/lab"
mount --rbind "$1/run" /run
mount -t sysfs sysfs /sys
hostname "${1##*/}"
mount --bind /run/lab/hosts /etc/hosts
ip link set lo up
echo ready
exec >/dev/null 2>&1
while true; do sleep infinity & wait; done
"""


class Machine:
    """The machine with that folder, whose last part is its name. It may be off."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        self._pid: int | None = None
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """Of its first process."""
        if self._pid is None:
            self._pid = _running(self.folder).get(self.folder)
        if self._pid is None:
            raise LookupError(f"{self.name} is off")
        return self._pid

    def on(self, *, tied: bool) -> None:
        """Start it. When `tied`, it ends with this process."""
        self._process = process = subprocess.Popen(
            (
                *("unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork"),
                *("--mount-proc", "--kill-child", "bash", "-c", _INIT, _MARK, str(self.folder)),
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=die_with_parent if tied else None,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        with process.stdout, process.stderr:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"{self.name} did not start: {process.stderr.read().strip()}")

    def off(self) -> None:
        """End it and all that runs on it, without a last word; nothing if it is off."""
        pid = _running(self.folder).get(self.folder)
        self._pid = None
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not _alive(pid), what=f"{self.name} off")
        if self._process is not None:
            self._process.wait(timeout=20)
            self._process = None

    def wrap(self, *command: str) -> list[str]:
        """A local command that runs `command` on it."""
        return [
            *("nsenter", f"--target={self.pid}", "--net", "--mount", "--uts", "--ipc", "--pid"),
            *("env", "-u", "NETD_SOCKET", f"PATH={BIN}:{os.environ['PATH']}", *command),
        ]

    def in_network(self, *command: str) -> None:
        """Run a program of this machine in the other one's network."""
        subprocess.run(
            ("nsenter", f"--net=/proc/{self.pid}/ns/net", *command), check=True, timeout=20
        )


def running(folder: Path | None = None) -> list[Machine]:
    """All machines that are on, or those whose folders are in `folder`."""
    return [Machine(path) for path in sorted(_running(folder))]


def _running(folder: Path | None) -> dict[Path, int]:
    """Process ids of first processes, as `running`."""
    processes = [place for place in Path("/proc").iterdir() if place.name.isdecimal()]
    found = {path: int(place.name) for place in processes if (path := _machine_of(place))}
    return {
        path: pid for path, pid in found.items() if folder is None or folder in (path, path.parent)
    }


def _machine_of(process: Path) -> Path | None:
    """The machine whose first process this is."""
    try:
        arguments = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        if arguments[:2] + arguments[3:4] != ["bash", "-c", _MARK]:
            return None
        status = (process / "status").read_text()
    except OSError:  # it has ended meanwhile
        return None
    # A child that it has just forked has the same arguments, but is not number 1.
    [numbers] = [line.split() for line in status.splitlines() if line.startswith("NSpid:")]
    return Path(arguments[4]) if numbers[-1] == "1" else None


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
