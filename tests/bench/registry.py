"""Services: how soon all hosts see one, how soon one that ended is gone, and what they cost.

    scripts/bench registry [--only WHAT] [--quick]

WHAT is of services themselves `visible`, `ends`, `check`, `calls`, `load`, and of what Consul's
and Eureka's clients see `answers`, `watchers`, `renewals`, `views`; several may be given.

Hosts are machines in namespaces of this one, joined by a bridge, with the cluster's profile `lan`.
One of them registers services; each host's `/v1/directory` is followed, and some are asked by DNS,
each 5 ms. Times are from before a call, a kill, or the end of a server until the last has seen it.
Calls are compared with puts into etcd, where that is installed: they too are on the disk when they
are answered. There is no Consul and no Eureka to compare with: Debian has packages of neither.
"""

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from shutil import which
from typing import Final

from netd.client.client import Client
from tests.bench.machine import busy_share, describe
from tests.bench.overlay import client, lab
from tests.bench.registry_apis import answers, renewals, watchers
from tests.bench.registry_host import Used, await_registry, row, spread, start
from tests.bench.registry_programs import ASK, ETCD, LINKS, PROCESSES, WEB
from tests.bench.registry_seen import GONE, Seen, dns_of
from tests.bench.registry_views import views
from tests.lab.namespaces import NamespaceHost
from tests.lab.process import Process
from tests.lab.waiting import wait_for

OTHERS: Final = 25
ASKED: Final = 4  # hosts that are asked by DNS, the one that registers among them
LATE_MS: Final = 50
SPREAD_MS: Final = 300
INTERVAL_S: Final = 1.0
ASKED_AT_ONCE: Final = 10  # names
SELDOM_S: Final = 0.05
LOAD: Final = 1000
LOAD_INTERVAL_S: Final = 10.0
PORT: Final = 8000


class Cluster:
    """Hosts in one cluster that are watched; the first one has the services."""

    def __init__(self, stack: ExitStack, others: int) -> None:
        made = stack.enter_context(lab(others + 1, profile="lan", registry=True))
        self.home = made.hosts[0]
        self.others = [host.name for host in made.hosts[1:]]
        self.seen = Seen()
        self.calls = stack.enter_context(client(self.home))
        for host in made.hosts:
            with client(host) as calls:
                self.seen.follow(host.name, calls.directory(watch=True))
        for host in made.hosts[:ASKED]:
            await_registry(host)
            self.seen.listen(host.name, start(stack, host, ASK))
        stack.callback(self.seen.end)
        self.dns = [dns_of(host.name) for host in made.hosts[:ASKED]]


class Times:
    """Rows of the table: how long something took, by who saw it."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._took_ms: dict[tuple[str, str], list[float]] = {}

    def add(self, who: str, goal: str, seen_s: float, began_s: float) -> None:
        self._took_ms.setdefault((who, goal), []).append((seen_s - began_s) * 1000)

    def show(self) -> None:
        for (who, goal), took_ms in self._took_ms.items():
            row(f"{self._what}: {who}", goal, spread(took_ms))


def visible(cluster: Cluster, quick: bool) -> None:
    """Registrations one after the other."""
    seen, times = cluster.seen, Times("registered, then seen")
    for number in range(20 if quick else 120):
        name = f"new-{number}"
        seen.ask("present", [name])
        began_s = time.monotonic()
        cluster.calls.register(name, name=name, port=80, tags=["v1"])
        answered_s = time.monotonic()
        times.add("by who registers: the answer", "-", answered_s, began_s)
        there = seen.when(f"{name} passing", [cluster.home.name, *cluster.others])
        asked = seen.when(f"{name} present", cluster.dns)
        add_all(times, cluster, there, asked, began_s, LATE_MS, SPREAD_MS)
    times.show()


def ends(cluster: Cluster, quick: bool) -> None:
    """Processes, and containers' namespaces, that end."""
    rounds = 5 if quick else 25
    # Of a bridge of one host, the others are told nothing.
    cluster.calls.create_network(name="bench", driver="overlay")
    with ExitStack() as stack:
        processes = start(stack, cluster.home, PROCESSES)
        processes.tell("start unshare --net")
        keep = int(processes.line())  # the network stays open
        cluster.calls.attach("bench", container_id="keep", pid=keep)
        links = start(stack, cluster.home, LINKS)
        times = Times("process killed, instance gone")
        for number in range(rounds):
            name = f"process-{number}"
            processes.tell("start")
            pid = int(processes.line())
            cluster.calls.register(name, name=name, port=80, pid=pid)
            kill(cluster, processes, pid, name, times)
        times.show()
        times = Times("only process of a container killed, instance gone")
        removed = Times("only process of a container killed")
        for number in range(rounds):
            name = f"container-{number}"
            processes.tell("start unshare --net")
            pid = int(processes.line())
            labels = {"netd.service": f"{name}:80"}
            cluster.calls.attach("bench", container_id=name, pid=pid, labels=labels)
            killed_s = kill(cluster, processes, pid, name, times)
            removed.add("the kernel has removed its link", "-", float(links.line()), killed_s)
            settle(cluster.calls)
        removed.show()
        times.show()


