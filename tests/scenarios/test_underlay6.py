"""Hosts that talk IPv6 to each other."""

from collections.abc import Iterator

import pytest

from tests.lab import kinds, programs
from tests.lab.lab import Lab
from tests.scenarios.overlay import FAMILIES, SUBNET4, SUBNET6, Overlay, entries

MTU = 1430
HEADERS = {4: 28, 6: 48}  # of IP and ICMP


@pytest.fixture
def lab6(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if kinds.KIND != "namespaces":
        pytest.skip("one lab of machines has to do, and it talks IPv4")
    lab = kinds.make(tmp_path_factory.mktemp("lab6"))
    try:
        lab.up(2, family=6)
        yield lab
    finally:
        lab.down()


def test_an_overlay_works_over_ipv6(lab6: Lab) -> None:
    one, two = lab6.hosts
    assert ":" in one.address
    blue = Overlay.create(lab6, "blue", "--subnet", SUBNET4, "--subnet", SUBNET6)
    a, b = blue.pair(one, two)
    assert entries(one, two.address)
    b.serve("hello from b")
    b.python(programs.ECHO, "7000")
    for family in FAMILIES:
        assert a.fetch(b.address(family)) == f"hello from b to {a.address(family)}\n"
        whole = MTU - HEADERS[family]
        assert a.pings(b.address(family), "-M", "do", "-s", str(whole))
        assert not a.pings(b.address(family), "-M", "do", "-s", str(whole + 1), wait_s=1)
        a.run("python3", "-c", programs.PAYLOAD, b.address(family), "7000", "65536")
        assert one.succeeds("ping", "-c", "1", "-W", "2", b.address(family))
    lab6.cut(one, two)
    assert not a.pings(b.address(), wait_s=1)
    lab6.heal()
    assert a.pings(b.address())
