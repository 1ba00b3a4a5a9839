"""netd as network and IPAM driver of a real Docker Engine."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest
from docker.models.containers import Container

from tests.e2e.lab import await_true, ip_of
from tests.interop.docker_engine import IMAGE, DockerHost
from tests.interop.traces import traces

pytestmark = pytest.mark.timeout(120)

SLEEP = ("sleep", "600")
MANY = 24
NETD = ("-d", "netd", "--ipam-driver", "netd")


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerHost]:
    """One engine and one netd for all tests of this module, with netd's network `blue`."""
    for program in ("dockerd", "containerd", "docker", "busybox"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    with started() as host:
        yield host


@contextmanager
def started(template: Path | None = None) -> Iterator[DockerHost]:
    """The machine's engine, or that in `template`."""
    # In a folder that the registry's user can reach, unlike pytest's.
    with tempfile.TemporaryDirectory(prefix="netd-docker-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        host = DockerHost(stack, folder, template=template)
        host.registry = True
        host.start_daemon()
        host.start_containerd()
        host.start_engine()
        host.load_image()
        host.client.create_network(
            name="blue", driver="bridge", subnets=["10.20.0.0/24", "fd20::/64"]
        )
        yield host


@pytest.fixture
def docker(engine: DockerHost) -> Iterator[DockerHost]:
    """Nothing is left of a test: in the engine by force, and in netd by itself."""
    before = traces(engine)
    yield engine
    for endpoint in engine.client.endpoints():
        if endpoint["container_id"].startswith("bare-"):
            engine.client.detach(endpoint["id"])
    if containers := engine.docker("ps", "-aq").split():
        engine.docker("rm", "-f", *containers)
    networks = engine.docker("network", "ls", "-q", "--filter", "driver=netd").split()
    if networks and not engine.succeeds("docker", "network", "rm", *networks):
        # It counts containers wrongly at times when several end at once (moby#42119), and anew
        # when it starts.
        engine.stop_engine()
        engine.start_engine()
        engine.docker("network", "rm", *networks)
    await_true(lambda: traces(engine) == before)


def join_blue(docker: DockerHost, *flags: str) -> None:
    docker.docker("network", "create", *NETD, "-o", "netd.network=blue", *flags, "blue")


def run(docker: DockerHost, name: str, *flags: str, network: str = "blue") -> dict[str, Any]:
    """Start a container that sleeps; what the engine says of its place in the network."""
    start = ("run", "-d", "--stop-signal", "KILL", "--name", name, "--network", network)
    docker.docker(*start, *flags, IMAGE, *SLEEP)
    found: dict[str, Any] = docker.inspect(name)["NetworkSettings"]["Networks"][network]
    return found


def pings(docker: DockerHost, name: str, address: str) -> bool:
    return docker.succeeds("docker", "exec", name, "ping", "-c1", "-W1", address)


def resolves(docker: DockerHost, name: str, asked: str, address: str) -> bool:
    return address in docker.docker("exec", name, "nslookup", asked, check=False)


def knows(docker: DockerHost, name: str, source: str, address: str) -> bool:
    """Whether netd itself leads whoever has the address `source` from the name to `address`."""
    return address in json.dumps(docker.client.resolve(name, source=source))


def answers(docker: DockerHost, url: str) -> bool:
    """Whether a web server is there, as seen from outside."""
    done = docker.outside.run(
        "curl", "-s", "-o/dev/null", "-w%{http_code}", "-m2", url, check=False
    )
    return done == "404"


def test_containers_of_docker_and_others_are_on_one_network(docker: DockerHost) -> None:
    join_blue(docker)
    first = run(docker, "c1")
    endpoint = docker.client.attach(
        "blue", container_id="bare-1", netns=docker.bare("b1"), name="bare"
    )
    second = run(docker, "c2")
    assert first["IPAddress"] != second["IPAddress"]
    for address in (first["IPAddress"], first["GlobalIPv6Address"]):
        assert pings(docker, "c2", address)
        assert docker.bare_pings("b1", address)
    assert pings(docker, "c1", endpoint["addresses"][0].partition("/")[0])
    assert pings(docker, "c1", docker.OUTSIDE)
    assert pings(docker, "c1", docker.OUTSIDE6)


def test_containers_can_be_deaf_to_router_advertisements(docker: DockerHost) -> None:
    """By what DOCKER.md says: netd has nothing inside Docker's containers."""
    join_blue(docker)
    setting = "net.ipv6.conf.{}.accept_ra=0"
    flags: tuple[str, ...] = ("--network", "blue", "--sysctl", setting.format("eth0"))
    if int(docker.docker("version", "-f", "{{.Server.Version}}").split(".")[0]) >= 28:
        option = f"com.docker.network.endpoint.sysctls={setting.format('IFNAME')}"
        flags = ("--network", f"name=blue,driver-opt={option}")
    docker.docker("run", "-d", "--name", "c1", *flags, IMAGE, *SLEEP)
    value = docker.docker("exec", "c1", "cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra")
    assert value == "0"


def test_names(docker: DockerHost) -> None:
    """Docker's own are asked first, and netd for all else."""
    join_blue(docker)
    web = run(docker, "web", "--network-alias", "shop")
    endpoint = docker.client.attach(
        "blue", container_id="bare-2", netns=docker.bare("b2"), name="bare"
    )
    run(docker, "c2", "--dns", "10.20.0.1")
    assert resolves(docker, "c2", "web", web["IPAddress"])
    bare = endpoint["addresses"][0].partition("/")[0]
    assert resolves(docker, "c2", "bare", bare)
    assert resolves(docker, "c2", "bare.blue.netd.internal", bare)
    for name in ("web", "shop", docker.inspect("web")["Id"][:12]):
        await_true(partial(knows, docker, name, bare, web["IPAddress"]))
    docker.docker("rename", "web", "store")
    await_true(partial(knows, docker, "store", bare, web["IPAddress"]))
    assert "store" in {each["name"] for each in docker.client.endpoints()}
    pointer = ".".join(reversed(web["IPAddress"].split("."))) + ".in-addr.arpa"
    assert "store.blue.netd.internal" in json.dumps(docker.client.resolve(pointer, "PTR"))


def test_ports(docker: DockerHost) -> None:
    join_blue(docker)
    web = ("httpd", "-f", "-p", "80")
    docker.docker(
        *("run", "-d", "--name", "web", "--network", "blue", "-p", "8080:80", "-p", "81", IMAGE),
        *web,
    )
    await_true(partial(answers, docker, f"http://{docker.ADDRESS}:8080/"))
    await_true(partial(answers, docker, f"http://[{docker.ADDRESS6}]:8080/"))
    (endpoint,) = docker.client.endpoints()
    assert sorted(port["container_port"] for port in endpoint["ports"]) == [80, 81]
    second = ("run", "-d", "--name", "w2", "--network", "blue", "-p", "8080:80", IMAGE, *web)
    refused = subprocess.run(
        docker.wrap("docker", *second), capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode != 0
    assert "8080 is taken by" in refused.stderr
    assert docker.inspect("w2")["State"]["Status"] == "created"
    docker.docker("stop", "-t0", "web")
    assert not answers(docker, f"http://{docker.ADDRESS}:8080/")
    docker.docker("start", "w2")
    await_true(partial(answers, docker, f"http://{docker.ADDRESS}:8080/"))


def test_static_addresses_and_macs(docker: DockerHost) -> None:
    join_blue(docker, "--subnet", "10.20.0.0/24", "--ipv6", "--subnet", "fd20::/64")
    mac = "02:42:0a:14:00:63"
    client = docker.engine()
    place = client.api.create_endpoint_config(ipv4_address="10.20.0.99", ipv6_address="fd20::99")
    made = client.api.create_container(
        IMAGE,
        list(SLEEP),
        name="c1",
        mac_address=mac,
        networking_config=client.api.create_networking_config({"blue": place}),
        host_config=client.api.create_host_config(network_mode="blue"),
    )
    client.api.start(made)
    place = docker.inspect("c1")["NetworkSettings"]["Networks"]["blue"]
    assert (place["IPAddress"], place["GlobalIPv6Address"]) == ("10.20.0.99", "fd20::99")
    assert place["MacAddress"] == mac
    seen = docker.docker("exec", "c1", "ip", "address", "show", "eth0")
    assert all(text in seen for text in ("10.20.0.99/24", "fd20::99/64", mac, "mtu 1500"))
    (endpoint,) = docker.client.endpoints()
    assert endpoint["addresses"] == ["10.20.0.99/24", "fd20::99/64"]


def test_a_network_of_its_own_that_leads_nowhere(docker: DockerHost) -> None:
    docker.docker("network", "create", *NETD, "--internal", "-o", "netd.name=red", "red")
    first = run(docker, "c1", network="red")
    run(docker, "c2", network="red")
    assert pings(docker, "c2", first["IPAddress"])
    assert not pings(docker, "c2", docker.OUTSIDE)
    routes = docker.docker("exec", "c2", "ip", "route")
    assert "default" not in routes
    assert docker.docker("exec", "c2", "ip", "-o", "link").count(": eth") == 1  # no docker_gwbridge
    assert docker.client.network("red")["internal"]


def test_with_the_addresses_of_docker(docker: DockerHost) -> None:
    docker.docker("network", "create", "-d", "netd", "--ipv6", "--subnet", "fd77::/64", "green")
    first = run(docker, "c1", network="green")
    run(docker, "c2", network="green")
    assert pings(docker, "c2", first["IPAddress"])
    assert pings(docker, "c2", first["GlobalIPv6Address"])
    assert pings(docker, "c2", docker.OUTSIDE)


def test_a_running_container_is_connected_and_disconnected(docker: DockerHost) -> None:
    join_blue(docker)
    docker.docker("network", "create", *NETD, "red")
    run(docker, "c1")
    inside = run(docker, "c2", network="red")
    for _ in range(2):
        docker.docker("network", "connect", "red", "c1")
        assert pings(docker, "c1", inside["IPAddress"])
        docker.docker("network", "disconnect", "red", "c1")
        assert not pings(docker, "c1", inside["IPAddress"])
        assert pings(docker, "c1", docker.OUTSIDE)
    docker.docker("network", "disconnect", "blue", "c1")
    assert docker.docker("exec", "c1", "ip", "-o", "link").count(": eth") == 0


def test_a_container_is_restarted(docker: DockerHost) -> None:
    join_blue(docker)
    run(docker, "c1")
    run(docker, "c2", "-p", "8080:80")
    docker.docker("restart", "-t0", "c2")
    again = docker.inspect("c2")["NetworkSettings"]["Networks"]["blue"]
    assert pings(docker, "c1", again["IPAddress"])
    (port,) = [port for endpoint in docker.client.endpoints() for port in endpoint["ports"]]
    assert port["host_port"] == 8080


@pytest.mark.timeout(240)
def test_many_start_and_end_at_once(docker: DockerHost) -> None:
    """None fails, no two have one address or one port; the fixture sees whether any is left."""
    join_blue(docker)
    engine = docker.engine(at_once=MANY)
    names = {f"m{number}" for number in range(MANY)}

    def start(number: int) -> Container:
        return engine.containers.run(
            *(IMAGE, list(SLEEP)),
            name=f"m{number}",
            network="blue",
            ports={80: None},  # any
            stop_signal="KILL",
            detach=True,
        )

    with ThreadPoolExecutor(MANY) as pool:
        containers = list(pool.map(start, range(MANY)))
        endpoints = docker.client.endpoints()
        for unique in (
            {ip_of(each) for each in endpoints},
            {port["host_port"] for each in endpoints for port in each["ports"]},
        ):
            assert len(unique) == len(endpoints) == MANY
        await_true(lambda: {each["name"] for each in docker.client.endpoints()} == names)
        last = docker.inspect(f"m{MANY - 1}")["NetworkSettings"]["Networks"]["blue"]
        assert pings(docker, "m0", last["IPAddress"])
        list(pool.map(lambda container: container.remove(force=True), containers))
    assert docker.client.endpoints() == []


def test_a_container_that_dies_leaves_nothing(docker: DockerHost) -> None:
    join_blue(docker)
    run(docker, "c1")
    docker.docker("kill", "c1")
    await_true(lambda: docker.client.endpoints() == [])


def test_a_container_of_the_host(docker: DockerHost) -> None:
    join_blue(docker)
    docker.docker("run", "-d", "--name", "c1", "--network", "host", IMAGE, *SLEEP)
    assert docker.client.endpoints() == []


@pytest.mark.parametrize("order", [("netd", "dockerd"), ("dockerd", "netd")])
@pytest.mark.parametrize("how", ["one after the other", "both killed"])
def test_either_side_starts_anew(docker: DockerHost, order: tuple[str, str], how: str) -> None:
    """The engine ends its containers and starts them again; nothing of the old ones is left."""
    join_blue(docker)
    run(docker, "c1", "--restart", "always")
    start = {"netd": docker.start_daemon, "dockerd": docker.start_engine}
    stop = {"netd": docker.stop_daemon, "dockerd": docker.stop_engine}
    kill = {"netd": docker.kill, "dockerd": docker.kill_engine}
    if how == "both killed":
        for side in order:
            kill[side]()
        docker.start_daemon()
        docker.start_engine()
    else:
        for side in order:
            stop[side]()
            start[side]()
    await_true(lambda: docker.inspect("c1")["State"]["Running"], within_s=20)
    place = docker.inspect("c1")["NetworkSettings"]["Networks"]["blue"]
    run(docker, "c2")
    assert pings(docker, "c2", place["IPAddress"])
    await_true(lambda: len(docker.client.endpoints()) == 2)


def test_containers_that_outlive_the_engine(docker: DockerHost) -> None:
    """live-restore: the engine that comes makes no calls for them, and knows nothing of ports."""
    docker.stop_engine()
    docker.start_engine("--live-restore")
    join_blue(docker)
    run(docker, "c1")
    web = ("--stop-signal", "KILL", IMAGE, "httpd", "-f", "-p", "80")
    docker.docker("run", "-d", "--name", "web", "--network", "blue", "-p", "8080:80", *web)
    before = docker.client.endpoints()
    docker.kill_engine()
    docker.kill()
    await_true(partial(answers, docker, f"http://{docker.ADDRESS}:8080/"))
    docker.start_daemon()
    docker.start_engine("--live-restore")
    assert docker.client.endpoints() == before
    await_true(partial(answers, docker, f"http://{docker.ADDRESS}:8080/"))
    run(docker, "c2")
    address = docker.inspect("web")["NetworkSettings"]["Networks"]["blue"]["IPAddress"]
    assert pings(docker, "c2", address)
    docker.docker("stop", "web")
    await_true(lambda: len(docker.client.endpoints()) == 2)
    assert not answers(docker, f"http://{docker.ADDRESS}:8080/")
    docker.docker("rm", "-f", "c1", "c2")
    docker.stop_engine()
    docker.start_engine()


def test_an_endpoint_that_the_engine_has_forgotten_ends(docker: DockerHost) -> None:
    """As if it had been killed after it had asked for one, and before it had noted that."""
    join_blue(docker)
    run(docker, "c1", "--restart", "always")
    network = docker.docker("network", "inspect", "-f", "{{.Id}}", "blue")
    call = {"NetworkID": network, "EndpointID": "f" * 64, "Interface": {}, "Options": {}}
    docker.run(
        *("curl", "-sf", "--unix-socket", "/run/docker/plugins/netd.sock", "-d", json.dumps(call)),
        "http://plugin/NetworkDriver.CreateEndpoint",
    )
    assert len(docker.client.endpoints()) == 2
    docker.kill_engine()
    docker.start_engine()
    await_true(lambda: [each["name"] for each in docker.client.endpoints()] == ["c1"], within_s=25)


def test_an_overlay_network(docker: DockerHost) -> None:
    """It is opened with the first container and closed after the last."""
    docker.client.create_network(name="wide", driver="overlay", subnets=["10.60.0.0/24"])
    docker.docker("network", "create", *NETD, "-o", "netd.network=wide", "wide")
    for _ in range(2):
        first = run(docker, "c1", network="wide")
        run(docker, "c2", network="wide")
        assert pings(docker, "c2", first["IPAddress"])
        assert pings(docker, "c2", docker.OUTSIDE)
        assert docker.docker("exec", "c2", "cat", "/sys/class/net/eth0/mtu") == "1450"
        docker.docker("rm", "-f", "c1", "c2")
        await_true(lambda: "nd-wide" not in docker.links())
    docker.docker("network", "rm", "wide")
    docker.client.delete_network("wide")


def test_netd_starts_anew_while_containers_run(docker: DockerHost) -> None:
    join_blue(docker)
    first = run(docker, "c1")
    docker.kill()
    run_refused = docker.succeeds("docker", "exec", "c1", "true")
    assert run_refused  # what needs no network needs no netd
    docker.start_daemon()
    run(docker, "c2")
    assert pings(docker, "c2", first["IPAddress"])
    docker.docker("rm", "-f", "c1")
    await_true(lambda: len(docker.client.endpoints()) == 1)


def test_programs_as_people_write_them(docker: DockerHost) -> None:
    client = docker.engine()
    green = client.networks.create("green", driver="netd")
    joined = client.networks.create(
        "blue",
        driver="netd",
        options={"netd.network": "blue"},
        ipam=docker_py.types.IPAMConfig(driver="netd"),
    )
    web = client.containers.run(IMAGE, list(SLEEP), name="web", network="green", detach=True)
    said = client.containers.run(IMAGE, ["ping", "-c1", "web"], network="green", remove=True)
    assert b"1 packets received" in said
    joined.connect(web, aliases=["shop"])
    said = client.containers.run(IMAGE, ["ping", "-c1", "shop"], network="blue", remove=True)
    assert b"1 packets received" in said
    said = client.containers.run(IMAGE, ["ip", "link"], network_mode="host", remove=True)
    assert b"nd-blue" in said
    joined.disconnect(web)
    web.remove(force=True)
    green.remove()
    joined.remove()
    assert docker.client.endpoints() == []
