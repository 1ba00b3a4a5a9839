"""When checks run and what of them is reported, on a clock that stands still."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from netd.model.service import Check, CheckResult, CheckSpec, Service
from netd.registry.checks import running
from netd.registry.checks.checks import OUTPUT_EACH_S, Checks
from netd.registry.checks.names import Names
from netd.registry.checks.probe import Failed, Run, critical, passing
from netd.registry.checks.running import Key, Runner
from tests.unit.checks_lab import on_virtual_time, service

Looks = Callable[[Run], Any]


class Reported:
    """The reports of a test, with their times. `holds`: the daemon does not take them."""

    def __init__(self) -> None:
        self.all: list[tuple[float, Key, CheckResult]] = []
        self.dropped: list[Key] = []
        self.holds = False

    def put(self, key: Key, result: CheckResult) -> None:
        self.all.append((asyncio.get_running_loop().time(), key, result))

    def drop(self, key: Key) -> None:
        self.dropped.append(key)

    def __contains__(self, key: Key) -> bool:
        return self.holds

    @property
    def results(self) -> list[CheckResult]:
        return [result for _, _, result in self.all]


class World:
    """Checks that find what `looks` says; `runs` are the times at which each ran."""

    looks: ClassVar[Looks]

    def __init__(self, monkeypatch: pytest.MonkeyPatch, looks: Looks, chance: float = 0.0) -> None:
        self.loop = asyncio.get_running_loop()
        self.runs: dict[Key, list[float]] = {}
        self.reported = Reported()

        def outcome(_runner: Runner, run: Run) -> Any:
            key = (run.probe.service, run.probe.check)
            self.runs.setdefault(key, []).append(round(self.loop.time(), 1))
            return looks(run)

        monkeypatch.setattr(Runner, "_outcome", outcome)
        self.checks = Checks(
            self.reported, Names(), lambda _: (), self.loop.time, chance=lambda: chance
        )


def virtual(
    monkeypatch: pytest.MonkeyPatch,
    looks: Looks,
    test: Callable[[World], Any],
    chance: float = 0.0,
) -> None:
    async def work() -> None:
        world = World(monkeypatch, looks, chance)
        await test(world)
        await world.checks.stop()

    on_virtual_time(work)


def known(made: Service, result: CheckResult) -> Service:
    """The instance as the daemon shows it after a report of its one check."""
    (check,) = made.checks
    check = Check(
        id=check.id,
        name=check.name,
        kind=check.kind,
        status=result.status,
        output=result.output,
        spec=check.spec,
    )
    return Service(
        id=made.id, name=made.name, node=made.node, address=made.address, port=made.port,
        checks=(check,),
    )  # fmt: skip


KEY = ("web-1", "up")
EACH_10 = CheckSpec(kind="tcp", id="up", interval_s=10)


def well(_run: Run) -> CheckResult:
    return passing("connected")


# When


def test_runs_are_an_interval_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World) -> None:
        world.checks.apply(service(EACH_10))
        await asyncio.sleep(45)
        assert world.runs == {KEY: [0, 10, 20, 30, 40]}

    virtual(monkeypatch, well, test)


def test_a_new_check_runs_soon_and_one_that_has_run_before_keeps_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(world: World) -> None:
        world.checks.replace([service(EACH_10)])
        world.checks.replace([known(service(EACH_10), passing("connected"))])
        await asyncio.sleep(20)
        assert world.runs == {KEY: [0.4, 10.4]}
        world.checks.replace([known(service(EACH_10, id="web-2"), passing("connected"))])
        await asyncio.sleep(20)
        assert world.runs == {KEY: [0.4, 10.4], ("web-2", "up"): [28, 38]}

    virtual(monkeypatch, well, test, chance=0.8)


def test_a_run_that_takes_longer_than_the_interval_is_followed_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def slow(_run: Run) -> CheckResult:
        await asyncio.sleep(15)
        return passing("at last")

    async def test(world: World) -> None:
        world.checks.apply(service(CheckSpec(kind="tcp", id="up", interval_s=10, timeout_s=20)))
        await asyncio.sleep(50)
        assert world.runs == {KEY: [0, 15, 30, 45]}

    virtual(monkeypatch, slow, test)


def test_a_run_ends_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(run: Run) -> CheckResult:
        run.stage = "connect to nobody"
        await asyncio.sleep(1000)
        return passing("never")

    async def test(world: World) -> None:
        world.checks.apply(service(CheckSpec(kind="tcp", id="up", interval_s=10, timeout_s=3)))
        await asyncio.sleep(25)
        assert world.runs == {KEY: [0, 10, 20]}
        at, key, result = world.reported.all[0]
        assert (round(at, 1), key) == (3, KEY)
        assert result == critical("connect to nobody: not within 3 s")

    virtual(monkeypatch, hang, test)


@pytest.mark.parametrize("stalls", [1, 3, 4])
def test_a_deadline_that_this_process_has_slept_through_is_not_the_others_fault(
    monkeypatch: pytest.MonkeyPatch, stalls: int
) -> None:
    left = stalls

    async def stalled(_run: Run) -> CheckResult:
        nonlocal left
        await asyncio.sleep(1)
        left -= 1
        if left >= 0:
            # What else runs on the loop takes until after the deadline.
            asyncio.get_running_loop()._still.now += 5  # type: ignore[attr-defined]
            await asyncio.sleep(0.001)
        return passing("connected")

    async def test(world: World) -> None:
        world.checks.apply(service(CheckSpec(kind="tcp", id="up", interval_s=60, timeout_s=3)))
        await asyncio.sleep(50)
        assert len(world.runs[KEY]) == min(stalls, 3) + 1
        if stalls > 3:
            assert world.reported.results == [critical("to begin: not within 3 s")]
        else:
            assert world.reported.results == [passing("connected")]

    virtual(monkeypatch, stalled, test)


def test_a_fault_of_ours_is_a_failure_and_the_check_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_run: Run) -> CheckResult:
        raise ZeroDivisionError

    async def test(world: World) -> None:
        world.checks.apply(service(EACH_10))
        await asyncio.sleep(15)
        assert world.runs == {KEY: [0, 10]}
        assert world.reported.results == [
            critical("a fault of netd's; the log of the registry has it")
        ]

    virtual(monkeypatch, broken, test)
    assert "ZeroDivisionError" in caplog.text


def test_a_fault_before_anything_is_waited_for_does_not_end_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def look(run: Run) -> CheckResult:
        if run.probe.service == "web-1":
            raise ZeroDivisionError
        return passing("connected")

    async def test(world: World) -> None:
        world.checks.replace([service(EACH_10), service(EACH_10, id="web-2")])
        await asyncio.sleep(15)
        assert world.runs == {KEY: [0, 10], ("web-2", "up"): [0, 10]}

    virtual(monkeypatch, look, test)
    assert "ZeroDivisionError" in caplog.text


def test_a_failure_before_anything_is_waited_for_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_run: Run) -> CheckResult:
        raise Failed("no port")

    async def test(world: World) -> None:
        world.checks.apply(service(EACH_10))
        await asyncio.sleep(5)
        assert world.reported.results == [critical("no port")]

    virtual(monkeypatch, refuse, test)


def test_many_are_spread_over_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        world = World(monkeypatch, well)
        chances = iter(range(1000))
        world.checks = Checks(
            world.reported, Names(), lambda _: (), world.loop.time,
            chance=lambda: next(chances) / 1000,
        )  # fmt: skip
        world.checks.replace(
            known(service(EACH_10, id=f"web-{number}"), passing("connected"))
            for number in range(1000)
        )
        await asyncio.sleep(9.995)
        for second in range(10):
            runs = [at for times in world.runs.values() for at in times]
            assert 90 <= sum(second <= at < second + 1 for at in runs) <= 110
        await world.checks.stop()

    on_virtual_time(work)


def test_ten_thousand_at_a_start_are_no_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that have run before are spread over the interval, and seen as they were meanwhile;
    those that never have run soon, but so many in a second at the most.
    """

    async def work() -> None:
        world = World(monkeypatch, well)
        chance = random.Random(1).random
        world.checks = Checks(world.reported, Names(), lambda _: (), world.loop.time, chance=chance)
        minute = CheckSpec(kind="tcp", id="up", interval_s=60)
        before = critical("as it was")
        world.checks.replace(
            known(service(minute, id=f"old-{number}"), before) for number in range(10_000)
        )
        await asyncio.sleep(59.9)
        assert most_within(world, 0.5) < 250
        assert len(world.runs) > 9_900
        await world.checks.stop()
        world.runs.clear()
        world.checks = Checks(world.reported, Names(), lambda _: (), world.loop.time, chance=chance)
        began = world.loop.time()
        world.checks.replace(
            [*(service(minute, id=f"new-{number}") for number in range(5_000)), service(EACH_10)]
        )
        await asyncio.sleep(5.1)
        assert len(world.runs) == 5_001
        assert 400 < most_within(world, 0.5) < 700
        # One that is registered later runs at once, however many there are.
        world.checks.apply(service(minute, id="late"))
        await asyncio.sleep(0.6)
        assert world.runs["late", "up"][0] - began < 5.7
        await world.checks.stop()

    on_virtual_time(work)


