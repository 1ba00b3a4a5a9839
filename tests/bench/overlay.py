"""Overlay networks: the wire side by side with a tunnel made by hand, and how fast news travel.

    scripts/bench overlay [--only wire|attach|reach|table] [--seconds N] [--rounds N]

Hosts are machines in namespaces of this one, joined by a bridge. What is compared runs in turns
in one run. Throughput is iperf3's, one TCP stream; latency that of ping, one request at a time.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from netd.client.client import Client
from tests.bench.machine import describe, percentile
from tests.bench.overlay_table import table
from tests.lab.container import Container
from tests.lab.namespaces import NamespaceHost, NamespaceLab

BY_HAND_VNI: Final = 77
BY_HAND_PORT: Final = 4790  # not netd's: each tunnel has a socket of its own
PINGS: Final = 2000
OTHERS: Final = 10

# Asks 127 times a second for an echo from the address, and tells when the first one came.
PROBE: Final = """
import socket, sys, time
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.settimeout(0.008)
print("ready", flush=True)
while True:
    try:
        probe.sendto(b"?", (sys.argv[1], 7))
        probe.recv(10)
    except OSError:
        continue
    print(time.monotonic(), flush=True)
    break
"""
ECHO: Final = """
import socket
echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
echo.bind(("", 7))
print("ready", flush=True)
while True:
    data, source = echo.recvfrom(10)
    echo.sendto(data, source)
