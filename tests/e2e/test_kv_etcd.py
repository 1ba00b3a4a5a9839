"""Keys and networks in etcd: three hosts with a member of etcd each, of which one is lost or cut
off.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from shutil import which

import pytest

from netd.client import ApiError, Client
from tests.e2e.cluster_lab import Cluster, ClusterHost
from tests.e2e.test_kv import until_answered, working
from tests.lab.waiting import wait_for


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three hosts whose netds reach all members of etcd."""
    if which("etcd") is None:
        pytest.skip("etcd is not installed (Debian: etcd-server)")
    with ExitStack() as stack:
        cluster = Cluster(stack, tmp_path_factory.mktemp("etcd"), 3, profile="fast")
        members = ",".join(f"{host.node}=http://{host.address}:2380" for host in cluster.hosts)
        for host in cluster.hosts:
            start_etcd(host, members)
        urls = [f"http://{host.address}:2379" for host in cluster.hosts]
        config = cluster.folder / "netd.toml"
        config.write_text(f'[kv]\nbackend = "etcd"\nnetworks = "etcd"\netcd = {urls}\n')
        for host in cluster.hosts:
            host.flags += ["--config", str(config)]
        cluster.flags += ("--config", str(config))
        cluster.start()
        cluster.join()
        wait_for(
            lambda: {host.client.kv.status()["state"] for host in cluster.hosts} == {"elsewhere"}
        )
        yield cluster


@pytest.fixture
def hosts(cluster: Cluster) -> list[ClusterHost]:
    return cluster.hosts


def start_etcd(host: ClusterHost, members: str) -> None:
    client, peer = f"http://{host.address}:2379", f"http://{host.address}:2380"
    host.start_program(
        *("etcd", "--name", host.node, "--data-dir", str(host.folder / "etcd")),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
        *("--initial-cluster", members, "--logger", "zap", "--log-level", "error"),
        *("--log-outputs", str(host.folder / "etcd.log")),
    )


def test_all_hosts_have_the_same_keys(hosts: list[ClusterHost]) -> None:
    one, two, three = hosts
    two.netctl("kv", "put", "config/port", "8080")
    assert three.netctl("kv", "get", "config/port") == "8080\n"
    status = one.client.kv.status()
    assert (status["backend"], status["keys"]) == ("etcd", 1)
    assert "no host holds them" in one.netctl("kv", "move", "host-2", code=4)


def test_a_host_that_is_cut_off_writes_nothing_and_loses_its_locks(
    hosts: list[ClusterHost],
) -> None:
    one, two, three = hosts
    session = three.client.kv.create_session(lock_delay_s=1.0)["id"]
    assert three.client.kv.put("leader", b"host-3", acquire=session)
    other = two.client.kv.create_session()["id"]
    assert not two.client.kv.put("leader", b"host-2", acquire=other)
    cut_s = time.monotonic()
    for host in (one, two):
        three.drop(f"ip saddr {host.address}")
        host.drop(f"ip saddr {three.address}")
    with pytest.raises(ApiError) as caught:
        three.client.kv.put("leader", b"again", acquire=session)
    assert caught.value.code == "unavailable"
    with pytest.raises(ApiError):
        three.client.kv.get("leader")
    wait_for(
        lambda: until_answered(lambda: two.client.kv.put("leader", b"host-2", acquire=other)), 60
    )
    # Its lease had to end first, which it renews each 4 s.
    assert time.monotonic() - cut_s > 10
    for host in hosts:
        host.mend()
    until_answered(lambda: three.client.kv.get("leader"))
    assert not three.client.kv.put("leader", b"host-3", release=session)
    assert three.client.kv.get("leader")["entry"]["session"] == other
    wait_for(lambda: [found["id"] for found in three.client.kv.sessions()] == [other])
    two.client.kv.destroy_session(other)


def test_no_write_that_was_answered_is_lost_with_a_member(hosts: list[ClusterHost]) -> None:
    one, two, three = hosts
    answered: dict[str, list[int]] = {host.node: [] for host in hosts}

    def writer(host: ClusterHost) -> Callable[[Client], None]:
        numbers = count(1)

        def step(client: Client) -> None:
            number = next(numbers)
            if client.kv.put(f"safe/{host.node}/{number}", b"x"):
                answered[host.node].append(number)

        return step

    with working() as workers:
        for host in hosts:
            workers.start(host, writer(host))
        for lost in hosts:
            time.sleep(1.0)
            lost.drop("tcp dport 2379", "tcp dport 2380", "tcp sport 2380", "tcp sport 2379")
            time.sleep(3.0)
            lost.mend()
        time.sleep(1.0)
    found = set(until_answered(lambda: two.client.kv.names("safe/"))["keys"])
    for host in (one, two, three):
        wanted = {f"safe/{host.node}/{number}" for number in answered[host.node]}
        assert len(wanted) > 20
        assert wanted <= found


def test_a_network_whose_maker_is_dead_is_used_on_all_hosts(cluster: Cluster) -> None:
    one, two, three = cluster.hosts
    with cluster.guest("host-4") as maker:
        maker.up()
        maker.netctl("member", "join", one.address)
        cluster.await_whole([*cluster.hosts, maker])
        network = maker.client.create_network(name="blue", driver="overlay")
        maker.attach("blue", maker.container())
        maker.kill()
    cluster.await_seen("dead", [maker], cluster.hosts)
    # The maker may have died before it had told them; what etcd has they look at in intervals.
    until_answered(lambda: [host.client.network("blue") for host in cluster.hosts])
    freed = two.netctl("network", "reclaim", "blue", "host-4").split()
    assert len(freed) >= 2, "of each subnet"
    containers = [(host, host.container()) for host in cluster.hosts]
    endpoints = [host.attach("blue", container) for host, container in containers]
    assert {endpoint["network_id"] for endpoint in endpoints} == {network["id"]}
    addresses = [endpoint["addresses"][0].partition("/")[0] for endpoint in endpoints]
    assert len(set(addresses)) == len(addresses)
    wait_for(
        lambda: all(
            container.pings(address) for _, container in containers for address in addresses
        ),
        what="all reach all",
    )

    three.drop("tcp dport 2379", "tcp sport 2379")
    assert three.client.network("blue")["id"] == network["id"]
    assert three.attach("blue", three.container())["network_id"] == network["id"]
    said = three.netctl("network", "create", "red", "--driver", "overlay", code=1)
    assert "etcd decides" in said
    three.mend()
    until_answered(lambda: three.client.create_network(name="red", driver="overlay"))
    with pytest.raises(ApiError, match="exists in the cluster"):
        two.client.create_network(name="red", driver="overlay", internal=True)