def kill(cluster: Cluster, processes: Process, pid: int, name: str, times: Times) -> float:
    """Kill a process that the instance of the service `name` goes with; when that was."""
    seen, all_hosts = cluster.seen, [cluster.home.name, *cluster.others]
    seen.when(f"{name} passing", all_hosts)
    seen.ask("present", [name])
    seen.when(f"{name} present", cluster.dns)
    seen.ask("absent", [name])
    processes.tell(f"kill {pid}")
    killed_s = float(processes.line())
    gone = seen.when(f"{name} {GONE}", all_hosts)
    absent = seen.when(f"{name} absent", cluster.dns)
    add_all(times, cluster, gone, absent, killed_s, LATE_MS, SPREAD_MS)
    return killed_s


def settle(calls: Client) -> None:
    """Return when nothing is left of the container."""
    wait_for(lambda: len(calls.endpoints(network="bench")) == 1, what="one endpoint")


def check(cluster: Cluster, quick: bool) -> None:
    """Servers that listen no more, each looked at at a time of its own."""
    count = 10 if quick else 40
    names = [f"checked-{number}" for number in range(count)]
    seen, all_hosts = cluster.seen, [cluster.home.name, *cluster.others]
    with ExitStack() as stack:
        web = start(stack, cluster.home, WEB, str(PORT), str(count))
        for number, name in enumerate(names):
            http = checked(PORT + number, INTERVAL_S, status="passing")
            cluster.calls.register(name, name=name, address="127.0.0.1", checks=[http])
        for name in names:
            seen.when(f"{name} passing", all_hosts)
        time.sleep(3 * INTERVAL_S)
        asked = names[:ASKED_AT_ONCE]
        seen.ask("present", asked, SELDOM_S)
        for name in asked:
            seen.when(f"{name} present", cluster.dns)
        seen.ask("absent", asked, SELDOM_S)
        web.tell("end")
        closed_s = float(web.line())
        times = Times(f"server ended, http check of {INTERVAL_S:g} s critical")
        for name in names:
            gone = seen.when(f"{name} critical", all_hosts)
            absent = seen.when(f"{name} absent", cluster.dns) if name in asked else {}
            late_ms, spread_ms = (1000 * INTERVAL_S + more for more in (LATE_MS, SPREAD_MS))
            add_all(times, cluster, gone, absent, closed_s, late_ms, spread_ms)
    times.show()


def add_all(
    times: Times,
    cluster: Cluster,
    hosts: dict[str, float],
    dns: dict[str, float],
    began_s: float,
    own_ms: float,
    others_ms: float,
) -> None:
    """Who has seen something when, hosts and DNS, as four rows with these goals."""
    home, own_dns = cluster.home.name, dns_of(cluster.home.name)
    own, all_others = f"{own_ms:,.0f} ms", f"{others_ms:,.0f} ms"
    times.add("own host's directory", own, hosts[home], began_s)
    last_s = max(hosts[name] for name in cluster.others)
    times.add(f"directories of all {len(cluster.others)} others", all_others, last_s, began_s)
    if not dns:
        return
    times.add("own host's DNS", own, dns[own_dns], began_s)
    last_s = max(at_s for name, at_s in dns.items() if name != own_dns)
    times.add(f"DNS of {len(dns) - 1} others", all_others, last_s, began_s)


