"""A host in a network namespace with a real daemon, an outside, and containers.

Nothing here needs names in /run/netns: namespaces are held open by sleeping processes and
end with them, so a test run that is killed leaves nothing but processes that end themselves.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol

from netd.client.client import Client
from netd.client.errors import Unreachable
from tests.lab.process import die_with_parent

START_DEADLINE_S = 60.0
TRUE_DEADLINE_S = 5.0


def await_true(condition: Callable[[], bool], within_s: float = TRUE_DEADLINE_S) -> None:
    """Return when the condition holds; for what no event tells of from outside."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "it never came true"
        time.sleep(0.02)


def fill_disk(file: Path) -> None:
    """Write to `file` until its file system has no byte left."""
    with file.open("wb", buffering=0) as ballast:
        for size in (65536, 4096, 1):
            try:
                while True:
                    ballast.write(b"\0" * size)
            except OSError:
                continue


def ip_of(endpoint: dict[str, Any], version: int = 4) -> str:
    """The endpoint's address of that IP version, without its prefix length."""
    address: str = endpoint["addresses"][0 if version == 4 else 1]
    return address.partition("/")[0]


class Process(Protocol):
    """What a host wants of its daemon's process."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def kill(self) -> None: ...
    def terminate(self) -> None: ...


class Namespace:
    """A network namespace held open by a process; `lo` is up if asked for."""

    UNSHARE: tuple[str, ...] = ("unshare", "--net")

    def __init__(self, stack: ExitStack, *, loopback: bool = False) -> None:
        self._process = subprocess.Popen(
            [*self.UNSHARE, "sh", "-c", "echo; exec sleep infinity"],
            stdout=subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
        stack.enter_context(self._process)
        stack.callback(self.end)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"\n", f"{' '.join(self.UNSHARE)} failed"
        self.pid = self._process.pid
        self.path = f"/proc/{self.pid}/ns/net"
        if loopback:
            self.run("ip", "link", "set", "lo", "up")

    def run(self, *command: str, check: bool = True, timeout_s: float = 20) -> str:
        """Run a program inside; return its output. Fails when the program does."""
        done = subprocess.run(
            self.wrap(*command), capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def succeeds(self, *command: str) -> bool:
        done = subprocess.run(self.wrap(*command), capture_output=True, timeout=20, check=False)
        return done.returncode == 0

    def start(self, stack: ExitStack, *command: str, talk: bool = False) -> "subprocess.Popen[str]":
        """Start a program inside that ends with the test; with `talk` its input is a pipe."""
        process = subprocess.Popen(
            self.wrap(*command),
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE if talk else subprocess.DEVNULL,
            text=True,
            preexec_fn=die_with_parent,
        )
        stack.enter_context(process)
        stack.callback(process.kill)
        return process

    def wrap(self, *command: str) -> list[str]:
        return ["nsenter", f"--net={self.path}", *command]

    def pings(self, address: str, *, wait_s: int = 2) -> bool:
        return self.succeeds("ping", "-c", "1", "-W", str(wait_s), address)

    def links(self) -> list[str]:
        """Names of the links, without `lo` and the kernel's fallback devices."""
        found = json.loads(self.run("ip", "-json", "link"))
        return [link["ifname"] for link in found if link["ifname"] != "lo"]

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


