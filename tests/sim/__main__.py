"""python -m tests.sim [SCENARIO...] [--seed N] [--seeds N] [--aloud]"""

import argparse
import sys

from tests.sim import cluster
from tests.sim.runner import describe, pool, run, run_many, seeds_wanted
from tests.sim.scenarios import ENDURANCE, SCENARIOS

ALL = SCENARIOS | ENDURANCE


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument(
        "scenario", nargs="*", help="of those that --list shows; none: all that are short"
    )
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--seeds", type=int, default=seeds_wanted(), help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--aloud", action="store_true", help="print what happens, with --seed")
    parser.add_argument("--list", action="store_true", help="print the names of all scenarios")
    options = parser.parse_args()
    if options.list:
        print("\n".join(ALL))
        return 0
    unknown = [name for name in options.scenario if name not in ALL]
    if unknown:
        parser.error(f"no scenario {unknown[0]!r}; --list shows them")
    names = options.scenario or list(SCENARIOS)
    if options.seed is not None:
        return _one(names, options.seed, aloud=options.aloud)
    return _many(names, range(options.first, options.first + options.seeds))


def _one(names: list[str], seed: int, *, aloud: bool) -> int:
    cluster.ALOUD = aloud
    failed = False
    for name in names:
        outcome = run(ALL[name], seed)
        failed = failed or bool(outcome.error)
        print(outcome.error or f"{name} {seed}: {outcome.virtual_s:.0f} s, {outcome.digest}")
    return int(failed)


def _many(names: list[str], seeds: range) -> int:
    failed = False
    with pool() as workers:
        for name in names:
            outcomes = list(run_many(workers, name, seeds))
            bad = [outcome for outcome in outcomes if outcome.error]
            took_s = sum(outcome.real_s for outcome in outcomes)
            text = f"{len(outcomes)} seeds, {took_s / len(outcomes) * 1000:.0f} ms each"
            print(f"{name:28} {text}{f', {len(bad)} FAILED' if bad else ''}", flush=True)
            for outcome in bad[:2]:
                print(describe(name, outcome))
            failed = failed or bool(bad)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
