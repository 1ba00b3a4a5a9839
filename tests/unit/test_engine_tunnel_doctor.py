"""What `netctl doctor` says of the tunnels to other hosts."""

from msgspec.structs import replace

from netd.engine.interfaces import Kernel
from netd.engine.tunnel_doctor import PEERS_MAX, Trial, examine_tunnels, try_tunnels
from netd.kernel.fake import FakeKernel
from netd.model.views import Finding
from netd.plan.facts import Echo
from netd.plan.parties import Opened
from tests.unit.engine_fixture import Host
from tests.unit.test_engine_overlay import bare, hosts, overlay, settled
from tests.unit.test_explain import BLUE, DIRECTORY, HOST_2, VTEPS

__all__ = ["hosts"]

THROUGH = Echo(rtt_ms=0.4)
LOST = Echo(rtt_ms=None)
PORT = 4789
PEER_ADDRESS = "10.20.0.130"


def trial(small: Echo, full: Echo | None) -> Trial:
    return Trial(member=HOST_2, network="blue", mtu=1450, small=small, full=full)


def the_one(trials: list[Trial]) -> Finding:
    (finding,) = examine_tunnels(trials, PORT)
    assert finding.check == "tunnels"
    assert bool(finding.remedy) == (finding.level != "ok")
    return finding


def test_all_is_well() -> None:
    assert the_one([trial(THROUGH, THROUGH)]).level == "ok"
    found = the_one([trial(THROUGH, THROUGH)] * 7)
    assert found.detail.endswith("host-2, host-2, host-2, host-2, host-2 and 2 more")
    assert the_one([]).detail == "no other host has a network in common with this one"


def test_a_blocked_tunnel() -> None:
    blocked = replace(trial(LOST, None), plain=THROUGH)
    found = the_one([trial(THROUGH, THROUGH), blocked])
    assert found.level == "error"
    assert found.detail == (
        "VXLAN (UDP port 4789) to host-2 at 192.0.2.20 is blocked: nothing comes back through "
        "the tunnel of blue"
    )
    assert "iptables -I INPUT -p udp --dport 4789 -j ACCEPT" in found.remedy


def test_a_host_that_answers_no_echo_requests() -> None:
    found = the_one([replace(trial(LOST, None), plain=LOST)])
    assert found.level == "warning"
    assert found.detail == (
        "host-2 at 192.0.2.20 answers no echo requests, by the tunnel of blue or otherwise: "
        "whether VXLAN (UDP port 4789) passes is not known"
    )


def test_a_black_hole() -> None:
    found = the_one([trial(THROUGH, LOST)])
    assert found.level == "error"
    assert found.detail == (
        "packets of 1450 bytes to host-2 vanish: an MTU smaller than 1500 on the way"
    )
    told = the_one([trial(THROUGH, Echo(rtt_ms=None, mtu=1400))])
    assert told.detail.endswith("smaller than 1500 on the way; the way said 1400")


def test_the_overhead_is_that_of_the_underlay() -> None:
    by_ipv6 = replace(HOST_2, address="[2001:db8::20]:7940")
    found = the_one([replace(trial(THROUGH, LOST), member=by_ipv6)])
    assert "an MTU smaller than 1520 on the way" in found.detail


async def test_each_host_is_tried_once_and_by_a_full_packet() -> None:
    kernel = FakeKernel()
    kernel.echoes[PEER_ADDRESS] = 1450
    other = Opened(member=HOST_2.id, network_id="c" * 16, vtep=VTEPS[HOST_2.id])
    directory = replace(DIRECTORY, opened=(*DIRECTORY.opened, other))
    (found,) = await try_tunnels(kernel, directory)
    assert (found.member, found.network, found.mtu) == (HOST_2, "blue", 1450)
    assert found.small.rtt_ms is not None
    assert found.full is not None
    assert found.full.rtt_ms is not None
    kernel.echoes[PEER_ADDRESS] = 1449
    (found,) = await try_tunnels(kernel, directory)
    assert found.small.rtt_ms is not None
    assert found.full == Echo(rtt_ms=None)
    kernel.echoes.clear()
    (found,) = await try_tunnels(kernel, directory)
    assert (found.small, found.full, found.plain) == (LOST, None, LOST)
    kernel.echoes["192.0.2.20"] = 1500
    (found,) = await try_tunnels(kernel, directory)
    assert found.small == LOST
    assert found.plain is not None
    assert found.plain.rtt_ms is not None


async def test_who_is_not_tried() -> None:
    kernel = FakeKernel()
    dead = replace(DIRECTORY, members=(DIRECTORY.members[0], replace(HOST_2, state="dead")))
    not_open_here = replace(DIRECTORY, opened=DIRECTORY.opened[1:])
    for directory in (dead, not_open_here, replace(DIRECTORY, networks={})):
        assert await try_tunnels(kernel, directory) == ()


async def test_a_kernel_that_cannot_send_says_nothing() -> None:
    kernel = FakeKernel()
    kernel.down = "no raw sockets"
    assert await try_tunnels(kernel, DIRECTORY) == ()


async def test_of_many_hosts_some_are_tried() -> None:
    members = [replace(HOST_2, id=f"{number:032x}") for number in range(200)]
    opened = [
        Opened(member=member.id, network_id=BLUE.id, vtep=VTEPS[HOST_2.id]) for member in members
    ]
    directory = replace(
        DIRECTORY,
        members=(DIRECTORY.members[0], *members),
        opened=(DIRECTORY.opened[0], *opened),
    )
    kernel: Kernel = FakeKernel()
    assert len(await try_tunnels(kernel, directory)) == PEERS_MAX


async def test_the_doctor_names_the_host(hosts: list[Host]) -> None:
    one, two, _ = hosts
    await overlay(one)
    await one.attach("blue", "web")
    await two.attach("blue", "db")
    await settled(hosts)
    one.kernel.echoes[two.cluster.address.partition(":")[0]] = 1500
    found = [finding for finding in await one.engine.doctor() if finding.check == "tunnels"]
    assert [finding.level for finding in found] == ["error"]
    assert "to node-2 at" in found[0].detail
    for vtep in two.engine._overlays.openings.told.values():
        one.kernel.echoes.update(dict.fromkeys(bare(vtep.addresses), 1450))
    found = [finding for finding in await one.engine.doctor() if finding.check == "tunnels"]
    assert [finding.level for finding in found] == ["ok"]
