"""Health checks: what ten thousand of them cost the registry's process.

    scripts/bench checks [--checks N] [--interval S] [KIND]...

Each kind is measured by itself, in a network namespace where one server answers all: so many
checks at that interval, for one interval after each has run once. The processor's time is that
of the process that runs the checks, the kernel's work for its packets included. What answers
to names wait is how late a timer of the same event loop rings.
"""

import argparse
import asyncio
import json
import os
import resource
import sys
import time
from contextlib import ExitStack
from typing import Any, Final, cast

from netd.model.service import Check, CheckResult, CheckSpec, Service
from netd.registry.checks.checks import Checks
from netd.registry.checks.names import Names
from netd.registry.checks.probe import Kind
from netd.registry.checks.running import Key
from tests.bench.machine import describe, percentile
from tests.e2e.lab import Namespace

KINDS: Final = ("tcp", "http", "udp", "refused")
PORT: Final = 8080
_HTTP: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwell"
_PROBE_S: Final = 0.01


class Nobody:
    """Takes reports and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def put(self, _key: Key, _result: CheckResult) -> None:
        self.count += 1

    def drop(self, _key: Key) -> None:
        pass

    def __contains__(self, _key: Key) -> bool:
        return False


async def measure(kind: str, count: int, interval_s: float) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    reports = Nobody()
    checks = Checks(reports, Names(), lambda _: (), loop.time)
    port = PORT + 1 if kind == "refused" else PORT
    spec = CheckSpec(
        kind=cast(Kind, "tcp" if kind == "refused" else kind), id="up", interval_s=interval_s
    )
    known = Check(id="up", name="up", kind=spec.kind, status="passing", output="-", spec=spec)
    checks.replace(
        Service(
            id=f"web-{number}", name="web", node="host-1", address="127.0.0.1", port=port,
            checks=(known,),
        )
        for number in range(count)
    )  # fmt: skip
    await asyncio.sleep(interval_s)
    runs, cpu_s, began_s = _runs(checks), time.process_time(), loop.time()
    late_ms = []
    while (now := loop.time()) < began_s + interval_s:
        await asyncio.sleep(_PROBE_S)
        late_ms.append((loop.time() - now - _PROBE_S) * 1000)
    cpu_s, took_s = time.process_time() - cpu_s, loop.time() - began_s
    runs = {status: number - runs.get(status, 0) for status, number in _runs(checks).items()}
    await checks.stop()
    return {
        "runs": {status: round(number) for status, number in runs.items()},
        "share": cpu_s / took_s,
        "us": cpu_s / max(1, sum(runs.values())) * 1e6,
        "p50_ms": percentile(late_ms, 0.5),
        "p99_ms": percentile(late_ms, 0.99),
    }


def _runs(checks: Checks) -> dict[str, float]:
    return {
        count.labels["status"]: count.value
        for count in checks.counts()
        if count.name == "check_runs_total"
    }


class _Web(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, _data: bytes) -> None:
        self._transport.write(_HTTP)
        self._transport.close()


class _Silence(asyncio.DatagramProtocol):
    pass


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Web, "127.0.0.1", PORT, backlog=4096)
    await loop.create_datagram_endpoint(_Silence, local_addr=("127.0.0.1", PORT))
    print("ready", flush=True)
    await server.serve_forever()


def main() -> int:
    options = _options()
    if options.part == "serve":
        asyncio.run(serve())
    elif options.part:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        found = asyncio.run(measure(options.part, options.checks, options.interval))
        print(json.dumps(found))
    else:
        _measure_all(options)
    return 0


def _measure_all(options: argparse.Namespace) -> None:
    print(f"{describe()}; {options.checks} checks each {options.interval:g} s\n")
    print("| kind | runs | of one processor | CPU per run | a timer is late, p50 / p99 |")
    print("|---|---|---|---|---|")
    for kind in options.kinds or KINDS:
        with ExitStack() as stack:
            space = Namespace(stack, loopback=True)
            program = (sys.executable, "-m", "tests.bench.checks")
            server = space.start(stack, "taskset", "-c", "0", *program, "--part", "serve")
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            sizes = ("--checks", str(options.checks), "--interval", str(options.interval))
            last = str((os.cpu_count() or 1) - 1)
            said = space.run(
                *("taskset", "-c", last, *program, "--part", kind, *sizes),
                timeout_s=3 * options.interval + 60,
            )
        found = json.loads(said)
        runs = ", ".join(f"{number} {status}" for status, number in found["runs"].items())
        print(
            f"| {kind} | {runs} | {found['share']:.1%} | {found['us']:.0f} us | "
            f"{found['p50_ms']:.1f} / {found['p99_ms']:.1f} ms |",
            flush=True,
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench checks", description=__doc__)
    parser.add_argument("--checks", type=int, default=10_000)
    parser.add_argument("--interval", type=float, default=10.0)
    parser.add_argument("--part", choices=("serve", *KINDS), help=argparse.SUPPRESS)
    parser.add_argument("kinds", nargs="*", metavar="KIND", choices=(*KINDS, []))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
