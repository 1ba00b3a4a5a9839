"""Detach: nothing stays, everything comes free, and the container's other networks go on."""

import asyncio
import errno

import pytest
from msgspec.structs import replace

from netd.kernel.fake import REAP
from netd.model.endpoint import Bandwidth, EndpointPatch, PortMapping
from netd.model.errors import Conflict, NotFound, Unavailable
from netd.plan.ports import HeldPort
from tests.unit.engine_fixture import DISK_FULL, Gate, Host

WEB = PortMapping(host_port=80, container_port=8080)
DNS = PortMapping(host_port=53, container_port=53, protocol="udp")


def port(number: int = 80, **more: str) -> HeldPort:
    fields: dict[str, str] = {"protocol": "tcp", "address": "", **more}
    return HeldPort(family=4, port=number, **fields)  # type: ignore[arg-type]


async def test_nothing_stays(host: Host) -> None:
    await host.network("blue")
    before = host.text()
    endpoint = await host.attach(
        "blue", "web", ports=(WEB, DNS), bandwidth=Bandwidth(ingress_bps=10**6, egress_bps=10**6)
    )
    host.kernel.by_hand.send(port(53, protocol="udp"))

    await host.engine.detach(endpoint.id)

    assert host.text() == before
    assert host.kernel.flows == []
    assert not host.kernel.busy_ports([port(), port(53, protocol="udp")])
    assert host.engine.endpoints() == ()
    assert host.engine.resolve("web", "A", None).rcode == "NXDOMAIN"
    with pytest.raises(NotFound):
        host.engine.endpoint(endpoint.id)
    assert (await host.happened("endpoint.detached")).object == endpoint.id
    await host.check()


async def test_detaching_again_is_no_error(host: Host) -> None:
    await host.network("blue")
    endpoint = await host.attach("blue", "web")
    await asyncio.gather(*(host.engine.detach(endpoint.id) for _ in range(3)))
    await host.engine.detach(endpoint.id)
    await host.engine.detach("0123456789abcdef")
    await host.check()
    assert sum(event.type == "endpoint.detached" for event in host.seen) == 1


async def test_links_are_cut_off_at_once_and_removed_together(host: Host) -> None:
    await host.network("blue")
    endpoints = [await host.attach("blue", f"c{number}") for number in range(5)]
    for endpoint in endpoints:
        await host.engine.detach(endpoint.id)
        assert host.kernel.operations[-1].startswith("retire link")
    await host.engine.doctor()
    assert host.kernel.operations.count(REAP) <= 1


async def test_a_namespace_that_is_gone_is_no_obstacle(host: Host) -> None:
    await host.network("blue")
    before = host.text()
    endpoint = await host.attach("blue", "web", ports=(WEB,))
    sandbox = host.kernel.places["/run/netns/web"]
    assert not isinstance(sandbox, str)
    host.kernel.events = "silent"
    host.kernel.by_hand.end_namespace(sandbox)

    await host.engine.detach(endpoint.id)

    assert host.text() == before
    await host.check()


async def test_all_of_a_container(host: Host) -> None:
    for name in ("blue", "red", "green"):
        await host.network(name)
        await host.attach(name, "web", ifname=name)
    kept = await host.attach("blue", "other")
    host.forget_events()

    await host.engine.detach_container("web")
    await host.engine.detach_container("web")
    await host.engine.detach_container("unknown")

    assert host.engine.endpoints() == (kept,)
    # The one with the default route went last: nobody had to take it over for a moment.
    await host.happened("endpoint.detached")
    assert not any(event.type == "endpoint.updated" for event in host.seen)
    await host.check()


async def test_a_full_disk_keeps_the_endpoint_whole(host: Host) -> None:
    await host.network("blue")
    endpoint = await host.attach("blue", "web", ports=(WEB,))
    before = host.text()
    host.store.full = True
    with pytest.raises(Unavailable, match=DISK_FULL):
        await host.engine.detach(endpoint.id)
    host.store.full = False

    assert host.engine.endpoint(endpoint.id) == endpoint
    assert host.text() == before
    assert host.engine.resolve("web", "A", None).rcode == "NOERROR"
    with pytest.raises(Conflict, match=endpoint.id):
        await host.attach("blue", "other", ports=(WEB,))
    with pytest.raises(Conflict):
        await host.attach("blue", "other", addresses=(endpoint.addresses[0],))
    await host.check()


@pytest.mark.parametrize("quarantine_s", [0.0, 60.0])
async def test_what_it_has_cannot_be_had_before_it_is_durable(
    host: Host, quarantine_s: float
) -> None:
    """Neither its port nor its address, be it by the same name or without quarantine."""
    host.settings = type(host.settings)(node="node-1", version="1", quarantine_s=quarantine_s)
    await host.restart()
    await host.network("blue", subnets=("10.20.0.0/29",))
    endpoint = await host.attach("blue", "web", ports=(WEB,))
    host.store.gate = gate = Gate()
    detaching = asyncio.create_task(host.engine.detach(endpoint.id))
    await gate.reached.wait()

    with pytest.raises(Conflict):
        await host.attach("blue", "other", ports=(WEB,))
    twin = await host.attach("blue", "new", name="web")
    host.store.full = True
    gate.opened.set()
    with pytest.raises(Unavailable):
        await detaching
    host.store.full = False

    assert twin.addresses != endpoint.addresses
    assert host.engine.endpoint(endpoint.id) == endpoint
    await host.check()


