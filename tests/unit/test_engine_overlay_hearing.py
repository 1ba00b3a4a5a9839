"""Who opens a network knows of the others' endpoints before its own are told to be attached."""

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from netd.engine.overlay import hearing
from netd.model.endpoint import Endpoint
from netd.model.errors import KernelFailure, Unavailable
from tests.unit.engine_fixture import Host
from tests.unit.test_engine_overlay import hosts, overlay, settled

__all__ = ["hosts"]

LONG_S = 3600.0  # longer than any test: who waits for that waits for ever


class Withheld:
    """What the others tell in scopes comes to a host when `deliver` is called."""

    def __init__(self, host: Host) -> None:
        self._subscribe = host.cluster.subscribe
        self._scopes: list[bytes] = []
        self.asked = asyncio.Event()
        host.cluster.subscribe = self._take  # type: ignore[method-assign]

    def _take(self, scope: bytes) -> None:
        self._scopes.append(scope)
        self.asked.set()

    def deliver(self) -> None:
        for scope in self._scopes:
            self._subscribe(scope)
        self._scopes.clear()


@asynccontextmanager
async def attaching(host: Host, name: str) -> AsyncIterator["asyncio.Task[Endpoint]"]:
    """An attach that is under way; it has come to its end after the block."""
    attach = asyncio.create_task(host.attach("blue", name))
    try:
        async with asyncio.timeout(5):
            yield attach
            await attach
    finally:
        attach.cancel()


async def event(host: Host, kind: str) -> None:
    await host.happened(kind)
    for _ in range(20):  # whatever follows without waiting for anybody has happened
        await asyncio.sleep(0)


async def test_the_attach_that_opens_a_network_waits_for_the_others_entries(
    hosts: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing, "HEARD_S", LONG_S)
    one, two, _ = hosts
    await overlay(one)
    web = await one.attach("blue", "web")
    withheld = Withheld(two)
    async with attaching(two, "db") as attach:
        await event(two, "network.opened")
        assert not attach.done()
        assert web.mac not in two.text()
        withheld.deliver()
        await attach
        assert web.mac in two.text(), "it is there when the attach answers"


async def test_others_are_asked_before_anything_is_made(hosts: list[Host]) -> None:
    one, two, _ = hosts
    await overlay(one)
    await one.attach("blue", "web")
    withheld = Withheld(two)
    before = two.kernel.operations.copy()
    with two.kernel.hold("apply") as gate:
        async with attaching(two, "db"):
            await withheld.asked.wait()
            assert two.kernel.operations == before
            await gate.reached.wait()
            withheld.deliver()
            gate.opened.set()


async def test_it_waits_for_a_bounded_time(
    hosts: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing, "HEARD_S", 0.01)
    one, two, _ = hosts
    await overlay(one)
    web = await one.attach("blue", "web")
    withheld = Withheld(two)
    async with attaching(two, "db"):
        pass
    assert web.mac not in two.text()
    withheld.deliver()
    await settled(hosts)
    assert web.mac in two.text()


async def _nobody(one: Host, two: Host) -> None:
    """No other host has the network open."""


async def _dead(one: Host, two: Host) -> None:
    """One has, but its netd does not answer, so nobody tells of what is there."""
    await one.attach("blue", "web")
    before = await two.attach("blue", "before")  # so that the network stays known
    await two.engine.detach(before.id)
    await settled([one, two])
    one.cluster.host_up = True
    one.cluster.becomes("dead")


async def _open(one: Host, two: Host) -> None:
    """This one has it open by now."""
    await one.attach("blue", "web")
    await two.attach("blue", "first")


@pytest.mark.parametrize("begin", [_nobody, _dead, _open], ids=lambda begin: begin.__name__[1:])
async def test_nobody_waits_in_vain(
    hosts: list[Host],
    monkeypatch: pytest.MonkeyPatch,
    begin: Callable[[Host, Host], Awaitable[None]],
) -> None:
    monkeypatch.setattr(hearing, "HEARD_S", LONG_S)
    one, two, _ = hosts
    await overlay(one)
    await begin(one, two)
    Withheld(two)
    async with attaching(two, "db"):
        pass


async def test_who_cannot_open_a_network_takes_no_part_in_it(hosts: list[Host]) -> None:
    one, two, _ = hosts
    network = await overlay(one)
    await one.attach("blue", "web")
    scopes = set(two.cluster.scopes)
    two.store.full = True
    with pytest.raises(Unavailable):
        await two.attach("blue", "db")
    two.store.full = False
    assert two.cluster.scopes == scopes
    two.kernel.faults.refuse(lambda text: "type vxlan" in text, errno.EPERM)
    with pytest.raises(KernelFailure):
        await two.attach("blue", "db")
    assert two.cluster.scopes == scopes
    two.kernel.faults.clear()
    await two.attach("blue", "db")
    assert bytes.fromhex(network.id) in two.cluster.scopes
