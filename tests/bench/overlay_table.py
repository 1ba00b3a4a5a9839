"""What 5,000 endpoints on 200 other hosts cost one host: its engine on the real kernel.

The other hosts are simulated: what they would say is said to the engine in this process.
"""

import asyncio
import ipaddress
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from netd.engine.clock import SystemClock
from netd.engine.core import Engine
from netd.engine.interfaces import RecordChange
from netd.engine.overlay.peers import ENDPOINTS
from netd.engine.settings import Settings
from netd.kernel.linux import LinuxKernel
from netd.model.endpoint import AttachRequest
from netd.model.network import Network, NetworkSpec
from netd.plan.addresses import derive_mac
from netd.store.sqlite import SqliteStore
from tests.unit.memory_cluster import MemoryCluster, Mesh

HOSTS, ENDPOINTS_EACH = 200, 25
CHANGES = 100


def table() -> None:
    """Run in a namespace of its own, which ends with that process."""
    subprocess.run(
        ("unshare", "--net", sys.executable, "-m", __spec__.name), check=True, timeout=600
    )


def others_of(mesh: Mesh) -> list[MemoryCluster]:
    return [mesh.node(f"host-{number}", node_id=f"{number:032x}") for number in range(1, HOSTS + 1)]


def tell_all(own: MemoryCluster, network: Network, others: list[MemoryCluster]) -> None:
    """Have the engine hear of all endpoints, as from its cluster: no other host needs to."""
    for number, other in enumerate(others, 1):
        for record in endpoint_records(network, number, other.id):
            own.tell(record)


def endpoint_records(network: Network, number: int, owner: str) -> Iterator[RecordChange]:
    scope = bytes.fromhex(network.id)
    subnet = ipaddress.IPv4Network(network.subnets[0])
    for index in range(ENDPOINTS_EACH):
        # Above what this host gives its own.
        address = subnet.network_address + (1 << 15) + number * 64 + index
        yield RecordChange(
            owner=owner,
            table=ENDPOINTS,
            key=f"{number:08x}{index:08x}",
            scope=scope,
            value=json.dumps(
                {
                    "name": f"box-{number}-{index}",
                    "container_id": f"box-{number}-{index}",
                    "addresses": [f"{address}/16"],
                    "mac": derive_mac(network.name, address),
                    "since_ms": 1,
                }
            ).encode(),
        )


async def measure(folder: Path) -> None:
    mesh = Mesh()
    own = mesh.node("bench", node_id="f" * 32)
    others = others_of(mesh)
    engine = await started(folder, own)
    # While it is on its own, so that it owns the addresses: the others have no engine to ask.
    await engine.create_network(
        NetworkSpec(name="blue", driver="overlay", subnets=("10.77.0.0/16",))
    )
    await engine.cluster.join([other.address for other in others], None)
    network = engine.network("blue")
    await engine.attach("blue", AttachRequest(container_id="own", pid=sandbox()))
    began_s = time.perf_counter()
    tell_all(own, network, others)
    await engine._overlays.remotes.idle()
    applied_s = time.perf_counter() - began_s
    took_s = []
    for number in range(CHANGES):
        other = others[number % HOSTS]
        record = next(endpoint_records(network, number % HOSTS + 1, other.id))
        for value in (None, record.value):
            began_s = time.perf_counter()
            own.tell(msgspec.structs.replace(record, owner=other.id, value=value))
            await engine._overlays.remotes.idle()
            took_s.append(time.perf_counter() - began_s)
    took_s.sort()
    await engine.stop()
    began_s = time.perf_counter()
    again = mesh.node("bench", node_id="f" * 32)
    engine = await started(folder, again)
    ready_s = time.perf_counter() - began_s
    await engine.cluster.join([other.address for other in others], None)
    tell_all(again, network, others)
    await engine._overlays.remotes.idle()
    heard_s = time.perf_counter() - began_s
    plan = await engine.plan()
    median_ms, slowest_ms = took_s[len(took_s) // 2] * 1000, took_s[-1] * 1000
    print(
        f"\n- {HOSTS * ENDPOINTS_EACH} endpoints on {HOSTS} other hosts: applied in "
        f"{applied_s:.2f} s (goal 2 s); one change: median {median_ms:.2f} ms, slowest "
        f"{slowest_ms:.2f} ms of {len(took_s)} (goal 5 ms)"
    )
    print(
        f"- restart with them: ready after {ready_s:.2f} s, all heard again after {heard_s:.2f} s, "
        f"then {len(plan)} operations in the plan (goal 3 s, 0)"
    )
    await engine.stop()


async def started(folder: Path, cluster: MemoryCluster) -> Engine:
    kernel = LinuxKernel("bench")
    store = await SqliteStore.open(folder)
    settings = Settings(node="bench", version="1")
    return await Engine.start(kernel, store, SystemClock(), settings, cluster)


def sandbox() -> int:
    """A container: a process in a network namespace of its own, which ends with this one."""
    process = subprocess.Popen(
        ("unshare", "--net", "sh", "-c", "echo; exec cat"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process.pid


if __name__ == "__main__":
    subprocess.run(("ip", "link", "set", "lo", "up"), check=True)
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    with tempfile.TemporaryDirectory(prefix="netd-bench-") as directory:
        asyncio.run(measure(Path(directory)))
