"""Kernel events lead to repairs by themselves, and only where they have to."""

import asyncio
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from netd.engine.interfaces import Trigger
from netd.model.endpoint import Endpoint, PortMapping, Sandbox
from tests.unit.engine_fixture import SETTINGS, Gate, Host
from tests.unit.test_engine_reconcile import DAMAGES, Damage

WEB = PortMapping(host_port=80, container_port=8080)

# Of these Linux tells nobody: what finds them is the look at intervals.
UNTOLD = {"container's lo down", "container's link down"}


@pytest.fixture
async def web(host: Host) -> Endpoint:
    await host.network("blue", subnets=("10.20.0.0/24", "fd20::/64"))
    await host.network("red", subnets=("10.30.0.0/24", "fd30::/64"))
    endpoint = await host.attach("blue", "web", ports=(WEB,))
    await host.attach("red", "web", ifname="eth1")
    await host.quiet()
    host.forget_events()
    return endpoint


def sandbox_of(host: Host, container: str) -> Sandbox:
    sandbox = host.kernel.places[f"/run/netns/{container}"]
    assert isinstance(sandbox, Sandbox)
    return sandbox


@pytest.mark.parametrize("name", sorted(DAMAGES.keys() - UNTOLD))
async def test_damage_is_repaired_by_itself(host: Host, web: Endpoint, name: str) -> None:
    before = host.state()
    damage: Damage = DAMAGES[name]
    damage(host.kernel.by_hand, sandbox_of(host, "web").key, web)
    assert host.state() != before

    await host.happened("drift.repaired")
    await host.quiet()

    assert host.state() == before
    await host.check()


@pytest.mark.parametrize("name", sorted(UNTOLD))
async def test_what_no_event_tells_is_found_at_intervals(host: Host, name: str) -> None:
    host.settings = replace(SETTINGS, interval_s=0.01)
    await host.restart()
    await host.network("blue")
    endpoint = await host.attach("blue", "web")
    before = host.state()
    host.kernel.events = "silent"
    DAMAGES[name](host.kernel.by_hand, sandbox_of(host, "web").key, endpoint)
    assert host.state() != before
    await host.happened("drift.repaired")
    assert host.state() == before


async def test_news_do_not_put_the_look_at_intervals_off(host: Host) -> None:
    """Something that changes all the time must not hide what no event tells."""
    host.settings = replace(SETTINGS, interval_s=60.0)
    await host.restart()
    await host.network("blue")
    endpoint = await host.attach("blue", "web")
    await host.quiet()
    host.kernel.events = "silent"
    DAMAGES["container's link down"](host.kernel.by_hand, sandbox_of(host, "web").key, endpoint)
    host.kernel.events = "delivered"
    host.kernel.by_hand.add_link("noise", kind="dummy")
    await host.quiet()
    assert not any(event.type == "drift.repaired" for event in host.seen)
    host.clock.now_s += 61
    host.kernel.by_hand.delete_link("noise")
    await host.happened("drift.repaired")