async def test_what_it_had_goes_to_the_next_without_harm(host: Host) -> None:
    """Port and address are taken over while the kernel still is at the removal."""
    await host.network("blue")
    old = await host.attach("blue", "old", name="web", ports=(WEB,))
    with host.kernel.hold("apply") as gate:
        detaching = asyncio.create_task(host.engine.detach(old.id))
        await gate.reached.wait()
        new = await host.attach("blue", "new", name="web", ports=(WEB,))
        gate.opened.set()
        await detaching

    assert new.addresses == old.addresses
    assert host.kernel.busy_ports([port()])
    with pytest.raises(Conflict, match=new.id):
        await host.attach("blue", "third", ports=(WEB,))
    await host.check()


@pytest.mark.parametrize("down", [False, True])
async def test_what_the_kernel_keeps_is_removed_later(host: Host, down: bool) -> None:
    """The endpoint is gone for good; its port and its name are free."""
    await host.network("blue")
    before = host.text()
    endpoint = await host.attach("blue", "web", ports=(WEB,))
    host.kernel.events = "silent"
    host.store.gate = gate = Gate()
    detaching = asyncio.create_task(host.engine.detach(endpoint.id))
    await gate.reached.wait()
    if down:
        host.kernel.down = "no netlink"
    else:
        host.kernel.faults.refuse(lambda _: True, errno.EBUSY)
    gate.opened.set()
    await detaching
    host.kernel.down = ""
    host.kernel.faults.clear()

    assert host.engine.endpoints() == ()
    assert not host.kernel.busy_ports([port()])
    report = await host.engine.reconcile()
    assert {op.verb for op in report.applied} == {"delete"}
    assert host.text() == before
    await host.check()


# The default route of a container on several networks.


async def test_the_default_route_goes_to_the_next_network(host: Host) -> None:
    subnets = {"blue": 1, "red": 2, "green": 3}
    for name, number in subnets.items():
        await host.network(name, subnets=(f"10.{number}.0.0/24", f"fd0{number}::/64"))
    first = await host.attach("blue", "web", ifname="blue0")
    host.clock.now_s += 1
    second = await host.attach("red", "web", ifname="red0")
    host.clock.now_s += 1
    await host.attach("green", "web", ifname="green0")
    host.forget_events()

    await host.engine.detach(first.id)

    assert [e.network for e in host.engine.endpoints() if e.default_route] == ["red"]
    assert "route 0.0.0.0/0 via 10.2.0.1 dev red0\n" in host.text() + "\n"
    assert "route ::/0 via fd02::1 dev red0\n" in host.text() + "\n"
    assert "rule from 10.2.0.2/32" not in host.text()
    assert "rule from 10.3.0.2/32" in host.text()
    event = await host.happened("endpoint.updated", about=second.id)
    assert "default route" in event.detail
    await host.check()
    await host.restart()
    assert host.engine.endpoint(second.id).default_route
    await host.check()


async def test_an_heir_that_was_attached_by_another_path_is_of_the_same_container(
    host: Host,
) -> None:
    await host.network("blue", subnets=("10.1.0.0/24",))
    await host.network("red", subnets=("10.2.0.0/24",))
    first = await host.attach("blue", "web")
    await host.attach("red", "web", ifname="eth1")
    intent = host.engine._parts.intent
    [second] = [r for r in intent.records.values() if r.endpoint.id != first.id]
    assert second.sandbox is not None
    elsewhere = replace(second.sandbox, path="/proc/4711/ns/net", pid=4711)
    intent.add_endpoint(replace(second, sandbox=elsewhere))

    await host.engine.detach(first.id)

    assert [e.network for e in host.engine.endpoints() if e.default_route] == ["red"]


async def test_the_old_default_route_is_removed_before_the_new_one_comes(host: Host) -> None:
    """A retired link stays a moment, and its route would be in the way of the new one."""
    await host.network("blue", subnets=("10.1.0.0/24",))
    await host.network("red", subnets=("10.2.0.0/24",))
    first = await host.attach("blue", "web")
    await host.attach("red", "web", ifname="eth1")
    host.kernel.operations.clear()

    await host.engine.detach(first.id)

    texts = host.kernel.operations
    gone = texts.index("delete route 0.0.0.0/0 via 10.1.0.1 dev eth0")
    assert gone < texts.index("add route 0.0.0.0/0 via 10.2.0.1 dev eth1")


async def test_who_declined_the_default_route_does_not_get_it(host: Host) -> None:
    for name in ("blue", "red", "inside"):
        await host.network(name, internal=name == "inside")
    first = await host.attach("blue", "web")
    await host.attach("red", "web", ifname="eth1", default_route=False)
    await host.attach("inside", "web", ifname="eth2")
    await host.engine.detach(first.id)
    assert not any(endpoint.default_route for endpoint in host.engine.endpoints())
    await host.check()


async def test_a_full_disk_leaves_the_default_route_where_it_is(host: Host) -> None:
    await host.network("blue")
    await host.network("red")
    first = await host.attach("blue", "web")
    second = await host.attach("red", "web", ifname="eth1")
    before = host.text()
    host.store.full = True
    with pytest.raises(Unavailable):
        await host.engine.detach(first.id)
    host.store.full = False
    assert host.engine.endpoint(first.id) == first
    assert host.engine.endpoint(second.id) == second
    assert host.text() == before


async def test_an_update_waits_for_a_default_route_to_be_taken_over(host: Host) -> None:
    await host.network("blue")
    await host.network("red")
    first = await host.attach("blue", "web")
    second = await host.attach("red", "web", ifname="eth1")
    await asyncio.gather(
        host.engine.detach(first.id),
        host.engine.update_endpoint(second.id, EndpointPatch(labels={"a": "b"})),
    )
    now = host.engine.endpoint(second.id)
    assert (now.default_route, now.labels) == (True, {"a": "b"})
    await host.check()
