"""Containers that end take their names and instances along at once, not with the next pass."""

import asyncio

import pytest
from msgspec.structs import replace

from netd.engine.interfaces import Trigger
from netd.model.endpoint import Endpoint, Sandbox
from netd.model.errors import NotFound
from netd.model.service import ServiceSpec
from tests.unit.engine_fixture import SETTINGS, Host


@pytest.fixture
async def slow(host: Host) -> Host:
    """A host whose passes do not come while a test waits for something."""
    host.settings = replace(SETTINGS, debounce_s=3600.0)
    await host.restart()
    await host.network("blue", subnets=("10.20.0.0/24",))
    return host


def box_of(host: Host, container: str) -> Sandbox:
    box = host.kernel.places[f"/run/netns/{container}"]
    assert isinstance(box, Sandbox)
    return box


def found(host: Host, name: str) -> bool:
    return bool(host.engine.resolve(name, "A", None).records)


def ids(host: Host) -> list[str]:
    return [service.id for service in host.engine.services.all()]


async def labelled(host: Host, container: str, network: str = "blue") -> Endpoint:
    return await host.attach(network, container, labels={"netd.service": "web:80"})


async def departed(host: Host, endpoint: Endpoint) -> None:
    await host.happened("service.deregistered", endpoint.id, about=f"web-{endpoint.id}")


async def test_names_and_instances_go_with_the_namespace(slow: Host) -> None:
    ending, staying = await labelled(slow, "c1"), await labelled(slow, "c2")
    await slow.engine.services.put("by-hand", ServiceSpec(name="api", endpoint=ending.id))
    slow.kernel.by_hand.end_namespace(box_of(slow, "c1"))
    await departed(slow, ending)
    assert ids(slow) == [f"web-{staying.id}"]
    assert not found(slow, "c1.blue")
    assert found(slow, "c2.blue")
    # The pass has not come yet, and when it comes it does the rest.
    assert ending.id in {end.id for end in slow.engine.endpoints()}
    await slow.engine.reconcile()
    assert [end.id for end in slow.engine.endpoints()] == [staying.id]
    ended = [event.object for event in slow.seen if event.type == "service.deregistered"]
    assert sorted(ended) == ["by-hand", f"web-{ending.id}"]


async def test_many_that_end_together(slow: Host) -> None:
    endpoints = [await labelled(slow, f"c{number}") for number in range(30)]
    for number in range(30):
        slow.kernel.by_hand.end_namespace(box_of(slow, f"c{number}"))
    for endpoint in endpoints:
        await departed(slow, endpoint)
    assert ids(slow) == []


async def test_a_link_that_is_removed_by_hand_ends_nobody(slow: Host) -> None:
    endpoint = await labelled(slow, "c1")
    asked = asyncio.Event()
    alive = slow.kernel.alive

    async def noted(sandbox: Sandbox) -> bool:
        answer = await alive(sandbox)
        asked.set()
        return answer

    slow.kernel.alive = noted  # type: ignore[method-assign]
    slow.kernel.by_hand.delete_link(endpoint.host_ifname)
    async with asyncio.timeout(5):
        await asked.wait()
    await asyncio.sleep(0)
    assert ids(slow) == [f"web-{endpoint.id}"]
    assert found(slow, "c1.blue")


async def test_links_without_an_end_on_the_host(slow: Host) -> None:
    await slow.network("lan", "macvlan", subnets=("198.51.100.0/24",), gateways=("198.51.100.1",))
    ending, staying = await labelled(slow, "c1", "lan"), await labelled(slow, "c2", "lan")
    slow.kernel.by_hand.end_namespace(box_of(slow, "c1"))
    await departed(slow, ending)
    assert ids(slow) == [f"web-{staying.id}"]


async def test_nothing_is_registered_for_a_container_that_has_ended(slow: Host) -> None:
    endpoint = await labelled(slow, "c1")
    slow.kernel.by_hand.end_namespace(box_of(slow, "c1"))
    await departed(slow, endpoint)
    with pytest.raises(NotFound, match="just ended"):
        await slow.engine.services.put("late", ServiceSpec(name="api", endpoint=endpoint.id))
    assert ids(slow) == []


async def test_the_container_that_comes_back_has_its_names_again(slow: Host) -> None:
    first = await labelled(slow, "c1")
    slow.kernel.by_hand.replace_namespace(box_of(slow, "c1"))
    await departed(slow, first)
    again = await labelled(slow, "c1")
    assert again.id != first.id
    assert ids(slow) == [f"web-{again.id}"]
    assert found(slow, "c1.blue")


async def test_a_kernel_that_does_not_answer_is_left_to_the_pass(slow: Host) -> None:
    endpoint = await labelled(slow, "c1")
    slow.kernel.down = "no netlink"
    slow.kernel.by_hand.end_namespace(box_of(slow, "c1"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert ids(slow) == [f"web-{endpoint.id}"]
    slow.kernel.down = ""
    await slow.engine.reconcile()
    assert ids(slow) == []


async def test_a_detached_endpoints_link_is_nobodys(slow: Host) -> None:
    endpoint = await labelled(slow, "c1")
    await slow.engine.detach(endpoint.id)
    slow.engine._watch.notify(Trigger(kind="link", verb="delete", name=endpoint.host_ifname))
    await asyncio.sleep(0)
    assert ids(slow) == []
