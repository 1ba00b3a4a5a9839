"""Renewals: many are told in one call, and none is told after what came later."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import msgspec
import pytest

from netd.model.service import Check, CheckReport, CheckReports, CheckResult, CheckSpec
from netd.registry.api import Api, Refused, Unreachable
from netd.registry.catalog import renewals as module
from netd.registry.catalog.daemon import Daemon
from netd.registry.catalog.renewals import Renewals, is_renewal

WELL = CheckResult(status="passing", output="fine")
BEAT = Check(
    id="beat",
    name="beat",
    kind="ttl",
    status="passing",
    output="fine",
    spec=CheckSpec(kind="ttl", id="beat", ttl_s=30),
)


class Told(Api):
    """Notes what the daemon is told, and fails as it is asked to. While `gate` is not set, calls
    are on their way.
    """

    def __init__(self) -> None:
        super().__init__("/nowhere")
        self.calls: list[tuple[str, msgspec.Struct]] = []
        self.deleted: list[str] = []
        self.faults: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.called = asyncio.Event()

    async def put(self, path: str, value: msgspec.Struct) -> None:
        self.called.set()
        await self.gate.wait()
        if self.faults:
            raise self.faults.pop(0)
        self.calls.append((path, value))

    async def delete(self, path: str) -> None:
        self.deleted.append(path)

    @property
    def reports(self) -> list[tuple[CheckReport, ...]]:
        return [value.reports for _, value in self.calls if isinstance(value, CheckReports)]


@pytest.fixture
async def api(monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setattr(module, "DELAY_S", 0.01)
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    return Told()


@pytest.fixture
async def renewals(api: Told) -> AsyncIterator[Renewals]:
    made = Renewals(api)
    yield made
    api.gate.set()
    await made.close()


@pytest.mark.parametrize(
    ("check", "result", "renewal"),
    [
        (BEAT, WELL, True),
        (BEAT, CheckResult(status="passing", output="better"), False),
        (BEAT, CheckResult(status="warning", output="fine"), False),
        (msgspec.structs.replace(BEAT, kind="http"), WELL, False),
        (msgspec.structs.replace(BEAT, spec=None), WELL, False),
        (msgspec.structs.replace(BEAT, spec=CheckSpec(kind="ttl", ttl_s=1.9)), WELL, False),
        (msgspec.structs.replace(BEAT, spec=CheckSpec(kind="ttl", ttl_s=2)), WELL, True),
    ],
)
def test_what_a_renewal_is(check: Check, result: CheckResult, renewal: bool) -> None:
    assert is_renewal(check, result) is renewal


async def test_what_comes_together_is_told_together(api: Told, renewals: Renewals) -> None:
    for number in range(3):
        for name in ("a", "b"):
            result = CheckResult(status="passing", output=str(number))
            assert renewals.take(name, "beat", result)
    assert renewals.waiting == 2
    await until(lambda: renewals.waiting == 0)
    assert api.reports == [
        tuple(
            CheckReport(service=name, check="beat", status="passing", output="2")
            for name in ("a", "b")
        )
    ]
    assert api.calls[0][0] == "/v1/checks"
    assert {count.name: count.value for count in renewals.counts("consul")} == {
        "renewals_total": 6,
        "renewal_calls_total": 1,
        "renewals_waiting": 0,
    }


async def test_more_than_a_call_takes_are_told_in_several(
    api: Told, renewals: Renewals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE_MAX", 4)
    for number in range(10):
        assert renewals.take(f"i{number}", "beat", WELL)
    await until(lambda: renewals.waiting == 0)
    assert [len(each) for each in api.reports] == [4, 4, 2]
    assert len({report.service for each in api.reports for report in each}) == 10


async def test_no_more_wait_than_may(
    api: Told, renewals: Renewals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING_MAX", 2)
    api.gate.clear()
    assert [renewals.take(name, "beat", WELL) for name in ("a", "b", "c")] == [True, True, False]
    assert renewals.take("a", "beat", WELL)  # it waits already


@pytest.mark.parametrize("fault", [Unreachable("gone"), Refused(503, "later")])
async def test_a_daemon_that_does_not_answer_is_told_when_it_does(
    api: Told, renewals: Renewals, fault: Exception
) -> None:
    api.faults = [fault, fault]
    assert renewals.take("a", "beat", WELL)
    await until(lambda: len(api.faults) == 1)
    await asyncio.sleep(0)
    assert not renewals.take("b", "beat", WELL), "who calls shall hear of it"
    await until(lambda: renewals.waiting == 0)
    assert [report.service for (report,) in api.reports] == ["a"]
    assert renewals.take("b", "beat", WELL)


async def test_renewals_are_taken_again_when_nothing_is_left_to_try(
    api: Told, renewals: Renewals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSED_S", 0.1)
    api.faults = [Unreachable("gone")]
    assert renewals.take("a", "beat", WELL)
    await until(lambda: not api.faults)
    await renewals.withdraw("a")
    assert renewals.waiting == 0
    assert not renewals.take("b", "beat", WELL)
    await until(lambda: renewals.take("b", "beat", WELL))
    await until(lambda: renewals.waiting == 0)
    assert [report.service for (report,) in api.reports] == ["b"]


async def test_what_is_refused_is_not_said_again(
    api: Told, renewals: Renewals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REFUSED_S", 0.05)
    api.faults = [Refused(404, "there is no such call")]
    assert renewals.take("a", "beat", WELL)
    await until(lambda: not api.faults and renewals.waiting == 0)
    assert not renewals.take("a", "beat", WELL)
    await until(lambda: renewals.take("a", "beat", WELL))
    await until(lambda: renewals.waiting == 0)
    assert len(api.reports) == 1


async def test_what_waits_is_told_at_the_end(api: Told) -> None:
    renewals = Renewals(api)
    assert renewals.take("a", "beat", WELL)
    await renewals.close()
    assert len(api.reports) == 1
    assert renewals.waiting == 0


async def test_what_is_on_its_way_at_the_end_is_told(api: Told) -> None:
    renewals = Renewals(api)
    api.gate.clear()
    assert renewals.take("a", "beat", WELL)
    await api.called.wait()
    ends = asyncio.ensure_future(renewals.close())
    await asyncio.sleep(0.01)
    api.gate.set()
    await ends
    assert [report.service for (report,) in api.reports] == ["a"]


async def test_nobody_waits_at_the_end_for_a_daemon_that_is_away(api: Told) -> None:
    renewals = Renewals(api)
    api.faults = [Unreachable("gone")] * 1000
    assert renewals.take("a", "beat", WELL)
    async with asyncio.timeout(2):
        await renewals.close()
    assert renewals.waiting == 1


async def test_a_renewal_never_comes_after_what_was_said_later(api: Told) -> None:
    daemon = Daemon(api, lambda: None)
    ill = CheckResult(status="critical", output="ill")
    await daemon.renew("a", BEAT, WELL)
    await daemon.report("a", "beat", ill)
    await daemon.close()
    assert api.calls == [("/v1/services/a/checks/beat", ill)]


async def test_a_later_word_waits_for_a_renewal_that_is_on_its_way(api: Told) -> None:
    daemon = Daemon(api, lambda: None)
    api.gate.clear()
    await daemon.renew("a", BEAT, WELL)
    await api.called.wait()
    later = asyncio.ensure_future(daemon.report("a", "beat", CheckResult(status="critical")))
    gone = asyncio.ensure_future(daemon.deregister("a"))
    await asyncio.sleep(0.02)
    assert not later.done()
    assert not api.deleted
    api.gate.set()
    await asyncio.gather(later, gone)
    assert [path for path, _ in api.calls] == ["/v1/checks", "/v1/services/a/checks/beat"]
    await daemon.close()


async def test_an_instance_that_is_gone_is_not_renewed(api: Told) -> None:
    daemon = Daemon(api, lambda: None)
    await daemon.renew("a", BEAT, WELL)
    await daemon.renew("b", BEAT, WELL)
    await daemon.deregister("a")
    await daemon.close()
    assert [report.service for (report,) in api.reports] == ["b"]


async def test_what_is_no_renewal_is_told_before_the_answer(api: Told) -> None:
    daemon = Daemon(api, lambda: None)
    api.faults = [Refused(404, "there is none")]
    better = CheckResult(status="passing", output="better")
    with pytest.raises(Refused):
        await daemon.renew("a", BEAT, better)
    await daemon.renew("a", BEAT, better)
    assert api.calls == [("/v1/services/a/checks/beat", better)]


async def test_while_the_daemon_is_away_who_renews_is_told_so(api: Told) -> None:
    daemon = Daemon(api, lambda: None)
    api.faults = [Unreachable("gone")] * 3
    await daemon.renew("a", BEAT, WELL)
    await until(lambda: len(api.faults) < 3)
    await asyncio.sleep(0)
    api.faults = [Unreachable("gone")] * 100
    with pytest.raises(Unreachable):
        await daemon.renew("b", BEAT, WELL)
    api.faults = []
    await until(lambda: daemon.renewals.waiting == 0)
    await daemon.renew("b", BEAT, WELL)
    await daemon.close()
    assert [report.service for (report,) in api.reports] == ["a", "b"]


async def until(condition: Callable[[], bool]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(3):
            while not condition():
                await asyncio.sleep(0.005)
            return
    raise AssertionError("it did not come to that within 3 s")
