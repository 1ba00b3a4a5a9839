"""The daemon dies at every step of every change: nothing is leaked, nothing answered is lost.

After each death a new daemon starts on the same kernel and the same store. Its plan must be
empty, and the kernel must have exactly what a fresh one would get from the store alone.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import pytest

from netd.kernel.faults import Crash
from netd.model.endpoint import Bandwidth, Endpoint, EndpointPatch, PortMapping
from netd.model.network import Network
from tests.unit.engine_fixture import Host

SUBNETS = {"blue": ("10.20.0.0/24", "fd20::/64"), "red": ("10.30.0.0/24", "fd30::/64")}
WEB = PortMapping(host_port=80, container_port=8080)
TLS = PortMapping(host_port=443, container_port=8443)
LIMITS = Bandwidth(ingress_bps=10**6, egress_bps=10**6)

When = Literal["before", "after"]


@dataclass
class Answered:
    """What the daemon answered before it died, by id."""

    networks: dict[str, Network] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)

    def take(self, host: Host) -> None:
        self.networks = {network.id: network for network in host.engine.networks()}
        self.endpoints = {endpoint.id: endpoint for endpoint in host.engine.endpoints()}


async def _prepare(host: Host) -> Answered:
    """A network with two endpoints of one container and one of another."""
    await host.network("blue", subnets=SUBNETS["blue"])
    await host.network("green")
    await host.attach("blue", "web", ports=(WEB,), bandwidth=LIMITS)
    await host.attach("green", "web", ifname="eth1")
    await host.attach("blue", "other")
    answered = Answered()
    answered.take(host)
    return answered


def _id_of(host: Host, container: str) -> str:
    return host.engine.endpoints(container_id=container, network="blue")[0].id


async def _create(host: Host) -> None:
    await host.network("red", subnets=SUBNETS["red"])


async def _delete(host: Host) -> None:
    await host.engine.detach_container("web")
    await host.engine.delete_network("green")


async def _attach(host: Host) -> None:
    await host.attach("blue", "new", ports=(TLS,), bandwidth=LIMITS)


async def _attach_second(host: Host) -> None:
    await host.attach("blue", "web", ifname="eth2", default_route=False)


async def _update(host: Host) -> None:
    patch = EndpointPatch(ports=(TLS,), bandwidth=Bandwidth(), aliases=("www",))
    await host.engine.update_endpoint(_id_of(host, "web"), patch)


async def _detach(host: Host) -> None:
    """Its default route goes to the container's other network."""
    await host.engine.detach(_id_of(host, "web"))


CHANGES = [_create, _delete, _attach, _attach_second, _update, _detach]
Change = Callable[[Host], Awaitable[None]]


def _changed_by(change: Change, answered: Answered) -> set[str]:
    """The endpoints that the change was about: they may be as before or as after."""
    if change not in (_delete, _update, _detach):
        return set()
    return {i for i, endpoint in answered.endpoints.items() if endpoint.container_id == "web"}


async def _check_after_crash(host: Host, change: Change, answered: Answered) -> None:
    await host.killed()
    await host.start()
    await host.check()
    now = Answered()
    now.take(host)
    about = _changed_by(change, answered)
    kept = {i: endpoint for i, endpoint in answered.endpoints.items() if i not in about}
    assert kept.items() <= now.endpoints.items()
    if change is not _delete:
        assert answered.networks.items() <= now.networks.items()
    # Whoever tries again gets there.
    await _once_more(host, change)
    await host.check()


async def _once_more(host: Host, change: Change) -> None:
    if change in (_update, _detach) and not host.engine.endpoints(
        container_id="web", network="blue"
    ):
        return
    await change(host)


def _steps() -> Iterator[int]:
    yield from range(1, 200)
    pytest.fail("the change never came to its end")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("change", CHANGES)
