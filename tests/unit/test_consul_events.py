"""Events that users fire."""

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from netd.registry.consul.events import KEPT, PAYLOAD_MAX, Event, Events, index_of
from tests.unit.consul_keys_lab import Lab, consul_keys, web


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with consul_keys() as made:
        yield made


async def fire(lab: Lab, target: str, body: bytes = b"", method: str = "PUT") -> Any:
    return (await lab.call(method, f"/v1/event/fire/{target}", body)).json()


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_an_event(lab: Lab, method: str) -> None:
    fired = await fire(lab, "deploy?node=here", b"\x00\xff", method)
    assert uuid.UUID(fired.pop("ID")).version == 4
    assert fired == {
        "Name": "deploy",
        "Payload": base64.b64encode(b"\x00\xff").decode(),
        "NodeFilter": "here",
        "ServiceFilter": "",
        "TagFilter": "",
        "Version": 1,
        "LTime": 0,
    }
    (listed,) = (await lab.get("/v1/event/list")).json()
    assert (listed["Name"], listed["LTime"]) == ("deploy", 1)


async def test_the_last_ones_are_kept(lab: Lab) -> None:
    empty = await lab.get("/v1/event/list")
    assert (empty.json(), empty.index) == ([], 1)
    for number in range(KEPT + 3):
        await lab.events.fire(Event(id="", name=f"e{number}"))
    listed = (await lab.get("/v1/event/list")).json()
    assert [event["Name"] for event in listed] == [f"e{number}" for number in range(3, KEPT + 3)]
    assert [event["LTime"] for event in listed] == list(range(4, KEPT + 4))


async def test_names(lab: Lab) -> None:
    await fire(lab, "a", b"1")
    await fire(lab, "b")
    listed = await lab.get("/v1/event/list?name=a")
    assert [event["Payload"] for event in listed.json()] == ["MQ=="]
    assert (await lab.get("/v1/event/list?name=c")).json() == []


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ("", 1),
        ("node=^here$", 1),
        ("node=^there$", 0),
        ("service=^web$", 1),
        ("service=db", 0),
        ("service=w.b&tag=^blue$", 1),
        ("service=web&tag=green", 0),
        ("node=there&service=web", 0),
    ],
)
async def test_whom_it_concerns(lab: Lab, filters: str, count: int) -> None:
    lab.put_entries(web("web-1", tags=("blue",)))
    await fire(lab, f"e?{filters}")
    assert len((await lab.get("/v1/event/list")).json()) == count


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("_e", b""),
        ("e?tag=x", b""),
        ("e?node=(", b""),
        ("e?service=" + "x" * 600, b""),
        ("n" * 257, b""),
    ],
)
async def test_what_is_not_fired(lab: Lab, target: str, body: bytes) -> None:
    assert (await lab.call("PUT", f"/v1/event/fire/{target}", body)).status == 400
    assert (await lab.get("/v1/event/list")).json() == []


async def test_a_payload_that_is_too_large(lab: Lab) -> None:
    await fire(lab, "e", b"x" * PAYLOAD_MAX)
    assert (await lab.call("PUT", "/v1/event/fire/e", b"x" * (PAYLOAD_MAX + 1))).status == 413


async def test_events_are_waited_for(lab: Lab) -> None:
    await fire(lab, "a")
    index = (await lab.get("/v1/event/list?name=a")).index
    waiting = asyncio.get_running_loop().create_task(
        lab.get(f"/v1/event/list?name=a&index={index}&wait=9s")
    )
    await fire(lab, "b")
    await asyncio.sleep(0)
    await fire(lab, "a")
    answer = await waiting
    assert len(answer.json()) == 2
    assert answer.index != index
    same = await lab.get(f"/v1/event/list?name=a&index={answer.index}&wait=30ms")
    assert same.index == answer.index


def test_indexes_are_consuls() -> None:
    event = Event(id="b54fe110-7af5-cafc-d1fb-afc8ba432b1c", name="e")
    assert index_of([event]) == 0xB54FE1107AF5CAFC ^ 0xD1FBAFC8BA432B1C
    assert index_of([]) == 1


async def test_hosts_tell_each_other() -> None:
    told: list[Event] = []

    async def spread(event: Event) -> None:
        told.append(event)

    one = Events(lambda: "one", lambda: (), spread)
    two = Events(lambda: "two", lambda: (), spread)
    await one.fire(Event(id="", name="a", node_filter="two"))
    await one.fire(Event(id="", name="b"))
    for event in (*told, *told):
        two.take(event)
    assert [event.name for event in one.of("")] == ["b"]
    assert [event.name for event in two.of("")] == ["a", "b"]
    assert two.taken == 2
