"""netd-cni under a real containerd: `ctr run --cni`, restarts and deaths of both."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from netd.runtimes.shim.daemon import tombstones_of
from tests.e2e.lab import Host, await_true
from tests.e2e.remains import Remains
from tests.interop.containerd import CONFLIST, ContainerdHost, installed
from tests.interop.docker_engine import IMAGE as DOCKER_IMAGE

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not installed(), reason="containerd is not installed"),
]

SEVERAL = 8


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerdHost]:
    """One containerd and one netd for all tests of this module."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("containerd")
        host = ContainerdHost(stack, folder, 'network = "blue"\n')
        host.start_daemon()
        host.client.create_network(name="blue", driver="bridge", subnets=["10.20.0.0/24"])
        host.start_runtime()
        host.import_image()
        yield host


@pytest.fixture
def peer(engine: ContainerdHost) -> Iterator[str]:
    """The address of a container that goes on for the test."""
    engine.run_container("peer", "sleep", "600", flags=("-d",))
    (address,) = engine.addresses("default-peer")
    yield address
    engine.end_container("peer")
    await_true(lambda: engine.client.endpoints() == [])


def test_a_container_has_its_place_while_it_lives(engine: ContainerdHost, peer: str) -> None:
    before = Remains.of(engine)
    shown = engine.run_container("one", "ip", "address", "show", "eth0", flags=("--rm",))
    assert "inet 10.20.0." in shown
    assert [each["container_id"] for each in engine.client.endpoints()] == ["default-peer"]
    before.check(engine)
    out = engine.run_container("two", "ping", "-c1", "-W2", peer, flags=("--rm",))
    assert "1 packets received" in out
    out = engine.run_container("three", "ping", "-c1", "-W2", Host.OUTSIDE, flags=("--rm",))
    assert "1 packets received" in out


def test_several_start_and_end_at_once(engine: ContainerdHost, peer: str) -> None:
    """Each reaches one that was there before. Nothing is left of them."""
    before = Remains.of(engine)
    names = [f"m{number}" for number in range(SEVERAL)]

    def run(name: str) -> str:
        return engine.run_container(name, "ping", "-c1", "-W2", peer, flags=("--rm",))

    with ThreadPoolExecutor(SEVERAL) as pool:
        assert all("1 packets received" in said for said in pool.map(run, names))
    assert [each["container_id"] for each in engine.client.endpoints()] == ["default-peer"]
    before.check(engine)


def test_containerd_and_netd_start_again_in_either_order(engine: ContainerdHost, peer: str) -> None:
    engine.stop_runtime()
    engine.stop_daemon()
    engine.start_daemon()
    engine.start_runtime()
    assert "1 packets received" in engine.execute("peer", "ping", "-c1", "-W2", Host.OUTSIDE)
    engine.kill()
    engine.kill_runtime()
    engine.start_runtime()
    engine.start_daemon()
    assert "1 packets received" in engine.execute("peer", "ping", "-c1", "-W2", Host.OUTSIDE)
    assert engine.addresses("default-peer") == [peer]
    assert engine.plan() == []


def test_without_netd_a_container_does_not_start_and_one_can_end(
    engine: ContainerdHost, peer: str
) -> None:
    engine.stop_daemon()
    refused = engine.run_container_failing("late")
    assert "netd cannot be reached" in refused
    engine.start_daemon()
    assert [each["container_id"] for each in engine.client.endpoints()] == ["default-peer"]
    out = engine.run_container("again", "true", flags=("--rm",))
    assert out == ""


def runs(engine: ContainerdHost, name: str) -> bool:
    tasks = [line.split() for line in engine.ctr("task", "ls").splitlines()]
    return any(task[0] == name and task[-1] == "RUNNING" for task in tasks)


def test_netd_dies_while_a_container_runs(engine: ContainerdHost, peer: str) -> None:
    """The DEL at the container's end finds nobody, succeeds, and is made good at the start."""
    waiting = engine.start_container("short", "sleep", "8")
    # Not only attached: the plugin has its answer, too.
    await_true(lambda: runs(engine, "short"), 20)
    engine.kill()
    assert waiting.wait(30) == 0
    noted = engine.run("ls", tombstones_of(engine.socket)).split()
    assert len(noted) == 1  # else it ended before the daemon did
    engine.start_daemon()
    assert [each["container_id"] for each in engine.client.endpoints()] == ["default-peer"]


def test_containers_of_two_engines_meet(engine: ContainerdHost, peer: str) -> None:
    """One network, one set of names: Docker's container finds that of containerd, and back."""
    engine.start_containerd()  # Docker's own
    engine.start_engine()
    engine.load_image()
    engine.docker(
        *("network", "create", "-d", "netd", "--ipam-driver", "netd"),
        *("-o", "netd.network=blue", "blue"),
    )
    engine.docker("run", "-d", "--name", "whale", "--network", "blue", DOCKER_IMAGE, "sleep", "600")
    try:
        (whale,) = [
            each["addresses"][0].partition("/")[0]
            for each in engine.client.endpoints()
            if each["container_id"] != "default-peer"
        ]
        assert "1 packets received" in engine.docker("exec", "whale", "ping", "-c1", "-W2", peer)
        assert "1 packets received" in engine.execute("peer", "ping", "-c1", "-W2", whale)
        found = engine.client.resolve("default-peer", source=whale)
        assert [record["data"] for record in found["records"]] == [peer]
    finally:
        engine.docker("rm", "-f", "whale")
        engine.docker("network", "rm", "blue")
        engine.stop_engine()


def test_the_configuration_is_there_and_pods_have_their_cidr(tmp_path: Path) -> None:
    with ExitStack() as stack:
        cni = 'name = "pods"\nsubnets = ["10.244.3.0/24", "fd44:0:0:3::/64"]\nmasquerade = false\n'
        node = ContainerdHost(stack, tmp_path, cni)
        node.start_daemon()
        await_true(lambda: node.succeeds("test", "-e", CONFLIST))
        node.start_runtime()
        node.import_image()
        node.outside.run("ip", "route", "add", "10.244.0.0/16", "via", Host.ADDRESS)
        out = node.run_container("pod", "ping", "-c1", "-W2", Host.OUTSIDE, flags=("--rm",))
        assert "1 packets received" in out
        shown = node.run_container("pod6", "ip", "address", "show", "eth0", flags=("--rm",))
        assert "10.244.3." in shown
        assert "fd44:0:0:3::" in shown
