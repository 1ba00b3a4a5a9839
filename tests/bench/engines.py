"""Whole calls of runtimes: netd's plugins side by side with the engines' own networks.

    scripts/bench engines [--rounds N] [--only cni|podman|docker] [--at-once N] [--newer]

Each pair is measured in turns in one run, on one host: a call of netd's, a call of the other.
Times are of the whole call as the runtime makes it, the start of programs included. For Docker
that is the engine's own API: `start` of a container that is there, and `network connect`. Last,
so many containers as `--at-once` says are started together, and then removed together. With
`--newer` the engine is that of Debian 13, or of the release that NETD_ENGINES_RELEASE says.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from docker.models.containers import Container

from tests.bench.machine import describe, percentile
from tests.bench.peers import CniBridge, Netavark, NetdCni, Peer, netavark_program, run_program
from tests.e2e.lab import Host, Namespace
from tests.interop.docker_engine import IMAGE, DockerHost
from tests.interop.other_release import debian_13

GOAL: Final = 2.0  # times faster than the other
ADD_MS: Final = 25.0
PLUGIN: Final = Path(__file__).parents[2] / "netd/runtimes/netavark/netd"
WARM_UP: Final = 3

Call = Callable[[], None]
Figures = tuple[float, float]  # median and 99th of a hundred, in ms


class NetdNetavark(Peer):
    """netd's plugin of netavark, called as netavark calls it."""

    name = "netd's plugin of netavark"

    def __init__(self, host: Host) -> None:
        self._host = host

    def attach(self, space: Namespace) -> None:
        self._call("setup", space)

    def detach(self, space: Namespace) -> None:
        self._call("teardown", space)

    def _call(self, command: str, space: Namespace) -> None:
        execution = {
            "container_id": f"{space.pid:064d}",
            "container_name": f"bench{space.pid}",
            "network": {
                "name": "bench",
                "id": "b" * 64,
                "driver": "netd",
                "options": {"network": "bench"},
                "ipam_options": {"driver": "none"},
            },
            "network_options": {"interface_name": "eth0"},
        }
        environment = {"NETD_SOCKET": self._host.socket}
        run_program(
            self._host, [str(PLUGIN), command, space.path], json.dumps(execution), environment
        )


def in_turns(
    rounds: int, own: tuple[Call, Call], other: tuple[Call, Call]
) -> tuple[Figures, Figures]:
    """Times of both in ms; each is a call that is timed, and one that undoes it."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + WARM_UP):
        for (call, undo), kept in zip((own, other), times, strict=True):
            started_s = time.perf_counter()
            call()
            took_s = time.perf_counter() - started_s
            undo()
            if number >= WARM_UP:
                kept.append(took_s)
    return figures(times[0]), figures(times[1])


def figures(times_s: list[float]) -> Figures:
    return percentile(times_s, 0.5) * 1000, percentile(times_s, 0.99) * 1000


def row(work: str, own: Figures, other: Figures, note: str = "") -> None:
    factor = other[0] / own[0]
    met = "met" if factor >= GOAL else "missed"
    print(
        f"| {work} | {own[0]:.1f} / {own[1]:.1f} | {other[0]:.1f} / {other[1]:.1f} "
        f"| {factor:.2f} ({met}){note} |",
        flush=True,
    )


def of_programs(rounds: int, only: str | None) -> None:
    """CNI's plugin `bridge` and netavark, in namespaces that are there."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="netd-bench-")))
        host = Host(stack, folder)
        host.start_daemon()
        host.client.create_network(name="bench", driver="bridge", subnets=["10.66.0.0/16"])
        # One for each: netd removes links a moment after its answer.
        spaces = host.container(), host.container()
        if only in (None, "cni"):
            own, other = NetdCni(host, "bench"), CniBridge(host)
            adds = in_turns(rounds, bound(own, spaces[0]), bound(other, spaces[1]))
            met = "met" if adds[0][0] <= ADD_MS else "missed"
            row("CNI ADD", *adds, note=f"; goal {ADD_MS:.0f} ms: {met}")
        program = netavark_program()
        if only in (None, "podman") and program is not None:
            pair = bound(NetdNetavark(host), spaces[0]), bound(Netavark(host, program), spaces[1])
            row("Podman's set-up", *in_turns(rounds, *pair))


