"""What the gossip costs and how fast it is; real nodes side by side with serf's.

    scripts/bench gossip [--quick] [--only PART] [--hours N]

Simulated figures are of the real protocol cores on a virtual clock, with 0.5 to 1 ms from node
to node: they do not depend on the machine, but for the simulation's speed. Real nodes run in
network namespaces of the bench's own.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from netd.gossip.settings import Profile
from tests.bench import gossip_simulated as simulated
from tests.bench.gossip_fleet import Fleet
from tests.bench.gossip_flood import FloodLab
from tests.bench.gossip_netd import NetdFleet
from tests.bench.gossip_serf import SerfFleet, version
from tests.bench.machine import describe, percentile

HOUR_S: Final = 3600.0
FLOODS: Final = (10_000, 20_000, 30_000)
TROUBLES: Final[tuple[simulated.Trouble, ...]] = ("loss", "deaf", "slow")
RUN_HOURS: Final = 0.1  # of all nodes in one run, of which there are many


class Line(NamedTuple):
    """A row of the table."""

    figure: str
    goal: str
    reached: str


class Sizes(NamedTuple):
    """How much is measured: everything, or so little that it only shows that it works."""

    small: int
    large: int
    quiet: tuple[int, ...]
    fleet: int
    seeds: int
    kills: int
    changes: int


FULL: Final = Sizes(100, 1000, (100, 1000, 5000), 60, 4, 5, 50)
QUICK: Final = Sizes(10, 20, (10,), 8, 1, 1, 5)

Part = Callable[[ProcessPoolExecutor, Sizes, argparse.Namespace], Iterator[Line]]


def crash(pool: ProcessPoolExecutor, sizes: Sizes, _: argparse.Namespace) -> Iterator[Line]:
    """A crash, until all others know: simulated."""
    for size, goal, kills in ((sizes.small, "≤ 5.5 s", sizes.kills), (sizes.large, "≤ 8 s", 1)):
        jobs = [
            pool.submit(simulated.crashes, seed, size, "fast", kills)
            for seed in range(1, sizes.seeds + 1)
        ]
        yield Line(
            f"crash known to all, {size} simulated, `fast`", goal, _spread(simulated.all_of(jobs))
        )


def change(pool: ProcessPoolExecutor, sizes: Sizes, _: argparse.Namespace) -> Iterator[Line]:
    """A change, until the last has it: simulated."""
    small = min(25, sizes.small)
    for size, loss, goal, count in (
        (small, 0.0, "≤ 0.3 s", sizes.changes),
        (sizes.large, 0.0, "≤ 0.5 s", max(3, sizes.changes // 5)),
        (small, 0.2, "p99 ≤ 3 s", sizes.changes),
        (sizes.large, 0.2, "p99 ≤ 3 s", max(3, sizes.changes // 5)),
    ):
        jobs = [
            pool.submit(simulated.changes, seed, size, "lan", count + 1, loss)
            for seed in range(1, sizes.seeds + 1)
        ]
        lost = f", {loss:.0%} loss" if loss else ""
        yield Line(
            f"a change reaches the last of {size} simulated nodes{lost}",
            goal,
            _spread(simulated.all_of(jobs)),
        )


def quiet(pool: ProcessPoolExecutor, sizes: Sizes, _: argparse.Namespace) -> Iterator[Line]:
    """What a node sends while nothing happens: simulated."""
    for size in sizes.quiet:
        found = pool.submit(simulated.quiet, 1, size, "lan", 30.0).result()
        yield Line(
            f"quiet traffic of one of {size} simulated nodes, `lan`",
            "≤ 0.6 kB/s, flat",
            f"{found.bytes / 1000:.2f} kB/s with IP headers, {found.packets:.1f} packets/s",
        )


def heal(pool: ProcessPoolExecutor, sizes: Sizes, _: argparse.Namespace) -> Iterator[Line]:
    """From the end of a partition of an hour until all agree: simulated."""
    for cut, name in _CUTS:
        jobs = [
            pool.submit(simulated.heal, seed, sizes.small, "lan", cut, HOUR_S)
            for seed in range(1, sizes.seeds + 1)
        ]
        took_s = [job.result() for job in jobs]
        yield Line(
            f"all agree after a partition of 1 hour, {sizes.small} simulated nodes, {name}",
            "≤ 30 s",
            _spread(took_s),
        )


def deaths(pool: ProcessPoolExecutor, sizes: Sizes, options: argparse.Namespace) -> Iterator[Line]:
    """Nodes taken for dead that are not: simulated."""
    names = {"loss": "20 % loss", "deaf": "one deaf node", "slow": "8 slow nodes"}
    runs = max(1, round(options.hours / len(TROUBLES) / sizes.small / RUN_HOURS))
    for trouble in TROUBLES:
        for profile in ("lan", "fast"):
            jobs = [
                pool.submit(
                    simulated.false_deaths, trouble, seed, sizes.small, profile, RUN_HOURS / 2
                )
                for seed in range(1, runs + 1)
            ]
            found = [job.result() for job in jobs]
            hours = sum(one.node_hours for one in found)
            yield Line(
                f"false deaths, {sizes.small} simulated nodes, {names[trouble]}, `{profile}`",
                "0",
                f"{sum(one.false for one in found)} in {hours:.0f} node-hours",
            )


def speed(pool: ProcessPoolExecutor, sizes: Sizes, _: argparse.Namespace) -> Iterator[Line]:
    """How fast a quiet cluster is simulated on one processor."""
    for seals in (False, True):
        job = pool.submit(simulated.speed, sizes.large, "lan", 30.0, seals=seals)
        how = "packets sealed" if seals else "packets not sealed"
        yield Line(
            f"simulation of {sizes.large} quiet cores on one processor, {how}",
            "at least real time",
            f"{job.result():.1f} times real time",
        )


def real(_: ProcessPoolExecutor, sizes: Sizes, __: argparse.Namespace) -> Iterator[Line]:
    """Real nodes on this machine, and serf's."""
    makers: list[tuple[str, str, Callable[[ExitStack, Path], Fleet]]] = []
    for profile in _PROFILES:
        goal = "≤ 5 s" if profile == "fast" else "≤ serf's"
        makers.append((f"netd, `{profile}`", goal, partial(_netd, sizes.fleet, profile)))
    if (found := version()) is not None:
        makers.append((f"serf {found}, `lan`", "", partial(_serf, sizes.fleet)))
    for name, goal, make in makers:
        with ExitStack() as stack:
            folder = tempfile.TemporaryDirectory(prefix="netd-bench-")
            fleet = make(stack, Path(stack.enter_context(folder)))
            count = f"{sizes.fleet} real nodes"
            bytes_s = fleet.quiet_bytes(10.0)
            yield Line(f"quiet traffic of one of {count}: {name}", "", f"{bytes_s / 1000:.2f} kB/s")
            changed = _spread(fleet.changes(max(5, sizes.changes // 2)))
            yield Line(f"a change reaches the last of {count}: {name}", "", changed)
            crashed = _spread(fleet.crashes(sizes.kills))
            yield Line(f"crash known to all of {count}: {name}", goal, crashed)


def flood(_: ProcessPoolExecutor, sizes: Sizes, __: argparse.Namespace) -> Iterator[Line]:
    """Packets that a daemon handles, and how long its API takes meanwhile."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="netd-bench-"))
        lab = FloodLab(stack, Path(folder))
        yield Line("an API call, without a flood", "", _calls(lab.idle(3.0)))
        for per_s in FLOODS if sizes is FULL else FLOODS[:1]:
            found = lab.flood(per_s)
            yield Line(
                f"packets handled of {found.sent:,.0f}/s; an API call meanwhile",
                "≥ 20,000/s; ≤ 20 ms",
                f"{found.handled:,.0f}/s; {_calls(found.calls_s)}",
            )


_PROFILES: Final[tuple[Profile, ...]] = ("fast", "lan")
_CUTS: Final[tuple[tuple[simulated.Cut, str], ...]] = (
    ("half", "halves"),
    ("one", "one node cut off"),
)
PARTS: Final[dict[str, Part]] = {
    "real": real,
    "flood": flood,
    "crash": crash,
    "change": change,
    "quiet": quiet,
    "heal": heal,
    "speed": speed,
    "deaths": deaths,
}


def main() -> int:
    options = _options()
    sizes = QUICK if options.quick else FULL
    if options.quick:
        options.hours = 3.0
    print(f"{describe()}\n\n| figure | to reach | reached |\n|---|---|---|", flush=True)
    with simulated.pool() as pool:
        for name, part in PARTS.items():
            if options.only in (None, name):
                for line in part(pool, sizes, options):
                    print(f"| {line.figure} | {line.goal} | {line.reached} |", flush=True)
    return 0


def _netd(size: int, profile: Profile, stack: ExitStack, folder: Path) -> Fleet:
    return NetdFleet(stack, folder, size, profile)


def _serf(size: int, stack: ExitStack, _: Path) -> Fleet:
    return SerfFleet(stack, size)


def _spread(seconds: list[float]) -> str:
    """Median, 99th percentile and the worst of some times."""
    middle, worst = statistics.median(seconds), max(seconds)
    return (
        f"p50 {middle:.2f} s, p99 {percentile(seconds, 0.99):.2f} s, most {worst:.2f} s "
        f"({len(seconds)} times)"
    )


def _calls(seconds: list[float]) -> str:
    p50, p99, most = (percentile(seconds, share) * 1000 for share in (0.5, 0.99, 1.0))
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {most:.1f} ms ({len(seconds)} calls)"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench gossip")
    parser.add_argument("--quick", action="store_true", help="small clusters, a minute")
    parser.add_argument("--only", choices=list(PARTS), help="one part of it")
    parser.add_argument(
        "--hours", type=float, default=1000.0, help="node-hours in which to look for false deaths"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
