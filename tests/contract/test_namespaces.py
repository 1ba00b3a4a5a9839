"""Containers' namespaces: how they are recognised, and what their death takes along."""

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from netd.model.errors import Invalid, NotFound
from netd.plan.objects import HOST, Sysctl
from tests.contract.lab import Lab
from tests.contract.test_lifecycles import pair
from tests.contract.test_obstacles import NETWORK, interior


async def test_enter_gives_the_sandbox_and_its_links(lab: Lab) -> None:
    key = await lab.container()
    lab.world.add_link("eth7", key)
    box = lab.boxes[key]
    found, links = await lab.kernel.enter(path=box.path, pid=None)
    assert found == box
    assert found.key == key
    assert links == {"lo", "eth7"}
    assert found.inode != lab.kernel.own_sandbox_inode()


@pytest.mark.parametrize("kind", ["file", "directory", "fifo", "mount namespace"])
async def test_enter_refuses_what_is_no_network_namespace(lab: Lab, kind: str) -> None:
    path = lab.world.path(kind)
    with pytest.raises(Invalid, match="not a network namespace") as caught:
        await lab.kernel.enter(path=path, pid=None)
    assert caught.value.field == "netns"
    assert path in caught.value.detail


async def test_enter_refuses_a_relative_path(lab: Lab) -> None:
    with pytest.raises(Invalid, match="absolute") as caught:
        await lab.kernel.enter(path="run/netns/c1", pid=None)
    assert caught.value.field == "netns"


async def test_enter_knows_when_there_is_nothing(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        await lab.kernel.enter(path=str(tmp_path / "nothing"), pid=None)
    assert caught.value.field == "netns"


async def test_enter_knows_when_the_process_is_gone(lab: Lab) -> None:
    pid = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(pid, 0)
    with pytest.raises(NotFound) as caught:
        await lab.kernel.enter(path=None, pid=pid)
    assert caught.value.field == "pid"


async def test_alive_until_the_namespace_ends(lab: Lab) -> None:
    key = await lab.container()
    box = lab.boxes[key]
    assert await lab.kernel.alive(box)
    lab.world.end(box)
    assert not await lab.kernel.alive(box)
    assert (await lab.observe()).missing == {key}


async def test_another_namespace_at_the_path_is_another(lab: Lab) -> None:
    first, second = await lab.container(), await lab.container()
    wanted = pair(first)
    lab.world.move(lab.boxes[first], lab.boxes[second])
    assert not await lab.kernel.alive(lab.boxes[first])
    seen = await lab.observe(*wanted)
    assert seen.missing == {first}
    assert len(await lab.add(*wanted)) == 2
    assert lab.world.links(second) == set()


async def test_a_cookie_tells_a_namespace_with_a_reused_inode(lab: Lab) -> None:
    box = lab.boxes[await lab.container()]
    assert not await lab.kernel.alive(replace(box, cookie=box.cookie + 1))
    assert not await lab.kernel.alive(replace(box, boot_id="another boot"))


async def test_a_namespace_takes_the_pairs_along(lab: Lab) -> None:
    key = await lab.container()
    await lab.converge(*NETWORK, *interior(key))
    with lab.triggers() as triggers:
        lab.world.end(lab.boxes[key])
        await triggers.until(lambda t: (t.kind, t.verb, t.name) == ("link", "delete", "nv1"))
    assert lab.world.links() == {"nd-blue"}
    seen = await lab.observe(*NETWORK, *interior(key))
    assert seen.missing == {key}
    assert seen.state.keys() == {obj.key for obj in NETWORK}


async def test_in_a_dead_namespace_all_is_removed_and_nothing_is_made(lab: Lab) -> None:
    key = await lab.container()
    lab.world.end(lab.boxes[key])
    wanted = interior(key)
    assert await lab.remove(*wanted) == []
    assert await lab.run("delete", *wanted) == []
    assert await lab.run("retire", wanted[0]) == []
    assert len(await lab.add(*wanted)) == len(wanted)
    assert len(await lab.add(Sysctl(ns=key, name="net/ipv4/ip_forward", value="1"))) == 1
    assert "nv1" not in lab.world.links()


async def test_a_namespace_that_was_not_named_is_like_a_dead_one(lab: Lab) -> None:
    key = await lab.container()
    await lab.converge(*NETWORK, *interior(key))
    del lab.boxes[key]
    inside = interior(key)[3]
    assert inside.ns != HOST
    assert await lab.run("delete", inside) == []
    assert len(await lab.run("add", inside)) == 1
