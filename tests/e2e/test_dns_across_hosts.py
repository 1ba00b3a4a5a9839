"""Names of three hosts, asked for by programs that people have, in a container of one of them."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.lab.container import Container
from tests.lab.host import LabHost
from tests.lab.namespaces import NamespaceLab
from tests.lab.waiting import wait_for

SEEN_S: Final = 10.0
SERVICE: Final = "api.service.netd.internal"
DNSPYTHON: Final = """
import sys, dns.resolver
resolver = dns.resolver.Resolver(configure=False)
resolver.nameservers = [sys.argv[1]]
for record in resolver.resolve(sys.argv[2], sys.argv[3]):
    print(record.to_text())
"""


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[LabHost]]:
    """Three, with a registry each, and the overlay blue that all know."""
    # In a folder that the registry's user can reach, unlike pytest's.
    with tempfile.TemporaryDirectory(prefix="netd-dns-") as name:
        Path(name).chmod(0o755)
        lab = NamespaceLab(Path(name) / "lab")
        lab.folder.mkdir()
        lab.registry = True
        try:
            lab.up(3)
            subnets = ("--subnet", "10.40.0.0/16", "--subnet", "fd40::/64")
            lab.hosts[0].netctl("network", "create", "blue", "--driver", "overlay", *subnets)
            for host in lab.hosts:
                wait_for(lambda host=host: "blue" in host.networks(), SEEN_S)  # type: ignore[misc]
            yield list(lab.hosts)
        finally:
            lab.down()


def with_resolver(client: Container, server: str, *command: str) -> list[str]:
    """What a program prints that asks `server` by the C library's means."""
    lines = f"nameserver {server}\\nsearch blue.netd.internal\\n"
    script = (
        f'printf "{lines}" >/run/asking.conf && mount --bind /run/asking.conf /etc/resolv.conf '
        '&& exec "$@"'
    )
    return client.run("unshare", "--mount", "sh", "-c", script, "sh", *command).split()


def test_names_of_other_hosts(hosts: list[LabHost]) -> None:
    one, two, three = hosts
    client, web, other = one.start("client"), two.start("web"), three.start("other")
    client.attach("blue")
    for instance in (web, other):
        instance.attach("blue", "--label", "netd.service=api:80")
    places = {web.address(), other.address()}
    server = str(client.endpoint()["dns"]["nameservers"][0])

    def dig(*words: str) -> set[str]:
        return set(client.run("dig", "+short", f"@{server}", *words).splitlines())

    wait_for(lambda: dig(SERVICE) == places, SEEN_S)
    assert dig("web") == dig("web.blue.netd.internal", "+tcp") == {web.address()}
    assert dig("web", "AAAA") == {web.address(6)}
    assert dig("-x", web.address()) == {"web.blue.netd.internal."}
    assert dig("-x", web.address(6)) == {"web.blue.netd.internal."}
    targets = {f"1 1 80 {name}.blue.netd.internal." for name in ("web", "other")}
    assert dig(SERVICE, "SRV") == dig("_api._tcp.netd.internal", "SRV") == targets
    python = (sys.executable, "-c", DNSPYTHON, server)
    assert set(client.run(*python, "api.service.consul", "A").split()) == places
    assert set(client.run(*python, SERVICE, "SRV").splitlines()) == targets
    assert web.address() in with_resolver(client, server, "getent", "ahostsv4", "web")
    assert web.address() in with_resolver(
        client, server, "busybox", "nslookup", "web.blue.netd.internal"
    )
    program = other.serve("hello")
    fetched = with_resolver(client, server, "curl", "-s", "-m", "5", "http://other/")
    assert fetched[:1] == ["hello"]
    program.stop()

    stranger = one.start("stranger")
    one.netctl("network", "create", "red")
    stranger.attach("red")
    gateway = str(stranger.endpoint()["dns"]["nameservers"][0])
    for name in ("web", "web.blue.netd.internal", SERVICE):
        assert "NXDOMAIN" in stranger.run("dig", f"@{gateway}", name)

    web.end()
    wait_for(lambda: dig(SERVICE) == {other.address()}, SEEN_S)
    wait_for(lambda: dig("web") == set(), SEEN_S)
    three.cut_power()
    wait_for(lambda: dig(SERVICE) == set(), 3 * SEEN_S)