def most_within(world: World, span_s: float) -> int:
    """How many runs have begun at the most within so many seconds."""
    spans = Counter(int(at / span_s) for times in world.runs.values() for at in times)
    return max(spans.values())


# How many


def test_what_there_is_no_room_for_waits_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "SOCKETS_MAX", 2)

    async def slow(_run: Run) -> CheckResult:
        await asyncio.sleep(1)
        return passing("connected")

    async def test(world: World) -> None:
        for number in range(6):
            world.checks.apply(service(EACH_10, id=f"web-{number}"))
            await asyncio.sleep(0.01)
        counts = {count.name: count.value for count in world.checks.counts() if
                  count.labels.get("uses") != "script"}  # fmt: skip
        assert (counts["checks_running"], counts["checks_waiting"]) == (2, 4)
        # One that is gone meanwhile takes no room.
        world.checks.remove("web-2")
        await asyncio.sleep(5)
        began = {key[0]: times for key, times in world.runs.items()}
        assert began == {"web-0": [0], "web-1": [0], "web-3": [1], "web-4": [1], "web-5": [2]}

    virtual(monkeypatch, slow, test)


def test_programs_do_not_take_the_room_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(_run: Run) -> CheckResult:
        await asyncio.sleep(1)
        return passing("connected")

    async def test(world: World) -> None:
        script = CheckSpec(kind="script", id="up", args=("true",))
        for number in range(running.SCRIPTS_MAX + 1):
            world.checks.apply(service(script, id=f"script-{number}"))
        world.checks.apply(service(EACH_10))
        await asyncio.sleep(0.5)
        assert len(world.runs) == running.SCRIPTS_MAX + 1
        assert KEY in world.runs

    virtual(monkeypatch, slow, test)


