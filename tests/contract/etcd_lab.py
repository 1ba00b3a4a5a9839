"""Three members of etcd on this host's loopback, each a process of its own."""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

START_S = 30.0


class Etcd:
    """`urls` are those of the members, in their order."""

    def __init__(self, stack: ExitStack, folder: Path, count: int) -> None:
        ports = _free_ports(2 * count)
        self._folder = folder
        self._stack = stack
        self._peers = ports[count:]
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * count
        self.urls = [f"http://127.0.0.1:{port}" for port in ports[:count]]
        stack.callback(self._end)

    def start(self, *members: int) -> None:
        """Start members, all if none is named; return when they have a leader."""
        numbers = members or tuple(range(len(self.urls)))
        for number in numbers:
            self._start(number)
        for number in numbers:
            self.await_healthy(number)

    def _start(self, number: int) -> None:
        peers = [f"http://127.0.0.1:{port}" for port in self._peers]
        everybody = ",".join(f"m{index}={url}" for index, url in enumerate(peers))
        command = ["etcd", "--name", f"m{number}", "--data-dir", str(self._folder / f"m{number}")]
        command += ["--listen-client-urls", self.urls[number]]
        command += ["--advertise-client-urls", self.urls[number]]
        command += ["--listen-peer-urls", peers[number]]
        command += ["--initial-advertise-peer-urls", peers[number]]
        command += ["--initial-cluster", everybody, "--logger", "zap"]
        with (self._folder / f"m{number}.log").open("ab") as log:
            self._processes[number] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdout=log,
                stderr=log,
                env={**os.environ, "ETCD_UNSUPPORTED_ARCH": "arm64"},
            )

    def await_healthy(self, number: int) -> None:
        deadline_s = time.monotonic() + START_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.urls[number]}/health", timeout=2) as answer:
                    if b'"true"' in answer.read():
                        return
            except OSError:
                pass
            if time.monotonic() > deadline_s:
                log = (self._folder / f"m{number}.log").read_text()[-2000:]
                raise AssertionError(f"etcd's member {number} is not healthy: {log}")
            time.sleep(0.05)

    def kill(self, number: int) -> None:
        process = self._processes[number]
        assert process is not None
        process.kill()
        process.wait()
        self._processes[number] = None

    def pause(self, number: int) -> None:
        """It neither answers nor goes away."""
        self._signal(number, signal.SIGSTOP)

    def go_on(self, number: int) -> None:
        self._signal(number, signal.SIGCONT)

    def _signal(self, number: int, what: signal.Signals) -> None:
        process = self._processes[number]
        assert process is not None
        process.send_signal(what)

    def _end(self) -> None:
        for process in self._processes:
            if process is not None:
                process.kill()
                process.wait()


@contextmanager
def three_members(folder: Path) -> Iterator[Etcd]:
    """Skips where there is no etcd that netd can use."""
    if shutil.which("etcd") is None:
        pytest.skip("etcd is not installed (Debian: etcd-server)")
    told = subprocess.run(("etcd", "--version"), capture_output=True, text=True, check=True).stdout
    major, minor, _ = told.split()[2].split(".", 2)
    if (int(major), int(minor)) < (3, 4):
        pytest.skip("etcd here is older than 3.4, which has an API of another name")
    with ExitStack() as stack:
        etcd = Etcd(stack, folder, 3)
        etcd.start()
        yield etcd


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
