"""Drift is seen, repaired and told; what is not netd's is left alone; use cases come first."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from netd.engine.interfaces import Observation, Scope
from netd.kernel.hands import Hands
from netd.model.endpoint import Bandwidth, Endpoint, EndpointPatch, PortMapping, Sandbox
from netd.model.errors import NotFound
from netd.model.views import ReconcileReport
from netd.plan.objects import HOST_OWNER
from tests.unit.engine_fixture import Host

WEB = PortMapping(host_port=80, container_port=8080)
BLUE = ("10.20.0.0/24", "fd20::/64")


@pytest.fixture
async def web(host: Host) -> Endpoint:
    """An endpoint, and a kernel that does not tell of changes: passes are asked for."""
    await host.network("blue", subnets=BLUE)
    await host.network("red", subnets=("10.30.0.0/24", "fd30::/64"))
    endpoint = await host.attach(
        "blue", "web", ports=(WEB,), bandwidth=Bandwidth(ingress_bps=10**6, egress_bps=10**6)
    )
    await host.attach("red", "web", ifname="eth1")
    host.kernel.events = "silent"
    host.forget_events()
    return endpoint


def sandbox_of(host: Host, container: str) -> Sandbox:
    sandbox = host.kernel.places[f"/run/netns/{container}"]
    assert isinstance(sandbox, Sandbox)
    return sandbox


Damage = Callable[[Hands, str, Endpoint], None]

DAMAGES: dict[str, Damage] = {
    "bridge deleted": lambda hands, ns, web: hands.delete_link("nd-blue"),
    "bridge down": lambda hands, ns, web: hands.set_link("nd-blue", up=False),
    "bridge mtu": lambda hands, ns, web: hands.set_link("nd-blue", mtu=1400),
    "bridge mac": lambda hands, ns, web: hands.set_link("nd-blue", mac="02:00:00:00:00:01"),
    "bridge's tag": lambda hands, ns, web: hands.set_link("nd-blue", owner=""),
    "veth's tag": lambda hands, ns, web: hands.set_link(web.host_ifname, owner=""),
    "veth deleted": lambda hands, ns, web: hands.delete_link(web.host_ifname),
    "veth off its bridge": lambda hands, ns, web: hands.set_link(web.host_ifname, master=""),
    "veth on another bridge": lambda hands, ns, web: hands.set_link(
        web.host_ifname, master="nd-red"
    ),
    "veth down": lambda hands, ns, web: hands.set_link(web.host_ifname, up=False),
    "container's link deleted": lambda hands, ns, web: hands.delete_link("eth0", ns),
    "container's link down": lambda hands, ns, web: hands.set_link("eth0", ns, up=False),
    "container's lo down": lambda hands, ns, web: hands.set_link("lo", ns, up=False),
    "gateway address": lambda hands, ns, web: hands.delete_address("nd-blue", "10.20.0.1/24"),
    "address": lambda hands, ns, web: hands.delete_address("eth0", web.addresses[0], ns),
    "IPv6 address": lambda hands, ns, web: hands.delete_address("eth0", web.addresses[1], ns),
    "default route": lambda hands, ns, web: hands.delete_route("0.0.0.0/0", "eth0", ns),
    "ruleset flushed": lambda hands, ns, web: hands.flush_ruleset(),
    "forwarding off": lambda hands, ns, web: hands.set_sysctl("net/ipv4/ip_forward", "0"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
async def test_damage_is_planned_repaired_and_told(
    host: Host, web: Endpoint, damage: Damage
) -> None:
    before = host.state()
    damage(host.kernel.by_hand, sandbox_of(host, "web").key, web)
    damaged = host.state()
    assert damaged != before

    planned = await host.engine.plan()
    assert planned
    assert all(operation.reason for operation in planned)
    assert host.engine.status().drift == len(planned)
    assert host.state() == damaged  # a plan changes nothing

    report = await host.engine.reconcile()
    assert planned[0] in report.applied
    assert (report.failed, report.swept) == ((), ())
    assert host.state() == before
    assert host.engine.status().drift == 0
    told = await host.happened("drift.repaired")
    assert planned[0].object in told.detail
    assert planned[0].reason in told.detail
    await host.check()


async def test_the_plan_of_one_endpoint(
    host: Host, web: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks into one namespace only, whatever has happened to others."""
    scopes: list[Scope] = []
    observe = host.kernel.observe

    async def noting(scope: Scope) -> Observation:
        scopes.append(scope)
        return await observe(scope)

    monkeypatch.setattr(host.kernel, "observe", noting)
    other = await host.attach("blue", "other")
    ns = sandbox_of(host, "web").key
    host.kernel.by_hand.delete_address("eth0", web.addresses[0], ns)
    host.kernel.by_hand.delete_address("nd-blue", "10.20.0.1/24")
    planned = await host.engine.plan(web.id)
    assert [(step.verb, step.object, step.ns) for step in planned] == [
        ("add", f"address {web.addresses[0]} dev eth0", ns),
        ("add", "route 0.0.0.0/0 via 10.20.0.1 dev eth0", ns),
    ]
    assert await host.engine.plan(other.id) == ()
    assert [set(scope.sandboxes) for scope in scopes] == [{ns}, {sandbox_of(host, "other").key}]
    whole = await host.engine.plan()
    assert set(planned) < set(whole)
    assert len(whole) == host.engine.status().drift
    with pytest.raises(NotFound, match="there is no endpoint 'nobody'"):
        await host.engine.plan("nobody")


