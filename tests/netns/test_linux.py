"""LinuxKernel: threads, order and sockets. What it does to the kernel: tests/contract."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netd.engine.interfaces import Scope
from netd.kernel.linux import LinuxKernel
from netd.model.errors import KernelFailure
from netd.plan.diff import creation
from netd.plan.objects import Bridge, Object, Veth
from netd.plan.operations import Operation
from tests.netns.conftest import Container, run


@pytest.fixture
def kernel() -> Iterator[LinuxKernel]:
    made = LinuxKernel(node="node-1")
    yield made
    made.close()


def bridge(number: int = 0) -> Bridge:
    return Bridge(owner="net1", name=f"nd-{number}", mac=f"02:00:00:00:00:{number:02x}", mtu=1500)


def veths(ns: str, count: int) -> list[Object]:
    return [
        Veth(
            owner="ep",
            name=f"nd{number:04d}",
            mtu=1500,
            master="nd-0",
            peer_ns=ns,
            peer_name=f"eth{number}",
            peer_mac=f"02:00:00:00:01:{number:02x}",
        )
        for number in range(count)
    ]


def every(verb: str, objects: list[Object]) -> list[Operation]:
    return [
        Operation(verb=verb, object=obj, reason="test")  # type: ignore[arg-type]
        for obj in objects
    ]


async def test_calls_run_in_the_order_they_were_made_in(kernel: LinuxKernel) -> None:
    objects: list[Object] = [bridge()]
    verbs = ["add", "delete"] * 10 + ["add"]
    async with asyncio.TaskGroup() as tasks:
        changes = [tasks.create_task(kernel.apply(every(verb, objects), {})) for verb in verbs]
        seen = tasks.create_task(kernel.observe(Scope()))
    assert [change.result() for change in changes] == [[]] * 21
    assert bridge().key in seen.result().state


async def test_reaping_counts_and_removes_what_was_retired(
    kernel: LinuxKernel, container: Callable[[], Container]
) -> None:
    box = container()
    sandbox, _ = await kernel.enter(path=None, pid=box.pid)
    boxes = {sandbox.key: sandbox}
    objects = veths(sandbox.key, 20)
    assert await kernel.apply(creation([bridge(), *objects], "test"), boxes) == []
    assert await kernel.apply(every("retire", objects[:15]), boxes) == []
    assert await kernel.reap() == 15
    assert await kernel.reap() == 0
    assert run("ip", "-o", "link").count("nd00") == 5


async def test_what_an_earlier_daemon_retired_is_counted_once_observed(
    kernel: LinuxKernel, container: Callable[[], Container]
) -> None:
    run("ip", "link", "add", "old1", "group", "28261", "type", "ifb")
    run("ip", "link", "add", "old2", "group", "28261", "type", "ifb")
    assert (await kernel.observe(Scope())).retired == 2
    assert await kernel.reap() == 2
    assert "old" not in run("ip", "-o", "link")


async def test_work_goes_on_while_links_are_removed(
    kernel: LinuxKernel, container: Callable[[], Container]
) -> None:
    """Attaching while a batch is removed: names are taken over, nothing fails or is lost."""
    box = container()
    sandbox, _ = await kernel.enter(path=None, pid=box.pid)
    boxes = {sandbox.key: sandbox}
    objects = veths(sandbox.key, 12)
    assert await kernel.apply(creation([bridge(), *objects], "test"), boxes) == []
    for _ in range(5):
        assert await kernel.apply(every("retire", objects), boxes) == []
        _, failures = await asyncio.gather(
            kernel.reap(), kernel.apply(every("add", objects), boxes)
        )
        assert failures == []
        assert run("ip", "-o", "link", "show", "group", "28260").count("nd00") == 12


async def test_keeps_no_namespace_alive(
    kernel: LinuxKernel, container: Callable[[], Container]
) -> None:
    box = container()
    sandbox, _ = await kernel.enter(path=box.path, pid=None)
    assert (
        await kernel.apply(
            creation([bridge(), *veths(sandbox.key, 1)], "test"), {sandbox.key: sandbox}
        )
        == []
    )
    await kernel.observe(Scope(sandboxes={sandbox.key: sandbox}))
    assert await kernel.alive(sandbox)
    links = {
        str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()
    }
    assert sandbox.key not in links
    box.kill()
    assert not await kernel.alive(sandbox)


async def test_failures_of_a_read_are_kernel_failures(kernel: LinuxKernel) -> None:
    kernel._rtnl.close()
    with pytest.raises(KernelFailure, match="Bad file descriptor"):
        await kernel.observe(Scope())


async def test_facts_are_the_hosts(kernel: LinuxKernel) -> None:
    assert await kernel.apply(creation([bridge()], "test"), {}) == []
    facts = await kernel.facts()
    assert facts.node == "node-1"
    link = facts.link("nd-0")
    assert link is not None
    assert link.ours
    assert kernel.own_sandbox_inode() == Path("/proc/thread-self/ns/net").stat().st_ino
