"""netd-oci-hook under real runtimes: annotations, errors, and containers that end in any way."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.lab import Host, await_true, ip_of
from tests.interop.docker_engine import DockerHost
from tests.interop.oci import RUNTIMES, Oci, installed

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module", params=RUNTIMES)
def oci(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oci]:
    runtime = str(request.param)
    assert installed(runtime), f"{runtime} is not installed: scripts/setup test"
    with ExitStack() as stack:
        host = DockerHost(stack, tmp_path_factory.mktemp(runtime))
        host.start_daemon()
        subnets = ["10.20.0.0/24", "fd20::/64"]
        host.client.create_network(name="blue", driver="bridge", subnets=subnets)
        host.client.create_network(name="green", driver="bridge", subnets=["10.30.0.0/24"])
        yield Oci(host, runtime)


def await_nothing(oci: Oci) -> None:
    await_true(lambda: oci.host.client.endpoints() == [])


def test_a_containers_life(oci: Oci) -> None:
    wishes = {
        "netd.network": "blue, green",
        "netd.name": "web",
        "netd.ip": "10.20.0.40,fd20::40",
        "netd.mac.blue": "02:00:00:00:00:44",
        "netd.ports": "8080:80,127.0.0.1:9000-9001:90-91/udp",
        "netd.aliases": "www",
        "netd.service": "shop:80",
        "netd.ip.green": "10.30.0.40",
        "org.example": "is of no interest",
    }
    made = oci.create("one", "httpd", "-f", "-p", "80", annotations=wishes)
    assert made.returncode == 0, oci.said("one")
    oci.call("start", "one")
    blue, green = sorted(oci.host.client.endpoints(), key=lambda each: str(each["network"]))
    assert (blue["name"], blue["mac"], blue["aliases"]) == ("web", "02:00:00:00:00:44", ["www"])
    assert (ip_of(blue), ip_of(blue, 6), ip_of(green)) == ("10.20.0.40", "fd20::40", "10.30.0.40")
    assert [blue["ifname"], green["ifname"]] == ["eth0", "eth1"]
    assert [each["name"] for each in oci.host.client.services()] == ["shop"]
    # The second one pings the first, the host is asked at a published port.
    made = oci.create(
        "two", "ping", "-c1", "-W2", "10.20.0.40", annotations={"netd.network": "blue"}
    )
    oci.call("start", "two")
    await_true(lambda: "1 packets received" in oci.said("two"))
    await_true(
        lambda: "404" in oci.host.run("curl", "-s", f"http://{Host.ADDRESS}:8080/", check=False)
    )
    oci.call("delete", "--force", "one")
    oci.call("delete", "--force", "two")
    assert oci.host.client.endpoints() == []


def test_a_container_whose_runtime_never_says_that_it_ended(oci: Oci) -> None:
    oci.create("killed", "sleep", "600", annotations={"netd.network": "blue"})
    oci.call("start", "killed")
    (endpoint,) = oci.host.client.endpoints()
    pids = oci.host.run("pgrep", "-x", "sleep").split()
    oci.host.run("kill", "-KILL", *pids)
    await_nothing(oci)
    assert endpoint["container_id"] == "killed"
    oci.call("delete", "killed")  # poststop for what is gone


def test_a_container_that_goes_while_the_daemon_is_away(oci: Oci) -> None:
    oci.create("late", "sleep", "600", annotations={"netd.network": "blue"})
    oci.call("start", "late")
    oci.host.stop_daemon()
    oci.call("delete", "--force", "late")
    oci.host.start_daemon()
    await_nothing(oci)


def test_who_has_the_same_id_elsewhere_keeps_its_network(oci: Oci) -> None:
    oci.start("twin", "sleep", "600", annotations={"netd.network": "blue"})
    (endpoint,) = oci.host.client.endpoints()
    names = {"ifname": "eth1", "ifname.blue": "eth0"}
    refusing = Oci(oci.host, oci.runtime, "refusing")
    assert "in another namespace" in refusing.refused("twin", network="green,blue", **names)
    assert oci.host.client.endpoints() == [endpoint]
    other = Oci(oci.host, oci.runtime, "other")
    other.start("twin", "sleep", "600", annotations={"netd.network": "green"})
    assert len(oci.host.client.endpoints()) == 2
    other.call("delete", "--force", "twin")
    assert oci.host.client.endpoints() == [endpoint]
    oci.call("delete", "--force", "twin")
    assert oci.host.client.endpoints() == []


def test_what_asks_for_nothing_is_left_alone(oci: Oci) -> None:
    made = oci.create("plain", "true", annotations={"org.example": "x"}, network=False)
    assert made.returncode == 0, oci.said("plain")
    oci.call("delete", "--force", "plain")


def test_errors_are_shown_and_leave_nothing(oci: Oci) -> None:
    assert "no network 'red'" in oci.refused("a", network="red")
    assert "no network 'red'" in oci.refused("b", network="blue,red")
    assert "10.99.0.1" in oci.refused("c", network="blue", ip="10.99.0.1")
    assert "no number of a port" in oci.refused("d", network="blue", ports="80:80:80:80")
    assert "on no such network" in oci.refused("e", network="blue", **{"ip.green": "10.30.0.9"})
    await_nothing(oci)


def test_a_container_on_the_hosts_network_is_refused(oci: Oci) -> None:
    made = oci.create("h", "true", annotations={"netd.network": "blue"}, network=False)
    assert made.returncode != 0
    assert "the host's network" in oci.said("h")
    assert oci.host.client.endpoints() == []