async def test_all_damage_at_once(host: Host, web: Endpoint) -> None:
    before = host.text()
    hands, ns = host.kernel.by_hand, sandbox_of(host, "web").key
    for damage in (
        "veth off its bridge",
        "address",
        "container's link down",
        "ruleset flushed",
        "gateway address",
        "bridge deleted",
    ):
        DAMAGES[damage](hands, ns, web)
    report = await host.engine.reconcile()
    assert report.failed == ()
    assert host.text() == before
    await host.check()


async def test_nothing_to_do_does_nothing(host: Host, web: Endpoint) -> None:
    operations = list(host.kernel.operations)
    report = await host.engine.reconcile()
    assert (report.applied, report.failed, report.swept) == ((), (), ())
    assert host.kernel.operations == operations
    assert not host.seen


async def test_what_nobody_wants_any_more_is_removed(host: Host, web: Endpoint) -> None:
    """Objects with netd's tag that no network or endpoint accounts for: leaked ones."""
    await host.network("green")
    host.kernel.faults.refuse(lambda _: True, errno.EBUSY)
    await host.engine.delete_network("green")
    host.kernel.faults.clear()
    assert {op.verb for op in await host.engine.plan()} == {"delete"}
    await host.engine.reconcile()
    await host.check()


# What is not netd's.


async def test_a_foreign_bridge_in_the_way_is_told_and_left_alone(
    host: Host, web: Endpoint
) -> None:
    before = host.text()
    host.kernel.by_hand.delete_link("nd-blue")
    host.kernel.by_hand.add_link("nd-blue")

    await host.engine.reconcile()

    network = host.engine.network("blue")
    assert [condition.code for condition in network.conditions] == [
        "drift-foreign-bridge-nd-blue",
    ]
    assert "not netd's" in network.conditions[0].detail
    # Nothing is put on it: no address, no container.
    assert "dev nd-blue" not in host.text()
    assert "master nd-blue" not in host.text()
    assert (await host.happened("condition.set")).object == network.id
    assert len([event for event in host.seen if event.type == "condition.set"]) == 1

    await host.engine.reconcile()
    assert host.engine.network("blue").conditions == network.conditions  # since when is kept

    host.kernel.by_hand.delete_link("nd-blue")
    await host.engine.reconcile()
    assert host.engine.network("blue").conditions == ()
    assert (await host.happened("condition.cleared")).object == network.id
    assert host.text() == before
    await host.check()


async def test_what_the_kernel_refuses_is_a_condition_until_it_works(
    host: Host, web: Endpoint
) -> None:
    ns = sandbox_of(host, "web").key
    host.kernel.by_hand.delete_address("eth0", web.addresses[1], ns)
    host.kernel.faults.refuse(lambda text: web.addresses[1] in text, errno.EACCES)
    report = await host.engine.reconcile()

    assert len(report.failed) == 1
    assert report.failed[0].error
    assert host.engine.status().drift == 1
    degraded = host.engine.endpoint(web.id)
    assert degraded.state == "degraded"
    assert degraded.conditions[0].code.startswith("drift-failed-address")

    host.kernel.faults.clear()
    await host.engine.reconcile()
    assert host.engine.endpoint(web.id) == web
    await host.check()


