"""A real Podman with netd's networks: lives, names, ports, and daemons that go away."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.lab import Host, await_true, ip_of
from tests.interop.docker_engine import DockerHost
from tests.interop.podman import IMAGE, Podman
from tests.interop.traces import traces

pytestmark = pytest.mark.timeout(180)

SEVERAL = 8


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    # In a folder that the registry's user can reach, unlike pytest's.
    with tempfile.TemporaryDirectory(prefix="netd-podman-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        host = DockerHost(stack, folder)
        podman = Podman(host, "blue")
        host.registry = True
        host.start_daemon()
        await_true(lambda: bool(host.client.registry()["connected"]), 10)
        host.client.create_network(name="blue", driver="bridge", subnets=["10.20.0.0/24"])
        podman.import_image()
        yield podman


@pytest.fixture
def web(podman: Podman) -> Iterator[str]:
    """The address of a container `web`, which has a published port."""
    podman.call(
        *("run", "-d", "--name", "web", "--network", "netd", "-p", "8080:80", IMAGE),
        *("httpd", "-f", "-p", "80"),
    )
    (endpoint,) = podman.host.client.endpoints()
    yield ip_of(endpoint)
    podman.call("rm", "-f", "-t", "0", "web")
    await_true(lambda: podman.host.client.endpoints() == [])


def test_a_container_has_its_place_while_it_lives(podman: Podman, web: str) -> None:
    settings = podman.inspect("web")["NetworkSettings"]["Networks"]["netd"]
    assert settings["IPAddress"] == web
    assert podman.host.client.endpoints()[0]["name"] == "web"
    shown = podman.call("run", "--rm", "--network", "netd", IMAGE, "ping", "-c1", "-W2", web)
    assert "1 packets received" in shown
    shown = podman.call("run", "--rm", "--network", "netd", IMAGE, "cat", "/etc/resolv.conf")
    assert "nameserver 10.20.0.1" in shown
    shown = podman.call("run", "--rm", "--network", "netd", IMAGE, "ping", "-c1", "web")
    assert f"PING web ({web})" in shown
    await_true(
        lambda: "404" in podman.host.run("curl", "-s", f"http://{Host.ADDRESS}:8080/", check=False)
    )


def test_a_wish_for_an_address(podman: Podman) -> None:
    flags = ("--network", "netd", "--ip", "10.20.0.77", "--mac-address", "02:00:00:00:00:77")
    shown = podman.call("run", "--rm", *flags, IMAGE, "ip", "address", "show", "eth0")
    assert "inet 10.20.0.77/24" in shown
    assert "02:00:00:00:00:77" in shown


def test_a_container_starts_again(podman: Podman, web: str) -> None:
    podman.call("restart", "-t", "0", "web")
    (endpoint,) = podman.host.client.endpoints()
    shown = podman.call(
        "run", "--rm", "--network", "netd", IMAGE, "ping", "-c1", "-W2", ip_of(endpoint)
    )
    assert "1 packets received" in shown


def test_several_start_and_end_at_once(podman: Podman) -> None:
    before = traces(podman.host)
    names = [f"m{number}" for number in range(SEVERAL)]

    def start(name: str) -> None:
        podman.call("run", "-d", "--name", name, "--network", "netd", IMAGE, "sleep", "600")

    with ThreadPoolExecutor(SEVERAL) as pool:
        list(pool.map(start, names))
        endpoints = podman.host.client.endpoints()
        assert {each["name"] for each in endpoints} == set(names)
        assert len({ip_of(each) for each in endpoints}) == SEVERAL
        last = ip_of(next(each for each in endpoints if each["name"] == names[-1]))
        said = podman.call("exec", names[0], "ping", "-c1", "-W2", last)
        assert "1 packets received" in said
        list(pool.map(lambda name: podman.call("rm", "-f", "-t", "0", name), names))
    await_true(lambda: traces(podman.host) == before)


def test_netd_goes_away_and_comes_back(podman: Podman, web: str) -> None:
    podman.host.kill()
    assert podman.fails("run", "--rm", "--network", "netd", IMAGE, "true")
    podman.call("rm", "-f", "-t", "0", "web")
    podman.host.start_daemon()
    await_true(lambda: podman.host.client.endpoints() == [])
    podman.call("run", "--rm", "--network", "netd", IMAGE, "ping", "-c1", "-W2", Host.OUTSIDE)
