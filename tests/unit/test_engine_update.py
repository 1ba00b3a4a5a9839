"""PATCH: what changes on a live endpoint, what does not, and the way back from a failure."""

import asyncio
import errno
from contextlib import suppress

import pytest
from msgspec.structs import replace

from netd.model.endpoint import AttachRequest, Bandwidth, Endpoint, EndpointPatch, PortMapping
from netd.model.errors import Conflict, Invalid, KernelFailure, NotFound, Unavailable
from netd.plan.ports import HeldPort
from tests.unit.engine_fixture import DISK_FULL, Gate, Host

WEB = PortMapping(host_port=80, container_port=8080)
TLS = PortMapping(host_port=443, container_port=8443)
ALL = EndpointPatch(
    name="shop",
    ports=(TLS,),
    aliases=("www",),
    labels={"a": "b"},
    bandwidth=Bandwidth(ingress_bps=10**6, egress_bps=10**6),
)


def port(number: int = 80, **more: str) -> HeldPort:
    fields: dict[str, str] = {"protocol": "tcp", "address": "", **more}
    return HeldPort(family=4, port=number, **fields)  # type: ignore[arg-type]


@pytest.fixture
async def web(host: Host) -> Endpoint:
    await host.network("blue", subnets=("10.20.0.0/24",))
    return await host.attach("blue", "web", ports=(WEB,))


async def test_everything_at_once(host: Host, web: Endpoint) -> None:
    host.kernel.operations.clear()
    new = await host.engine.update_endpoint(web.id, ALL)

    assert new == replace(
        web,
        name="shop",
        ports=(TLS,),
        aliases=("www",),
        labels={"a": "b"},
        bandwidth=Bandwidth(ingress_bps=10**6, egress_bps=10**6),
    )
    assert host.engine.endpoint(web.id) == new
    # Only what differs is touched: the container's traffic goes on.
    assert not any("type veth" in text or "address" in text for text in host.kernel.operations)
    assert "element ports4_any { tcp . 443 : 10.20.0.2 . 8443 }" in host.text()
    assert "tcp . 80" not in host.text()
    assert host.engine.resolve("www.blue", "A", None).rcode == "NOERROR"
    await host.check()
    await host.restart()
    assert host.engine.endpoint(web.id) == new
    await host.check()


async def test_what_is_left_out_stays(host: Host, web: Endpoint) -> None:
    await host.engine.update_endpoint(web.id, EndpointPatch(aliases=("www",)))
    new = await host.engine.update_endpoint(web.id, EndpointPatch(labels={"a": "b"}))
    assert (new.aliases, new.ports, new.labels) == (("www",), (WEB,), {"a": "b"})


async def test_another_name(host: Host, web: Endpoint) -> None:
    request = AttachRequest(container_id="long.id", netns=web.netns, ifname="eth7")
    other, _ = await host.engine.attach("blue", request)
    address = web.addresses[0].partition("/")[0]
    for name, gone in (("shop", "web"), ("Store_1", "shop")):
        new = await host.engine.update_endpoint(web.id, EndpointPatch(name=name))
        assert new == replace(web, name=name)
        (record,) = host.engine.resolve(f"{name}.blue", "A", None).records
        assert record.data == address
        assert host.engine.resolve(f"{gone}.blue", "A", None).rcode == "NXDOMAIN"
        reverse = ".".join(reversed(address.split("."))) + ".in-addr.arpa"
        (record,) = host.engine.resolve(reverse, "PTR", None).records
        assert record.data == f"{name.lower()}.blue.netd.internal."
    again = AttachRequest(container_id="web", netns=web.netns, name="Store_1", ports=(WEB,))
    assert await host.engine.attach("blue", again) == (host.engine.endpoint(web.id), False)
    # As at an attach, names may be shared, and "" leaves the choice to netd.
    await host.engine.update_endpoint(other.id, EndpointPatch(name="Store_1"))
    assert len(host.engine.resolve("store_1.blue", "A", None).records) == 2
    assert (await host.engine.update_endpoint(other.id, EndpointPatch(name=""))).name == ""
    assert (await host.engine.update_endpoint(web.id, EndpointPatch(name=""))).name == "web"
    await host.check()


async def test_nothing_new_does_nothing(host: Host, web: Endpoint) -> None:
    host.forget_events()
    operations = list(host.kernel.operations)
    host.store.full = True
    assert await host.engine.update_endpoint(web.id, EndpointPatch(ports=(WEB,))) == web
    assert host.kernel.operations == operations
    assert not host.seen


async def test_limits_come_change_and_go(host: Host, web: Endpoint) -> None:
    without = host.text()
    for limits in (
        Bandwidth(egress_bps=10**6),
        Bandwidth(egress_bps=2 * 10**6, ingress_bps=10**6),
        Bandwidth(ingress_bps=10**6),
    ):
        await host.engine.update_endpoint(web.id, EndpointPatch(bandwidth=limits))
        await host.check()
    await host.engine.update_endpoint(web.id, EndpointPatch(bandwidth=Bandwidth()))
    await host.check()
    assert host.text() == without


async def test_after_an_update_the_first_attach_is_still_the_same(
    host: Host, web: Endpoint
) -> None:
    """A runtime that repeats its call knows nothing of the update."""
    await host.engine.update_endpoint(web.id, EndpointPatch(ports=(TLS,)))
    now = host.engine.endpoint(web.id)
    assert await host.attach("blue", "web", ports=(TLS,)) == now
    assert await host.attach("blue", "web", ports=(WEB,)) == now
    with pytest.raises(Conflict) as caught:
        await host.attach("blue", "web", ports=(WEB, TLS))
    assert caught.value.field == "ports"