async def test_other_objects_are_not_looked_at(host: Host, web: Endpoint) -> None:
    hands = host.kernel.by_hand
    hands.add_link("docker0")
    hands.add_address("docker0", "172.17.0.1/16")
    hands.add_address("nd-blue", "10.20.0.200/24")
    hands.add_route("10.99.0.0/24", "eth0", "192.0.2.1")
    hands.add_link("dummy0", kind="dummy", ns=sandbox_of(host, "web").key)
    objects = dict(host.kernel.simulation.objects)
    assert await host.engine.plan() == ()
    await host.engine.reconcile()
    assert host.kernel.simulation.objects == objects


# Containers that are gone.


async def test_a_dead_namespace_is_swept(host: Host, web: Endpoint) -> None:
    others = [endpoint.id for endpoint in host.engine.endpoints() if endpoint.id != web.id]
    host.kernel.by_hand.end_namespace(sandbox_of(host, "web"))

    report = await host.engine.reconcile()

    assert sorted(report.swept) == sorted([web.id, *others])
    assert host.engine.endpoints() == ()
    swept = await host.happened("endpoint.swept", about=web.id)
    assert "namespace is gone" in swept.detail
    assert not any(event.type == "endpoint.updated" for event in host.seen)
    await host.check()
    # Its name keeps its address.
    assert (await host.attach("blue", "web")).addresses == web.addresses


async def test_another_namespace_at_the_path_is_not_the_container(
    host: Host, web: Endpoint
) -> None:
    host.kernel.by_hand.replace_namespace(sandbox_of(host, "web"))
    report = await host.engine.reconcile()
    assert web.id in report.swept
    await host.check()


async def test_a_namespace_without_a_path_lives_on_while_its_veth_does(
    host: Host, web: Endpoint
) -> None:
    """`ip netns del` while a process still is inside: the kernel keeps veth and namespace."""
    before = host.text()
    sandbox = host.kernel.places.pop("/run/netns/web")
    report = await host.engine.reconcile()
    assert report.swept == ()
    assert host.engine.endpoint(web.id) == web
    assert host.text() == before
    assert await host.engine.plan() == ()
    # What can be repaired from the host, is.
    host.kernel.by_hand.set_link(web.host_ifname, master="")
    await host.engine.reconcile()
    assert host.text() == before
    host.kernel.places["/run/netns/web"] = sandbox
    await host.check()


async def test_a_host_endpoint_ends_with_its_process(host: Host) -> None:
    await host.network("node", "host")
    init = host.kernel.places["/proc/1/ns/net"]
    assert isinstance(init, Sandbox)
    for pid in (77, 78):
        path = f"/proc/{pid}/ns/net"
        host.kernel.places[path] = replace(init, path=path, pid=pid)
    ended = await host.attach("node", "a", netns=None, pid=77)
    lives = await host.attach("node", "b", netns=None, pid=78)
    without = await host.attach("node", "c", netns=None)
    assert (await host.engine.reconcile()).swept == ()

    del host.kernel.places["/proc/77/ns/net"]

    assert (await host.engine.reconcile()).swept == (ended.id,)
    assert host.engine.endpoints() == (lives, without)


async def test_host_endpoints_follow_the_hosts_addresses(host: Host) -> None:
    await host.network("node", "host")
    endpoint = await host.attach("node", "web", netns=None, ports=(WEB,))
    host.kernel.by_hand.add_address("eth0", "2001:db8::10/64")
    await host.engine.reconcile()
    assert host.engine.endpoint(endpoint.id).addresses == ("192.0.2.10/24", "2001:db8::10/64")
    assert host.engine.resolve("web.node", "AAAA", None).records[0].data == "2001:db8::10"
    await host.restart()
    assert len(host.engine.endpoint(endpoint.id).addresses) == 2
    await host.engine.detach(endpoint.id)
    await host.attach("node", "other", netns=None, ports=(WEB,))


async def test_a_full_disk_does_not_keep_from_repairing(host: Host, web: Endpoint) -> None:
    before = host.text()
    await host.network("node", "host")
    await host.attach("node", "web2", netns=None)
    host.store.full = True
    host.kernel.by_hand.add_address("eth0", "2001:db8::10/64")
    host.kernel.by_hand.delete_link("nd-blue")
    await host.engine.reconcile()
    assert host.text() == before


