"""Virtual addresses: what thousands of services cost one host, and the first packet to one.

    scripts/bench virtual [--services 10,1000,10000] [--rounds N]

The engine runs on the real kernel in a network namespace of its own. Services and their three
instances each are told to it as by the cluster, but for those whose addition is timed, which are
made by its use case. The first packet of a flow is a datagram from a new socket; it is compared in
turns with one to the instance itself, of the same address.
"""

import argparse
import asyncio
import logging
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from netd.engine.clock import SystemClock
from netd.engine.core import Engine
from netd.engine.interfaces import GLOBAL_SCOPE, ClaimChange, RecordChange
from netd.engine.services.records import TABLE, encode
from netd.engine.settings import Settings
from netd.engine.virtuals.definitions import CLAIMS, Definition
from netd.kernel.linux import LinuxKernel
from netd.model.service import Service, VirtualPort, VirtualSpec
from netd.plan.virtual import wished
from netd.store.sqlite import SqliteStore
from tests.bench.machine import describe, percentile
from tests.unit.memory_cluster import MemoryCluster, Mesh

INSTANCES: Final = 3
ADDED: Final = 40
FLOWS: Final = 2000
HOME: Final = "198.51.100.1"
SPEC: Final = VirtualSpec(ports=(VirtualPort(port=80),), drain_s=0.0)
LISTEN: Final = 9000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", default="10,1000,10000", metavar="N,...")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.inside:
        show(f"# Virtual addresses\n\n{describe()}; {INSTANCES} instances for each service\n")
        again = (sys.executable, "-m", "tests.bench.virtual", *sys.argv[1:], "--inside")
        sys.exit(subprocess.run(("unshare", "--net", *again), check=False).returncode)
    for command in (
        "link set lo up",
        "link add uplink up type bridge",
        f"address add {HOME}/24 dev uplink",
        "address add 2001:db8::1/64 dev uplink nodad",
    ):
        subprocess.run(("ip", *command.split()), check=True)
    logging.disable()  # of what is repaired
    for number in map(int, options.services.split(",")):
        with tempfile.TemporaryDirectory(prefix="netd-bench-") as folder:
            asyncio.run(measure(Path(folder), number, options.rounds))
        subprocess.run(("nft", "flush", "ruleset"), check=True)


async def measure(folder: Path, number: int, rounds: int) -> None:
    mesh = Mesh()
    own, other = mesh.node("bench", node_id="f" * 32), mesh.node("other", node_id="e" * 32)
    engine, timed = await started(folder, own)
    await engine.cluster.join([other.address], None)
    began_s = time.perf_counter()
    tell_all(own, other.id, number)
    await engine.virtuals.idle()
    took_s = time.perf_counter() - began_s
    show(f"- {number} services: all applied {took_s:.2f} s after the first was heard")
    whole_s = []
    timed.took_s.clear()
    for index in range(ADDED):
        tell_instances(own, other.id, f"new-{index}")
        await engine.virtuals.idle()
        began_s = time.perf_counter()
        await engine.virtuals.put(f"new-{index}", SPEC)
        whole_s.append(time.perf_counter() - began_s)
    kernel_s = [took_s for took_s in timed.took_s if took_s]
    show(
        f"  - one more, in the kernel: {spread(kernel_s)} (goal 10 ms); "
        f"until it can be used: {spread(whole_s)}"
    )
    tell_service(own, other.id, "probe", VirtualSpec(ports=(VirtualPort(port=80, protocol="udp"),)))
    await engine.virtuals.idle()
    virtual = engine.virtuals.find("probe").addresses[0]
    direct_us, virtual_us = first_packets(virtual, rounds)
    show(
        f"  - first packet of a flow: {virtual_us:.1f} µs, to the instance itself "
        f"{direct_us:.1f} µs: {virtual_us - direct_us:+.1f} µs"
    )
    began_s = time.perf_counter()
    report = await engine.reconcile()
    show(
        f"  - a pass over all of it: {(time.perf_counter() - began_s) * 1000:.0f} ms "
        f"({len(report.applied)} repairs)"
    )
    subprocess.run(("nft", "add table ip somebody"), check=True)  # what was seen may be otherwise
    began_s = time.perf_counter()
    await engine.plan()
    took_s = time.perf_counter() - began_s
    show(f"  - a look after others changed a table: {took_s * 1000:.0f} ms")
    await engine.stop()
    timed.close()
    began_s = time.perf_counter()
    again = mesh.node("bench", node_id="f" * 32)
    engine, timed = await started(folder, again)
    ready_s = time.perf_counter() - began_s
    await engine.cluster.join([other.address], None)
    tell_all(again, other.id, number)
    await engine.virtuals.idle()
    show(
        f"  - restart: ready after {ready_s:.2f} s, all heard again after "
        f"{time.perf_counter() - began_s:.2f} s"
    )
    subprocess.run(("nft", "flush", "ruleset"), check=True)
    began_s = time.perf_counter()
    await engine.reconcile()
    show(f"  - all made anew after `nft flush ruleset`: {time.perf_counter() - began_s:.2f} s")
    await engine.stop()
    timed.close()


