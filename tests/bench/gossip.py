"""Gossip: every figure of the cluster, real nodes side by side with serf's where both can be.

    scripts/bench gossip [--only NAME]... [--hours N] [--kills N] [--quick]

Real nodes are processes on this machine, in a network namespace that ends with this program;
simulated ones are the same protocol cores on a virtual clock and a network that takes each packet
0.5 to 1 ms. What is timed in real time runs alone, the rest on all processors.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from netd.gossip.settings import Profile
from tests.bench import gossip_serf
from tests.bench import gossip_simulated as simulated
from tests.bench.gossip_fleet import Fleet
from tests.bench.gossip_flood import FloodLab
from tests.bench.gossip_netd import NetdFleet
from tests.bench.gossip_serf import SerfFleet
from tests.bench.machine import busy_share, describe, percentile

NOISY_SHARE: Final = 0.1  # of the processors, used by others before a part begins
TROUBLES: Final[dict[simulated.Trouble, str]] = {
    "loss": "20 % loss",
    "deaf": "one deaf node",
    "slow": "8 slow nodes",
}
CUTS: Final[dict[simulated.Cut, str]] = {"half": "half and half", "one": "one node cut off"}


class Row(NamedTuple):
    """A line of the table; `met` is None where nothing was asked for."""

    figure: str
    wanted: str
    reached: str
    met: bool | None = None
    serf: str = ""


class Sizes(NamedTuple):
    """How much is measured."""

    fleet: int = 60
    changing: int = 25
    kills: int = 10
    real_changes: int = 200
    calm_s: float = 5.0
    quiet_s: float = 60.0
    profiles: tuple[Profile, ...] = ("fast", "lan")  # of real nodes
    small: int = 100
    large: int = 1000
    largest: int = 5000
    seeds: int = 5
    changes: int = 200
    writers: int = 40
    hours: float = 1000.0
    partition_s: float = 3600.0
    flood: tuple[int, ...] = (25_000, 50_000)
    flood_s: float = 20.0


QUICK: Final = Sizes(
    fleet=8,
    changing=8,
    kills=1,
    real_changes=5,
    calm_s=2.0,
    quiet_s=2.0,
    profiles=("fast",),
    small=20,
    large=50,
    largest=100,
    seeds=1,
    changes=10,
    hours=3.0,
    partition_s=120.0,
    flood=(5_000,),
    flood_s=2.0,
)

Rows = Iterator[Row]


# Real nodes


def crash_real(sizes: Sizes, folder: Path) -> Rows:
    """Crashes; and what a quiet node sends, since the nodes are there."""
    took_s: dict[str, list[float]] = {}
    quiet: dict[str, float] = {}

    def measure(name: str, fleet: Fleet) -> None:
        quiet[name] = fleet.quiet_bytes(sizes.quiet_s, sizes.calm_s)
        took_s[name] = fleet.crashes(sizes.kills, sizes.calm_s)

    for profile in sizes.profiles:
        with ExitStack() as stack:
            measure(profile, NetdFleet(stack, folder, sizes.fleet, profile))
    if gossip_serf.version() is not None:
        with ExitStack() as stack:
            measure("serf", SerfFleet(stack, sizes.fleet))
    theirs = took_s.get("serf")
    for profile in sizes.profiles:
        ours = took_s[profile]
        limit_s = 5.0 if profile == "fast" else _median(theirs) if theirs else None
        yield Row(
            f"crash known to all, {sizes.fleet} real nodes, `{profile}`: median / slowest of "
            f"{len(ours)}",
            "≤ 5 s" if profile == "fast" else "≤ serf's",
            _middle_and_most(ours),
            None if limit_s is None else _median(ours) <= limit_s,
            f"{_middle_and_most(theirs)} (`lan`)" if theirs else "",
        )
    for profile in sizes.profiles:
        yield Row(
            f"quiet traffic of one of {sizes.fleet} real nodes, headers included, `{profile}`",
            "≤ 0.6 kB/s",
            _kilobytes(quiet[profile]),
            quiet[profile] <= 600,
            f"{_kilobytes(quiet['serf'])} (`lan`)" if "serf" in quiet else "",
        )


def change_real(sizes: Sizes, folder: Path) -> Rows:
    with ExitStack() as stack:
        fleet: Fleet = NetdFleet(stack, folder, sizes.changing, "lan")
        ours = fleet.changes(sizes.real_changes)
    theirs: list[float] = []
    if gossip_serf.version() is not None:
        with ExitStack() as stack:
            theirs = SerfFleet(stack, sizes.changing).changes(sizes.real_changes)
    yield Row(
        f"a change reaches the last of {sizes.changing} real nodes, p50 / p99 (serf: a user event)",
        "≤ 0.3 s",
        _p50_p99(ours),
        percentile(ours, 0.99) <= 0.3,
        _p50_p99(theirs) if theirs else "",
    )


def packets(sizes: Sizes, folder: Path) -> Rows:
    with ExitStack() as stack:
        lab = FloodLab(stack, folder)
        yield Row(
            "API call of one daemon, no flood, p50 / p99 / slowest",
            "",
            _calls(lab.idle(sizes.flood_s / 2)),
        )
        for offered in sizes.flood:
            flooded = lab.flood(offered, sizes.flood_s)
            first = offered == sizes.flood[0]
            yield Row(
                f"packets handled by one daemon, {offered:,}/s offered",
                "≥ 20,000/s" if first else "",
                f"{flooded.handled:,.0f}/s",
                flooded.handled >= 20_000 if first else None,
            )
            yield Row(
                "API call meanwhile, p50 / p99 / slowest",
                "≤ 20 ms" if first else "",
                _calls(flooded.calls_s),
                max(flooded.calls_s) <= 0.02 if first else None,
            )


# Simulated nodes


def crash(sizes: Sizes, _: Path) -> Rows:
    for size, limit_s, kills in ((sizes.small, 5.5, sizes.kills), (sizes.large, 8.0, 4)):
        with simulated.pool() as workers:
            took_s = simulated.all_of(
                workers.submit(simulated.crashes, seed, size, "fast", kills)
                for seed in range(sizes.seeds)
            )
        yield Row(
            f"crash known to all, {size:,} simulated, `fast`: median / slowest of {len(took_s)}",
            f"≤ {limit_s:g} s",
            _middle_and_most(took_s),
            _median(took_s) <= limit_s,
        )


def deaths(sizes: Sizes, _: Path) -> Rows:
    """In runs of about 33 node-hours."""
    node_hours = sizes.hours / len(TROUBLES)
    runs = max(2, round(node_hours / 33))
    hours = node_hours / runs / sizes.small
    with simulated.pool() as workers:
        jobs = {
            trouble: [
                workers.submit(simulated.false_deaths, trouble, seed, sizes.small, "fast", hours)
                for seed in range(runs)
            ]
            for trouble in reversed(TROUBLES)
        }
        for trouble, text in TROUBLES.items():
            found = [job.result() for job in jobs[trouble]]
            false = sum(run.false for run in found)
            yield Row(
                f"false deaths, {sizes.small} simulated nodes, `fast`, {text}",
                "0",
                f"{false} in {sum(run.node_hours for run in found):,.0f} node-hours "
                f"({sum(run.suspicions for run in found):,} failed probes)",
                false == 0,
            )


def change(sizes: Sizes, _: Path) -> Rows:
    with simulated.pool() as workers:
        for loss, limits_s in ((0.0, (0.3, 0.5)), (0.2, (3.0, 3.0))):
            for size, limit_s in zip((25, sizes.large), limits_s, strict=True):
                each = sizes.changes if size == 25 else max(5, sizes.changes // 5)
                took_s = simulated.all_of(
                    workers.submit(simulated.changes, seed, size, "lan", each, loss)
                    for seed in range(sizes.seeds)
                )
                text = f", {loss:.0%} loss".replace("%", " %") if loss else ""
                yield Row(
                    f"a change reaches the last of {size:,} simulated{text}, p50 / p99 of "
                    f"{len(took_s):,}",
                    f"≤ {limit_s:g} s",
                    _p50_p99(took_s),
                    percentile(took_s, 0.99) <= limit_s,
                )


def burst(sizes: Sizes, _: Path) -> Rows:
    size, writers = sizes.small, min(sizes.small, sizes.writers)
    with simulated.pool() as workers:
        took_s = simulated.all_of(
            workers.submit(simulated.bursts, seed, size, "lan", min(sizes.kills, 4), writers)
            for seed in range(sizes.seeds)
        )
    yield Row(
        f"{writers} changes by as many nodes at one instant reach the last of {size:,} simulated: "
        f"median / slowest of {len(took_s)}",
        "≤ 0.5 s",
        _middle_and_most(took_s),
        max(took_s) <= 0.5,
    )


def quiet(sizes: Sizes, _: Path) -> Rows:
    profiles: tuple[Profile, ...] = ("lan", "fast")
    for size in (sizes.small, sizes.large, sizes.largest):
        for profile in profiles:
            # One after another: 5,000 cores take 9 GB.
            with simulated.pool() as workers:
                traffic = workers.submit(simulated.quiet, 1, size, profile, 30.0).result()
            yield Row(
                f"quiet traffic of one of {size:,} simulated, `{profile}`: payload / with headers",
                "≤ 0.6 kB/s",
                f"{traffic.payload_bytes / 1000:.3f} / {_kilobytes(traffic.bytes)}",
                traffic.bytes <= 600,
            )


def heal(sizes: Sizes, _: Path) -> Rows:
    size = sizes.small
    profiles: tuple[Profile, ...] = ("lan", "fast")
    with simulated.pool() as workers:
        for profile in profiles:
            for cut, text in CUTS.items():
                jobs = [
                    workers.submit(simulated.heal, seed, size, profile, cut, sizes.partition_s)
                    for seed in range(sizes.seeds)
                ]
                took_s = [job.result() for job in jobs]
                yield Row(
                    f"heal after {sizes.partition_s / 60:.0f} min of partition, {size} simulated, "
                    f"{text}, `{profile}`: median / slowest of {len(took_s)}",
                    "≤ 30 s",
                    _middle_and_most(took_s),
                    max(took_s) <= 30,
                )


def speed(sizes: Sizes, _: Path) -> Rows:
    profiles: tuple[Profile, ...] = ("lan", "fast")
    for profile, seals in ((profile, seals) for profile in profiles for seals in (False, True)):
        with simulated.pool() as workers:
            job = workers.submit(simulated.speed, sizes.large, profile, 30.0, seals=seals)
            times = job.result()
        yield Row(
            f"simulation of {sizes.large:,} quiet cores, `{profile}`"
            f"{', packets sealed' if seals else ''}: virtual seconds in one of a processor",
            "≥ 1",
            f"{times:.1f}",
            times >= 1,
        )


PARTS: Final[dict[str, Callable[[Sizes, Path], Rows]]] = {
    "crash-real": crash_real,
    "change-real": change_real,
    "packets": packets,
    "crash": crash,
    "deaths": deaths,
    "change": change,
    "burst": burst,
    "quiet": quiet,
    "heal": heal,
    "speed": speed,
}


def main() -> int:
    options = _options()
    sizes = QUICK if options.quick else Sizes(kills=options.kills, hours=options.hours)
    serf = gossip_serf.version()
    print(f"{describe()}; {f'serf {serf}' if serf else 'serf is not installed'}\n")
    print("| figure | to reach | netd | serf |")
    print("|---|---|---|---|", flush=True)
    missed: list[str] = []
    notes: list[str] = []
    for name in options.only or PARTS:
        busy = busy_share(1.0)
        began_s = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="netd-bench-") as folder:
            for row in PARTS[name](sizes, Path(folder)):
                reached = f"**{row.reached}**" if row.met is False else row.reached
                print(f"| {row.figure} | {row.wanted} | {reached} | {row.serf} |", flush=True)
                if row.met is False:
                    missed.append(row.figure)
        note = f"{name} took {time.monotonic() - began_s:.0f} s"
        if busy > NOISY_SHARE:
            note += f"; other programs used {busy:.0%} of the processors when it began"
        notes.append(note)
    print()
    for note in notes:
        print(f"- {note}")
    print(f"- missed: {'; '.join(missed) or 'nothing'}")
    return 0


def _median(values: list[float]) -> float:
    return percentile(values, 0.5)


def _middle_and_most(values: list[float]) -> str:
    return f"{_median(values):.2f} / {max(values):.2f} s"


def _p50_p99(values: list[float]) -> str:
    return f"{_median(values):.3f} / {percentile(values, 0.99):.3f} s"


def _calls(times_s: list[float]) -> str:
    shown = (_median(times_s), percentile(times_s, 0.99), max(times_s))
    return " / ".join(f"{time_s * 1000:.1f}" for time_s in shown) + " ms"


def _kilobytes(count: float) -> str:
    return f"{count / 1000:.3f} kB/s"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench gossip", description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; repeatable")
    parser.add_argument("--hours", type=float, default=1000, help="node-hours for false deaths")
    parser.add_argument("--kills", type=int, default=10, help="crashes of each kind")
    parser.add_argument("--quick", action="store_true", help="a little of everything, in a minute")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
