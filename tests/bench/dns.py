"""Names: how many answers a second one core gives, what one costs, and how long one takes.

    scripts/bench dns [--names 1000,100000] [--seconds S] [--rounds N] [--only SERVER,...]

The registry is fed by a daemon that only tells names, and measured beside dnsmasq, unbound with
one thread and aardvark-dns, where they are installed; dnsperf asks. Each server has processor 0
for itself, all else is on the last one, in a network namespace of its own. Every server is asked
each name once before. Rounds take turns, so that what else the machine does hits all alike; the
median of the rounds counts. Latency is that of single queries while dnsperf asks half of what the
server can answer.
"""

import argparse
import asyncio
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, NamedTuple

import dns.message

from netd.model.directory import NetworkEntry, RegistrySettings, ZoneEntry
from tests.bench.machine import describe, percentile
from tests.unit.registry_lab import Daemon

SERVER: Final = "10.9.0.1"
CLIENT: Final = "10.9.0.2"  # a container's, where that matters
PORT: Final = 5300
FIRST: Final = IPv4Address("10.10.0.1")
PROBES: Final = 2000
CHANGES_PER_S: Final = 100
START_S: Final = 60.0
AARDVARK: Final = "/usr/lib/podman/aardvark-dns"
TICKS: Final = os.sysconf("SC_CLK_TCK")


class Figures(NamedTuple):
    rate: float  # answers a second
    cpu_us: float  # of an answer
    p50_ms: float  # at half of that rate
    p99_ms: float
    lost: int


class Server(ABC):
    """A name server that knows `n<number>.<suffix>`."""

    name: str
    suffix = "blue.netd.internal"

    def __init__(self, folder: Path, names: int) -> None:
        self.folder = folder
        self.names = names
        self.process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def installed() -> bool:
        return True

    @abstractmethod
    def command(self) -> Sequence[str]:
        """What starts it, in the foreground."""

    async def start(self) -> None:
        self.process = subprocess.Popen(
            ("taskset", "--cpu-list", "0", *self.command()),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        query = dns.message.make_query(f"n{self.names - 1}.{self.suffix}", "A").to_wire()
        async with asyncio.timeout(START_S):
            while not await asyncio.to_thread(answers, query):
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            await asyncio.to_thread(self.process.wait)

    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid()}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


class Registry(Server):
    name = "netd"

    def __init__(self, folder: Path, names: int) -> None:
        super().__init__(folder, names)
        self.daemon = Daemon(folder / "netd.sock")
        settings = RegistrySettings(
            host_address="", port=PORT, consul_port=0, queries_per_s=1_000_000
        )
        zone = ZoneEntry(zone="netd.internal", node="bench", node_id="0" * 16, settings=settings)
        self.daemon.put("zone", "", zone)
        blue = NetworkEntry(subnets=("10.8.0.0/13",), resolvers=(SERVER,))
        self.daemon.put("network", "blue", blue)
        for number in range(names):
            self.daemon.endpoint(f"n{number}", str(FIRST + number))

    def command(self) -> Sequence[str]:
        program = (sys.executable, "-m", "netd.registry.main", "--user", "nobody")
        return (*program, "--socket", str(self.daemon.path))

    async def start(self) -> None:
        await self.daemon.start()
        self.daemon.path.chmod(0o666)
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        await self.daemon.stop()


class Dnsmasq(Server):
    name = "dnsmasq"

    @staticmethod
    def installed() -> bool:
        return shutil.which("dnsmasq") is not None

    def command(self) -> Sequence[str]:
        hosts = self.folder / "hosts"
        hosts.write_text("".join(f"{FIRST + at} n{at}.{self.suffix}\n" for at in range(self.names)))
        return (
            *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file="),
            *("--no-resolv", "--no-hosts", f"--addn-hosts={hosts}", f"--local=/{self.suffix}/"),
            *(f"--port={PORT}", f"--listen-address={SERVER}", "--bind-interfaces", "--user=root"),
        )


class Unbound(Server):
    name = "unbound"

    @staticmethod
    def installed() -> bool:
        return shutil.which("unbound") is not None

    def command(self) -> Sequence[str]:
        config = self.folder / "unbound.conf"
        data = "".join(
            f'local-data: "n{at}.{self.suffix}. 2 IN A {FIRST + at}"\n' for at in range(self.names)
        )
        config.write_text(
            f"server:\ninterface: {SERVER}@{PORT}\naccess-control: 10.8.0.0/13 allow\n"
            'chroot: ""\nusername: ""\ndirectory: "/"\npidfile: ""\nnum-threads: 1\n'
            f'use-syslog: no\ndo-daemonize: no\nlocal-zone: "{self.suffix}." static\n{data}'
        )
        return ("unbound", "-d", "-c", str(config))


class Aardvark(Server):
    name = "aardvark-dns"
    suffix = "dns.podman"

    @staticmethod
    def installed() -> bool:
        return Path(AARDVARK).exists()

    def command(self) -> Sequence[str]:
        folder = self.folder / "aardvark"
        folder.mkdir(exist_ok=True)
        lines = [f"{SERVER}\n", f"{'c' * 64} {CLIENT}  client\n"]
        lines += [f"{at:064x} {FIRST + at}  n{at}\n" for at in range(self.names)]
        (folder / "blue").write_text("".join(lines))
        return (AARDVARK, "--config", str(folder), "--port", str(PORT), "run")

    def pid(self) -> int:
        """It goes into the background, and writes down as whom."""
        return int((self.folder / "aardvark/aardvark.pid").read_text())

    async def stop(self) -> None:
        os.kill(self.pid(), 15)
        await super().stop()


SERVERS: Final = (Registry, Dnsmasq, Unbound, Aardvark)


