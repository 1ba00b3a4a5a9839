"""A Docker Engine that is newer than the machine's: what engines do in different ways.

It is Debian 13's, 26.1; with NETD_ENGINES_RELEASE another one.
"""

import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.e2e.lab import await_true
from tests.interop import test_docker as life
from tests.interop.docker_engine import IMAGE, READY_S, DockerHost
from tests.interop.other_release import debian_13
from tests.interop.test_docker import answers, join_blue, pings, resolves, run

pytestmark = pytest.mark.timeout(240)  # the file system may have to be made

HELD_UP_S = 5.0  # so long an engine that ends waits for those who talk to it


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerHost]:
    with life.started(debian_13()) as host:
        yield host


docker = life.docker

test_containers_of_docker_and_others_are_on_one_network = (
    life.test_containers_of_docker_and_others_are_on_one_network
)
test_containers_can_be_deaf_to_router_advertisements = (
    life.test_containers_can_be_deaf_to_router_advertisements
)
test_names = life.test_names
test_ports = life.test_ports
test_static_addresses_and_macs = life.test_static_addresses_and_macs
test_a_network_of_its_own_that_leads_nowhere = life.test_a_network_of_its_own_that_leads_nowhere
test_containers_that_outlive_the_engine = life.test_containers_that_outlive_the_engine


def test_both_are_killed(docker: DockerHost) -> None:
    life.test_either_side_starts_anew(docker, ("netd", "dockerd"), "both killed")


def test_an_engine_that_ends_is_not_held_up(docker: DockerHost) -> None:
    """netd follows what it tells."""
    join_blue(docker)
    run(docker, "c1")
    await_true(lambda: [each["name"] for each in docker.client.endpoints()] == ["c1"])
    docker.docker("kill", "c1")
    began_s = time.monotonic()
    docker.stop_engine()
    assert time.monotonic() - began_s < HELD_UP_S
    docker.start_engine()


def test_a_running_container_gets_a_place_of_ones_choice(docker: DockerHost) -> None:
    """And has it again after it was restarted."""
    join_blue(docker, "--subnet", "10.20.0.0/24", "--ipv6", "--subnet", "fd20::/64")
    run(docker, "c1")
    healthy = ("--health-cmd", "ping -c1 -W1 10.20.0.1", "--health-interval", "1s")
    run(docker, "c2", *healthy, network="bridge")
    place = ("--ip", "10.20.0.99", "--ip6", "fd20::99", "--alias", "www")
    docker.docker("network", "connect", *place, "blue", "c2")
    for again in (False, True):
        if again:
            docker.docker("restart", "-t0", "c2")
        assert resolves(docker, "c1", "www", "10.20.0.99")
        assert pings(docker, "c1", "fd20::99")
        found = docker.inspect("c2")["NetworkSettings"]["Networks"]["blue"]
        links = docker.docker("exec", "c2", "ip", "link")
        assert found["MacAddress"] in links
        await_true(lambda: docker.inspect("c2")["State"]["Health"]["Status"] == "healthy", READY_S)


def test_beside_a_bridge_of_dockers(docker: DockerHost) -> None:
    """Containers of either reach published ports of the other, and nothing else."""
    join_blue(docker)
    docker.docker("network", "create", "own")
    web = ("sh", "-c", "httpd -p 90; exec httpd -f -p 80")
    addresses = {}
    try:
        for network, port in (("blue", 8080), ("own", 8081)):
            flags = ("--stop-signal", "KILL", "--network", network, "-p", f"{port}:80")
            docker.docker("run", "-d", "--name", f"on-{network}", *flags, IMAGE, *web)
            found = docker.inspect(f"on-{network}")["NetworkSettings"]["Networks"][network]
            addresses[network] = found["IPAddress"]
            await_true(partial(answers, docker, f"http://{docker.ADDRESS}:{port}/"))
        for name, port, other in (("on-own", 8080, "blue"), ("on-blue", 8081, "own")):
            assert fetches(docker, name, f"{docker.ADDRESS}:{port}")
            assert not fetches(docker, name, f"{addresses[other]}:90")
            assert fetches(docker, f"on-{other}", f"{addresses[other]}:90")
    finally:
        docker.docker("rm", "-f", "on-own")
        docker.docker("network", "rm", "own")


def fetches(docker: DockerHost, name: str, place: str) -> bool:
    """Whether a web server is there for the container."""
    script = f"timeout 2 wget -O- http://{place}/ 2>&1; true"
    return "404" in docker.docker("exec", name, "sh", "-c", script)
