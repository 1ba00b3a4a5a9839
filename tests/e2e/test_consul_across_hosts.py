"""Programs written for Consul on three hosts of a cluster, each with its own agent, while some die.

Host-1 holds the keys. Programs on the first two use py-consul, those on the third
python-consul2.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.consul_clients import Place
from tests.lab.container import Container
from tests.lab.host import LabHost
from tests.lab.namespaces import NamespaceLab
from tests.lab.waiting import wait_for

SEEN_S: Final = 10.0
DEAD_S: Final = 30.0


@pytest.fixture(scope="module")
def lab() -> Iterator[list[LabHost]]:
    # In a folder that the registry's user can reach, unlike pytest's.
    with tempfile.TemporaryDirectory(prefix="netd-consul-") as name:
        Path(name).chmod(0o755)
        lab = NamespaceLab(Path(name) / "lab")
        lab.folder.mkdir()
        lab.registry = True
        try:
            lab.up(3)
            # Nobody begins to hold keys before all that he knows of have been heard.
            wait_for(lambda: lab.hosts[0].succeeds("netctl", "kv", "put", "first", "1"), DEAD_S)
            by_name = {host.name: host for host in lab.hosts}
            if (holder := holder_of(lab.hosts[0])) != "host-1":
                by_name[holder].netctl("kv", "move", "host-1")
            yield list(lab.hosts)
        finally:
            lab.down()


@pytest.fixture
def hosts(lab: list[LabHost]) -> list[LabHost]:
    """All are there, and all see the keys that host-1 holds."""
    for host in lab:
        if not host.powered:
            host.power_on()
    wait_for(lambda: all(holder_of(host) == "host-1" for host in lab), what="all see the holder")
    for host in lab:
        wait_for(lambda host=host: host.api("/v1/registry")["connected"], SEEN_S)  # type: ignore[misc]
        nodes = {"host-1", "host-2", "host-3"}
        wait_for(lambda host=host, nodes=nodes: nodes_of(host) == nodes, DEAD_S)  # type: ignore[misc]
    return lab


@pytest.fixture
def places(hosts: list[LabHost], stack: ExitStack) -> list[Place]:
    one, two, three = hosts
    return [
        Place(stack, one.wrap),
        Place(stack, two.wrap),
        Place(stack, three.wrap, "python-consul2"),
    ]


def holder_of(host: LabHost) -> str:
    found = host.api("/v1/kv-holder")
    return str(found["holder"] if found["state"] in ("here", "elsewhere") else found["state"])


def in_container(stack: ExitStack, container: Container) -> Place:
    gateway = container.endpoint()["gateways"][0]

    def wrap(*command: str) -> list[str]:
        return container.host.wrap(*container.wrap(*command))

    return Place(stack, wrap, agent=f"{gateway}:8500")


def nodes_of(host: LabHost) -> set[str]:
    with ExitStack() as stack:
        rows = Place(stack, host.wrap).curl("/v1/catalog/nodes").json
    return {row["Node"] for row in rows}


def test_programs_find_each_other(hosts: list[LabHost], places: list[Place]) -> None:
    one, two, three = places
    watcher = three.start("watch", "web")
    assert watcher.line() == "1"
    servers = [place.start("web", "web", str(8080 + n)) for n, place in enumerate((one, two))]
    for server in servers:
        assert server.line() == "registered"
    while watcher.line().split()[1:] != ["web-8080", "web-8081"]:
        pass
    assert three.run("find", "web") == f"{hosts[0].address}:8080 {hosts[1].address}:8081"
    # An agent has its own, and refuses to change another's.
    assert set(two.curl("/v1/agent/services").json) == {"web-8081"}
    assert one.curl("/v1/agent/service/deregister/web-8081", body="").status == 404
    assert three.run("config", "put", "app/limit", "0") == "True"
    adders = [place.start("config", "add", "app/limit", "1") for place in places]
    for adder in adders:
        adder.finish()
    assert {place.run("config", "get", "app/limit") for place in places} == {"b'3'"}
    servers[0].finish()
    assert watcher.line().split()[1:] == ["web-8081"]
    servers[1].finish()
    assert watcher.line().split()[1:] == []


def test_containers_find_each_other(hosts: list[LabHost], stack: ExitStack) -> None:
    subnets = ("--subnet", "10.40.0.0/16", "--subnet", "fd40::/64")
    hosts[0].netctl("network", "create", "blue", "--driver", "overlay", *subnets)
    for host in hosts:
        wait_for(lambda host=host: "blue" in host.networks(), SEEN_S)  # type: ignore[misc]
    server, client = hosts[1].start("server"), hosts[2].start("client")
    for container in (server, client):
        container.attach("blue")
    shop, asking = in_container(stack, server), in_container(stack, client)
    watcher = asking.start("watch", "shop")
    assert watcher.line() == "1"
    body = {"Name": "shop", "Port": 80}
    assert shop.curl("/v1/agent/service/register", body=body).status == 200
    assert watcher.line().split()[1:] == ["shop"]
    assert asking.run("find", "shop") == f"{server.address()}:80"
    # An agent speaks for its own host's containers only.
    assert asking.curl("/v1/agent/service/deregister/shop", body="").status == 404
    body = {"Name": "shop", "ID": "stolen", "Address": server.address()}
    assert asking.curl("/v1/agent/service/register", body=body).status == 403
    assert hosts[0].api("/v1/services")[0]["address"] == server.address()
    began_s = time.monotonic()
    hosts[1].run("ip", "netns", "del", server.name)
    assert watcher.line().split()[1:] == []
    print(f"gone on another host after {time.monotonic() - began_s:.3f} s")
    for host in hosts:
        assert Place(stack, host.wrap).passing("shop") == []


def test_a_host_dies(hosts: list[LabHost], places: list[Place]) -> None:
    """Its services go, and its locks; keys that it does not hold stay."""
    one, two, three = places
    watcher = one.start("watch", "web")
    assert watcher.line() == "1"
    for number, place in enumerate((two, three)):
        assert place.start("web", "web", str(8080 + number)).line() == "registered"
    while watcher.line().split()[1:] != ["web-8080", "web-8081"]:
        pass
    leader = three.start("elect", "lead", "three")
    leader.line()
    assert leader.line() == "leads"
    second = two.start("elect", "lead", "two")
    second.line()
    assert second.line() == "follows three"
    config = two.start("config", "watch", "app/word")
    assert config.line() == "None"
    hosts[2].power_off()
    began_s = time.monotonic()
    assert watcher.line(DEAD_S).split()[1:] == ["web-8080"]
    print(f"the watcher knows after {time.monotonic() - began_s:.1f} s")
    while (line := second.line(DEAD_S)) != "leads":
        assert line == "follows nobody"
    print(f"another one leads after {time.monotonic() - began_s:.1f} s")
    assert one.run("config", "put", "app/word", "still") == "True"
    assert config.line() == "still"
    assert nodes_of(hosts[1]) == {"host-1", "host-2"}
    assert one.curl("/v1/health/node/host-3").json == []
    # What its agent had been told, it knows again.
    hosts[2].power_on()
    wait_for(lambda: hosts[2].api("/v1/registry")["connected"], SEEN_S)
    wait_for(lambda: "web-8081" in three.curl("/v1/agent/services").json, SEEN_S)


def test_the_host_with_the_keys_dies(hosts: list[LabHost], places: list[Place]) -> None:
    """There is a clear error instead of keys, and services are found all the same."""
    one, two, three = places
    assert two.run("config", "put", "app/word", "before") == "True"
    assert one.start("web", "shop", "8090").line() == "registered"
    assert three.start("web", "shop", "8091").line() == "registered"
    wait_for(lambda: two.passing("shop") == ["shop-8090", "shop-8091"], SEEN_S)
    watcher = three.start("config", "watch", "app/word")
    assert watcher.line() == "before"
    hosts[0].power_off()
    for place in (two, three):
        for verb in ("GET", "PUT"):
            answer = place.curl("/v1/kv/app/word", "-X", verb)
            assert answer.status == 500
            assert "host-1 holds the keys" in answer.body
        assert "host-1 holds the keys" in place.failure("config", "put", "app/word", "x")
        wait_for(lambda place=place: place.passing("shop") == ["shop-8091"], DEAD_S)  # type: ignore[misc]
    hosts[0].power_on()
    wait_for(lambda: two.curl("/v1/kv/app/word").status == 200, DEAD_S)
    assert two.run("config", "get", "app/word") == "b'before'"
