"""Podman 5 with netd's driver, a plugin of its netavark: lives, names, ports, what goes wrong."""

import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab import Host, await_true, ip_of
from tests.e2e.pages import HOST, OUTSIDE, ROOT, Shell, matches, steps_of
from tests.interop.docker_engine import DockerHost
from tests.interop.newer_podman import NewerPodman
from tests.interop.traces import traces

pytestmark = pytest.mark.timeout(240)  # the file system may have to be made

SEVERAL = 8
DAEMON = ("httpd", "-f", "-p", "80")
SLEEP = ("sleep", "600")


@pytest.fixture(scope="module")
def engine() -> Iterator[NewerPodman]:
    # In a folder that the registry's user can reach, unlike pytest's.
    with tempfile.TemporaryDirectory(prefix="netd-podman-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        host = DockerHost(stack, folder)
        engine = NewerPodman(stack, host)
        host.registry = True
        host.start_daemon()
        await_true(lambda: bool(host.client.registry()["connected"]), 10)
        host.client.create_network(name="blue", driver="bridge", subnets=["10.20.0.0/24"])
        engine.import_image()
        engine.call("network", "create", "-d", "netd", "-o", "network=blue", "shared")
        yield engine


@pytest.fixture
def podman(engine: NewerPodman) -> Iterator[NewerPodman]:
    """With nothing left of what a test has had."""
    before = traces(engine.host)
    yield engine
    engine.call("rm", "--force", "--all")
    await_true(lambda: traces(engine.host) == before)


def endpoint_of(podman: NewerPodman, name: str, network: str = "blue") -> dict[str, Any]:
    (found,) = [
        each
        for each in podman.host.client.endpoints()
        if (each["name"], each["network"]) == (name, network)
    ]
    return found


def await_answer(podman: NewerPodman, port: int) -> None:
    """Return when a web server is reached from outside the host: it may only just begin."""
    flags = ("-s", "-m2", "-o", "/dev/null", "-w", "%{http_code}")
    url = f"http://{Host.ADDRESS}:{port}/"
    await_true(lambda: podman.host.outside.run("curl", *flags, url, check=False) == "404", 10)


def start(podman: NewerPodman, name: str, *flags: str, command: tuple[str, ...] = SLEEP) -> None:
    podman.call("run", "-d", "--name", name, "--stop-timeout", "0", *flags, "bb", *command)


def test_commands_print_what_the_page_shows(podman: NewerPodman) -> None:
    """The first, so that its addresses are."""
    page = ROOT / "PODMAN.md"
    stack = ExitStack()
    with stack:
        shells = {HOST: podman.shell(), OUTSIDE: Shell(stack, podman.host.outside.wrap())}
        for step in steps_of(page.read_text(), "console podman-5"):
            printed, _ = shells[step.machine].run("\n".join(step.command))
            assert matches(step.output, printed), (step, printed)


def test_a_container_has_its_place_while_it_lives(podman: NewerPodman) -> None:
    start(podman, "web", "--network", "shared", "-p", "8080:80", command=DAEMON)
    address = ip_of(endpoint_of(podman, "web"))
    settings = podman.inspect("web")["NetworkSettings"]["Networks"]["shared"]
    assert (settings["IPAddress"], settings["Gateway"]) == (address, "10.20.0.1")
    await_answer(podman, 8080)  # though Podman listens there itself
    look = "cat /etc/resolv.conf; ping -c1 -W2 web"
    said = podman.call("run", "--rm", "--network", "shared", "bb", "sh", "-c", look)
    assert "nameserver 10.20.0.1" in said
    assert f"PING web ({address})" in said
    assert "1 packets received" in said
    podman.call("restart", "web")
    assert ip_of(endpoint_of(podman, "web")) == address
    podman.call("network", "reload", "web")
    assert ip_of(endpoint_of(podman, "web")) == address
    await_answer(podman, 8080)
    assert "in use" in podman.refused("run", "--rm", "--network", "shared", "-p", "8080:80", "bb")
    start(podman, "web", "--replace", "--network", "shared", "-p", "8080:80", command=DAEMON)
    await_answer(podman, 8080)


def test_wishes(podman: NewerPodman) -> None:
    podman.call(
        *("network", "create", "-d", "netd", "-o", "mtu=1400"),
        *("--subnet", "10.71.0.0/24", "--gateway", "10.71.0.254", "--subnet", "fd71::/64", "dual"),
    )
    wishes = ("--ip", "10.71.0.50", "--ip6", "fd71::50", "--mac-address", "02:00:00:00:00:50")
    start(podman, "box", "--network", "dual", *wishes, "--network-alias", "shop")
    for _ in range(2):
        shown = podman.call("exec", "box", "ip", "address", "show", "eth0")
        for wish in ("mtu 1400", "inet 10.71.0.50/24", "inet6 fd71::50/64", "02:00:00:00:00:50"):
            assert wish in shown
        podman.call("network", "reload", "box")  # which names the addresses once more
    said = podman.call("run", "--rm", "--network", "dual", "bb", "nslookup", "shop", "10.71.0.254")
    assert "Address: 10.71.0.50" in said
    podman.call("network", "rm", "--force", "dual")


def test_networks_of_the_host_are_there_as_long_as_containers_are(podman: NewerPodman) -> None:
    for name in ("red", "green"):
        podman.call("network", "create", "-d", "netd", name)
    shown = json.loads(podman.call("network", "inspect", "red", "green"))
    assert len({each["options"]["subnets"] for each in shown}) == 2
    podman.call("network", "create", "-d", "netd", "--internal", "--disable-dns", "inner")
    podman.host.kill()
    podman.host.start_daemon()
    for name in ("red", "green", "inner"):
        start(podman, f"of-{name}", "--network", name)
    networks = {each["name"]: each for each in podman.host.client.networks()}
    for each in shown:
        assert networks[each["name"]]["subnets"] == [each["options"]["subnets"]]
    look = "cat /etc/resolv.conf; ip route"
    said = podman.call("exec", "of-inner", "sh", "-c", look)
    assert f"nameserver {Host.OUTSIDE}" in said  # of the host
    assert "default" not in said
    podman.call("rm", "-f", "of-red", "of-green", "of-inner")
    assert [each["name"] for each in podman.host.client.networks()] == ["blue"]
    podman.call("network", "rm", "red", "green", "inner")


def test_a_container_of_two_networks(podman: NewerPodman) -> None:
    podman.call("network", "create", "-d", "netd", "red")
    both = ("--network", "shared", "--network", "red")
    start(podman, "two", *both, "-p", "8080:80", command=DAEMON)
    said = podman.call("exec", "two", "cat", "/etc/resolv.conf")
    assert "blue.netd.internal" in said
    assert "red.netd.internal" in said
    await_answer(podman, 8080)
    for leaving, coming in (("shared", "red"), ("red", "shared")):  # one of which has the port
        podman.call("network", "disconnect", leaving, "two")
        await_answer(podman, 8080)
        podman.call("network", "connect", leaving, "two")
        podman.call("network", "disconnect", coming, "two")
        await_answer(podman, 8080)
        podman.call("network", "connect", "--alias", "again", coming, "two")
    assert "again" in endpoint_of(podman, "two")["aliases"]
    podman.call("network", "rm", "--force", "red")


def test_a_pod(podman: NewerPodman) -> None:
    start(podman, "inside", "--pod", "new:shop", "-p", "8080:80", "--network", "shared")
    start(podman, "server", "--pod", "shop", command=DAEMON)
    assert endpoint_of(podman, "shop")["ports"]
    await_answer(podman, 8080)
    podman.call("pod", "rm", "--force", "shop")


def test_several_start_and_end_at_once(podman: NewerPodman) -> None:
    names = [f"m{number}" for number in range(SEVERAL)]
    with ThreadPoolExecutor(SEVERAL) as pool:
        list(pool.map(lambda name: start(podman, name, "--network", "shared"), names))
        endpoints = podman.host.client.endpoints()
        assert {each["name"] for each in endpoints} == set(names)
        assert len({ip_of(each) for each in endpoints}) == SEVERAL
        assert "1 packets received" in podman.call("exec", names[0], "ping", "-c1", names[-1])
        list(pool.map(lambda name: podman.call("rm", "-f", name), names))
    assert podman.host.client.endpoints() == []


def test_names_of_podmans_own_network_are_answered_beside_netds(podman: NewerPodman) -> None:
    podman.call("network", "create", "own")
    start(podman, "of-podman", "--network", "own")
    start(podman, "of-netd", "--network", "shared")
    start(podman, "both", "--network", "own", "--network", "shared")
    for name in ("of-podman", "of-netd"):
        assert "1 packets received" in podman.call("exec", "both", "ping", "-c1", "-W2", name)
    podman.call("network", "rm", "--force", "own")


def test_netd_goes_away_and_comes_back(podman: NewerPodman) -> None:
    for name, port in (("stays", "8080"), ("goes", "8081")):
        start(podman, name, "--network", "shared", "-p", f"{port}:80", command=DAEMON)
    podman.host.kill()
    await_answer(podman, 8080)
    told = podman.refused("run", "--rm", "--network", "shared", "bb", "true")
    assert "netd cannot be reached at /run/netd/netd.sock" in told
    podman.call("rm", "-f", "goes")
    podman.host.start_daemon()
    await_true(lambda: [each["name"] for each in podman.host.client.endpoints()] == ["stays"])
    assert endpoint_of(podman, "stays")["conditions"] == []
    await_answer(podman, 8080)
    podman.call("run", "--rm", "--network", "shared", "bb", "ping", "-c1", "-W2", Host.OUTSIDE)


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ("-o network=nowhere", "there is no network 'nowhere'; `netctl network ls` shows all"),
        ("-o vlan=5", "option 'vlan' is not known; there are network, mtu, isolate, range"),
        ("-o network=blue --internal", "network 'blue' is not internal"),
        ("--subnet 10.72.0.0/24 --ip-range 10.72.0.128/25", "as -o range=CIDR"),
        ("--subnet 10.72.0.0/24 --route 10.9.0.0/24,10.72.0.1", "netd makes the default route"),
        ("--dns 192.0.2.53", "leave --dns of the network out"),
        ("--interface-name br0", "leave --interface-name out"),
        ("--ipam-driver dhcp", "leave --ipam-driver out"),
    ],
)
def test_a_network_that_cannot_be_had(podman: NewerPodman, wish: str, says: str) -> None:
    assert says in podman.refused("network", "create", "-d", "netd", *wish.split(), "n")


def test_a_container_that_cannot_be_had(podman: NewerPodman) -> None:
    for wish, says in (
        ("shared:mtu=1300", "a container has no options of its own on netd's networks: mtu"),
        ("shared:ip=10.99.0.1", "10.99.0.1 is in no subnet of the network (10.20.0.0/24)"),
    ):
        assert says in podman.refused("run", "--rm", "--network", wish, "bb", "true")
