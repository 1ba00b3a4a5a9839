"""A host with a real Docker Engine beside netd, in namespaces of its own.

Network, mount and process namespaces: `/run` is empty at first and seen by nobody else, the
machine's network is out of reach, and all that was started ends with the test, however that ends.
"""

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import docker as docker_py

from tests.e2e.lab import Host, Namespace, Process, await_true
from tests.interop import cgroups
from tests.interop.other_release import OtherRelease
from tests.lab.process import die_with_parent

IMAGE = "bb"
READY_S = 30.0
CONTAINERD = "/run/containerd.sock"
_BRIDGE = "segment"
_OF_ENGINE = ("containerd", "docker", "dockerd")
_TOOLS = (
    "sh",
    "sleep",
    "ping",
    "ping6",
    "nslookup",
    "nc",
    "httpd",
    "ip",
    "wget",
    "timeout",
    "cat",
    "ls",
    "true",
)

CONFIGURATION = """
[docker]
enabled = true

[host]
docker_user_hook = true
"""


class Entered:
    """A program in a host's namespaces: `nsenter` waits for it, and has another pid."""

    def __init__(self, waiting: "subprocess.Popen[Any]") -> None:
        self._waiting = waiting
        children = Path(f"/proc/{waiting.pid}/task/{waiting.pid}/children")
        deadline_s = time.monotonic() + READY_S
        while not (found := children.read_text().split()):
            assert waiting.poll() is None, "it ended at once"
            assert time.monotonic() < deadline_s
            time.sleep(0.005)  # it forks after it has entered, of which nothing tells
        self.pid = int(found[0])

    def poll(self) -> int | None:
        return self._waiting.poll()

    def wait(self, timeout: float | None = None) -> int:
        return self._waiting.wait(timeout)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


