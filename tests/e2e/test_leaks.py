"""Nothing grows: not by thousands of requests, not by readers that never read."""

import random
import resource
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from netd.client.client import Client
from netd.client.errors import ApiError
from tests.e2e.lab import Host, Namespace
from tests.e2e.remains import Remains, resident_kib
from tests.e2e.wire import ask, call, connect, request

REQUESTS = 5_000
WARM_UP = 1_000
GROWTH_KIB = 6 * 1024
STREAMS = 1_000
STREAM_KIB = 100  # what one stream that is not read may cost: its lines, its task, its buffers


class Caller:
    """Makes requests at random, right and wrong ones, always the same with the same seed."""

    def __init__(self, host: Host, containers: list[Namespace]) -> None:
        self._host = host
        self._client = host.client
        self._containers = containers
        self._random = random.Random(7)
        self.refused = self.done = 0

    def make(self, number: int) -> None:
        kinds: list[tuple[int, Callable[[], Any]]] = [
            (4, self._attach), (3, self._detach), (2, self._update), (1, self._network),
            (1, self._drop_network), (2, self._read), (2, self._attach_wrong), (1, self._raw),
        ]  # fmt: skip
        works = [work for weight, work in kinds for _ in range(weight)]
        for _ in range(number):
            try:
                self._random.choice(works)()
                self.done += 1
            except ApiError as error:
                if error.code not in ("invalid", "not-found", "conflict", "exhausted"):
                    raise
                self.refused += 1

    def _one(self, values: list[Any]) -> Any:
        return self._random.choice(values)

    def _request(self) -> dict[str, Any]:
        number = self._random.randrange(len(self._containers))
        return {
            "container_id": f"c{number}",
            "pid": self._containers[number].pid,
            "ifname": self._one(["eth0", "eth1"]),
            "ports": self._one([[], [{"host_port": self._one([81, 82]), "container_port": 1}]]),
            "labels": {"n": str(self._random.random())},
        }

    def _attach(self) -> None:
        self._client.attach(self._one(["n1", "n2"]), **self._request())

    def _attach_wrong(self) -> None:
        wrong = self._one(
            [
                {"ifname": "a/b"}, {"addresses": ["10.9.9.9"]}, {"pid": 4194304},
                {"netns": "/dev/null", "pid": None}, {"colour": 1}, {"mac": "x"},
            ]
        )  # fmt: skip
        self._client.attach("n1", **self._request() | wrong)

    def _detach(self) -> None:
        endpoints = self._client.endpoints()
        self._client.detach(self._one(endpoints)["id"] if endpoints else "none")

    def _update(self) -> None:
        endpoints = self._client.endpoints()
        ident = self._one(endpoints)["id"] if endpoints else "none"
        self._client.update_endpoint(ident, aliases=[f"a{self._random.randrange(99)}"])

    def _network(self) -> None:
        self._client.create_network(name=self._one(["n1", "n2", "n3"]), driver="bridge")

    def _drop_network(self) -> None:
        self._client.delete_network(self._one(["n1", "n2", "n3"]))

    def _read(self) -> None:
        self._one(
            [
                self._client.status, self._client.networks, self._client.plan,
                self._client.metrics, lambda: self._client.resolve("a.n1"),
                lambda: self._client.network("none"), lambda: list(self._client.names()),
            ]
        )()  # fmt: skip

    def _raw(self) -> None:
        text = bytes(self._random.randrange(256) for _ in range(60))
        body = request("POST", "/v1/networks", text)
        ask(self._host.socket, self._one([text + b"\r\n\r\n", body]))
        with connect(self._host.socket) as connection:
            connection.sendall(body[: self._random.randrange(1, len(body))])