# A pass and a use case at the same time: the pass has seen the kernel of before, and goes on
# when the use case is done.

UseCase = Callable[[Host, Endpoint], Coroutine[Any, Any, object]]


async def _attach(host: Host, web: Endpoint) -> None:
    await host.attach("blue", "new", ports=(PortMapping(host_port=81, container_port=80),))


async def _attach_to_same_container(host: Host, web: Endpoint) -> None:
    await host.attach("blue", "web", ifname="eth7")


async def _detach(host: Host, web: Endpoint) -> None:
    await host.engine.detach(web.id)


async def _update(host: Host, web: Endpoint) -> None:
    patch = EndpointPatch(ports=(), bandwidth=Bandwidth())
    await host.engine.update_endpoint(web.id, patch)


async def _create(host: Host, web: Endpoint) -> None:
    await host.network("green")


async def _delete(host: Host, web: Endpoint) -> None:
    await host.engine.detach_container("web")
    await host.engine.delete_network("blue")


USE_CASES = [_attach, _attach_to_same_container, _detach, _update, _create, _delete]


@asynccontextmanager
async def a_pass_that_has_looked(host: Host) -> AsyncIterator[asyncio.Task[ReconcileReport]]:
    with host.kernel.hold("observe") as gate:
        running = asyncio.create_task(host.engine.reconcile())
        await gate.reached.wait()
        yield running
        gate.opened.set()
        await running


@pytest.mark.parametrize("use_case", USE_CASES)
async def test_a_pass_undoes_nothing_that_came_after_its_look(
    host: Host, web: Endpoint, use_case: UseCase
) -> None:
    async with a_pass_that_has_looked(host) as running:
        await use_case(host, web)
        text = host.text()
    assert running.result().applied == ()
    assert running.result().swept == ()
    assert host.text() == text
    await host.check()


@pytest.mark.parametrize("use_case", USE_CASES)
async def test_a_pass_undoes_nothing_that_is_under_way(
    host: Host, web: Endpoint, use_case: UseCase
) -> None:
    """The kernel has the use case's first changes; it has not yet come to its end."""
    with host.kernel.hold("apply") as gate:
        doing = asyncio.create_task(use_case(host, web))
        await gate.reached.wait()
        text = host.text()
        report = await host.engine.reconcile()
        assert (report.applied, report.swept) == ((), ())
        assert host.text() == text
        gate.opened.set()
        await doing
    await host.check()


@pytest.mark.parametrize("use_case", USE_CASES)
async def test_a_pass_repairs_what_no_use_case_is_about(
    host: Host, web: Endpoint, use_case: UseCase
) -> None:
    bystander = await host.attach("red", "bystander")
    host.kernel.by_hand.set_link(bystander.host_ifname, master="")
    async with a_pass_that_has_looked(host) as running:
        await use_case(host, web)
    assert [op.owner for op in running.result().applied] == [bystander.id]
    await host.check()


@pytest.mark.parametrize("use_case", USE_CASES)
async def test_a_use_case_on_what_a_pass_repairs(
    host: Host, web: Endpoint, use_case: UseCase
) -> None:
    """The repair's answer is held back, and the use case overtakes it."""
    host.kernel.by_hand.set_link(web.host_ifname, master="")
    host.kernel.by_hand.flush_ruleset()
    with host.kernel.hold("apply") as gate:
        running = asyncio.create_task(host.engine.reconcile())
        await gate.reached.wait()
        await use_case(host, web)
        gate.opened.set()
        await running
    await host.engine.reconcile()
    await host.check()
    for endpoint in host.engine.endpoints():
        assert endpoint.state == "ready"


async def test_passes_come_one_after_another(host: Host, web: Endpoint) -> None:
    host.kernel.by_hand.delete_link("nd-blue")
    reports = await asyncio.gather(*(host.engine.reconcile() for _ in range(3)))
    assert [bool(report.applied) for report in reports] == [True, False, False]


# Conditions of the host.


async def test_the_shared_objects_belong_to_the_host(host: Host, web: Endpoint) -> None:
    host.kernel.by_hand.flush_ruleset()
    await host.engine.reconcile()
    told = await host.happened("drift.repaired", "table inet netd")
    assert told.object == HOST_OWNER
