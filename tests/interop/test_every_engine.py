"""Containers of each engine and runtime, on two hosts, meet on one overlay network."""

import os
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.lab import Host, Namespace, await_true
from tests.interop.containerd import ContainerdHost
from tests.interop.docker_engine import DockerHost
from tests.interop.oci import Oci
from tests.interop.podman import IMAGE, Podman

pytestmark = pytest.mark.timeout(240)

SLEEP = ("sleep", "600")
GATEWAY = "10.20.0.1"
BRIDGE = "segment"


class OtherHost(ContainerdHost):
    """A second host, on the segment of the first."""

    ADDRESS, ADDRESS6 = "192.0.2.20", "2001:db8::20"

    def __init__(self, stack: ExitStack, folder: Path, segment: Namespace) -> None:
        self._segment = segment
        super().__init__(stack, folder, 'network = "blue"\n')
        self.node = "host-2"

    def add_uplink(self) -> None:
        segment = self._segment
        segment.run("ip", "link", "add", BRIDGE, "type", "bridge")
        segment.run("ip", "address", "flush", "dev", "eth0")
        segment.run("ip", "link", "set", "eth0", "master", BRIDGE)
        self.run(
            *("ip", "link", "add", "eth0", "type", "veth"),
            *("peer", "name", "eth1", "netns", str(segment.pid)),
        )
        segment.run("ip", "link", "set", "eth1", "master", BRIDGE, "up")
        segment.run("ip", "link", "set", BRIDGE, "up")
        segment.run("ip", "address", "add", f"{Host.OUTSIDE}/24", "dev", BRIDGE)
        self.run("ip", "address", "add", f"{self.ADDRESS}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "route", "add", "default", "via", Host.OUTSIDE)


class Container(NamedTuple):
    """One container: its name in netd, and how a command is run in it."""

    name: str
    run: Callable[..., str]
    address: str


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Container]]:
    with ExitStack() as stack:
        one = DockerHost(stack, new_folder(tmp_path_factory, "one"))
        podman = Podman(one, "blue")
        two = OtherHost(stack, new_folder(tmp_path_factory, "two"), one.outside)
        key = tmp_path_factory.mktemp("key") / "cluster.key"
        key.touch(mode=0o600)
        key.write_bytes(b64encode(os.urandom(32)) + b"\n")
        for host in (one, two):
            host.registry = True
            host.start_daemon("--cluster-key", str(key), "--profile", "fast")
        one.client.join([two.ADDRESS])
        one.client.create_network(name="blue", driver="overlay", subnets=["10.20.0.0/16"])
        await_true(lambda: [each["name"] for each in two.client.networks()] == ["blue"], 10)
        yield [*on_the_first(one, podman), *on_the_second(two)]


def new_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """One that the registry's user can reach, unlike others of pytest's."""
    folder = factory.mktemp(name)
    for each in (folder, folder.parent, folder.parent.parent):
        each.chmod(each.stat().st_mode | 0o011)
    return folder


def on_the_first(host: DockerHost, podman: Podman) -> Iterator[Container]:
    host.start_containerd()
    host.start_engine()
    host.load_image()
    flags = ("-d", "netd", "--ipam-driver", "netd", "-o", "netd.network=blue")
    host.docker("network", "create", *flags, "blue")
    host.docker("run", "-d", "--name", "of-docker", "--network", "blue", "bb", *SLEEP)
    yield known(host, "of-docker", lambda *words: host.docker("exec", "of-docker", *words))
    podman.import_image()
    podman.call("run", "-d", "--name", "of-podman", "--network", "netd", IMAGE, *SLEEP)
    yield known(host, "of-podman", lambda *words: podman.call("exec", "of-podman", *words))


def on_the_second(host: ContainerdHost) -> Iterator[Container]:
    host.start_runtime()
    host.import_image()
    host.run_container("of-containerd", *SLEEP, flags=("-d",))
    yield known(host, "default-of-containerd", lambda *words: host.execute("of-containerd", *words))
    for runtime in ("runc", "crun"):
        oci = Oci(host, runtime)
        name = f"of-{runtime}"
        oci.start(name, *SLEEP, annotations={"netd.network": "blue", "netd.name": name})
        yield known(host, name, executor(oci, name))


def executor(oci: Oci, name: str) -> Callable[..., str]:
    return lambda *words: oci.call("exec", name, *words)


def known(host: DockerHost, name: str, run: Callable[..., str]) -> Container:
    """The container, once netd calls it so."""
    found: list[str] = []

    def is_known() -> bool:
        found[:] = [
            each["addresses"][0].partition("/")[0]
            for each in host.client.endpoints(node=host.node)
            if name in (each["name"], *each["aliases"])
        ]
        return bool(found)

    await_true(is_known, 10)
    return Container(name, run, found[0])


def test_all_reach_all_by_name(containers: list[Container]) -> None:
    assert len({each.address for each in containers}) == len(containers) == 5
    for source in containers:
        for target in containers:
            if source is not target:
                await_true(lambda: resolves(source, target), 10)  # noqa: B023 called at once
                assert "1 packets received" in source.run("ping", "-c1", "-W2", target.address), (
                    f"{source.name} to {target.name}"
                )


def resolves(source: Container, target: Container) -> bool:
    said = source.run("nslookup", f"{target.name}.blue.netd.internal", GATEWAY)
    return target.address in said