# What becomes of what is registered


def test_what_is_gone_is_not_run_and_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    async def slow(_run: Run) -> CheckResult:
        try:
            await asyncio.sleep(5)
        finally:
            ended.append("yes")
        return passing("connected")

    async def test(world: World) -> None:
        world.checks.apply(service(EACH_10))
        await asyncio.sleep(1)
        world.checks.remove("web-1")
        world.checks.remove("web-1")
        await asyncio.sleep(30)
        assert (world.runs, ended) == ({KEY: [0]}, ["yes"])
        assert world.reported.all == []
        assert KEY in world.reported.dropped

    virtual(monkeypatch, slow, test)


def test_a_check_that_an_instance_has_no_more_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World) -> None:
        other = CheckSpec(kind="http", id="page", interval_s=10)
        world.checks.apply(service(EACH_10, other))
        await asyncio.sleep(5)
        world.checks.apply(service(other))
        await asyncio.sleep(10)
        world.checks.apply(service())
        await asyncio.sleep(20)
        assert world.runs == {KEY: [0], ("web-1", "page"): [0, 10]}

    virtual(monkeypatch, well, test)


def test_of_a_new_table_what_is_not_in_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World) -> None:
        world.checks.replace([service(EACH_10), service(EACH_10, id="web-2")])
        await asyncio.sleep(5)
        world.checks.replace([service(EACH_10, id="web-2"), service(EACH_10, id="web-3")])
        await asyncio.sleep(10)
        assert world.runs == {KEY: [0], ("web-2", "up"): [0, 10], ("web-3", "up"): [5, 15]}

    virtual(monkeypatch, well, test)


@pytest.mark.parametrize(
    "change",
    [{"port": 81}, {"address": "127.0.0.2"}, {"network": "blue"}],
    ids=lambda change: next(iter(change)),
)
def test_one_that_looks_at_something_else_now_runs_soon(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    async def test(world: World) -> None:
        world.checks.apply(service(EACH_10))
        await asyncio.sleep(5)
        world.checks.apply(service(EACH_10, **change))
        await asyncio.sleep(11)
        assert world.runs == {KEY: [0, 5, 15]}

    virtual(monkeypatch, well, test)


def test_kinds_that_are_not_the_registrys_and_instances_of_others_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(world: World) -> None:
        world.checks.apply(
            service(CheckSpec(kind="ttl", id="a", ttl_s=10), CheckSpec(kind="alias", id="b"))
        )
        others = Check(id="up", name="up", kind="tcp", status="passing")
        world.checks.apply(
            Service(id="web-2", name="web", node="host-2", address="10.0.0.1", checks=(others,))
        )
        await asyncio.sleep(30)
        assert world.runs == {}

    virtual(monkeypatch, well, test)


# What is reported


def test_a_status_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World) -> None:
        world.checks.apply(service(EACH_10))
        await asyncio.sleep(5)
        assert world.reported.results == [passing("connected")]
        world.checks.apply(known(service(EACH_10), passing("connected")))
        await asyncio.sleep(100)
        assert len(world.reported.all) == 1

    virtual(monkeypatch, well, test)


