"""Endpoints whose container's end a runtime moves and sets up, and addresses for them."""

from typing import Any

import pytest

from netd.engine.reservations import RESERVED_S
from netd.model.endpoint import AttachRequest, Endpoint, EndpointPatch, PortMapping
from netd.model.errors import Conflict, Invalid, NotFound
from netd.model.names import peer_name
from netd.plan.objects import HOST, VethPeer
from tests.unit.engine_fixture import Host

SUBNET = "10.20.0.0/24"


async def hand_over(host: Host, container: str, **more: Any) -> Endpoint:
    request = AttachRequest(container_id=container, **more)
    endpoint, _ = await host.engine.attach("blue", request, handover=True)
    return endpoint


@pytest.fixture
async def blue(host: Host) -> Host:
    await host.network("blue", subnets=(SUBNET,))
    return host


async def test_the_other_end_waits_on_the_host(blue: Host) -> None:
    endpoint = await hand_over(blue, "c1")
    peer = blue.kernel.simulation.objects[(HOST, "link", peer_name(endpoint.id))]
    assert isinstance(peer, VethPeer)
    assert (peer.mac, peer.mtu, peer.up) == (endpoint.mac, endpoint.mtu, False)
    assert (endpoint.addresses, endpoint.ifname) == (("10.20.0.2/24",), "")
    assert await blue.engine.plan() == ()


async def test_the_same_again_is_the_same(blue: Host) -> None:
    first = await hand_over(blue, "c1", addresses=("10.20.0.9",))
    assert await hand_over(blue, "c1", addresses=("10.20.0.9",)) == first


async def test_ports_come_and_go(blue: Host) -> None:
    endpoint = await hand_over(blue, "c1")
    ports = (PortMapping(host_port=8080, container_port=80),)
    await blue.engine.update_endpoint(endpoint.id, EndpointPatch(ports=ports))
    assert "8080" in blue.text()
    await blue.engine.update_endpoint(endpoint.id, EndpointPatch(ports=()))
    assert "8080" not in blue.text()


async def test_it_ends_with_its_link(blue: Host) -> None:
    """The kernel removes a pair with the namespace that has one end of it."""
    endpoint = await hand_over(blue, "c1")
    blue.kernel.simulation.delete((HOST, "link", endpoint.host_ifname))
    await blue.happened("endpoint.swept", about=endpoint.id)
    await blue.quiet()
    assert blue.engine.endpoints() == ()
    await blue.check()


async def test_a_link_that_has_lost_its_mark_is_no_end(blue: Host) -> None:
    """Somebody has changed its group: the container goes on with it."""
    endpoint = await hand_over(blue, "c1")
    blue.kernel.simulation.tagged.discard((HOST, "link", endpoint.host_ifname))
    await blue.engine.reconcile()
    (after,) = blue.engine.endpoints()
    assert after.id == endpoint.id
    assert after.state == "degraded"


async def test_a_restart_leaves_it(blue: Host) -> None:
    endpoint = await hand_over(blue, "c1")
    before = blue.text()
    engine = await blue.restart()
    assert engine.endpoint(endpoint.id) == endpoint
    assert blue.text() == before


async def test_a_restart_finds_that_it_has_ended(blue: Host) -> None:
    endpoint = await hand_over(blue, "c1")
    await blue.stop()
    blue.kernel.simulation.delete((HOST, "link", endpoint.host_ifname))
    blue.kernel.process_ended()
    engine = await blue.start()
    assert engine.endpoints() == ()


async def test_detach_removes_all(blue: Host) -> None:
    before = blue.text()
    endpoint = await hand_over(blue, "c1")
    await blue.engine.detach(endpoint.id)
    assert blue.text() == before


async def test_only_drivers_with_veths_hand_over(host: Host) -> None:
    await host.network("nothing", driver="none")
    request = AttachRequest(container_id="c1")
    with pytest.raises(Invalid, match="only of bridge and overlay"):
        await host.engine.attach("nothing", request, handover=True)


async def test_without_handover_a_namespace_is_asked_for(blue: Host) -> None:
    with pytest.raises(Invalid, match="netns or pid"):
        await blue.engine.attach("blue", AttachRequest(container_id="c1"))


