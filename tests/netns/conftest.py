"""Real-kernel tests run in network namespaces of their own; the machine's is never touched.

The whole pytest process is moved into a fresh namespace before the first test of this folder,
and into another one before each test. What a test sees as the host's network is therefore
empty (but for `lo`, which is up) and vanishes afterwards. `container` makes more namespaces.

/proc/sys/net is that of the calling thread's namespace; /sys/class/net stays the machine's.
"""

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from netd.kernel import capabilities

CLONE_NEWNET = 0x40000000

HAS_SLOTS = "virtual" in capabilities.probe()
needs_slots = pytest.mark.skipif(not HAS_SLOTS, reason="libnftables here is older than 1.0.3")

_libc = ctypes.CDLL(None, use_errno=True)


class Container:
    """A network namespace that a sleeping process holds open."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.pid = process.pid
        self.path = f"/proc/{process.pid}/ns/net"
        self.inode = Path(self.path).stat().st_ino
        self.key = f"net:[{self.inode}]"

    def run(self, *command: str, check: bool = True) -> str:
        """Run a program inside; return what it prints. Fails when the program does."""
        return run("nsenter", f"--net={self.path}", *command, check=check)

    def kill(self) -> None:
        """End the process and with it, unless others hold it, the namespace."""
        self.process.kill()
        self.process.wait()


def run(*command: str, check: bool = True) -> str:
    """Run a program in the test's host namespace; return its output."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


@pytest.fixture(scope="session", autouse=True)
def _away_from_the_machine() -> Iterator[None]:
    """Whatever a fixture of wider scope does, it does not do it to the machine."""
    with _fresh_namespace():
        yield


@pytest.fixture(autouse=True)
def host_ns(_away_from_the_machine: None) -> Iterator[None]:
    """A fresh namespace as the test's host, with `lo` up. Threads made by the test are in it."""
    with _fresh_namespace():
        yield


@pytest.fixture
def container() -> Iterator[Callable[[], Container]]:
    """A factory of containers; they end with the test."""
    with ExitStack() as stack:

        def make() -> Container:
            made = subprocess.Popen(
                ["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"],
                stdout=subprocess.PIPE,
            )
            stack.enter_context(made)
            stack.callback(made.kill)
            assert made.stdout is not None
            assert made.stdout.readline() == b"\n", "unshare --net failed"
            return Container(made)

        yield make


@contextmanager
def _fresh_namespace() -> Iterator[None]:
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.unshare(CLONE_NEWNET) != 0:
            why = os.strerror(ctypes.get_errno())
            pytest.exit(f"cannot make a network namespace, root is needed: {why}", returncode=2)
        run("ip", "link", "set", "lo", "up")
        yield
        if _libc.setns(before, CLONE_NEWNET) != 0:
            pytest.exit("cannot leave the test's network namespace", returncode=2)
    finally:
        os.close(before)
