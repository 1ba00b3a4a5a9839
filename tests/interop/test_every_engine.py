"""Containers of each engine and runtime, on two hosts, meet on one overlay network."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from tests.e2e.lab import await_true
from tests.interop.containerd import ContainerdHost
from tests.interop.docker_engine import DockerHost
from tests.interop.oci import Oci
from tests.interop.pairs import new_folder, start_cluster
from tests.interop.podman import IMAGE, Podman

pytestmark = pytest.mark.timeout(240)

SLEEP = ("sleep", "600")
GATEWAY = "10.20.0.1"


class Container(NamedTuple):
    """One container: its name in netd, and how a command is run in it."""

    name: str
    run: Callable[..., str]
    address: str


@pytest.fixture(scope="module")
def containers() -> Iterator[list[Container]]:
    with ExitStack() as stack:
        one = DockerHost(stack, new_folder(stack))
        podman = Podman(one, "blue")
        two = ContainerdHost(stack, new_folder(stack), 'network = "blue"\n', beside=one)
        start_cluster((one, two))
        one.client.create_network(name="blue", driver="overlay", subnets=["10.20.0.0/16"])
        await_true(lambda: [each["name"] for each in two.client.networks()] == ["blue"], 10)
        yield [*on_the_first(one, podman), *on_the_second(two)]


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
