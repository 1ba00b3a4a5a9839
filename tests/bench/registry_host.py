"""What all figures of services need of a host: its processes, and rows of the table."""

import json
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from tests.bench.machine import percentile
from tests.bench.overlay import client
from tests.lab.namespaces import NamespaceHost
from tests.lab.process import Process
from tests.lab.waiting import wait_for

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_CLIENTS: Final = Path(__file__).with_name("registry_clients.py")


class Used:
    """Processor time of the daemon and of the registry of a host, since this was made."""

    def __init__(self, host: NamespaceHost) -> None:
        self._host = host
        with client(host) as calls:
            registry = int(calls.registry()["pid"])
        self.pids = {"netd": int(host.run("cat", "/run/netd.pid")), "the registry": registry}
        self._began_s = time.monotonic()
        self._before = self._now()

    def cpu_s(self) -> dict[str, float]:
        now = self._now()
        return {name: now[name] - self._before[name] for name in now}

    def share(self) -> dict[str, float]:
        """Of one processor."""
        took_s = time.monotonic() - self._began_s
        return {name: used_s / took_s for name, used_s in self.cpu_s().items()}

    def pin(self, processor: int) -> None:
        """Have both run on one processor only."""
        for pid in self.pids.values():
            self._host.run("taskset", "-a", "-p", "-c", str(processor), str(pid))

    def resident_mb(self) -> dict[str, float]:
        page = os.sysconf("SC_PAGE_SIZE")
        return {
            name: int(self._host.run("cat", f"/proc/{pid}/statm").split()[1]) * page / 1e6
            for name, pid in self.pids.items()
        }

    def _now(self) -> dict[str, float]:
        return {name: _cpu_s(self._host, pid) for name, pid in self.pids.items()}


def _cpu_s(host: NamespaceHost, pid: int) -> float:
    """Processor time of a process of the host so far (proc(5), utime and stime)."""
    fields = host.run("cat", f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Clients:
    """A program of `registry_clients.py` on a host, with an order at a time."""

    def __init__(self, stack: ExitStack, host: NamespaceHost, *arguments: str) -> None:
        self._process = host.spawn("python3", str(_CLIENTS), *arguments)
        stack.callback(self._process.stop)
        self._process.await_line("ready")

    def begin(self, order: str) -> None:
        self._process.tell(order)

    def end(self) -> Any:
        """What it says when it has done what it was told to."""
        line = self._process.line()
        if not line:
            raise RuntimeError(self._process.finish())
        return json.loads(line)

    def do(self, order: str) -> Any:
        self.begin(order)
        return self.end()


def start(stack: ExitStack, host: NamespaceHost, program: str, *arguments: str) -> Process:
    process = host.spawn("python3", "-c", program, *arguments)
    stack.callback(process.stop)
    process.await_line("ready")
    return process


def await_registry(host: NamespaceHost) -> None:
    with client(host) as calls:
        wait_for(lambda: calls.registry()["connected"], what=f"a registry on {host}")


def spread(took_ms: Sequence[float]) -> str:
    values = list(took_ms)
    p50, p99 = percentile(values, 0.5), percentile(values, 0.99)
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, slowest {max(values):.1f} ms of {len(values)}"


def row(figure: str, goal: str, reached: str, met: bool | None = None) -> None:
    """A line of the table; `met` is None where nothing was asked for."""
    said = {None: reached, True: f"{reached}: met", False: f"**{reached}: missed**"}[met]
    print(f"| {figure} | {goal} | {said} |", flush=True)