def answers(query: bytes) -> bool:
    """Whether somebody answers with a record."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind((CLIENT, 0))
        sock.settimeout(0.2)
        try:
            sock.connect((SERVER, PORT))
            sock.send(query)
            return sock.recv(4096)[7] > 0
        except OSError:
            return False


def latencies_ms(queries: Sequence[bytes]) -> list[float]:
    """How long each of `PROBES` single queries takes; a lost one counts as a second."""
    found = []
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind((CLIENT, 0))
        sock.settimeout(1.0)
        sock.connect((SERVER, PORT))
        for _ in range(PROBES):
            query = random.randbytes(2) + random.choice(queries)[2:]
            began_s = time.perf_counter()
            sock.send(query)
            try:
                while sock.recv(4096)[:2] != query[:2]:
                    pass
            except TimeoutError:
                pass
            found.append((time.perf_counter() - began_s) * 1000)
    return found


class Asked(NamedTuple):
    answered: int
    lost: int
    rate: float


async def ask(file: Path, *options: str) -> Asked:
    """Have dnsperf ask what is in `file`."""
    process = await asyncio.create_subprocess_exec(
        *("dnsperf", "-s", SERVER, "-p", str(PORT), "-a", CLIENT, "-d", str(file), *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    text = (await process.communicate())[0].decode()
    number = {
        key: float(value)
        for key, value in re.findall(r"^ *(Queries [a-z ]+): +([0-9.]+)", text, re.MULTILINE)
    }
    if int(number.get("Queries completed", 0)) == 0:
        raise SystemExit(f"dnsperf got no answers:\n{text}")
    lost = int(number["Queries lost"])
    return Asked(int(number["Queries completed"]), lost, number["Queries per second"])


async def measure(server: Server, file: Path, seconds: float, changing: bool) -> Figures:
    await ask(file, "-n", "1", "-q", "50")
    changes = None
    if changing:
        assert isinstance(server, Registry)
        changes = asyncio.get_running_loop().create_task(change(server))
    before_s = server.cpu_s()
    full = await ask(file, "-l", str(seconds), "-c", "8", "-q", "200")
    cpu_us = (server.cpu_s() - before_s) / full.answered * 1e6
    half = asyncio.get_running_loop().create_task(
        ask(file, "-l", str(seconds), "-c", "4", "-Q", str(int(full.rate / 2)))
    )
    await asyncio.sleep(0.5)
    some = random.sample(range(server.names), min(server.names, 200))
    queries = [dns.message.make_query(f"n{at}.{server.suffix}", "A").to_wire() for at in some]
    found_ms = await asyncio.to_thread(latencies_ms, queries)
    lost = full.lost + (await half).lost
    if changes is not None:
        changes.cancel()
    p50_ms, p99_ms = percentile(found_ms, 0.5), percentile(found_ms, 0.99)
    return Figures(full.rate, cpu_us, p50_ms, p99_ms, lost)


async def change(server: Registry) -> None:
    """Other addresses for `CHANGES_PER_S` names a second."""
    number = 0
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    while True:
        number += 1
        server.daemon.endpoint(f"n{number % server.names}", str(FIRST + 500_000 + number))
        await asyncio.sleep(max(0.0, began_s + number / CHANGES_PER_S - loop.time()))


@asynccontextmanager
async def running(kind: type[Server], names: int) -> AsyncIterator[Server]:
    with tempfile.TemporaryDirectory(prefix="netd-bench-") as folder:
        Path(folder).chmod(0o755)
        server = kind(Path(folder), names)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


async def compare(names: int, kinds: Sequence[type[Server]], options: argparse.Namespace) -> None:
    contestants = [(kind.name, kind, False) for kind in kinds]
    if Registry in kinds:
        contestants.append((f"netd, {CHANGES_PER_S} changes a second", Registry, True))
    found: dict[str, list[Figures]] = {title: [] for title, _, _ in contestants}
    for _ in range(options.rounds):
        for title, kind, changing in contestants:
            async with running(kind, names) as server:
                file = server.folder / "queries"
                asked = [f"n{at}.{server.suffix} A\n" for at in range(names)]
                random.shuffle(asked)
                file.write_text("".join(asked))
                found[title].append(await measure(server, file, options.seconds, changing))
    show(f"\n## {names} names\n")
    show("| server | answers/s | CPU of an answer | p50 at half load | p99 | lost |")
    show("|---|---|---|---|---|---|")
    for title, figures in found.items():
        rate, cpu_us, p50_ms, p99_ms, lost = map(statistics.median, zip(*figures, strict=True))
        show(
            f"| {title} | {rate:,.0f} | {cpu_us:.2f} us | {p50_ms:.2f} ms | {p99_ms:.2f} ms | "
            f"{lost:.0f} |"
        )


def show(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", default="1000,100000", metavar="N,...")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", metavar="SERVER,...")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if shutil.which("dnsperf") is None:
        raise SystemExit("dnsperf is not installed")
    if not options.inside:
        show(f"# Names\n\n{describe()}")
        again = (sys.executable, "-m", "tests.bench.dns", *sys.argv[1:], "--inside")
        sys.exit(subprocess.run(("unshare", "--net", *again), check=False).returncode)
    for command in (
        "link set lo up",
        f"address add {SERVER}/32 dev lo",
        f"address add {CLIENT}/32 dev lo",
    ):
        subprocess.run(("ip", *command.split()), check=True)
    last = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {last})  # dnsperf too, which it starts
    chosen = options.only.split(",") if options.only else [kind.name for kind in SERVERS]
    kinds = [kind for kind in SERVERS if kind.name in chosen and kind.installed()]
    for names in map(int, options.names.split(",")):
        asyncio.run(compare(names, kinds, options))


if __name__ == "__main__":
    main()