class TimedKernel(LinuxKernel):
    """Remembers how long the kernel took for operations on its thread."""

    def __init__(self, node: str) -> None:
        super().__init__(node)
        self.took_s: list[float] = []
        run = self._applier.run

        def timed(*arguments: object) -> object:
            began_s = time.perf_counter()
            result = run(*arguments)  # type: ignore[arg-type]
            self.took_s.append(time.perf_counter() - began_s)
            return result

        self._applier.run = timed  # type: ignore[method-assign, assignment]


async def started(folder: Path, cluster: MemoryCluster) -> tuple[Engine, TimedKernel]:
    kernel = TimedKernel("bench")
    store = await SqliteStore.open(folder)
    settings = Settings(node="bench", version="1", interval_s=3600)
    return await Engine.start(kernel, store, SystemClock(), settings, cluster), kernel


def tell_all(own: MemoryCluster, other: str, number: int) -> None:
    for index in range(number):
        tell_service(own, other, f"web-{index}", SPEC)


def tell_service(own: MemoryCluster, other: str, name: str, spec: VirtualSpec) -> None:
    tell_instances(own, other, name)
    number = wished(name, 0, range(1, 65_535))
    definition = Definition(
        name=name, generation=1, spec=spec, number=number, created_ms=1, created_by=other
    )
    body = msgspec.json.encode(definition)
    own.tell(ClaimChange(table=CLAIMS, key=definition.key, body=body, stamp_ms=1, origin=other))


def tell_instances(own: MemoryCluster, other: str, name: str) -> None:
    for at in range(INSTANCES):
        for family, address in enumerate((HOME, "2001:db8::1")):
            ident = f"{name}-{at}-{family}"
            service = Service(id=ident, name=name, node="other", address=address, port=LISTEN + at)
            own.tell(
                RecordChange(
                    owner=other, scope=GLOBAL_SCOPE, table=TABLE, key=ident, value=encode(service)
                )
            )


def first_packets(virtual: str, rounds: int) -> tuple[float, float]:
    """µs for the first packet to the instance and to the virtual address: the best rounds."""
    with ExitStack() as stack:
        for at in range(INSTANCES):
            taking = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            taking.bind((HOME, LISTEN + at))
        turns = [(flows_us((HOME, LISTEN)), flows_us((virtual, 80))) for _ in range(rounds)]
    direct, through = zip(*turns, strict=True)
    return min(direct), min(through)


def flows_us(address: tuple[str, int]) -> float:
    subprocess.run(("conntrack", "-F"), check=True, capture_output=True)
    began_s = time.perf_counter()
    for _ in range(FLOWS):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as calling:
            calling.sendto(b"x", address)
    return (time.perf_counter() - began_s) / FLOWS * 1e6


def show(line: str) -> None:
    print(line, flush=True)


def spread(values: list[float]) -> str:
    return (
        f"median {percentile(values, 0.5) * 1000:.2f} ms, slowest {max(values) * 1000:.2f} ms "
        f"of {len(values)}"
    )


if __name__ == "__main__":
    main()