async def test_death_at_every_operation_on_the_kernel(
    new_host: Callable[[], Host], change: Change, when: When
) -> None:
    for step in _steps():
        host = new_host()
        await host.start()
        answered = await _prepare(host)
        host.kernel.faults.crash(step, when)
        try:
            await change(host)
        except Crash:
            await _check_after_crash(host, change, answered)
            await host.stop()
            continue
        await host.stop()
        break
    assert step > 3


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("change", CHANGES)
async def test_death_at_every_commit(
    new_host: Callable[[], Host], change: Change, when: When
) -> None:
    for step in _steps():
        host = new_host()
        await host.start()
        answered = await _prepare(host)
        setattr(host.store, f"crash_{when}", step)
        try:
            await change(host)
        except Crash:
            await _check_after_crash(host, change, answered)
            await host.stop()
            continue
        await host.stop()
        break
    assert step > 1


@pytest.mark.parametrize("when", ["before", "after"])
async def test_death_at_every_operation_of_the_start(
    new_host: Callable[[], Host], when: When
) -> None:
    """Of a start that has everything to make anew."""
    for step in _steps():
        host = new_host()
        await host.start()
        answered = await _prepare(host)
        await host.stop()
        host.kernel.process_ended()
        host.kernel.by_hand.flush_ruleset()
        host.kernel.by_hand.delete_link("nd-blue")
        host.kernel.faults.crash(step, when)
        try:
            await host.start()
        except Crash:
            await host.died_at_start()
            await host.start()
            await host.check()
            now = Answered()
            now.take(host)
            assert now == answered
            await host.stop()
            continue
        await host.stop()
        break
    assert step > 10


async def test_what_was_answered_survives_without_an_orderly_end(host: Host) -> None:
    answered = await _prepare(host)
    text = host.text()
    for _ in range(3):
        await host.killed()
        operations = list(host.kernel.operations)
        await host.start()
        now = Answered()
        now.take(host)
        assert now == answered
        assert host.text() == text
        assert host.kernel.operations == operations  # nothing to do: no packet is lost
    await host.check()


async def test_a_restart_holds_the_ports_again(host: Host) -> None:
    await _prepare(host)
    await host.killed()
    await host.start()
    with pytest.raises(Exception, match="taken by endpoint"):
        await host.attach("blue", "new", ports=(WEB,))
    await host.attach("blue", "new", ports=(TLS,))


async def test_links_that_a_dead_daemon_had_retired_are_removed(host: Host) -> None:
    await _prepare(host)
    await host.engine.detach(_id_of(host, "other"))
    await host.killed()
    await host.start()
    # The name of the interface is still on the retired link until then.
    await host.attach("blue", "other")
    await host.check()


async def test_a_reboot_ends_endpoints_and_keeps_networks_and_addresses(host: Host) -> None:
    answered = await _prepare(host)
    old = host.engine.endpoints(container_id="other")[0]
    await host.reboot()

    assert {network.id: network for network in host.engine.networks()} == answered.networks
    assert host.engine.endpoints() == ()
    await host.happened("daemon.started")
    swept = [event.object for event in host.seen if event.type == "endpoint.swept"]
    assert set(swept) == answered.endpoints.keys()
    await host.check()
    assert "nd-blue" in host.text()
    assert (await host.attach("blue", "stranger")).addresses != old.addresses
    assert (await host.attach("blue", "other")).addresses == old.addresses
    await host.check()
    # The second start of this boot ends nothing.
    endpoints = host.engine.endpoints()
    await host.restart()
    assert host.engine.endpoints() == endpoints


async def test_death_in_the_first_start_after_a_reboot(new_host: Callable[[], Host]) -> None:
    for step in _steps():
        host = new_host()
        await host.start()
        answered = await _prepare(host)
        await host.stop()
        host.power_cycle()
        host.kernel.faults.crash(step)
        try:
            await host.start()
        except Crash:
            await host.died_at_start()
            await host.start()
            await host.check()
            assert host.engine.endpoints() == ()
            assert {n.id: n for n in host.engine.networks()} == answered.networks
            await host.stop()
            continue
        await host.stop()
        break
    assert step > 10
