"""Keys, sessions and locks on three hosts, while the one that holds them is killed and cut off."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count, pairwise
from typing import Any

import pytest

from netd.client import ApiError, Client, Unreachable
from tests.e2e.cluster_lab import Cluster, ClusterHost
from tests.lab.waiting import wait_for

KILLS = 3
BETWEEN_S = 1.0
LARGE = bytes(range(256)) * 2048  # the largest there may be


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ClusterHost]]:
    """Three hosts; host-1 holds the keys."""
    with ExitStack() as stack:
        cluster = Cluster(stack, tmp_path_factory.mktemp("kv"), 3, profile="fast")
        config = cluster.folder / "netd.toml"
        config.write_text('[kv]\nholder = "host-1"\n')
        cluster.flags += ("--config", str(config))
        for host in cluster.hosts:
            host.flags += ["--config", str(config)]
        cluster.start()
        cluster.join()
        cluster.hosts[1].netctl("kv", "put", "first", "1")
        yield cluster.hosts


@pytest.fixture(autouse=True)
def whole(hosts: list[ClusterHost]) -> Iterator[None]:
    """After each test all hosts are there again, and host-1 holds the keys."""
    yield
    for host in hosts:
        host.mend()
        if not host.running:
            host.up()
    wait_for(lambda: {state(host) for host in hosts} == {"host-1"}, what="all see the holder")


def state(host: ClusterHost) -> str:
    """The holder's name, if the host reaches it."""
    found = host.client.kv.status()
    seen = found["holder"] if found["state"] in ("here", "elsewhere") else found["state"]
    return str(seen)


def test_what_one_host_writes_the_others_read(hosts: list[ClusterHost]) -> None:
    one, two, three = hosts
    two.netctl("kv", "put", "config/port", "8080")
    assert three.netctl("kv", "get", "config/port") == "8080\n"
    assert one.netctl("kv", "ls", "config/", "-q") == "config/port\n"
    said = three.netctl("kv", "put", "config/port", "1", "--cas", "0", code=4)
    assert "it exists" in said
    assert "no key nothing" in two.netctl("kv", "get", "nothing", code=3)
    for number in range(4):
        assert two.client.kv.put(f"large/{number}", LARGE)
    values = [entry["value"] for entry in three.client.kv.entries("large/")["entries"]]
    assert values == [LARGE] * 4
    three.netctl("kv", "delete", "--tree", "large/")
    assert one.netctl("kv", "ls", "large/", "-q") == ""


def test_a_host_waits_for_what_another_writes(hosts: list[ClusterHost]) -> None:
    _, two, three = hosts
    two.client.kv.put("watched", b"1")
    index = three.client.kv.get("watched")["index"]
    found: list[tuple[bytes, float]] = []

    def wait() -> None:
        with Client(three.socket) as client:
            entry = client.kv.get("watched", index, 15)["entry"]
            found.append((entry["value"], time.monotonic()))

    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_for(lambda: three.client.kv.status()["waiting"] == 1)
    two.client.kv.put("other", b"1")
    began_s = time.monotonic()
    two.client.kv.put("watched", b"2")
    waiting.join(20)
    assert found[0][0] == b"2"
    assert found[0][1] - began_s < 2.0


def test_a_lock_ends_with_its_host(hosts: list[ClusterHost]) -> None:
    one, two, three = hosts
    session = three.client.kv.create_session(lock_delay_s=0)["id"]
    assert three.client.kv.put("leader", b"host-3", acquire=session)
    other = two.client.kv.create_session()["id"]
    assert not two.client.kv.put("leader", b"host-2", acquire=other)
    three.kill()
    wait_for(lambda: two.client.kv.put("leader", b"host-2", acquire=other), 60)
    assert [found["id"] for found in one.client.kv.sessions("host-3")] == []


def test_without_the_holder_there_is_a_clear_error_and_no_second_truth(
    hosts: list[ClusterHost],
) -> None:
    one, two, three = hosts
    two.client.kv.put("k", b"1")
    one.kill()
    for host in (two, three):
        said = host.netctl("kv", "put", "k", "2", code=1)
        assert "host-1 holds the keys" in said
        assert "host-1 holds the keys" in host.netctl("kv", "get", "k", code=1)
    assert state(two) == "unreachable"
    one.up()
    wait_for(lambda: state(two) == "host-1")
    assert two.client.kv.get("k")["entry"]["value"] == b"1"
    # Cut off it goes on for its own host.
    for other in (two, three):
        one.drop(f"ip saddr {other.address}")
        other.drop(f"ip saddr {one.address}")
    with pytest.raises(ApiError) as caught:
        three.client.kv.put("k", b"3")
    assert caught.value.code == "unavailable"
    assert one.client.kv.put("k", b"4")
    for host in hosts:
        host.mend()
    wait_for(lambda: state(three) == "host-1")
    assert three.client.kv.get("k")["entry"]["value"] == b"4"


def test_keys_move_and_the_old_holder_may_go(hosts: list[ClusterHost]) -> None:
    one, two, three = hosts
    session = three.client.kv.create_session(ttl_s=60.0)["id"]
    assert three.client.kv.put("moved", LARGE, acquire=session)
    before = three.client.kv.entries()
    one.netctl("kv", "move", "host-2")
    one.kill()
    assert three.client.kv.entries() == before
    assert three.client.kv.put("moved", b"x", release=session)
    two.kill()
    two.up()
    wait_for(lambda: state(three) == "host-2")
    assert three.client.kv.get("moved")["entry"]["value"] == b"x"
    one.up()
    wait_for(lambda: state(one) == "host-2")
    two.netctl("kv", "move", "host-1")


