"""Attach and detach: netd side by side with what users would use instead, in one run.

    scripts/bench attach [--rounds N] [--existing N] [--no-docker]

Every figure is the time of one call as a runtime sees it: for netd a request over its Unix
socket and the answer, for the peers a call of their program. Namespaces exist before.
"""

import argparse
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from netd.client.client import Client
from tests.bench.machine import describe, percentile
from tests.bench.peers import (
    CNI_FOLDER,
    CniBridge,
    DockerConnect,
    Netavark,
    NetdCni,
    Peer,
    netavark_program,
)
from tests.e2e.lab import Host, Namespace


class Netd(Peer):
    """netd through its Unix socket, addresses and durable store included."""

    name = "netd"

    def __init__(self, host: Host) -> None:
        self._host = host
        self._local = threading.local()
        self._ids: dict[int, str] = {}

    def attach(self, space: Namespace, **request: Any) -> None:
        answer = self._client().attach(
            "bench", container_id=f"bench{space.pid}", pid=space.pid, **request
        )
        self._ids[space.pid] = answer["id"]

    def detach(self, space: Namespace) -> None:
        self._client().detach(self._ids.pop(space.pid))

    def _client(self) -> Client:
        """One connection for each thread, kept open, as a runtime would."""
        if not hasattr(self._local, "client"):
            self._local.client = Client(self._host.socket)
        client: Client = self._local.client
        return client


class Figures:
    """Times of one kind of call, in seconds."""

    def __init__(self, values: list[float]) -> None:
        self.p50_ms = percentile(values, 0.5) * 1000
        self.p99_ms = percentile(values, 0.99) * 1000

    def __str__(self) -> str:
        return f"{self.p50_ms:.2f} / {self.p99_ms:.2f}"


def timed(peer: Peer, spaces: list[Namespace], at_once: int) -> tuple[Figures, Figures]:
    """Attach all spaces, then detach them, `at_once` at a time."""

    def time_call(call: Any, space: Namespace) -> float:
        started_s = time.perf_counter()
        call(space)
        return time.perf_counter() - started_s

    if at_once == 1:
        attaches = [time_call(peer.attach, space) for space in spaces]
        detaches = [time_call(peer.detach, space) for space in spaces]
    else:
        with ThreadPoolExecutor(at_once) as pool:
            attaches = list(pool.map(lambda space: time_call(peer.attach, space), spaces))
            detaches = list(pool.map(lambda space: time_call(peer.detach, space), spaces))
    return Figures(attaches), Figures(detaches)


def churn_per_s(netd: Netd, spaces: list[Namespace], seconds: float) -> float:
    """Attach and detach of the same few containers in a row, 8 at a time: pairs a second."""
    stop_s = time.perf_counter() + seconds

    def work(mine: list[Namespace]) -> int:
        pairs = 0
        while time.perf_counter() < stop_s:
            for space in mine:
                netd.attach(space)
                netd.detach(space)
                pairs += 1
        return pairs

    started_s = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        pairs = sum(pool.map(work, [spaces[at::8] for at in range(8)]))
    return pairs / (time.perf_counter() - started_s)


def main() -> int:
    options = _options()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="netd-bench-")))
        host = Host(stack, folder)
        host.start_daemon()
        netd = Netd(host)
        host.client.create_network(name="bench", driver="bridge", subnets=["10.66.0.0/16"])
        print(f"{describe()}\n")
        print("| work | attach p50 / p99 (ms) | detach p50 / p99 (ms) |")
        print("|---|---|---|")

        def row(work: str, figures: tuple[Figures, Figures]) -> tuple[Figures, Figures]:
            print(f"| {work} | {figures[0]} | {figures[1]} |", flush=True)
            return figures

        spaces = [host.container() for _ in range(options.rounds)]
        timed(netd, spaces[:20], 1)  # warm up
        empty = row("netd, one at a time", timed(netd, spaces, 1))
        row("netd, 8 at a time", timed(netd, spaces, 8))
        others = [host.container() for _ in range(options.existing)]
        for space in others:
            netd.attach(space)
        full = row(f"netd, beside {options.existing} others", timed(netd, spaces, 1))
        row(f"netd, 8 at a time beside {options.existing}", timed(netd, spaces, 8))
        plain, with_ports = _ports(netd, spaces[:50])
        churn = churn_per_s(netd, spaces[:32], 5.0)
        for space in others:
            netd.detach(space)
        best = _peers(options, host, stack, spaces, row)
        growth = full[0].p50_ms / empty[0].p50_ms
        print(f"\n- netd's attach beside {options.existing} endpoints / beside none: {growth:.2f}")
        print(f"- 32 published ports add {with_ports - plain:.2f} ms to an attach")
        print(f"- churn beside {options.existing}: {churn:.0f} attach+detach a second")
        if best:
            print(f"- the fastest peer's attach takes {best / empty[0].p50_ms:.1f} times netd's")
    return 0


def _ports(netd: Netd, spaces: list[Namespace]) -> tuple[float, float]:
    """Median of an attach without and with 32 published ports, in ms."""
    medians = []
    for ports in (0, 32):
        times = []
        for index, space in enumerate(spaces):
            mappings = [
                {"host_port": 20000 + index * 32 + n, "container_port": 1000 + n}
                for n in range(ports)
            ]
            started_s = time.perf_counter()
            netd.attach(space, ports=mappings)
            times.append(time.perf_counter() - started_s)
        for space in spaces:
            netd.detach(space)
        medians.append(percentile(times, 0.5) * 1000)
    return medians[0], medians[1]


def _peers(
    options: argparse.Namespace, host: Host, stack: ExitStack, spaces: list[Namespace], row: Any
) -> float | None:
    few = spaces[: max(10, options.rounds // 10)]
    best: list[float] = []
    own = NetdCni(host, "bench")
    timed(own, few[:5], 1)  # its modules are compiled by then
    cni = row("netd-cni, ADD and DEL, one at a time", timed(own, few, 1))[0].p50_ms
    row("netd-cni, 8 at a time", timed(own, few, 8))
    if (CNI_FOLDER / "bridge").exists():
        peer = CniBridge(host)
        best.append(row(peer.name + ", one at a time", timed(peer, few, 1))[0].p50_ms)
        row(peer.name + ", 8 at a time", timed(peer, few, 8))
        print(f"\n- the plugin bridge's ADD takes {best[-1] / cni:.1f} times netd-cni's\n")
    if program := netavark_program():
        other = Netavark(host, program)
        best.append(row(other.name + ", one at a time", timed(other, few, 1))[0].p50_ms)
        # Not 8 at a time: Podman calls netavark under a lock, without which it fails.
    if not options.no_docker and Path("/usr/sbin/dockerd").exists():
        engine = DockerConnect(host, stack)
        attaches, detaches = [], []
        for space in few:
            one, two = timed(engine, [space], 1)
            attaches.append(one.p50_ms / 1000)
            detaches.append(two.p50_ms / 1000)
        best.append(
            row(f"{engine.name}, network connect", (Figures(attaches), Figures(detaches)))[0].p50_ms
        )
        engine.stop()
    return min(best, default=None)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench attach", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="calls of each kind")
    parser.add_argument("--existing", type=int, default=500, help="endpoints that are there")
    parser.add_argument("--no-docker", action="store_true", help="leave Docker Engine out")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
