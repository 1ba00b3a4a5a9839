"""Names of others, asked by containers: of a name server outside, or of nobody."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.lab import Host, await_true
from tests.e2e.registry_lab import Asker, connected, gateway, registry_pid

DEAD = "192.0.2.99"  # nobody has it
LONG = "x" * 250


class Outside:
    """dnsmasq on the machine outside, which writes down what it is asked."""

    def __init__(self, stack: ExitStack, host: Host) -> None:
        self.log = host.folder / "dnsmasq.log"
        records = [
            "--host-record=www.example.org,203.0.113.7",
            "--host-record=other.example.org,203.0.113.8",
            "--txt-record=long.example.org," + ",".join([LONG] * 8),
        ]
        host.outside.start(
            stack,
            *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file="),
            *("--no-hosts", "--no-resolv", "--local=/example.org/", "--local-ttl=60"),
            *("--log-queries", f"--log-facility={self.log}", *records),
        )
        await_true(lambda: ":53 " in host.outside.run("ss", "-Hlun"), 10)

    def asked(self) -> list[str]:
        """The names of all queries so far."""
        lines = self.log.read_text().splitlines()
        return [line.split("] ")[1].split()[0] for line in lines if ": query[" in line]


@pytest.fixture
def host(stack: ExitStack) -> Iterator[Host]:
    """A host whose daemon has a registry, with two name servers, the first of which is dead."""
    with tempfile.TemporaryDirectory(prefix="netd-dns-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the registry's user has to reach the socket
        host = Host(stack, folder)
        host.registry = True
        config = folder / "netd.toml"
        config.write_text(f'[dns]\nupstreams = ["{DEAD}", "{Host.OUTSIDE}"]\n')
        host.start_daemon("--config", str(config))
        try:
            await_true(lambda: connected(host), 10)
            yield host
        finally:
            host.kill()
            if pid := registry_pid(host):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def outside(stack: ExitStack, host: Host) -> Outside:
    return Outside(stack, host)


def test_other_names_are_asked_of_others(host: Host, outside: Outside, stack: ExitStack) -> None:
    host.client.create_network(name="blue", driver="bridge")
    container = host.container()
    server = gateway(host.attach("blue", container, name="web"))
    asker = Asker(stack, container)

    # The first server says nothing: that costs less than a resolver waits for.
    begun_s = time.monotonic()
    assert asker.ask(server, "www.example.org") == "NOERROR 203.0.113.7"
    assert time.monotonic() - begun_s < 1.2
    # And then it is asked last.
    begun_s = time.monotonic()
    assert asker.ask(server, "other.example.org") == "NOERROR 203.0.113.8"
    assert time.monotonic() - begun_s < 0.2

    assert asker.ask(server, "WWW.Example.ORG") == "NOERROR 203.0.113.7"
    assert asker.ask(server, "www.example.org", "AAAA") == "NOERROR"
    assert asker.ask(server, "nobody.example.org") == "NXDOMAIN"
    assert outside.asked().count("www.example.org") == 2  # A and AAAA

    # Too long for UDP on either side.
    long = asker.ask(server, "long.example.org", "TXT", "tcp")
    assert long == "NOERROR " + " ".join([f'"{LONG}"'] * 8)
    assert outside.asked().count("long.example.org") == 2


def test_netds_own_names_are_asked_of_nobody(
    host: Host, outside: Outside, stack: ExitStack
) -> None:
    host.client.create_network(name="blue", driver="bridge", subnets=["10.20.0.0/24"])
    container = host.container()
    server = gateway(host.attach("blue", container, name="web"))
    asker = Asker(stack, container)
    for name, kind in (
        ("nobody", "A"),
        ("nobody.blue.netd.internal", "A"),
        ("nobody.service.consul", "SRV"),
        ("99.0.20.10.in-addr.arpa", "PTR"),
    ):
        assert asker.ask(server, name, kind) == "NXDOMAIN"
    assert asker.ask(server, "www.example.org") == "NOERROR 203.0.113.7"
    assert outside.asked() == ["www.example.org"]


def test_nobody_is_asked_for_who_may_not_go_outside(
    host: Host, outside: Outside, stack: ExitStack
) -> None:
    host.client.create_network(name="inner", driver="bridge", internal=True)
    host.client.create_network(name="blue", driver="bridge")
    container = host.container()
    server = gateway(host.attach("inner", container, name="db"))
    asker = Asker(stack, container)
    assert asker.ask(server, "secret.example.org") == "REFUSED"
    assert asker.ask(server, "secret.example.org", "A", "tcp") == "REFUSED"
    assert outside.asked() == []
    host.attach("blue", container, name="db", ifname="eth1")
    assert asker.ask(server, "www.example.org") == "NOERROR 203.0.113.7"
    assert outside.asked() == ["www.example.org"]


def test_nobody_is_asked_for_another_machine(
    host: Host, outside: Outside, stack: ExitStack
) -> None:
    host.client.create_network(name="blue", driver="bridge", subnets=["10.20.0.0/24"])
    host.attach("blue", host.container(), name="web")
    host.outside.run("ip", "route", "add", "10.20.0.0/24", "via", host.ADDRESS)
    asker = Asker(stack, host.outside)
    assert asker.ask("10.20.0.1", "www.example.org") == "REFUSED"
    assert asker.ask("10.20.0.1", "web.blue.netd.internal") == "NXDOMAIN"
    assert asker.ask("10.20.0.1", "web") == "NXDOMAIN"
    assert outside.asked() == []