# While the holder dies


class Workers:
    """Threads that do something again and again until told to stop."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def start(self, host: ClusterHost, step: Callable[[Client], None]) -> None:
        """What cannot be reached is tried again; whatever else fails is a failure."""

        def run() -> None:
            try:
                with Client(host.socket, timeout_s=30) as client:
                    while not self.stop.is_set():
                        try:
                            step(client)
                        except (Unreachable, ApiError) as error:
                            if isinstance(error, ApiError) and error.code != "unavailable":
                                raise
                            self.stop.wait(0.02)
            except BaseException as error:  # noqa: BLE001 - it is raised where all are joined
                self.failures.append(error)

        thread = threading.Thread(target=run)
        self._threads.append(thread)
        thread.start()

    def join(self) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()
        if self.failures:
            raise self.failures[0]


@contextmanager
def working() -> Iterator[Workers]:
    workers = Workers()
    try:
        yield workers
    finally:
        workers.join()


def trouble(hosts: list[ClusterHost]) -> None:
    """The holder is killed, cut off and stopped while the others go on."""
    one, two, three = hosts
    for number in range(KILLS):
        time.sleep(BETWEEN_S)
        if number % 2:
            one.drop(f"ip saddr {two.address}")
            two.drop(f"ip saddr {one.address}")
            time.sleep(BETWEEN_S)
        one.kill()
        one.up()
        one.mend()
        two.mend()
        wait_for(lambda: state(two) == state(three) == "host-1", 90)
    time.sleep(BETWEEN_S)


def test_no_write_that_was_answered_is_lost(hosts: list[ClusterHost]) -> None:
    answered: dict[str, list[int]] = {host.node: [] for host in hosts}
    tried: dict[str, int] = dict.fromkeys(answered, 0)

    def writer(host: ClusterHost) -> Callable[[Client], None]:
        numbers = count(1)

        def step(client: Client) -> None:
            number = next(numbers)
            tried[host.node] = number
            if client.kv.put(f"safe/{host.node}/{number}", b"%d" % number):
                answered[host.node].append(number)

        return step

    with working() as workers:
        for host in hosts:
            workers.start(host, writer(host))
        trouble(hosts)
    one, _, three = hosts
    # Once more from the disk.
    one.kill()
    one.up()
    wait_for(lambda: state(three) == "host-1")
    found = set(three.client.kv.names("safe/")["keys"])
    for host in hosts:
        wanted = {f"safe/{host.node}/{number}" for number in answered[host.node]}
        assert len(wanted) > 20
        assert wanted <= found
        assert len(wanted) <= tried[host.node]
    three.client.kv.delete_tree("safe/")


def test_no_count_by_cas_is_lost_or_made_twice(hosts: list[ClusterHost]) -> None:
    done = {host.node: 0 for host in hosts}
    unknown = {host.node: 0 for host in hosts}

    def counter(host: ClusterHost) -> Callable[[Client], None]:
        def step(client: Client) -> None:
            entry = client.kv.get("count")["entry"]
            value = int(entry["value"]) if entry else 0
            index = entry["modify_index"] if entry else 0
            try:
                done[host.node] += client.kv.put("count", b"%d" % (value + 1), cas=index)
            except (ApiError, Unreachable):
                unknown[host.node] += 1  # it may have been made
                raise

        return step

    with working() as workers:
        for host in hosts:
            workers.start(host, counter(host))
        trouble(hosts)
    total = int(hosts[2].client.kv.get("count")["entry"]["value"])
    least = sum(done.values())
    assert least > 50
    assert least <= total <= least + sum(unknown.values())


def test_no_lock_is_held_twice(hosts: list[ClusterHost]) -> None:
    """From the answer to an acquisition until its release is asked for, nobody else gets it."""
    held: list[tuple[float, float, str]] = []
    sessions: list[str] = []

    def locker(host: ClusterHost) -> Callable[[Client], None]:
        # It ends with nothing but the lock: so nobody may ever take the lock away from it.
        session = host.client.kv.create_session(node_checks=(), lock_delay_s=0)["id"]
        sessions.append(session)

        def step(client: Client) -> None:
            # Without an answer it may have been acquired all the same: the next one tells.
            got = client.kv.put("lock", host.node.encode(), acquire=session)
            from_s = time.monotonic()
            if not got:
                time.sleep(0.002)
                return
            time.sleep(0.005)
            entry = until_answered(lambda: client.kv.get("lock")["entry"])
            assert entry["session"] == session
            held.append((from_s, time.monotonic(), host.node))
            until_answered(lambda: client.kv.put("lock", b"", release=session))

        return step

    with working() as workers:
        for host in hosts:
            workers.start(host, locker(host))
        trouble(hosts)
    held.sort()
    overlaps = [(a, b) for a, b in pairwise(held) if b[0] < a[1]]
    assert not overlaps
    assert len(held) > 30
    assert len({node for _, _, node in held}) == 3
    for session in sessions:
        hosts[0].client.kv.destroy_session(session)


def until_answered(call: Callable[[], Any]) -> Any:
    """Make a call until it is answered, for a minute."""
    deadline_s = time.monotonic() + 60
    while True:
        try:
            return call()
        except (ApiError, Unreachable):
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.02)
