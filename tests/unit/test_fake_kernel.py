"""What the fake kernel has beyond the contract: faults, lost events, things to look at."""

import asyncio
import errno

import pytest

from netd.engine.interfaces import Scope, Trigger
from netd.kernel.fake import FakeKernel
from netd.kernel.faults import Crash
from netd.kernel.simulated_host import DEFAULT_FACTS
from netd.model.errors import KernelFailure
from netd.plan.diff import creation
from netd.plan.firewall import ruleset
from netd.plan.objects import Address, Bridge, Object, SetElement
from netd.plan.operations import Failure
from netd.plan.ports import HeldPort

BLUE = Bridge(owner="net-1", name="nd-blue", mac="02:42:0a:14:00:01", mtu=1500)
GATEWAY = Address(owner="net-1", link="nd-blue", address="10.20.0.1/24")
RED = Bridge(owner="net-2", name="nd-red", mac="02:42:0a:15:00:01", mtu=1500)
DNS = HeldPort(protocol="udp", family=4, address="", port=53)


async def add(kernel: FakeKernel, *objects: Object) -> list[Failure]:
    return await kernel.apply(creation(list(objects), "test"), {})


async def test_the_host_is_what_the_facts_say() -> None:
    facts = await FakeKernel().facts()
    assert [link.name for link in facts.links] == ["lo", "eth0"]
    assert [link.name for link in facts.uplinks()] == ["eth0"]
    assert facts.addresses == DEFAULT_FACTS.addresses
    assert facts.routes == DEFAULT_FACTS.routes


async def test_text_shows_what_netd_made_and_nothing_else() -> None:
    kernel = FakeKernel()
    kernel.by_hand.add_link("br-other")
    assert kernel.text() == ""
    await add(kernel, BLUE, GATEWAY)
    assert kernel.text().splitlines() == [
        "host              link nd-blue type bridge address 02:42:0a:14:00:01 mtu 1500 up",
        "host              address 10.20.0.1/24 dev nd-blue",
    ]


async def test_the_log_has_every_operation_in_its_order() -> None:
    kernel = FakeKernel()
    await add(kernel, GATEWAY, BLUE)
    await add(kernel, BLUE)
    assert kernel.operations == [
        f"add {BLUE.text()}",
        f"add {GATEWAY.text()}",
        f"add {BLUE.text()}",
    ]


async def test_the_nth_operation_fails_once() -> None:
    kernel = FakeKernel()
    kernel.faults.fail(2, errno.ENOMEM)
    (failure,) = await add(kernel, BLUE, RED, GATEWAY)
    assert (failure.operation.object, failure.errno) == (RED, errno.ENOMEM)
    assert not kernel.faults.pending
    assert await add(kernel, RED) == []


async def test_operations_that_match_fail_until_cleared() -> None:
    kernel = FakeKernel()
    kernel.faults.refuse(lambda text: "nd-red" in text, errno.ENOSPC)
    for _ in range(2):
        assert [failure.errno for failure in await add(kernel, BLUE, RED)] == [errno.ENOSPC]
    kernel.faults.clear()
    assert await add(kernel, BLUE, RED) == []


@pytest.mark.parametrize(
    ("nth", "when", "made"),
    [
        (1, "before", set()),
        (1, "after", {"nd-blue"}),
        (2, "before", {"nd-blue"}),
        (2, "after", {"nd-blue", "nd-red"}),
    ],
)
async def test_a_crash_leaves_what_was_done(nth: int, when: str, made: set[str]) -> None:
    kernel = FakeKernel()
    kernel.faults.crash(nth, "after" if when == "after" else "before")
    with pytest.raises(Crash):
        await add(kernel, BLUE, RED)
    facts = await kernel.facts()
    assert {link.name for link in facts.links if link.ours} == made


async def test_a_crash_that_is_never_reached_stays_pending() -> None:
    kernel = FakeKernel()
    kernel.faults.crash(2)
    await add(kernel, BLUE)
    assert kernel.faults.pending


async def test_nobody_may_catch_a_crash_by_accident() -> None:
    assert not issubclass(Crash, Exception)


