"""kill -9 at every step: what was answered is there, the rest is wholly there or wholly gone."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from netd.client.client import Client
from netd.client.errors import Unreachable
from tests.e2e.census import await_removals, census, ruleset_of
from tests.e2e.dying import MortalHost
from tests.e2e.lab import Namespace

World = tuple[frozenset[str], ...]  # the census of the host and of each container

BLUE = {
    "name": "blue",
    "driver": "bridge",
    "subnets": ["10.20.0.0/24", "fd20::/64"],
}
RED = {"name": "red", "driver": "bridge", "subnets": ["10.30.0.0/24", "fd30::/64"]}
LAN = {
    "name": "lan",
    "driver": "macvlan",
    "parent": "eth0",
    "subnets": ["10.40.0.0/24", "fd40::/64"],
    "options": {"shim": True},
}
PORTS = [
    {"host_port": 8080, "container_port": 80},
    {"host_port": 5353, "container_port": 53, "protocol": "udp"},
]
BANDWIDTH = {"ingress_bps": 50_000_000, "egress_bps": 80_000_000}


class Sweep:
    """One use case, killed at each of its steps and looked at after each death."""

    def __init__(self, host: MortalHost) -> None:
        self.host = host
        self.one, self.bystander = host.container(), host.container()
        for container in (self.one, self.bystander):
            container.run("ip", "link", "set", "lo", "up")  # netd would, and leave it so
        host.start_daemon()

    def settle_bystander(self) -> None:
        """An endpoint that was answered long ago and must not notice anything."""
        self.host.client.create_network(**RED)
        self.host.attach(
            "red", self.bystander, name="bystander", ports=[{"host_port": 99, "container_port": 9}]
        )

    def run(
        self,
        call: Callable[[], dict[str, Any]],
        *,
        undo: Callable[[], None],
        between: Callable[[], None] | None = None,
    ) -> int:
        """Kill the daemon at each step of `call`; return how many steps there were.

        `undo` leads back to the state before, `between` to one that is legitimately half-way.
        """
        before = self._world()
        legitimate = [before]
        if between is not None:
            between()
            legitimate.append(self._world())
            undo()
            assert self._world() == before
        self._do(call())
        after = self._world()
        legitimate.append(after)
        undo()
        _assert_same(self._world(), before, "undo")
        for step in range(1000):
            todo = call()
            self.host.kill()
            died = self.host.dies(todo, step)
            self.host.start_daemon()
            assert self.host.plan() == []
            world = self._world()
            if not died:
                legitimate = [after]
            likeliest = min(legitimate, key=lambda state: _distance(world, state))
            _assert_same(world, likeliest, f"killed at step {step}")
            self._assert_bystander_talks()
            self._do(todo)  # it can be asked again, and then it is done
            assert self.host.plan() == []
            if not died:
                _assert_same(self._world(), after, "asked again at last")
            undo()  # what that leaves behind, the next round finds
            if not died:
                _assert_same(self._world(), before, "undone at last")
                return step
        raise AssertionError("the use case does not end")

    def _do(self, call: dict[str, Any]) -> None:
        client = self.host.client
        match call["use_case"]:
            case "create_network":
                client.create_network(**call["spec"])
            case "delete_network":
                client.delete_network(call["network"])
            case "attach":
                client.attach(call["network"], **call["request"])
            case "update":
                client.update_endpoint(call["endpoint"], **call["patch"])
            case "detach":
                client.detach(call["endpoint"])
            case "detach_container":
                client.detach_container(call["container"])

    def _world(self) -> World:
        """Everything in the kernel, in the words of what the API lists.

        Of held ports those of UDP stand for all: ss does not show the others.
        """
        await_removals(self.host)
        names = dict(self._names())
        held = {f"held {line}" for line in self.host.run("ss", "-Hnlu").splitlines()}
        host = census(self.host, names) | ruleset_of(self.host, names) | held
        return (host, census(self.one, names), census(self.bystander, names))

    def _names(self) -> Iterator[tuple[str, str]]:
        for network in self.host.client.networks():
            yield network["id"], network["name"]
        for endpoint in self.host.client.endpoints():
            meaning = f"{endpoint['name']} on {endpoint['network']}"
            yield endpoint["id"], meaning
            yield endpoint["id"][:12], meaning  # within names of links

    def _assert_bystander_talks(self) -> None:
        if self.host.client.endpoints(container_id=f"c{self.bystander.pid}"):
            assert self.bystander.pings(MortalHost.OUTSIDE6)


def _distance(one: World, other: World) -> int:
    return sum(len(has ^ want) for has, want in zip(one, other, strict=True))


def _assert_same(found: World, wanted: World, when: str) -> None:
    for space, has, want in zip(("host", "container", "bystander"), found, wanted, strict=True):
        if has != want:
            more, less = "\n".join(sorted(has - want)), "\n".join(sorted(want - has))
            raise AssertionError(f"{when}, in the {space}\ntoo much:\n{more}\nmissing:\n{less}")


@pytest.fixture
def sweep(stack: ExitStack, tmp_path: Path) -> Sweep:
    return Sweep(MortalHost(stack, tmp_path))


def test_kill_while_the_first_network_is_made(sweep: Sweep) -> None:
    steps = sweep.run(
        lambda: {"use_case": "create_network", "spec": BLUE},
        undo=lambda: sweep.host.client.delete_network("blue"),
    )
    assert steps > 15


def test_kill_while_the_last_network_is_deleted(sweep: Sweep) -> None:
    sweep.host.client.create_network(**BLUE)

    def undo() -> None:
        sweep.host.client.create_network(**BLUE)

    steps = sweep.run(lambda: {"use_case": "delete_network", "network": "blue"}, undo=undo)
    assert steps > 8


def test_kill_while_a_macvlan_network_is_made(sweep: Sweep) -> None:
    sweep.settle_bystander()
    steps = sweep.run(
        lambda: {"use_case": "create_network", "spec": LAN},
        undo=lambda: sweep.host.client.delete_network("lan"),
    )
    assert steps > 3


@pytest.mark.parametrize(
    ("network", "more", "least"),
    [
        pytest.param(BLUE, {"ports": PORTS, "bandwidth": BANDWIDTH}, 15, id="bridge"),
        # The last two leave something in the container that no link of the host leads to.
        pytest.param(BLUE, {"default_route": False}, 8, id="bridge, own table"),
        pytest.param(LAN, {}, 5, id="macvlan"),
    ],
)
def test_kill_while_attaching(
    sweep: Sweep, network: dict[str, Any], more: dict[str, Any], least: int
) -> None:
    sweep.settle_bystander()
    sweep.host.client.create_network(**network)
    request = {"container_id": "box", "pid": sweep.one.pid, "name": "one", "aliases": ["uno"]}
    steps = sweep.run(
        lambda: {"use_case": "attach", "network": network["name"], "request": request | more},
        undo=lambda: sweep.host.client.detach_container("box"),
    )
    assert steps > least


def test_kill_while_updating(sweep: Sweep) -> None:
    sweep.settle_bystander()
    host = sweep.host
    host.client.create_network(**BLUE)
    endpoint = host.attach("blue", sweep.one, name="one", ports=PORTS, bandwidth=BANDWIDTH)["id"]
    patch = {
        "ports": [PORTS[0], {"host_port": 8443, "container_port": 443}],
        "aliases": ["uno"],
        "bandwidth": {"ingress_bps": 20_000_000, "egress_bps": None},
    }

    def undo() -> None:
        host.client.update_endpoint(endpoint, ports=PORTS, aliases=[], bandwidth=BANDWIDTH)

    call = {"use_case": "update", "endpoint": endpoint, "patch": patch}
    assert sweep.run(lambda: call, undo=undo) > 8


@pytest.mark.parametrize("network", ["blue", "lan"])
def test_kill_while_detaching_the_default_route(sweep: Sweep, network: str) -> None:
    """The other endpoint of the container takes the default route over."""
    sweep.settle_bystander()
    host = sweep.host
    host.client.create_network(**(BLUE if network == "blue" else LAN | {"gateways": ["10.40.0.9"]}))
    first: dict[str, Any] = {}

    def undo() -> None:
        host.client.detach_container("box")
        request = {"container_id": "box", "pid": sweep.one.pid, "name": "one"}
        more = {"ports": PORTS, "bandwidth": BANDWIDTH} if network == "blue" else {}
        first.update(host.client.attach(network, **request, **more))
        host.client.attach("red", **request, ifname="eth1")

    undo()
    call = lambda: {"use_case": "detach", "endpoint": first["id"]}  # noqa: E731
    assert sweep.run(call, undo=undo) > 4


def test_kill_while_detaching_an_own_table(sweep: Sweep) -> None:
    """No other endpoint is left by which the container would be looked into."""
    host = sweep.host
    host.client.create_network(**BLUE)
    only: dict[str, Any] = {}

    def undo() -> None:
        only.update(host.attach("blue", sweep.one, name="one", default_route=False))

    undo()
    call = lambda: {"use_case": "detach", "endpoint": only["id"]}  # noqa: E731
    assert sweep.run(call, undo=undo) > 4


def test_kill_while_detaching_a_container(sweep: Sweep) -> None:
    sweep.settle_bystander()
    host = sweep.host
    host.client.create_network(**BLUE)
    request = {"container_id": "box", "pid": sweep.one.pid, "name": "one"}
    second: dict[str, Any] = {}

    def undo() -> None:
        host.client.detach_container("box")
        host.client.attach("blue", **request, ports=PORTS, bandwidth=BANDWIDTH)
        second.update(host.client.attach("red", **request, ifname="eth1"))

    undo()
    steps = sweep.run(
        lambda: {"use_case": "detach_container", "container": "box"},
        undo=undo,
        between=lambda: host.client.detach(second["id"]),
    )
    assert steps > 8


KILLS = 25
CLIENTS = 8


class Churn(threading.Thread):
    """A client that attaches and detaches until told to end, and keeps what it was answered.

    `known` is for each container the answer of its last request, None when it is detached;
    one whose request was not answered is missing.
    """

    def __init__(self, host: MortalHost, containers: list[Namespace], seed: int) -> None:
        super().__init__()
        self.known: dict[int, dict[str, Any] | None] = dict.fromkeys(range(len(containers)))
        self.answers = 0
        self.failure: Exception | None = None
        self._client = Client(host.socket)
        self._containers = containers
        self._random = random.Random(seed)
        self._seed = seed
        self._end = threading.Event()

    def run(self) -> None:
        try:
            while not self._end.is_set():
                self._ask(self._random.randrange(len(self._containers)))
                self.answers += 1
        except Unreachable:
            pass  # the daemon was killed; the request is unanswered
        except Exception as error:  # noqa: BLE001 - told to the test, which ends by it
            self.failure = error
        finally:
            self._client.close()

    def finish(self) -> None:
        self._end.set()
        self.join()
        if self.failure is not None:
            raise self.failure

    def _ask(self, number: int) -> None:
        endpoint = self.known.pop(number)
        if endpoint is not None:
            self._client.detach(endpoint["id"])
            self.known[number] = None
            return
        ports = [{"host_port": 20_000 + 100 * self._seed + number, "container_port": 80}]
        self.known[number] = self._client.attach(
            self._random.choice(("blue", "red")),
            pid=self._containers[number].pid,
            container_id=f"{self._seed}-{number}",
            ports=ports if self._random.random() < 0.5 else [],
        )


def test_killed_at_random_while_clients_come_and_go(stack: ExitStack, tmp_path: Path) -> None:
    host = MortalHost(stack, tmp_path)
    containers = {seed: [host.container() for _ in range(2)] for seed in range(CLIENTS)}
    host.start_daemon()
    host.client.create_network(**BLUE)
    host.client.create_network(**RED)
    chance = random.Random(4711)
    known: dict[int, dict[int, dict[str, Any] | None]] = {}
    listed: dict[str, dict[str, Any]] = {}
    answers = 0
    for _ in range(KILLS):
        churns = {seed: Churn(host, boxes, seed) for seed, boxes in containers.items()}
        for seed, churn in churns.items():
            churn.known.update(known.get(seed, {}))
            churn.start()
        time.sleep(chance.uniform(0.0, 0.2))  # the random instant
        host.kill()
        for churn in churns.values():
            churn.finish()
            answers += churn.answers
        host.start_daemon()
        assert host.plan() == []
        listed = {endpoint["container_id"]: endpoint for endpoint in host.client.endpoints()}
        for seed, churn in churns.items():
            for number, answered in churn.known.items():
                assert listed.get(f"{seed}-{number}") == answered
            known[seed] = {n: listed.get(f"{seed}-{n}") for n in range(2)}
    assert answers > 10 * KILLS
    await_removals(host)
    assert set(host.links()) == {"eth0", "nd-blue", "nd-red"} | {
        endpoint["host_ifname"] for endpoint in listed.values()
    }
    for seed, boxes in containers.items():
        for number, box in enumerate(boxes):
            endpoint = listed.get(f"{seed}-{number}")
            assert box.links() == ([] if endpoint is None else ["eth0"])
            assert endpoint is None or box.pings(endpoint["gateways"][0])