async def test_a_port_that_is_given_up_is_free(host: Host, web: Endpoint) -> None:
    await host.engine.update_endpoint(web.id, EndpointPatch(ports=()))
    assert host.kernel.busy_ports([port()]) == []
    await host.attach("blue", "other", ports=(WEB,))
    await host.check()


async def test_a_port_from_all_addresses_to_one_and_back(host: Host, web: Endpoint) -> None:
    narrow = replace(WEB, host_ip="192.0.2.10")
    await host.engine.update_endpoint(web.id, EndpointPatch(ports=(narrow,)))
    assert host.kernel.busy_ports([port(address="192.0.2.10")])
    assert not host.kernel.busy_ports([port(address="127.0.0.1")])
    await host.check()
    await host.engine.update_endpoint(web.id, EndpointPatch(ports=(WEB,)))
    assert host.kernel.busy_ports([port(address="127.0.0.1")])
    await host.check()
    await host.engine.detach(web.id)
    assert not host.kernel.busy_ports([port()])


async def test_udp_flows_to_changed_ports_are_forgotten(host: Host, web: Endpoint) -> None:
    dns = replace(WEB, host_port=53, protocol="udp")
    await host.engine.update_endpoint(web.id, EndpointPatch(ports=(WEB, dns)))
    for number in (53, 54):
        host.kernel.by_hand.send(port(number, protocol="udp"))
    await host.engine.update_endpoint(web.id, EndpointPatch(labels={"a": "b"}))
    assert len(host.kernel.flows) == 2
    await host.engine.update_endpoint(web.id, EndpointPatch(ports=(WEB,)))
    assert host.kernel.flows == [port(54, protocol="udp")]


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        (EndpointPatch(ports=(TLS, TLS)), "ports[1].host_port"),
        (EndpointPatch(ports=(replace(WEB, host_ip="nonsense"),)), "ports[0].host_ip"),
        (EndpointPatch(ports=(replace(WEB, host_ip="fd20::1"),)), "ports[0].host_ip"),
        (EndpointPatch(aliases=("a.b",)), "aliases[0]"),
        (EndpointPatch(name="a.b"), "name"),
        (EndpointPatch(labels={"": "x"}), "labels."),
    ],
)
async def test_a_bad_patch_names_its_field_and_changes_nothing(
    host: Host, web: Endpoint, patch: EndpointPatch, field: str
) -> None:
    before = host.text()
    with pytest.raises(Invalid) as caught:
        await host.engine.update_endpoint(web.id, patch)
    assert caught.value.field == field
    assert host.engine.endpoint(web.id) == web
    assert host.text() == before


async def test_no_endpoint_no_update(host: Host) -> None:
    with pytest.raises(NotFound):
        await host.engine.update_endpoint("0123456789abcdef", ALL)


async def test_ports_of_others_are_a_conflict(host: Host, web: Endpoint) -> None:
    await host.attach("blue", "other", ports=(TLS,))
    host.kernel.by_hand.listen(port(22))
    for patch in (ALL, EndpointPatch(ports=(WEB, replace(WEB, host_port=22)))):
        with pytest.raises(Conflict):
            await host.engine.update_endpoint(web.id, patch)
    assert host.engine.endpoint(web.id) == web
    await host.check()
    await host.attach("blue", "third", ports=(replace(WEB, host_port=81),))


async def test_each_operation_that_the_kernel_refuses_changes_nothing(
    host: Host, web: Endpoint
) -> None:
    before = host.text()
    for nth in range(1, 100):
        host.kernel.faults.fail(nth, errno.ENOMEM)
        with suppress(KernelFailure):
            await host.engine.update_endpoint(web.id, ALL)
            break
        assert host.engine.endpoint(web.id) == web
        assert host.text() == before, nth
    else:
        pytest.fail("the kernel refused something each time")
    assert nth > 5
    host.kernel.faults.clear()
    await host.check()


async def test_a_full_disk_changes_nothing_and_keeps_the_ports(host: Host, web: Endpoint) -> None:
    """Also not when somebody else wants the port that the update would have given up."""
    before = host.text()
    host.store.gate = gate = Gate()
    updating = asyncio.create_task(host.engine.update_endpoint(web.id, ALL))
    await gate.reached.wait()
    with pytest.raises(Conflict, match=web.id):
        await host.attach("blue", "other", ports=(WEB,))
    host.store.full = True
    gate.opened.set()
    with pytest.raises(Unavailable, match=DISK_FULL):
        await updating
    host.store.full = False

    assert host.engine.endpoint(web.id) == web
    assert host.text() == before
    assert host.kernel.busy_ports([port()])
    assert not host.kernel.busy_ports([port(443)])
    await host.attach("blue", "other", ports=(TLS,))
    await host.check()


async def test_updates_of_one_endpoint_come_one_after_another(host: Host, web: Endpoint) -> None:
    patches = [EndpointPatch(labels={"n": str(n)}, aliases=(f"a{n}",)) for n in range(10)]
    await asyncio.gather(*(host.engine.update_endpoint(web.id, patch) for patch in patches))
    assert host.engine.endpoint(web.id).aliases == ("a9",)
    await host.check()


async def test_an_update_of_what_is_detached_meanwhile_finds_nothing(
    host: Host, web: Endpoint
) -> None:
    results = await asyncio.gather(
        host.engine.detach(web.id),
        host.engine.update_endpoint(web.id, ALL),
        return_exceptions=True,
    )
    assert isinstance(results[1], NotFound)
    assert host.engine.endpoints() == ()
    await host.check()