class DockerHost(Host):
    """netd answers Docker at the default place; `docker` runs the engine's command line.

    One that is `beside` another is on the same segment, whose namespace is the other's outside.
    The engine is the machine's, or that of the other release whose file system is in `template`.
    """

    UNSHARE = (
        *("unshare", "--net", "--mount", "--propagation", "private"),
        *("--pid", "--fork", "--kill-child", "--mount-proc"),
    )

    def __init__(
        self,
        stack: ExitStack,
        folder: Path,
        beside: "DockerHost | None" = None,
        template: Path | None = None,
    ) -> None:
        self._engine: Entered | None = None
        self._release: OtherRelease | None = None
        self._spaces: tuple[str, ...] = ("net=net",)  # the outside has a pid only out here
        self._beside = beside
        if beside is None:
            # Before all else, so that it comes last: when nothing runs any more.
            stack.callback(cgroups.remove_new, cgroups.at_the_top())
        else:
            self.ADDRESS, self.ADDRESS6 = "192.0.2.20", "2001:db8::20"
        super().__init__(stack, folder)
        if beside is not None:
            self.node = "host-2"
        self._spaces = ("net=net", "mount=mnt", "pid=pid_for_children")
        self.run("mount", "-t", "tmpfs", "tmpfs", "/run")
        if template is not None:
            self._release = OtherRelease(stack, self, template, (folder,))
        self.configuration = folder / "netd.toml"
        self.configuration.write_text(CONFIGURATION)
        self.engine_log = folder / "dockerd.log"

    def add_uplink(self) -> None:
        if self._beside is None:
            super().add_uplink()
        else:
            self._join(self._beside.outside)

    def _join(self, segment: Namespace) -> None:
        segment.run("ip", "link", "add", _BRIDGE, "type", "bridge")
        segment.run("ip", "address", "flush", "dev", "eth0")
        segment.run("ip", "link", "set", "eth0", "master", _BRIDGE)
        self.run(
            *("ip", "link", "add", "eth0", "type", "veth"),
            *("peer", "name", "eth1", "netns", str(segment.pid)),
        )
        segment.run("ip", "link", "set", "eth1", "master", _BRIDGE, "up")
        segment.run("ip", "link", "set", _BRIDGE, "up")
        segment.run("ip", "address", "add", f"{self.OUTSIDE}/24", "dev", _BRIDGE)
        self.run("ip", "address", "add", f"{self.ADDRESS}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "route", "add", "default", "via", self.OUTSIDE)

    @property
    def docker_socket(self) -> str:
        """Where the engine is reached from outside."""
        return f"/proc/{self.pid}/root/run/docker.sock"

    def wrap(self, *command: str) -> list[str]:
        spaces = (space.replace("=", f"=/proc/{self.pid}/ns/") for space in self._spaces)
        entered = ["nsenter", *(f"--{space}" for space in spaces), *command]
        if self._release is not None and command[0] in _OF_ENGINE:
            return self._release.enter(entered)
        return entered

    def launch(self, *flags: str, environment: dict[str, str] | None = None) -> None:
        super().launch("--config", str(self.configuration), *flags, environment=environment)

    def _spawn(self, arguments: list[str], environment: dict[str, str]) -> Process:
        waiting = super()._spawn(arguments, environment)
        assert isinstance(waiting, subprocess.Popen)
        return Entered(waiting)

    # The engine

    def start_containerd(self) -> None:
        """What the engine has its containers run by; it outlives the engine."""
        root = str(self.folder / "containerd")
        self._start("containerd", "--address", CONTAINERD, "--root", root, "--state", "/run/c")
        await_true(lambda: self.succeeds("test", "-S", CONTAINERD), within_s=READY_S)

    def start_engine(self, *flags: str) -> None:
        """Start dockerd and return when it answers."""
        self.launch_engine(*flags)
        self.await_engine()

    def launch_engine(self, *flags: str) -> None:
        """Start dockerd without waiting for it."""
        root = str(self.folder / "docker")
        self._engine = self._start(
            *("dockerd", "--data-root", root, "--containerd", CONTAINERD, *flags),
            *("--storage-driver", "overlay2", "--pidfile", "/run/dockerd.pid"),
        )

    def await_engine(self) -> None:
        assert self._engine is not None
        deadline_s = time.monotonic() + READY_S
        while not self.succeeds("docker", "version"):
            if self._engine.poll() is not None or time.monotonic() > deadline_s:
                raise AssertionError(f"no engine:\n{self.engine_log.read_text()[-4000:]}")
            time.sleep(0.05)  # nothing tells from outside that it begins to answer

    def _start(self, *command: str) -> Entered:
        with self.engine_log.open("ab") as log:
            waiting = subprocess.Popen(
                self.wrap(*command), stdout=log, stderr=log, preexec_fn=die_with_parent
            )
        self._stack.enter_context(waiting)
        self._stack.callback(waiting.kill)
        return Entered(waiting)

    def stop_engine(self) -> None:
        assert self._engine is not None
        self._engine.terminate()
        self._engine.wait(timeout=READY_S)
        self._engine = None

    def kill_engine(self) -> None:
        """SIGKILL, as when the machine is short of memory."""
        assert self._engine is not None
        self._engine.kill()
        self._engine.wait(timeout=READY_S)
        self._engine = None

    def load_image(self) -> None:
        """The image `bb`: busybox and nothing else."""
        with image() as archive:
            subprocess.run(
                self.wrap("docker", "import", "-", IMAGE),
                stdin=archive,
                check=True,
                capture_output=True,
                timeout=60,
            )

    def docker(self, *command: str, check: bool = True, timeout_s: float = 60) -> str:
        return self.run("docker", *command, check=check, timeout_s=timeout_s).strip()

    def engine(self, at_once: int = 10) -> docker_py.DockerClient:
        """The engine as Python programs talk to it, with so many calls at a time."""
        client = docker_py.DockerClient(
            base_url=f"unix://{self.docker_socket}", timeout=120, max_pool_size=at_once
        )
        self._stack.callback(client.close)
        return client

    def bare(self, name: str) -> str:
        """A network namespace that is no container of the engine's; its path for netd."""
        self.run("ip", "netns", "add", name)
        self._stack.callback(self.run, "ip", "netns", "delete", name, check=False)
        return f"/run/netns/{name}"

    def bare_pings(self, name: str, address: str) -> bool:
        return self.succeeds("ip", "netns", "exec", name, "ping", "-c1", "-W1", address)

    def inspect(self, container: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.docker("inspect", container))[0]
        return found


@functools.cache
def _archive() -> bytes:
    busybox = shutil.which("busybox") or "/bin/busybox"
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for file_name, place in {busybox: "bin/busybox", **_libraries(busybox)}.items():
                archive.add(Path(file_name).resolve(), place)
            for tool in _TOOLS:
                link = tarfile.TarInfo(f"bin/{tool}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(link)
            etc = tarfile.TarInfo("etc")
            etc.type, etc.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(etc)
        file.seek(0)
        return file.read()


def _libraries(program: str) -> dict[str, str]:
    """What the program is linked with, and where it looks for it."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    found = re.findall(r"(/\S+) \(0x", listed)
    return {path: path.removeprefix("/") for path in found}


def image() -> Any:
    """An open file with the image's file system."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 who asked closes it
    file.write(_archive())
    file.seek(0)
    return file


if __name__ == "__main__":  # for `docker import - bb`
    sys.stdout.buffer.write(_archive())
