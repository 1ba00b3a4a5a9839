"""Echo requests: through a host in the middle that carries less than both ends think.

    host (192.0.2.1) --- in | middle | out --- far (198.51.100.2)

`out` carries 1300 bytes only.
"""

from collections.abc import Callable, Iterator

import pytest

from netd.kernel.linux import LinuxKernel
from netd.plan.facts import Echo
from tests.netns.conftest import Container, run

MIDDLE_MTU = 1300
FAR = {4: "198.51.100.2", 6: "2001:db8:2::2"}
SILENT = {4: "198.51.100.77", 6: "2001:db8:2::77"}
DEADLINE_S = 10.0  # for what answers
SILENCE_S = 0.6  # for what never does


@pytest.fixture
def kernel() -> Iterator[LinuxKernel]:
    made = LinuxKernel(node="node-1")
    yield made
    made.close()


@pytest.fixture
def middle(container: Callable[[], Container]) -> Container:
    """A router between the host and a far one."""
    middle, far = container(), container()
    run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "in", "netns", str(middle.pid))
    middle.run(
        *("ip", "link", "add", "out", "mtu", str(MIDDLE_MTU), "type", "veth"),
        *("peer", "name", "eth0", "netns", str(far.pid)),
    )
    _address("up0", "192.0.2.1/24", "2001:db8:1::1/64")
    _address("in", "192.0.2.254/24", "2001:db8:1::fe/64", inside=middle)
    _address("out", "198.51.100.254/24", "2001:db8:2::fe/64", inside=middle)
    _address("eth0", "198.51.100.2/24", "2001:db8:2::2/64", inside=far)
    for name in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
        middle.run("sysctl", "-qw", f"net.{name}=1")
    for at, gateway in (
        (None, ("192.0.2.254", "2001:db8:1::fe")),
        (far, ("198.51.100.254", "2001:db8:2::fe")),
    ):
        for address in gateway:
            (at.run if at else run)("ip", "route", "add", "default", "via", address)
    return middle


def _address(link: str, *addresses: str, inside: Container | None = None) -> None:
    execute = inside.run if inside else run
    for address in addresses:
        execute(
            "ip", "address", "add", address, "dev", link, *(["nodad"] if ":" in address else [])
        )
    execute("ip", "link", "set", link, "up")


@pytest.mark.parametrize("family", [4, 6])
async def test_what_fits_is_answered(kernel: LinuxKernel, middle: Container, family: int) -> None:
    for size in (64, 65, MIDDLE_MTU):
        answer = await kernel.echo(FAR[family], size, DEADLINE_S)
        assert answer.rtt_ms is not None, size
        assert 0 < answer.rtt_ms < 1000 * DEADLINE_S


@pytest.mark.parametrize("family", [4, 6])
async def test_a_router_says_how_much_it_carries(
    kernel: LinuxKernel, middle: Container, family: int
) -> None:
    answer = await kernel.echo(FAR[family], MIDDLE_MTU + 1, DEADLINE_S)
    assert answer == Echo(rtt_ms=None, mtu=MIDDLE_MTU)
    # What was learned does not keep a later one from being tried.
    assert await kernel.echo(FAR[family], 1500, DEADLINE_S) == answer


@pytest.mark.parametrize("family", [4, 6])
async def test_a_black_hole_swallows_what_is_too_large(
    kernel: LinuxKernel, middle: Container, family: int
) -> None:
    rule = (
        "icmp type destination-unreachable icmp code frag-needed drop"
        if family == 4
        else "icmpv6 type packet-too-big drop"
    )
    middle.run("nft", "add table inet hole")
    middle.run("nft", "add chain inet hole out { type filter hook output priority 0; }")
    middle.run("nft", f"add rule inet hole out {rule}")
    assert await kernel.echo(FAR[family], MIDDLE_MTU + 1, SILENCE_S) == Echo(rtt_ms=None)
    small = await kernel.echo(FAR[family], MIDDLE_MTU, DEADLINE_S)
    assert small.rtt_ms is not None


@pytest.mark.parametrize("family", [4, 6])
async def test_the_hosts_own_link_says_so_at_once(
    kernel: LinuxKernel, middle: Container, family: int
) -> None:
    assert await kernel.echo(FAR[family], 1501, DEADLINE_S) == Echo(rtt_ms=None, mtu=1500)


@pytest.mark.parametrize("family", [4, 6])
async def test_nobody_answers(kernel: LinuxKernel, middle: Container, family: int) -> None:
    assert await kernel.echo(SILENT[family], 64, SILENCE_S) == Echo(rtt_ms=None)


async def test_no_route_is_no_answer(kernel: LinuxKernel) -> None:
    for address in FAR.values():
        assert await kernel.echo(address, 64, SILENCE_S) == Echo(rtt_ms=None)
