"""A container that pretends to be a router is believed by nobody."""

import json
import sys

import pytest

from tests.e2e.lab import Host, Namespace

# One router advertisement to all nodes: a default route of high preference.
_ADVERTISE = """
import sys
from scapy.all import Ether, ICMPv6ND_RA, ICMPv6NDOptSrcLLAddr, IPv6, sendp
sendp(
    Ether(src="0e:00:00:00:0b:ad", dst="33:33:00:00:00:01")
    / IPv6(src="fe80::bad", dst="ff02::1", hlim=255)
    / ICMPv6ND_RA(routerlifetime=1800, prf=1)
    / ICMPv6NDOptSrcLLAddr(lladdr="0e:00:00:00:0b:ad"),
    iface="eth0",
    verbose=False,
)
"""


@pytest.mark.parametrize("subnets", [["10.20.0.0/24"], ["10.20.0.0/24", "fd20::/64"]])
def test_nobody_follows_a_forged_router(host: Host, subnets: list[str]) -> None:
    host.client.create_network(name="blue", driver="bridge", subnets=subnets)
    host.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=0")
    evil, neighbour, believer = host.container(), host.container(), host.container()
    for container in (evil, neighbour, believer):
        host.attach("blue", container)
    # One that is made to believe shows that the advertisement is a good one.
    believer.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=1")
    before = [_defaults(space) for space in (host, neighbour)]
    evil.run(sys.executable, "-c", _ADVERTISE)
    # What was sent before this answered ping has arrived before it.
    address = host.client.endpoints(container_id=f"c{neighbour.pid}")[0]["addresses"][0]
    assert evil.pings(address.partition("/")[0])
    assert [_defaults(space) for space in (host, neighbour)] == before
    assert any(route.startswith("fe80::bad") for route in _defaults(believer))


def _defaults(space: Namespace) -> list[str]:
    routes = json.loads(space.run("ip", "-json", "-6", "route", "show", "default"))
    return sorted(f"{route.get('gateway')} {route.get('protocol')}" for route in routes)
