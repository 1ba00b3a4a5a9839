"""Podman 5 of a newer Debian on a host with netd, whose networks are by netd's driver."""

import re
import subprocess
from contextlib import ExitStack
from pathlib import Path

from netd.client.client import Client
from tests.e2e.pages import Shell
from tests.interop.docker_engine import DockerHost, image
from tests.interop.other_release import OtherRelease, debian_13
from tests.interop.podman import Podman

ROOT = Path(__file__).parents[2]
DRIVER = ROOT / "netd/runtimes/netavark/netd"
_QUIET = "PODMAN_IGNORE_CGROUPSV1_WARNING=1"
# For machines without systemd, and with either version of control groups.
_SETTINGS = """
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[containers]
default_capabilities = ["KILL", "NET_BIND_SERVICE", "NET_RAW"]
"""
_STORAGE = """
[storage]
driver = "vfs"
graphroot = "/var/lib/containers/storage"
runroot = "/run/containers/storage"
"""


class NewerPodman(Podman):
    """As Debian sets it up, with the driver where netd's package has it. It is to be made before
    the host's daemon starts, which listens at its usual place.
    """

    def __init__(self, stack: ExitStack, host: DockerHost) -> None:
        self.host = host
        self._stack = stack
        self.release = OtherRelease(stack, host, debian_13(), (host.folder, ROOT))
        host.socket = "/run/netd/netd.sock"
        host.client = Client(f"/proc/{host.pid}/root{host.socket}")
        stack.callback(host.client.close)
        kept = host.folder / "containers"
        kept.mkdir()
        for place, text in (("containers.conf", _SETTINGS), ("storage.conf", _STORAGE)):
            (host.folder / place).write_text(text)
        drivers = "/usr/libexec/netavark"
        for command in (
            ("mkdir", "-p", drivers, "/var/lib/containers", "/etc/containers/containers.conf.d"),
            ("ln", "-s", str(DRIVER), f"{drivers}/netd"),
            ("mount", "--bind", str(kept), "/var/lib/containers"),
            ("cp", str(host.folder / "containers.conf"), "/etc/containers/containers.conf.d"),
            ("cp", str(host.folder / "storage.conf"), "/etc/containers"),
            ("sh", "-c", "echo 127.0.0.1 localhost >/etc/hosts; echo host-1 >/etc/hostname"),
            ("sh", "-c", f"echo nameserver {host.OUTSIDE} >/etc/resolv.conf"),
        ):
            code, said = self.run(*command)
            assert code == 0, said

    def shell(self) -> Shell:
        """A shell on the host, with netd's programs and with Podman."""
        status = Path(f"/proc/{self.release.pid}/status").read_text()
        (pids,) = re.findall(r"^NSpid:(.*)$", status, re.MULTILINE)
        shell = Shell(self._stack, self.host.wrap())
        for command in (
            f"export PATH={ROOT}/.venv/bin:$PATH {_QUIET}",
            f'podman() {{ nsenter --mount=/proc/{pids.split()[-1]}/ns/mnt podman "$@"; }}',
        ):
            shell.run(command)
        return shell

    def run(self, *command: str) -> tuple[int, str]:
        """Exit code and output of a program of the release."""
        done = subprocess.run(
            self.release.wrap("env", _QUIET, *command),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout.strip()

    def import_image(self) -> None:
        file = self.host.folder / "podman.tar"
        with image() as archive:
            file.write_bytes(archive.read())
        self.call("import", "--quiet", str(file), "localhost/bb:latest")

    def call(self, *command: str, check: bool = True) -> str:
        code, said = self.run("podman", *command)
        assert code == 0 or not check, f"podman {' '.join(command)}: {said}"
        return said

    def fails(self, *command: str) -> bool:
        return self.run("podman", *command)[0] != 0

    def refused(self, *command: str) -> str:
        """What Podman says."""
        code, said = self.run("podman", *command)
        assert code != 0, said
        return said
