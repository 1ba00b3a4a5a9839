"""Several instances changed together, on a host with the fake kernel: all, or none."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from netd.model.errors import Conflict, Exhausted, Invalid, NetdError, NotFound, Unavailable
from netd.model.service import CheckReport, CheckResult, CheckSpec, ServiceChanges, ServiceSpec
from tests.unit.engine_fixture import DISK_FULL, Gate, Host

TOLD = CheckSpec(kind="told", id="told")
TTL = CheckSpec(kind="ttl", id="ttl", ttl_s=5)


def spec(**more: Any) -> ServiceSpec:
    return ServiceSpec(**{"name": "web", "port": 80, **more})


def report(service: str, check: str, status: Any = "passing", output: str = "") -> CheckReport:
    return CheckReport(service=service, check=check, status=status, output=output)


async def change(host: Host, **asked: Any) -> None:
    await host.engine.services.change(ServiceChanges(**asked))


def ports(host: Host) -> dict[str, int]:
    return {service.id: service.port for service in host.engine.services.all()}


async def stored(host: Host) -> dict[str, int]:
    """What is in the store, once all that happened by itself is written."""
    keeper = host.engine.services._keeper
    async with asyncio.timeout(5):
        while keeper.waiting:
            await asyncio.sleep(0.001)
    return {each.service.id: each.service.port for each in (await host.store.load()).services}


def revision(host: Host, ident: str) -> int:
    return host.engine._parts.feed.revision_of("service", ident)


async def test_several_are_registered_changed_and_deregistered(host: Host) -> None:
    await host.engine.services.put("a", spec())
    await host.engine.services.put("b", spec())
    await change(
        host,
        put={"a": spec(port=81, checks=(TOLD,)), "c": spec(port=82)},
        delete=("b", "never-there"),
        reports=(report("a", "told", "warning", "slow"),),
    )
    assert ports(host) == await stored(host) == {"a": 81, "c": 82}
    (check,) = host.engine.services.find("a").checks
    assert (check.status, check.output) == ("warning", "slow")
    await host.restart()
    assert ports(host) == {"a": 81, "c": 82}
    assert host.engine.services.find("a").checks == (check,)


async def test_nothing_is_asked_for(host: Host) -> None:
    await host.engine.services.put("a", spec())
    host.forget_events()
    host.store.full = True
    await change(host, put={"a": spec()}, delete=("b",), seen={"b": 0})
    assert host.seen == []


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"put": {"b": spec(endpoint="none")}}, NotFound),
        ({"put": {"b": spec(name="No Name")}}, Invalid),
        ({"put": {"b c": spec()}}, Invalid),
        ({"put": {"b": spec(pid=4_000_000)}}, NotFound),
        ({"put": {"theirs": spec()}}, Conflict),
        ({"put": {"a": spec()}}, Invalid),
        ({"delete": ("theirs",)}, Conflict),
        ({"reports": (report("old", "none"),)}, NotFound),
        ({"reports": (report("b", "told"),)}, Invalid),
        ({"seen": {"a": 0}}, Conflict),
        ({"seen": {"never-there": 7}}, Conflict),
    ],
)
async def test_what_cannot_be_done_leaves_all_as_it_was(
    host: Host, tmp_path: Path, asked: dict[str, Any], error: type[NetdError]
) -> None:
    other = Host(tmp_path / "other", host.mesh, node="node-2", node_id="6" * 32)
    await other.start()
    await other.cluster.join([host.cluster.address], None)
    await other.engine.services.put("theirs", spec())
    for ident in ("a", "old"):
        await host.engine.services.put(ident, spec())
    pid = host.kernel.processes.start()
    whole = {
        "put": {"new": spec(pid=pid), "old": spec(port=81), **asked.get("put", {})},
        "delete": ("a", *asked.get("delete", ())),
        "reports": asked.get("reports", ()),
        "seen": asked.get("seen", {}),
    }
    host.forget_events()
    with pytest.raises(error):
        await change(host, **whole)
    assert ports(host) == {"a": 80, "old": 80, "theirs": 80}
    assert await stored(host) == {"a": 80, "old": 80}
    assert host.seen == []
    assert host.kernel.processes.watched() == set()
    await other.stop()


async def test_a_full_disk_leaves_all_as_it_was(host: Host) -> None:
    pid = host.kernel.processes.start()
    await host.engine.services.put("a", spec())
    host.store.full = True
    with pytest.raises(Unavailable, match=DISK_FULL):
        await change(host, put={"b": spec(pid=pid)}, delete=("a",))
    assert ports(host) == {"a": 80}
    assert host.kernel.processes.watched() == set()


async def test_what_has_changed_since_it_was_seen(host: Host) -> None:
    await host.engine.services.put("a", spec(checks=(TOLD,)))
    seen = {"a": revision(host, "a"), "b": 0}
    host.engine.services.report("a", "told", CheckResult(status="passing"))
    with pytest.raises(Conflict, match="'a' has changed"):
        await change(host, put={"b": spec()}, seen=seen)
    seen["a"] = revision(host, "a")
    await change(host, put={"b": spec()}, seen=seen)
    with pytest.raises(Conflict, match="'b' has changed"):
        await change(host, put={"b": spec(port=81)}, seen=seen)
    assert ports(host) == {"a": 80, "b": 80}


async def test_nobody_changes_meanwhile_what_was_seen(host: Host) -> None:
    await host.engine.services.put("a", spec())
    gate = host.store.gate = Gate()
    seen = {"a": revision(host, "a")}
    changing = asyncio.create_task(change(host, put={"b": spec()}, seen=seen))
    await gate.reached.wait()
    deleting = asyncio.create_task(host.engine.services.delete("a"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert ports(host) == {"a": 80}
    gate.opened.set()
    await changing
    assert ports(host) == {"a": 80, "b": 80}
    await deleting
    assert ports(host) == {"b": 80}


async def test_all_are_seen_in_one_turn_of_the_event_loop(host: Host) -> None:
    await host.engine.services.put("a", spec())
    told: list[dict[str, int]] = []
    loop = asyncio.get_running_loop()

    def follow(*_: object) -> None:
        loop.call_soon(lambda: told.append(ports(host)))

    host.engine.catalogue.subscribe(follow)
    await asyncio.sleep(0)
    told.clear()
    await change(host, put={"b": spec(), "c": spec()}, delete=("a",))
    await asyncio.sleep(0)
    assert told == [{"b": 80, "c": 80}] * 3


async def test_what_a_check_finds_meanwhile_is_kept(host: Host) -> None:
    await host.engine.services.put("a", spec(checks=(TTL,)))
    gate = host.store.gate = Gate()
    changing = asyncio.create_task(change(host, put={"a": spec(port=81, checks=(TTL,))}))
    await gate.reached.wait()
    host.engine.services.report("a", "ttl", CheckResult(status="passing"))
    gate.opened.set()
    await changing
    service = host.engine.services.find("a")
    assert (service.port, service.status) == (81, "passing")


async def test_a_report_winds_a_ttl_check_up(host: Host) -> None:
    await change(host, put={"a": spec(checks=(TTL,))}, reports=(report("a", "ttl"),))
    for _ in range(2):
        host.clock.now_s += 4
        await change(host, put={"a": spec(checks=(TTL,))}, reports=(report("a", "ttl"),))
        host.engine.services._own.ring_due()
        assert host.engine.services.find("a").status == "passing"
    host.clock.now_s += 5.1
    host.engine.services._own.ring_due()
    assert host.engine.services.find("a").status == "critical"


async def test_what_they_go_with_ends_meanwhile(host: Host) -> None:
    pid = host.kernel.processes.start()
    await host.network("blue")
    endpoint = await host.attach("blue", "c1")
    gate = host.store.gate = Gate()
    asked = {"a": spec(pid=pid), "b": spec(endpoint=endpoint.id), "c": spec()}
    changing = asyncio.create_task(change(host, put=asked))
    await gate.reached.wait()
    host.kernel.processes.end(pid)
    await host.engine.detach(endpoint.id)
    gate.opened.set()
    await changing
    assert ports(host) == await stored(host) == {"c": 80}
    assert host.kernel.processes.watched() == set()


async def test_new_ones_may_not_be_aliases_in_a_circle(host: Host) -> None:
    def alias(target: str) -> ServiceSpec:
        return spec(checks=(CheckSpec(kind="alias", target=target),))

    with pytest.raises(Invalid, match="the alias leads back"):
        await change(host, put={"a": alias("b"), "b": alias("a")})
    await change(host, put={"a": alias("b"), "b": spec()})
    assert host.engine.services.find("a").status == "passing"


async def test_all_of_them_must_have_room(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netd.engine.services.services.INSTANCES_MAX", 3)
    monkeypatch.setattr("netd.engine.services.shares.INSTANCES_MAX", 1)
    await host.engine.services.put("a", spec())
    with pytest.raises(Exhausted):
        await change(host, put=dict.fromkeys("bcd", spec()))
    await host.network("blue")
    endpoint = await host.attach("blue", "c1")
    with pytest.raises(Exhausted, match="container c1"):
        await change(host, put=dict.fromkeys("bc", spec(endpoint=endpoint.id)))
    await change(host, put=dict.fromkeys("bc", spec()))
    assert ports(host) == {"a": 80, "b": 80, "c": 80}


async def test_what_a_label_asks_for_is_not_deleted(host: Host) -> None:
    await host.network("blue")
    endpoint = await host.attach("blue", "c1", labels={"netd.service": "api:90"})
    with pytest.raises(Conflict, match="label"):
        await change(host, put={"a": spec()}, delete=(f"api-{endpoint.id}",))
    assert ports(host) == {f"api-{endpoint.id}": 90}