def test_what_the_daemon_knows_already_is_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World) -> None:
        world.checks.apply(known(service(EACH_10), passing("connected")))
        await asyncio.sleep(95)
        assert len(world.runs[KEY]) == 10
        assert world.reported.all == []

    virtual(monkeypatch, well, test)


def test_a_daemon_that_has_forgotten_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World) -> None:
        world.checks.apply(service(EACH_10))
        await asyncio.sleep(5)
        world.checks.apply(known(service(EACH_10), passing("connected")))
        await asyncio.sleep(10)
        assert len(world.reported.all) == 1
        world.checks.apply(service(EACH_10))
        await asyncio.sleep(10)
        assert world.reported.results == [passing("connected")] * 2

    virtual(monkeypatch, well, test)


def test_an_old_state_that_crosses_a_report_is_not_what_the_daemon_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(world: World) -> None:
        world.reported.holds = True
        world.checks.apply(service(EACH_10))
        await asyncio.sleep(5)
        world.checks.apply(service(EACH_10))  # the daemon has not heard it yet
        await asyncio.sleep(50)
        assert len(world.reported.all) == 1

    virtual(monkeypatch, well, test)


def test_a_change_of_status_is_reported_at_once_and_one_of_output_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = 0

    def look(_run: Run) -> CheckResult:
        nonlocal runs
        runs += 1
        text = f"run {runs}"
        return critical(text) if runs in {45, 46} else passing(text)

    async def test(world: World) -> None:
        world.checks.apply(service(CheckSpec(kind="tcp", id="up", interval_s=1)))
        await asyncio.sleep(99.5)
        told = [(round(at), result.status) for at, _, result in world.reported.all]
        assert told == [
            *((0, "passing"), (31, "passing"), (44, "critical"), (46, "passing"), (76, "passing"))
        ]

    assert OUTPUT_EACH_S == 30
    virtual(monkeypatch, look, test)


def test_thresholds_hold_back_what_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([*map(passing, "pp"), critical("c"), passing("p"), *map(critical, "ccc")])

    async def test(world: World) -> None:
        spec = CheckSpec(
            kind="tcp", id="up", successes_before_passing=2, failures_before_critical=3
        )
        world.checks.apply(service(spec))
        await asyncio.sleep(65)
        told = [(round(at), result.status) for at, _, result in world.reported.all]
        assert told[0] == (0, "critical")
        assert next(entry for entry in told if entry[1] == "passing") == (10, "passing")
        assert told[-1] == (60, "critical")
        assert (20, "critical") not in told

    virtual(monkeypatch, lambda _run: next(found), test)


def test_after_a_restart_a_failure_counts_from_what_was_said_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(world: World) -> None:
        spec = CheckSpec(kind="tcp", id="up", failures_before_critical=3)
        world.checks.apply(known(service(spec), passing("connected")))
        await asyncio.sleep(29)
        told = [(round(at), result.status) for at, _, result in world.reported.all]
        assert told == [(0, "passing"), (20, "critical")]

    virtual(monkeypatch, lambda _run: critical("gone"), test)


def test_scripts_run_only_where_they_are_allowed() -> None:
    async def work() -> None:
        reported = Reported()
        clock = asyncio.get_running_loop().time
        checks = Checks(reported, Names(), lambda _: (), clock, chance=lambda: 0)
        checks.apply(service(CheckSpec(kind="script", id="up", args=("true",))))
        await asyncio.sleep(1)
        assert reported.results == [
            critical("script checks are off on this host (registry.script_checks)")
        ]
        checks.scripts = True
        checks.apply(
            service(CheckSpec(kind="script", id="up", args=("true",)), id="web-2", network="blue")
        )
        await asyncio.sleep(1)
        assert "not run for an instance that has a network" in reported.results[-1].output
        await checks.stop()

    on_virtual_time(work)