@pytest.mark.timeout(120)
def test_five_thousand_requests_leave_nothing(host: Host) -> None:
    containers = [host.container() for _ in range(4)]
    before = Remains.settled(host)
    caller = Caller(host, containers)
    caller.make(WARM_UP)
    warm_kib = resident_kib(host.daemon_pid)
    caller.make(REQUESTS - WARM_UP)
    grown_kib = resident_kib(host.daemon_pid) - warm_kib
    assert caller.done > REQUESTS / 4
    assert caller.refused > REQUESTS / 10
    for number in range(len(containers)):
        host.client.detach_container(f"c{number}")
    for network in host.client.networks():
        host.client.delete_network(network["id"])
    before.check(host)
    # The daemon keeps the last events and leases; beyond these it has no reason to grow.
    assert grown_kib < GROWTH_KIB
    assert "Traceback" not in host.log.read_text()


@pytest.mark.timeout(120)
def test_a_thousand_streams_that_are_not_read(host: Host) -> None:
    """Each costs no more than its buffers, whatever happens meanwhile, and hinders nobody."""
    client = host.client
    client.create_network(name="blue", driver="bridge")
    container = host.container()
    ident = host.attach("blue", container, labels={"a": "x" * 1000})["id"]
    before = Remains.of(host)
    quiet_kib = resident_kib(host.daemon_pid)
    with ExitStack() as stack:
        for number in range(STREAMS):
            reader = stack.enter_context(connect(host.socket))
            target = "/v1/names?watch=1" if number % 4 == 0 else "/v1/events"
            reader.sendall(request("GET", target, last=False))
        slowest_s = 0.0
        for number in range(200):
            began_s = time.monotonic()
            client.update_endpoint(ident, aliases=[f"a{number}"])
            slowest_s = max(slowest_s, time.monotonic() - began_s)
        open_kib = resident_kib(host.daemon_pid) - quiet_kib
        assert open_kib < STREAMS * STREAM_KIB
        assert slowest_s < 2.0
        assert host.client.status()["ready"]
    before.check(host)


def test_streams_that_begin_in_the_past_cost_no_more(host: Host) -> None:
    """A reader that asks for all that was kept gets it bit by bit, not as a copy."""
    client = host.client
    client.create_network(name="alone", driver="none")
    for number in range(1_500):
        client.delete_network("alone")
        client.create_network(name="alone", driver="none", labels={"n": str(number)})
    quiet_kib = resident_kib(host.daemon_pid)
    with ExitStack() as stack:
        readers = [stack.enter_context(connect(host.socket)) for _ in range(200)]
        for reader in readers:
            reader.sendall(request("GET", "/v1/events?since=0", last=False))
        for _ in range(20):
            assert call(host.socket, "GET", "/healthz").status == 200
        assert resident_kib(host.daemon_pid) - quiet_kib < 200 * STREAM_KIB
        first = readers[0].recv(1 << 16)
    assert b"events.lost" in first or b"daemon.started" in first


def test_streams_end_with_their_readers(host: Host) -> None:
    before = Remains.of(host)
    for _ in range(100):
        with Client(host.socket) as client, client.names(watch=True) as lines:
            assert next(lines)["op"] in ("add", "sync")
        with connect(host.socket) as reader:
            reader.sendall(request("GET", "/v1/events", last=False))
    before.check(host)


def test_running_out_of_descriptors_is_survived(host: Host) -> None:
    """Root may open as many connections as he likes, and harm himself only for as long."""
    client = host.client
    client.create_network(name="blue", driver="bridge")
    container = host.container()
    before = Remains.of(host)
    few = len(list(Path(f"/proc/{host.daemon_pid}/fd").iterdir())) + 12
    resource.prlimit(host.daemon_pid, resource.RLIMIT_NOFILE, (few, few))
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(connect(host.socket))
        # On the connection that the client has already.
        with pytest.raises(ApiError, match="Too many open files"):
            client.attach("blue", container_id="c", pid=container.pid)
        assert client.endpoints() == []
    made = client.attach("blue", container_id="c", pid=container.pid)
    client.detach(made["id"])
    before.check(host)
    assert client.status()["ready"]
