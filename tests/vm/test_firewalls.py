"""netd beside services that load firewall rules, and throw away those of others."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.lab.container import Container
from tests.lab.host import LabHost
from tests.lab.waiting import wait_for
from tests.scenarios.flows import Stream
from tests.scenarios.overlay import REPAIRED_S, Overlay
from tests.vm.words import SLOW_S, commands, finds_server, obey, reaches_outside

PORT = 8081


class Published(NamedTuple):
    """A container on a bridge network, and a machine that asks for its port."""

    container: Container
    client: LabHost

    def works(self) -> bool:
        """Whether its port is translated, and its way out masqueraded."""
        host = self.container.host
        return finds_server(self.client, host, PORT) and reaches_outside(self.container)

    def await_works(self, after: str) -> None:
        deadline_s = REPAIRED_S * self.container.host.slowness
        wait_for(self.works, deadline_s, what=f"all is back after {after}")


@pytest.fixture
def published(one: LabHost, two: LabHost) -> Published:
    one.netctl("network", "create", "green", "--subnet", "10.45.0.0/24")
    container = one.start("c")
    container.attach("green", "--publish", f"{PORT}:80")
    container.serve("hello")
    published = Published(container, two)
    assert published.works()
    return published


@pytest.fixture
def firewalld(published: Published) -> Iterator[LabHost]:
    """The container's host, with firewalld as Debian configures it."""
    host = published.container.host
    try:
        systemctl(host, "start")
        yield host
    finally:
        host.run("systemctl", "stop", "firewalld.service")
        host.run("sh", "-c", "rm -rf /etc/firewalld/zones/*")


def test_all_rules_are_flushed(published: Published) -> None:
    host = published.container.host
    for command in (
        ("nft", "flush", "ruleset"),
        ("systemctl", "start", "nftables.service"),  # Debian's file begins with a flush
        ("systemctl", "reload", "nftables.service"),
        ("systemctl", "stop", "nftables.service"),
    ):
        host.run(*command)
        published.await_works(" ".join(command))
    wait_for(lambda: not host.plan(), 20 * host.slowness, what="nothing left to do")


def test_firewalld_reloads(
    blue: Overlay, published: Published, firewalld: LabHost, two: LabHost
) -> None:
    """With what OPERATIONS.md has it accept, it stands in nobody's way."""
    assert not reaches_outside(published.container)
    assert foreign_firewalls(firewalld)
    obey(firewalld, commands("OPERATIONS.md", "## Beside other programs"))
    published.await_works("firewalld has been told")
    assert not foreign_firewalls(firewalld)
    a, b = blue.pair(firewalld, two)
    stream = Stream(a, b)
    firewalld.run("firewall-cmd", "--reload", timeout_s=SLOW_S)
    assert published.works()
    systemctl(firewalld, "restart")
    assert published.works()
    stream.assert_whole()
    assert not firewalld.plan()


def systemctl(host: LabHost, verb: str) -> None:
    """Start firewalld; return when its rules are in force, which systemd does not wait for."""
    host.run("systemctl", verb, "firewalld.service", timeout_s=SLOW_S)
    wait_for(lambda: host.succeeds("firewall-cmd", "--state"), 60 * host.slowness, what="its rules")


def foreign_firewalls(host: LabHost) -> list[str]:
    """Chains of others that stand in the way, by what netd says of them."""
    codes = [condition["code"] for condition in host.api("/v1/status")["conditions"]]
    return [code for code in codes if code.startswith("foreign-")]