def bound(peer: Peer, space: Namespace) -> tuple[Call, Call]:
    return (lambda: peer.attach(space)), (lambda: peer.detach(space))


@contextmanager
def docker_host(newer: bool) -> Iterator[DockerHost]:
    """An engine with a network of its own and one of netd's."""
    with tempfile.TemporaryDirectory(prefix="netd-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        host = DockerHost(stack, folder, template=debian_13() if newer else None)
        host.start_daemon()
        host.start_containerd()
        host.start_engine()
        host.load_image()
        host.docker("network", "create", "own")
        host.docker("network", "create", "-d", "netd", "--ipam-driver", "netd", "netd")
        yield host


def of_docker(rounds: int, at_once: int, newer: bool) -> None:
    with docker_host(newer) as host:
        engine = host.engine()
        networks = {name: engine.networks.get(name) for name in ("netd", "own")}
        home = engine.networks.create("home")
        stays = engine.containers.run(
            IMAGE, ["sleep", "3600"], detach=True, network=home.name, stop_signal="KILL"
        )

        def connecting(name: str) -> tuple[Call, Call]:
            network = networks[name]
            return (lambda: network.connect(stays)), (lambda: network.disconnect(stays))

        def starting(name: str) -> tuple[Call, Call]:
            container = engine.containers.create(
                IMAGE, ["sleep", "3600"], network=name, stop_signal="KILL"
            )
            return container.start, (lambda: container.stop(timeout=0))

        row("docker network connect", *in_turns(rounds, connecting("netd"), connecting("own")))
        row("docker start", *in_turns(rounds, starting("netd"), starting("own")))
        without = engine.containers.create(
            IMAGE, ["sleep", "3600"], network="none", stop_signal="KILL"
        )
        pair = without.start, (lambda: without.stop(timeout=0))
        bare, _ = in_turns(max(5, rounds // 3), pair, pair)
        print(f"\nA start without any network takes Docker {bare[0]:.1f} ms (median).\n")
        many(host, at_once)


def many(host: DockerHost, number: int) -> None:
    """Containers that start and end at once. Raises what the engine says if one does not."""
    engine = host.engine(number)
    for network in ("netd", "own") * 2:

        def start(_: int, network: str = network) -> Container:
            return engine.containers.run(
                *(IMAGE, ["sleep", "3600"]), network=network, detach=True, stop_signal="KILL"
            )

        with ThreadPoolExecutor(number) as pool:
            began_s = time.perf_counter()
            containers = list(pool.map(start, range(number)))
            started_s = time.perf_counter()
            list(pool.map(lambda container: container.remove(force=True), containers))
            ended_s = time.perf_counter()
        print(
            f"{number} containers at once on {network}: started in {started_s - began_s:.1f} s, "
            f"removed in {ended_s - started_s:.1f} s",
            flush=True,
        )
    left = host.client.endpoints()
    print(f"of netd's endpoints {len(left)} are left: {'met' if not left else 'missed'}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench engines", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="calls of each kind")
    parser.add_argument("--at-once", type=int, default=50, help="containers of Docker together")
    parser.add_argument("--only", choices=("cni", "podman", "docker"))
    parser.add_argument("--newer", action="store_true", help="Debian 13's Docker Engine")
    options = parser.parse_args()
    print(f"{describe()}\n")
    print("| call | netd p50 / p99 (ms) | other p50 / p99 (ms) | times faster (goal 2) |")
    print("|---|---|---|---|")
    if options.only != "docker":
        of_programs(options.rounds, options.only)
    if options.only in (None, "docker"):
        of_docker(options.rounds, options.at_once, options.newer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