class Machine(Namespace):
    """A host with a netd of its own, called `node`; it has no link yet but `lo`."""

    PROGRAM: tuple[str, ...] = (sys.executable, "-m", "netd.daemon.main")

    def __init__(self, stack: ExitStack, folder: Path, node: str) -> None:
        super().__init__(stack, loopback=True)
        self.folder = folder
        self.node = node
        self.socket = str(folder / "netd.sock")
        self.log = folder / "netd.log"
        self.around: tuple[str, ...] = ()  # the command that the daemon is run by
        self.registry = False  # whether the daemon starts one; it needs a folder open to others
        self._stack = stack
        self._daemon: Process | None = None
        self.client = Client(self.socket)
        stack.callback(self.client.close)
        stack.callback(self._end_registry)
        stack.callback(self.kill)

    def container(self) -> Namespace:
        return Namespace(self._stack)

    def launch(self, *flags: str, environment: dict[str, str] | None = None) -> None:
        """Start the daemon without waiting for it."""
        arguments = ["--socket", self.socket, "--state-dir", str(self.folder / "state")]
        arguments += ["--node", self.node, *flags]
        if not self.registry:
            arguments.append("--no-registry")
        self._daemon = self._spawn(arguments, environment or {})

    def _spawn(self, arguments: list[str], environment: dict[str, str]) -> Process:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.wrap(*self.around, *self.PROGRAM, *arguments),
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                preexec_fn=die_with_parent,
            )

    def start_daemon(self, *flags: str, environment: dict[str, str] | None = None) -> None:
        """Start the daemon and return when it is ready."""
        self.launch(*flags, environment=environment)
        self.await_ready()

    def await_ready(self) -> None:
        """Return when the daemon says that it is ready; fail when it ends or takes too long."""
        deadline_s = time.monotonic() + START_DEADLINE_S
        assert self._daemon is not None
        while True:
            try:
                if self.client.status()["ready"]:
                    return
            except Unreachable:
                pass
            if self._daemon.poll() is not None or time.monotonic() > deadline_s:
                raise AssertionError(f"netd did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.01)  # nothing tells from outside that a socket begins to answer

    @property
    def running(self) -> bool:
        """Whether its daemon's process is there."""
        return self._daemon is not None and self._daemon.poll() is None

    @property
    def daemon_pid(self) -> int:
        assert self._daemon is not None
        return self._daemon.pid

    def stop_daemon(self) -> None:
        """SIGTERM, and wait for the end."""
        assert self._daemon is not None
        self._daemon.terminate()
        assert self._daemon.wait(timeout=20) == 0, self.log.read_text()[-4000:]
        self._daemon = None

    def kill(self) -> None:
        """SIGKILL: the end without a last word."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None

    def _end_registry(self) -> None:
        """A killed daemon leaves it."""
        file = self.folder / "state/registry.pid"
        if self.registry and file.exists():
            with suppress(ProcessLookupError):
                os.kill(json.loads(file.read_text())["pid"], signal.SIGKILL)

    def await_end(self) -> int:
        """Wait until the daemon has ended by itself; its exit code."""
        assert self._daemon is not None
        code = self._daemon.wait(timeout=20)
        self._daemon = None
        return code

    def attach(self, network: str, container: Namespace, **request: Any) -> dict[str, Any]:
        request.setdefault("container_id", f"c{container.pid}")
        return self.client.attach(network, pid=container.pid, **request)

    def plan(self) -> list[str]:
        """The texts of the operations that would run now."""
        return [f"{op['verb']} {op['object']} ({op['reason']})" for op in self.client.plan()]


class Host(Machine):
    """A host with an uplink `eth0` to `outside`."""

    ADDRESS, OUTSIDE = "192.0.2.10", "192.0.2.1"
    ADDRESS6, OUTSIDE6 = "2001:db8::10", "2001:db8::1"

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        super().__init__(stack, folder, "host-1")
        self.outside = Namespace(stack, loopback=True)
        self.add_uplink()

    def add_uplink(self) -> None:
        self.run(
            *("ip", "link", "add", "eth0", "type", "veth"),
            *("peer", "name", "eth0", "netns", str(self.outside.pid)),
        )
        for space, address, address6 in (
            (self, self.ADDRESS, self.ADDRESS6),
            (self.outside, self.OUTSIDE, self.OUTSIDE6),
        ):
            space.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
            space.run("ip", "address", "add", f"{address6}/64", "dev", "eth0", "nodad")
            space.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "route", "add", "default", "via", self.OUTSIDE)
        self.run("ip", "-6", "route", "add", "default", "via", self.OUTSIDE6)
