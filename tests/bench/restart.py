"""Restart with many endpoints: how long until ready, what is left to do, what is lost.

    scripts/bench restart [--endpoints N]

The daemon is killed with SIGKILL and started again while a ping of 100 packets a second runs.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.bench.machine import describe
from tests.e2e.lab import Host, Namespace


def main() -> int:
    options = _options()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="netd-bench-")))
        host = Host(stack, folder)
        host.start_daemon()
        for name in ("one", "two"):
            host.client.create_network(name=name, driver="bridge")
        spaces = [host.container() for _ in range(options.endpoints)]
        answers = [
            host.attach("one" if index % 2 else "two", space) for index, space in enumerate(spaces)
        ]
        print(f"{describe()}; {options.endpoints} endpoints on 2 bridges\n")
        print(f"- resident memory: {_rss_mb(host.daemon_pid):.0f} MB")
        peer = answers[2]["addresses"][0].partition("/")[0]
        ping = _ping(spaces[0], peer)
        host.kill()
        started_s = time.perf_counter()
        host.start_daemon()
        ready_s = time.perf_counter() - started_s
        plan = host.plan()
        ping.send_signal(2)
        summary, _ = ping.communicate()
        counts = re.search(r"(\d+) packets transmitted, (\d+) received", summary)
        assert counts is not None, summary
        print(f"- killed and started: ready after {ready_s:.2f} s, the interpreter included")
        adopted = re.findall(r"daemon.started .*", host.log.read_text())[-1]
        print(f"- its log says: {adopted}")
        print(f"- plan: {len(plan)} operations")
        print(f"- pings meanwhile: {counts[1]} sent, {counts[2]} answered")
        print(f"- resident memory after the restart: {_rss_mb(host.daemon_pid):.0f} MB")
        started_s = time.perf_counter()
        host.client.reconcile()
        print(f"- a look at everything: {(time.perf_counter() - started_s) * 1000:.0f} ms")
        for line in plan[:10]:
            print(f"  {line}")
    return 0


def _ping(space: Namespace, address: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        space.wrap("ping", "-i", "0.01", address), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while "time=" not in process.stdout.readline():
        pass
    return process


def _rss_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) / 1024


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench restart", description=__doc__)
    parser.add_argument("--endpoints", type=int, default=1000)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
