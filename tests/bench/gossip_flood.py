"""Packets that one real daemon handles, and how long its API calls take meanwhile."""

import re
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from netd.cluster.secret import generate, load
from tests.bench.gossip_flooder import READY
from tests.bench.gossip_netd import write_line
from tests.bench.gossip_process import Orders
from tests.e2e.lab import Host

CALL_EACH_S: Final = 0.01
MEMBERS: Final = 4
_COUNTER: Final = re.compile(r"^netd_cluster_(\w+?)_total (\S+)$", re.MULTILINE)


class Flooded(NamedTuple):
    """`sent` and `handled` are packets a second; `calls_s` the times of API calls meanwhile."""

    sent: float
    handled: float
    calls_s: list[float]


class FloodLab:
    """A host with a daemon, and outside of it members that flood it."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._host = Host(stack, folder)
        key = folder / "cluster.key"
        key.write_text(generate())
        key.chmod(0o600)
        self._host.start_daemon("--cluster-key", str(key), "--bind", f"{Host.ADDRESS}:7940")
        state = folder / "members"
        state.mkdir()
        addresses = [f"192.0.2.{number}" for number in range(101, 101 + MEMBERS)]
        for address in addresses:
            self._host.outside.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        orders = Orders(
            secret=load(key).secret,
            directory=str(state),
            profile="lan",
            nodes={f"m{number}": address for number, address in enumerate(addresses)},
            seeds=[Host.ADDRESS],
        )
        self._flooder = self._host.outside.start(
            stack,
            *(sys.executable, "-m", "tests.bench.gossip_flooder"),
            talk=True,
        )
        write_line(self._flooder, orders)
        assert self._read() == READY, "the members did not get into the cluster"

    def idle(self, seconds: float) -> list[float]:
        """Times of API calls without a flood."""
        return self._call_until(time.monotonic() + seconds)

    def flood(self, per_s: int, seconds: float) -> Flooded:
        """Offer so many packets a second."""
        before, began_s = self._handled(), time.monotonic()
        assert self._flooder.stdin is not None
        self._flooder.stdin.write(f"{per_s} {seconds}\n")
        self._flooder.stdin.flush()
        calls_s = self._call_until(began_s + seconds - 0.5)
        took_s = time.monotonic() - began_s
        handled = (self._handled() - before) / took_s
        return Flooded(int(self._read()) / seconds, handled, calls_s)

    def _call_until(self, end_s: float) -> list[float]:
        times_s = []
        due_s = time.monotonic()
        while due_s < end_s:
            time.sleep(max(0.0, due_s - time.monotonic()))
            began_s = time.monotonic()
            self._host.client.status()
            times_s.append(time.monotonic() - began_s)
            due_s = max(due_s + CALL_EACH_S, began_s + times_s[-1])
        return times_s

    def _handled(self) -> int:
        """Packets that the protocol has taken, as the daemon counts: received and not refused."""
        text = self._host.client.metrics()
        counted = {m[1]: int(float(m[2])) for m in _COUNTER.finditer(text)}
        refused = sum(count for name, count in counted.items() if name.startswith("refused_"))
        return counted["packets_received"] - refused

    def _read(self) -> str:
        """The next line that is not about what the members see."""
        output = self._flooder.stdout
        assert output is not None
        return next((line.strip() for line in output if not line.startswith("{")), "")
