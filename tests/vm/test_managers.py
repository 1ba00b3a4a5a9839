"""netd beside programs that configure links: they leave all of netd's alone."""

import json
from collections.abc import Iterator

import pytest

from tests.lab.host import LabHost
from tests.lab.waiting import wait_for
from tests.scenarios.overlay import Overlay
from tests.vm.words import SLOW_S, links, put

KINDS = {"nd-blue", "nx-blue", "nd-green", "ns-lan", "ndvirtual"}
GREEDY = "/etc/systemd/network/90-all.network"
RULE = ("from", "192.0.2.1", "table", "99", "protocol", "42")
KEEP_OFF = "/etc/NetworkManager/conf.d/90-lab.conf"


@pytest.fixture
def host(blue: Overlay, one: LabHost) -> LabHost:
    """It has a link of each kind."""
    one.netctl("network", "create", "green", "--subnet", "10.45.0.0/24")
    shim = ("--driver", "macvlan", "--option", "shim=true")
    one.netctl("network", "create", "lan", *shim, "--subnet", "10.46.0.0/24")
    for name, network in (("a", "blue"), ("c", "green"), ("m", "lan")):
        options = () if network == "lan" else ("--egress", "100mbit")
        one.start(name).attach(network, *options)
    one.netctl("service", "register", "shop", "--address", "10.45.0.2", "--port", "80")
    one.netctl("service", "expose", "shop", "--port", "8080:80")
    assert links(one) >= KINDS
    assert {name[:2] for name in links(one) - KINDS} == {"nv", "ni"}
    return one


def bridge_ports(host: LabHost) -> set[tuple[str, str]]:
    """Links with the bridges that they are ports of."""
    listed = json.loads(host.run("bridge", "-json", "link"))
    return {(port["ifname"], port["master"]) for port in listed}


@pytest.fixture
def greedy(host: LabHost) -> Iterator[LabHost]:
    """systemd-networkd would configure each link that it is not told to leave alone."""
    put(host, GREEDY, "[Match]\nName=*\n[Network]\nLinkLocalAddressing=yes\nIPv6AcceptRA=yes\n")
    host.run("ip", "rule", "add", *RULE)
    try:
        yield host
    finally:
        host.run("rm", GREEDY)
        host.run("networkctl", "reload")
        host.run("ip", "rule", "delete", *RULE)


@pytest.fixture
def networkmanager(host: LabHost) -> Iterator[LabHost]:
    """It runs, and keeps off what is networkd's."""
    put(host, KEEP_OFF, "[keyfile]\nunmanaged-devices+=interface-name:eth*\n")
    host.run("systemctl", "start", "NetworkManager.service", timeout_s=SLOW_S)
    try:
        yield host
    finally:
        host.run("systemctl", "stop", "NetworkManager.service")
        host.run("rm", KEEP_OFF)


def test_networkd_leaves_links_rules_and_routes_alone(greedy: LabHost) -> None:
    ports = bridge_ports(greedy)
    for command in (("networkctl", "reload"), ("systemctl", "restart", "systemd-networkd.service")):
        greedy.run(*command)
        wait_for(
            lambda: setups(greedy).get("lo") == "configured",
            60 * greedy.slowness,
            what=f"networkd has seen all links after {command[-1]}",
            show=lambda: setups(greedy),
        )
        found = setups(greedy)
        assert {found[name] for name in links(greedy)} == {"unmanaged"}, found
        assert bridge_ports(greedy) == ports
        assert "lookup 99" in greedy.run("ip", "rule"), "it removes rules of others"
        assert not greedy.plan()


def setups(host: LabHost) -> dict[str, str]:
    """What networkd does with links: `unmanaged`, `configuring`, `configured`, ..."""
    listed = host.run("networkctl", "--no-legend", "--no-pager").splitlines()
    return {line.split()[1]: line.split()[4] for line in listed}


def test_networkmanager_leaves_links_alone(networkmanager: LabHost) -> None:
    for turn in range(2):  # links that were there, and some that come while it runs
        wait_for(
            lambda: links(networkmanager) <= devices(networkmanager).keys(),
            60 * networkmanager.slowness,
            what="NetworkManager has seen all links",
            show=lambda: devices(networkmanager),
        )
        found = devices(networkmanager)
        assert {found[name] for name in links(networkmanager)} == {"unmanaged"}, found
        networkmanager.start(f"later-{turn}").attach("green", "--egress", "100mbit")
    assert not networkmanager.plan()


def devices(host: LabHost) -> dict[str, str]:
    """What NetworkManager does with links."""
    listed = host.run("nmcli", "--terse", "--fields", "DEVICE,STATE", "device").splitlines()
    return dict(line.rsplit(":", 1) for line in listed)