async def test_a_reserved_address_is_for_the_endpoint_that_asks_for_it(blue: Host) -> None:
    reservations = blue.engine.reservations
    assert await reservations.take("blue", SUBNET) == "10.20.0.2/24"
    assert (await blue.attach("blue", "other")).addresses == ("10.20.0.3/24",)
    assert (await hand_over(blue, "c1", addresses=("10.20.0.2/24",))).addresses[0] == "10.20.0.2/24"
    assert len(reservations) == 0


async def test_a_reservation_keeps_an_address_from_others_until_it_is_given_back(
    blue: Host,
) -> None:
    reservations = blue.engine.reservations
    network = blue.engine.network("blue")
    taken = await reservations.take("blue", SUBNET, "10.20.0.9")
    assert taken == await reservations.take("blue", SUBNET, "10.20.0.9") == "10.20.0.9/24"
    reservations.give_back(network.id, "10.20.0.9")
    reservations.give_back(network.id, "10.20.0.9")
    assert (await blue.attach("blue", "c2", addresses=("10.20.0.9",))).addresses[0].startswith("10")
    with pytest.raises(Conflict, match="is held by endpoint"):
        await reservations.take("blue", SUBNET, "10.20.0.9")


async def test_a_reservation_that_nobody_uses_comes_free(blue: Host) -> None:
    reservations = blue.engine.reservations
    await reservations.take("blue", SUBNET, "10.20.0.9")
    await reservations.take("blue", SUBNET, "10.20.0.10", lasting=True)
    blue.clock.now_s += RESERVED_S
    await reservations.take("blue", SUBNET, "10.20.0.11")
    assert len(reservations) == 2


async def test_what_is_reserved_for_good_is_nobodys(blue: Host) -> None:
    reservations = blue.engine.reservations
    await reservations.take("blue", SUBNET, "10.20.0.9", lasting=True)
    await reservations.take("blue", SUBNET, "10.20.0.9", lasting=True)
    with pytest.raises(Conflict, match="reserved for good") as caught:
        await reservations.take("blue", SUBNET, "10.20.0.9")
    assert caught.value.field == "address"
    await reservations.take("blue", SUBNET, "10.20.0.8")
    for addresses in (("10.20.0.9",), ("10.20.0.8", "10.20.0.9/24")):
        with pytest.raises(Conflict, match="reserved for good"):
            await hand_over(blue, "c1", addresses=addresses)
    assert len(reservations) == 2  # what is refused takes nothing of what it asks for
    reservations.give_back(blue.engine.network("blue").id, "10.20.0.9")
    await hand_over(blue, "c1", addresses=("10.20.0.9",))


@pytest.mark.parametrize(
    ("network", "subnet", "error"), [("red", SUBNET, NotFound), ("blue", "10.9.0.0/24", Invalid)]
)
async def test_what_cannot_be_reserved(
    blue: Host, network: str, subnet: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await blue.engine.reservations.take(network, subnet)


async def test_free_subnets_avoid_networks_and_what_is_named(blue: Host) -> None:
    first = await blue.engine.free_subnet(4, ())
    second = await blue.engine.free_subnet(4, (first,))
    assert first != second
    assert (await blue.engine.free_subnet(6, ())).startswith("fd")


async def test_notes_survive_a_restart(host: Host) -> None:
    await host.engine.notes.put("docker/1", "one")
    await host.engine.notes.put("other/1", "two")
    await host.engine.notes.delete("other/1")
    await host.engine.notes.delete("other/1")
    engine = await host.restart()
    assert engine.notes.all("docker/") == {"docker/1": "one"}
    assert engine.notes.all("other/") == {}


async def test_ways_to_and_from_it_are_explained(blue: Host) -> None:
    """Without a word on what is inside, as nobody knows where that is."""
    endpoint = await hand_over(blue, "c1")
    other = await blue.attach("blue", "other")
    for source, destination in ((endpoint.id, other.id), (other.id, endpoint.id)):
        explanation = await blue.engine.explain(source, destination, "tcp", None)
        told = [step.detail for step in explanation.steps]
        given = "c1 was given 10.20.0.2, which its runtime sets up where netd cannot look, "
        assert f"{given}{endpoint.host_ifname} connects it to nd-blue" in told
    assert blue.engine.topology().endpoints
