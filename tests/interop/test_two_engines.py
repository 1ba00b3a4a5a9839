"""A Docker Engine on each of two hosts, both with a container on one overlay network."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

import pytest
from docker.models.containers import Container

from tests.e2e.lab import await_true
from tests.interop.docker_engine import IMAGE, DockerHost
from tests.interop.pairs import new_folder, start_cluster
from tests.interop.reach import answers
from tests.interop.traces import traces

pytestmark = pytest.mark.timeout(120)

T = TypeVar("T")

GATEWAY = "10.20.0.1"
NETWORK = ("-d", "netd", "--ipam-driver", "netd", "-o", "netd.network=blue")
SEEN_S = 20.0  # an engine that starts anew has more to do than to bring its containers back


class Pair:
    """The two hosts."""

    def __init__(self, stack: ExitStack) -> None:
        self.one = DockerHost(stack, new_folder(stack))
        self.two = DockerHost(stack, new_folder(stack), beside=self.one)
        self.hosts = (self.one, self.two)
        self.flags = start_cluster(self.hosts)
        self._pool = stack.enter_context(ThreadPoolExecutor(len(self.hosts)))
        for host in self.hosts:
            host.start_containerd()
            host.launch_engine()
        self.at_once(DockerHost.await_engine)
        self.at_once(DockerHost.load_image)

    def at_once(self, work: Callable[[DockerHost], T]) -> list[T]:
        """Do the same on both."""
        return list(self._pool.map(work, self.hosts))


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(stack)


def run(host: DockerHost) -> Container:
    """A web server that is called as its host is."""
    return host.engine().containers.run(
        *(IMAGE, ["httpd", "-f", "-p", "80"]),
        name=f"on-{host.node}",
        network="blue",
        dns=[GATEWAY],
        ports={80: 8080},
        restart_policy={"Name": "always"},
        stop_signal="KILL",
        detach=True,
    )


def address_of(container: Container) -> str:
    container.reload()
    found: str = container.attrs["NetworkSettings"]["Networks"]["blue"]["IPAddress"]
    return found


def sees(container: Container, other: Container, host: DockerHost) -> bool:
    """Whether the container reaches the other by its name, and by its port on `host`."""
    address = address_of(other)
    urls = (f"http://{other.name}/", f"http://{host.ADDRESS}:8080/")
    fetch = "; ".join(f"timeout 2 wget -O- {url}" for url in urls)
    script = f"ping -c1 -W1 {other.name}; {fetch}"
    said: str = container.exec_run(["sh", "-c", script]).output.decode()
    found = f"({address})" in said and "1 packets received" in said
    return found and said.count("404 Not Found") == len(urls)  # it has no pages


def test_engines_of_two_hosts_on_one_network(pair: Pair) -> None:
    one, two = pair.hosts
    outside = one.outside
    one.client.create_network(name="blue", driver="overlay", subnets=["10.20.0.0/16"])
    await_true(lambda: len(two.client.networks()) == 1, 10)
    before = pair.at_once(traces)
    pair.at_once(lambda host: host.docker("network", "create", *NETWORK, "blue"))
    first, second = pair.at_once(run)
    address = address_of(second)

    def all_is_well() -> bool:
        return (
            sees(first, second, two)
            and sees(second, first, one)
            and all(answers(outside, f"http://{host.ADDRESS}:8080/") for host in pair.hosts)
        )

    assert address_of(first) != address
    await_true(all_is_well, SEEN_S)

    two.kill()
    assert answers(outside, f"http://{two.ADDRESS}:8080/")
    await_true(all_is_well, SEEN_S)  # names, too, are there without it
    two.start_daemon(*pair.flags)
    assert [each["addresses"] for each in two.client.endpoints(node="host-2")] == [
        [f"{address}/16"]
    ]
    await_true(all_is_well, SEEN_S)

    one.kill_engine()
    assert answers(outside, f"http://{one.ADDRESS}:8080/")  # its containers go on
    one.start_engine()
    await_true(lambda: one.inspect(first.name)["State"]["Running"], SEEN_S)
    await_true(all_is_well, SEEN_S)

    for container in (first, second):
        container.remove(force=True)
    pair.at_once(lambda host: host.docker("network", "rm", "blue"))
    await_true(lambda: pair.at_once(traces) == before, 10)