def checked(port: int, interval_s: float, status: str = "critical") -> dict[str, object]:
    target = f"http://127.0.0.1:{port}/"
    return {
        "kind": "http", "id": "http", "target": target, "interval_s": interval_s, "status": status
    }  # fmt: skip


def registrations(quick: bool) -> None:
    """Registrations and deregistrations on one host alone."""
    count = 200 if quick else 1000
    with lab(1, registry=True) as made:
        home = made.hosts[0]
        await_registry(home)

        def register(number: int, calls: Client) -> None:
            calls.register(f"web-{number}", name="web", port=80, tags=["v1"], meta={"of": "bench"})

        def deregister(number: int, calls: Client) -> None:
            calls.deregister(f"web-{number}")

        for what, call in (("registrations", register), ("deregistrations", deregister)):
            for at_once in (1, 8):
                if call is deregister:
                    rate(home, register, count, 8)
                per_s, took_ms = rate(home, call, count, at_once)
                row(f"{what}, {at_once} at a time", "-", f"{per_s:,.0f}/s, each {spread(took_ms)}")
                rate(home, deregister, count, 8)
        if which("etcd") is None:
            return
        folder = f"{home.machine.folder}/etcd"
        told = home.run("python3", "-c", ETCD, folder, str(count), timeout_s=120).split()
        for at_once, etcd_per_s in zip((1, 8), told, strict=True):
            row(
                f"etcd, for comparison: puts, {at_once} at a time",
                "-",
                f"{float(etcd_per_s):,.0f}/s",
            )


def rate(
    home: NamespaceHost, call: Callable[[int, Client], None], count: int, at_once: int
) -> tuple[float, list[float]]:
    """Calls a second, and the milliseconds that each took."""

    def work(at: int) -> list[float]:
        took_ms = []
        with client(home) as calls:
            for number in range(at, count, at_once):
                began_s = time.perf_counter()
                call(number, calls)
                took_ms.append((time.perf_counter() - began_s) * 1000)
        return took_ms

    began_s = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        all_ms = [took_ms for some in pool.map(work, range(at_once)) for took_ms in some]
    return count / (time.perf_counter() - began_s), all_ms


def load(quick: bool) -> None:
    """What many checks cost the processes of one host, of which nothing changes."""
    with ExitStack() as stack:
        made = stack.enter_context(lab(1, registry=True))
        home = made.hosts[0]
        await_registry(home)
        start(stack, home, WEB, str(PORT), "1")
        http = checked(PORT, LOAD_INTERVAL_S)

        def register(number: int, calls: Client) -> None:
            calls.register(f"web-{number}", name=f"web-{number % 100}", port=80, checks=[http])

        rate(home, register, LOAD, 4)
        calls = stack.enter_context(client(home))
        wait_for(lambda: len(calls.services(passing=True)) == LOAD, what="all are well")
        used = Used(home)
        time.sleep(LOAD_INTERVAL_S * (1 if quick else 2))
        for name, share in used.share().items():
            what = f"{LOAD:,} http checks of {LOAD_INTERVAL_S:g} s: a processor's time for {name}"
            row(what, "-", f"{share:.1%}")


IN_CLUSTER: Final = {"visible": visible, "ends": ends, "check": check}
ALONE: Final = {
    "calls": registrations,
    "load": load,
    "answers": answers,
    "watchers": watchers,
    "renewals": renewals,
    "views": views,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench registry", description=__doc__)
    parser.add_argument("--only", choices=(*IN_CLUSTER, *ALONE), action="append")
    parser.add_argument("--quick", action="store_true", help="fewer of all, to try it")
    parser.add_argument("--others", type=int, default=OTHERS, help="hosts that watch")
    options = parser.parse_args()
    chosen = options.only or [*IN_CLUSTER, *ALONE]
    print(f"{describe()}; {busy_share(2.0):.0%} of it busy before the start\n", flush=True)
    print("| figure | to reach | netd |\n|---|---|---|", flush=True)
    if any(name in IN_CLUSTER for name in chosen):
        with ExitStack() as stack:
            cluster = Cluster(stack, options.others)
            for name in chosen:
                if name in IN_CLUSTER:
                    IN_CLUSTER[name](cluster, options.quick)
    for name in chosen:
        if name in ALONE:
            ALONE[name](options.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
