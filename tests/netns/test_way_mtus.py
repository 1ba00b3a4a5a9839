"""What the way to an address carries: its route's MTU, or that of the link, by the host's rules."""

import pytest

from netd.kernel.lookup import mtus_to
from netd.kernel.netlink import NetlinkSocket
from tests.netns.conftest import run


@pytest.mark.parametrize(
    ("near", "far", "gateway"),
    [
        ("192.0.2.1/24", "198.51.100.{}", "192.0.2.2"),
        ("2001:db8::1/64", "2001:db8:1::{}", "2001:db8::2"),
    ],
)
def test_the_mtu_of_a_way(near: str, far: str, gateway: str) -> None:
    family = "-6" if ":" in near else "-4"
    length = 128 if ":" in near else 32
    for name, mtu in (("wide", 9000), ("narrow", 1400)):
        run("ip", "link", "add", name, "mtu", str(mtu), "up", "type", "bridge")
    run("ip", "address", "add", near, "dev", "wide", *(["nodad"] if ":" in near else []))

    def route(number: int, *more: str) -> None:
        run("ip", family, "route", "add", f"{far.format(number)}/{length}", *more)

    route(1, "via", gateway)
    route(2, "via", gateway, "mtu", "1450")
    route(3, "via", gateway, "mtu", "lock", "1300")
    route(4, "via", gateway)
    route(4, "dev", "narrow", "table", "77")
    run("ip", family, "rule", "add", "to", f"{far.format(4)}/{length}", "lookup", "77")
    run("ip", family, "route", "add", "unreachable", f"{far.format(5)}/{length}")
    socket = NetlinkSocket()
    found = mtus_to(socket, [gateway, *(far.format(number) for number in range(1, 7))])
    socket.close()
    assert found == {
        gateway: 9000,
        far.format(1): 9000,
        far.format(2): 1450,
        far.format(3): 1300,
        far.format(4): 1400,
    }