async def test_the_look_at_intervals_goes_round(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netd.engine.watch.ROLLING", 2)
    host.settings = replace(SETTINGS, interval_s=0.01)
    await host.restart()
    await host.network("blue")
    endpoints = [await host.attach("blue", f"c{number}") for number in range(5)]
    host.kernel.events = "silent"
    for endpoint in endpoints:
        ns = sandbox_of(host, endpoint.container_id).key
        host.kernel.by_hand.set_link("eth0", ns, up=False)
    for endpoint in endpoints:
        await host.happened("drift.repaired", about=endpoint.id)
    await host.check()


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
async def test_links_without_an_end_on_the_host_are_watched_too(
    host: Host, driver: str, alone: bool
) -> None:
    await host.network(
        "lan",
        driver,  # type: ignore[arg-type]
        subnets=("198.51.100.0/24",),
        gateways=("198.51.100.1",),
    )
    if not alone:  # then the host has an id for the namespace by the pair
        await host.network("blue")
        await host.attach("blue", "web", ifname="eth1", default_route=False)
    endpoint = await host.attach("lan", "web")
    await host.quiet()
    before = host.text()
    hands, ns = host.kernel.by_hand, sandbox_of(host, "web").key

    damages: list[Callable[[], None]] = [
        lambda: hands.delete_link("eth0", ns),
        lambda: hands.delete_address("eth0", endpoint.addresses[0], ns),
        lambda: hands.delete_route("0.0.0.0/0", "eth0", ns),
    ]
    for damage in damages:
        host.forget_events()
        damage()
        await host.happened("drift.repaired", about=endpoint.id)
        await host.quiet()
        assert host.text() == before


async def test_a_route_in_a_container_that_no_look_has_seen(host: Host) -> None:
    """Events name the namespace by an id that only a look can tell of."""
    await host.network("blue")
    await host.engine.reconcile()
    endpoint = await host.attach("blue", "web")
    await host.quiet()
    assert not any(endpoint.host_ifname in v for v in host.engine._reconciler.nsids.values())
    host.forget_events()
    host.kernel.by_hand.delete_route("0.0.0.0/0", "eth0", sandbox_of(host, "web").key)
    await host.happened("drift.repaired", about=endpoint.id)


async def test_events_that_were_lost_lead_to_a_full_pass(host: Host, web: Endpoint) -> None:
    before = host.text()
    ns = sandbox_of(host, "web").key
    host.kernel.events = "silent"
    host.kernel.by_hand.delete_address("eth0", web.addresses[0], ns)
    host.kernel.events = "lost"
    host.kernel.by_hand.add_link("dummy0", kind="dummy")
    await host.happened("drift.repaired", about=web.id)
    await host.quiet()
    assert host.text() == before


async def test_a_dead_container_is_swept_by_itself(host: Host, web: Endpoint) -> None:
    host.kernel.by_hand.end_namespace(sandbox_of(host, "web"))
    await host.happened("endpoint.swept", about=web.id)
    await host.quiet()
    assert host.engine.endpoints() == ()
    await host.check()


async def test_own_changes_are_no_drift(host: Host, web: Endpoint) -> None:
    for _ in range(3):
        endpoint = await host.attach("blue", "other", ports=(replace(WEB, host_port=81),))
        await host.engine.detach(endpoint.id)
        await host.quiet()
    await host.network("green")
    await host.engine.delete_network("green")
    await host.quiet()
    assert not any(event.type.startswith(("drift", "condition")) for event in host.seen)
    await host.check()


async def test_a_use_case_under_way_is_no_drift(host: Host, web: Endpoint) -> None:
    host.store.gate = gate = Gate()
    attaching = asyncio.create_task(host.attach("blue", "other"))
    await gate.reached.wait()
    host.kernel.by_hand.flush_ruleset()
    await host.happened("drift.repaired", "table inet netd")
    gate.opened.set()
    endpoint = await attaching
    await host.quiet()
    assert endpoint.state == "ready"
    assert not any(event.object == endpoint.id for event in host.seen if "drift" in event.type)
    await host.check()


async def test_a_new_uplink_address_is_a_fact(host: Host) -> None:
    host.kernel.by_hand.add_address("eth0", "2001:db8::10/64")
    await host.quiet()
    answer = host.engine.resolve("node-1.node.netd.internal", "AAAA", None)
    assert [record.data for record in answer.records] == ["2001:db8::10"]


async def test_a_look_that_fails_is_tried_again(
    host: Host, web: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netd.engine.watch.RETRY_S", 0.01)
    before = host.text()
    host.kernel.down = "no netlink"
    host.kernel.by_hand.delete_link("nd-blue")
    while host.engine._watch.waiting:
        await asyncio.sleep(0)
    host.kernel.down = ""
    await host.happened("drift.repaired")
    await host.quiet()
    assert host.text() == before


async def test_an_unforeseen_error_does_not_end_the_watch(
    host: Host,
    web: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("netd.engine.watch.RETRY_S", 0.01)
    before = host.text()
    observe, calls = host.kernel.observe, []

    async def broken(scope: object) -> object:
        calls.append(scope)
        if len(calls) == 1:
            raise LookupError("a bug")
        return await observe(scope)  # type: ignore[arg-type]

    monkeypatch.setattr(host.kernel, "observe", broken)
    host.kernel.by_hand.delete_link("nd-blue")
    await host.happened("drift.repaired")
    await host.quiet()
    assert host.text() == before
    assert "a bug" in caplog.text


async def test_a_stop_that_meets_news_is_a_stop(host: Host, web: Endpoint) -> None:
    """asyncio.wait_for() would forget the cancellation (before Python 3.12)."""
    host.kernel.by_hand.add_link("dummy0", kind="dummy")
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await host.stop()


async def test_nothing_is_watched_after_the_end(new_host: Callable[[], Host]) -> None:
    host = new_host()
    await host.start()
    await host.network("blue")
    await host.stop()
    text = host.text()
    host.engine._watch.notify(Trigger(kind="lost", verb="new"))
    host.kernel.by_hand.delete_link("nd-blue")
    assert host.text() != text
    assert not host.kernel._watchers