"""


@contextmanager
def lab(count: int, *, profile: str = "fast", registry: bool = False) -> Iterator[NamespaceLab]:
    with tempfile.TemporaryDirectory(prefix="netd-bench-") as folder:
        made = NamespaceLab(Path(folder) / "lab")
        made.folder.mkdir()
        made.registry = registry
        try:
            made.up(count, profile=profile)
            yield made
        finally:
            made.down()


def client(host: NamespaceHost) -> Client:
    return Client(f"/proc/{host.machine.pid}/root/run/netd/netd.sock")


# The wire


class Way:
    """A way between two hosts: what runs on the one, what on the other, and where that is."""

    def __init__(
        self,
        name: str,
        one: Callable[..., list[str]],
        two: Callable[..., list[str]],
        address: str,
    ) -> None:
        self.name = name
        self._one = one
        self._two = two
        self._address = address
        self.gbit_per_s: list[float] = []
        self.rtt_us: list[float] = []

    def measure(self, seconds: int) -> None:
        server = subprocess.Popen(
            self._two("iperf3", "-s", "-1", "--forceflush"), stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        while "listening" not in server.stdout.readline():
            pass
        told = self._run("iperf3", "-c", self._address, "-t", str(seconds), "-J")
        server.communicate(timeout=20)
        bits = json.loads(told)["end"]["sum_received"]["bits_per_second"]
        self.gbit_per_s.append(bits / 1e9)
        told = self._run("ping", "-q", "-A", "-c", str(PINGS), self._address)
        self.rtt_us.append(float(told.rpartition(" = ")[2].split("/")[1]) * 1000)

    def _run(self, *command: str) -> str:
        return subprocess.run(
            self._one(*command), check=True, capture_output=True, text=True, timeout=120
        ).stdout


def wire(seconds: int, rounds: int) -> None:
    with lab(2) as made:
        one, two = made.hosts
        one.netctl("network", "create", "blue", "--driver", "overlay")
        ways = [
            Way("the underlay, bare", one.wrap, two.wrap, two.address),
            by_hand(one, two),
            overlay_way(one, two),
        ]
        for _ in range(rounds):
            for way in ways:
                way.measure(seconds)
    print("\n| way between two hosts | one TCP stream (Gbit/s) | round trip (µs) |\n|---|---|---|")
    for way in ways:
        rates, times = way.gbit_per_s, way.rtt_us
        print(
            f"| {way.name} | {percentile(rates, 0.5):.2f} ({min(rates):.2f} to {max(rates):.2f})"
            f" | {percentile(times, 0.5):.0f} ({min(times):.0f} to {max(times):.0f}) |"
        )
    _, manual, ours = ways
    rate = percentile(ours.gbit_per_s, 0.5) / percentile(manual.gbit_per_s, 0.5)
    delay = percentile(ours.rtt_us, 0.5) / percentile(manual.rtt_us, 0.5)
    print(f"\n- netd's overlay / by hand: throughput {rate:.3f} (goal 0.97), ", end="")
    print(f"round trip {delay:.3f} (goal 1.05); medians of {rounds} rounds")


def overlay_way(one: NamespaceHost, two: NamespaceHost) -> Way:
    ends: list[Container] = []
    for host in (one, two):
        end = host.start(f"end-{host.name}")
        end.attach("blue")
        ends.append(end)
    return Way("netd's overlay", _in(ends[0]), _in(ends[1]), ends[1].address())


def by_hand(one: NamespaceHost, two: NamespaceHost) -> Way:
    """A bridge and a VXLAN link on each host, all entries written, as netd writes them."""
    ends: list[Container] = []
    for number, (host, other) in enumerate(((one, two), (two, one)), 1):
        end = host.start(f"hand-{host.name}")
        ends.append(end)
        mac = "02:00:00:00:77:{:02x}"
        for command in (
            "link add hand0 mtu 1450 up type bridge",
            f"link add hand1 mtu 1450 up master hand0 type vxlan id {BY_HAND_VNI} "
            f"dstport {BY_HAND_PORT} local {host.address} nolearning",
            f"link add hand2 mtu 1450 up master hand0 type veth peer name eth0 mtu 1450 "
            f"address {mac.format(number)} netns {end.name}",
            f"-n {end.name} address add 10.77.0.{number}/24 dev eth0",
            f"-n {end.name} link set eth0 up",
            f"-n {end.name} neigh add 10.77.0.{3 - number} dev eth0 "
            f"lladdr {mac.format(3 - number)} nud permanent",
        ):
            host.run("ip", *command.split())
        for target in ("self", "master"):
            place = ("dst", other.address) if target == "self" else ()
            peer = mac.format(3 - number)
            host.run("bridge", "fdb", "add", peer, "dev", "hand1", target, "static", *place)
    return Way("bridge and VXLAN by hand", _in(ends[0]), _in(ends[1]), "10.77.0.2")


def _in(end: Container) -> Callable[..., list[str]]:
    return lambda *command: end.host.wrap(*end.wrap(*command))


# What netd does


def attach(count: int) -> None:
    """Attach to an overlay that is open on both hosts, in turns with a bridge."""
    times_s: dict[str, list[float]] = {"bridge": [], "overlay": []}
    with lab(2) as made:
        host, other = made.hosts
        with client(host) as calls:
            for driver in times_s:
                calls.create_network(name=f"bench-{driver}", driver=driver)
                keep = host.start(f"keep-{driver}")
                keep.attach(f"bench-{driver}")
            other.start("peer").attach("bench-overlay")
            host.start("box")
            for _ in range(count):
                for driver, taken in times_s.items():
                    began_s = time.perf_counter()
                    calls.attach(f"bench-{driver}", container_id="box", netns="/run/netns/box")
                    taken.append(time.perf_counter() - began_s)
                    calls.detach_container("box")
    p50 = {driver: percentile(taken, 0.5) * 1000 for driver, taken in times_s.items()}
    print(
        f"\n- attach, p50 of {count}: bridge {p50['bridge']:.2f} ms, overlay "
        f"{p50['overlay']:.2f} ms: {p50['overlay'] / p50['bridge']:.2f} times (goal 1.3)"
    )


def reach(rounds: int) -> None:
    """How long after the answer to an attach the endpoint is reached from the other hosts."""
    last_s = []
    with lab(OTHERS + 1) as made:
        first, *others = made.hosts
        first.netctl("network", "create", "blue", "--driver", "overlay")
        target = first.start("target")
        target.python(ECHO)
        target.attach("blue")
        endpoint = target.endpoint()
        asking = [host.start("asking") for host in others]
        for container in asking:
            container.attach("blue")
        for container in asking:
            # Else it would ask for the MAC once a second, which says nothing about netd.
            to = (target.address(), "lladdr", endpoint["mac"], "dev", "eth0", "nud", "permanent")
            container.run("ip", "neigh", "replace", *to)
        address = target.address()
        first.start("keep").attach("blue")
        with client(first) as calls:
            for _ in range(rounds):
                calls.detach_container("target")
                probes = [container.python(PROBE, address) for container in asking]
                calls.attach("blue", container_id="target", netns="/run/netns/target")
                answered_s = time.monotonic()
                seen_s = [float(probe.line()) for probe in probes]
                last_s.append(max(seen_s) - answered_s)
    print(
        f"\n- a new endpoint is reached from all of {OTHERS} other hosts, after the answer to the "
        f"attach: median {percentile(last_s, 0.5):.3f} s, slowest {max(last_s):.3f} s of {rounds} "
        "(goal 0.3 s)"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench overlay", description=__doc__)
    parser.add_argument("--only", choices=("wire", "attach", "reach", "table"), action="append")
    parser.add_argument("--seconds", type=int, default=5, help="of each TCP stream")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "wire": lambda: wire(options.seconds, options.rounds),
        "attach": lambda: attach(20 * options.rounds),
        "reach": lambda: reach(options.rounds),
        "table": table,
    }
    print(describe())
    for name in options.only or parts:
        parts[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