async def test_the_reaper_can_fail_and_crash() -> None:
    kernel = FakeKernel()
    assert await kernel.reap() == 0
    await add(kernel, BLUE)
    (add_blue,) = creation([BLUE], "test")
    retire = type(add_blue)(verb="retire", object=BLUE, reason="test")
    await kernel.apply([retire], {})
    kernel.faults.fail(1, errno.EBUSY)
    with pytest.raises(KernelFailure, match="remove retired links"):
        await kernel.reap()
    kernel.faults.crash(1, "after")
    with pytest.raises(Crash):
        await kernel.reap()
    assert (await kernel.observe(Scope())).retired == 0


async def test_a_kernel_that_is_down_refuses_everything() -> None:
    kernel = FakeKernel()
    kernel.down = "no netlink"
    with pytest.raises(KernelFailure, match="no netlink"):
        await add(kernel, BLUE)
    with pytest.raises(KernelFailure):
        await kernel.observe(Scope())
    kernel.down = ""
    assert kernel.operations == []


async def test_events_can_be_lost() -> None:
    kernel = FakeKernel()
    seen: list[Trigger] = []
    stop = kernel.watch(seen.append)
    kernel.events = "silent"
    kernel.by_hand.add_link("br-0")
    kernel.events = "lost"
    kernel.by_hand.add_link("br-1")
    kernel.events = "delivered"
    kernel.by_hand.add_link("br-2")
    assert seen == []  # never from within the call that makes the change
    await asyncio.sleep(0)
    assert [(trigger.kind, trigger.name) for trigger in seen] == [("lost", ""), ("link", "br-2")]
    stop()
    kernel.by_hand.add_link("br-3")
    await asyncio.sleep(0)
    assert len(seen) == 2


async def test_sysctls_are_told_of_only_where_linux_does() -> None:
    kernel = FakeKernel()
    seen: list[Trigger] = []
    kernel.watch(seen.append)
    kernel.by_hand.set_sysctl("net/ipv4/tcp_syncookies", "0")
    kernel.by_hand.set_sysctl("net/ipv4/ip_forward", "1")
    kernel.by_hand.set_sysctl("net/ipv4/ip_forward", "0")
    await asyncio.sleep(0)
    assert [trigger.name for trigger in seen] == ["net/ipv4/ip_forward"] * 2


async def test_the_end_of_the_process_closes_its_sockets() -> None:
    kernel = FakeKernel()
    seen: list[Trigger] = []
    kernel.watch(seen.append)
    assert kernel.hold_ports([DNS]) == []
    kernel.process_ended()
    kernel.by_hand.add_link("br-0")
    await asyncio.sleep(0)
    assert seen == []
    assert kernel.busy_ports([DNS]) == []


async def test_flows_are_forgotten_by_port() -> None:
    kernel = FakeKernel()
    ntp = HeldPort(protocol="udp", family=4, address="", port=123)
    for port in (DNS, ntp, DNS):
        kernel.by_hand.send(port)
    assert await kernel.flush_conntrack([DNS]) == 2
    assert kernel.flows == [ntp]


async def test_ports_of_others_can_be_closed_again() -> None:
    kernel = FakeKernel()
    kernel.by_hand.listen(DNS)
    assert kernel.hold_ports([DNS]) == [DNS]
    kernel.by_hand.close(DNS)
    assert kernel.hold_ports([DNS]) == []


async def test_a_process_has_its_namespace_at_its_path() -> None:
    kernel = FakeKernel()
    box = kernel.container(pid=4711)
    found, links = await kernel.enter(path=None, pid=4711)
    assert found == box
    assert (found.path, found.pid) == ("/proc/4711/ns/net", 4711)
    assert links == {"lo"}
    host, links = await kernel.enter(path=None, pid=1)
    assert host.inode == kernel.own_sandbox_inode()
    assert "eth0" in links


async def test_a_namespace_can_be_replaced() -> None:
    kernel = FakeKernel()
    box = kernel.container(pid=4711)
    other = kernel.by_hand.replace_namespace(box)
    assert not await kernel.alive(box)
    assert await kernel.alive(other)
    assert (other.path, other.key == box.key) == (box.path, False)


async def test_elements_are_checked_as_nft_would() -> None:
    kernel = FakeKernel()
    good = SetElement(owner="net-1", set_name="bridges", element=("nd-blue",))
    bad = SetElement(owner="net-1", set_name="bridges", element=("nd blue; flush",))
    failures = await add(kernel, ruleset(forward_guard=False), good, bad)
    assert [(failure.operation.object, failure.errno) for failure in failures] == [
        (bad, errno.EINVAL)
    ]
