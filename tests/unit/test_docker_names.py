"""Names of Docker's containers: heard beside the plugin's calls."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from netd.model.names import peer_name
from netd.plan.objects import HOST
from netd.runtimes.docker import idle as idle_module
from netd.runtimes.docker import namer as namer_module
from netd.runtimes.docker.container_names import NAMES_MAX, names_of
from tests.unit.docker_lab import NETWORK_ID, FakeEngine
from tests.unit.engine_fixture import Host

CONTAINER_ID = "c0ffee" + "0" * 58


class EngineApi:
    """The engine's own API, as far as netd asks it: what a test puts there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.networks: dict[str, dict[str, Any]] = {}
        self.containers: dict[str, dict[str, Any]] = {}
        self.starting = asyncio.Event()  # containers answer once it is set
        self.starting.set()
        self.asked = asyncio.Event()  # once somebody has asked for a container
        self._streams: list[asyncio.Queue[bytes | None]] = []
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/events", self._events)
        app.router.add_get("/networks", self._list)
        app.router.add_get("/networks/{id}", self._network)
        app.router.add_get("/containers/{id}/json", self._container)
        self._runner = web.AppRunner(app, handler_cancellation=True)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.path)).start()

    async def stop(self) -> None:
        for stream in self._streams:
            stream.put_nowait(None)
        await self.end()

    async def end(self) -> None:
        """As newer engines do: what is unused is closed, and what is in use waited for."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._streams.clear()

    def attach(self, endpoint_id: str, name: str, *aliases: str, **labels: str) -> None:
        """A container has an endpoint on the network."""
        self.networks[NETWORK_ID] = {
            "Id": NETWORK_ID,
            "Containers": {CONTAINER_ID: {"Name": name, "EndpointID": endpoint_id, "More": 1}},
        }
        self.containers[CONTAINER_ID] = {
            "Id": CONTAINER_ID,
            "Name": f"/{name}",
            "Config": {"Labels": labels},
            "NetworkSettings": {
                "Networks": {"blue": {"EndpointID": endpoint_id, "Aliases": list(aliases) or None}}
            },
        }

    def tell(self, kind: str, action: str, actor: str, **attributes: str) -> None:
        line = {"Type": kind, "Action": action, "Actor": {"ID": actor, "Attributes": attributes}}
        self.say(json.dumps(line).encode() + b"\n")

    def say(self, line: bytes) -> None:
        for stream in self._streams:
            stream.put_nowait(line)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        stream: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._streams.append(stream)
        while (line := await stream.get()) is not None:
            await response.write(line)
        return response

    async def _list(self, request: web.Request) -> web.Response:
        assert json.loads(request.query["filters"]) == {"driver": ["netd"]}
        return web.json_response([{"Id": each, "Containers": {}} for each in self.networks])

    async def _network(self, request: web.Request) -> web.Response:
        found = self.networks.get(request.match_info["id"])
        return web.json_response(found or {"message": "none"}, status=200 if found else 404)

    async def _container(self, request: web.Request) -> web.Response:
        self.asked.set()
        await self.starting.wait()
        found = self.containers.get(request.match_info["id"])
        return web.json_response(found or {"message": "none"}, status=200 if found else 404)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namer_module, "RETRY_S", 0.01)
    monkeypatch.setattr(namer_module, "FORGOTTEN_S", 0.05)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[EngineApi]:
    api = EngineApi(tmp_path / "docker.sock")
    await api.start()
    yield api
    await api.stop()


@pytest.fixture
async def docker(
    host: Host, tmp_path: Path, api: EngineApi, quick: None
) -> AsyncIterator[FakeEngine]:
    await host.network("blue", subnets=("10.20.0.0/24",))
    engine = FakeEngine(host, tmp_path)
    await engine.start(api=str(api.path))
    yield engine
    await engine.stop()


async def followed(docker: FakeEngine) -> None:
    assert docker.plugin.namer is not None
    async with asyncio.timeout(5):
        await docker.plugin.namer.followed.wait()


async def named(host: Host, *names: str) -> None:
    """Wait until the one endpoint has this name and these aliases."""
    async with asyncio.timeout(5):
        while True:
            (found,) = host.engine.endpoints()
            if (found.name, *found.aliases) == names:
                return
            await asyncio.sleep(0.005)


async def found(host: Host, name: str, address: str) -> None:
    """Wait until the name leads to that address: names follow once the store has them."""
    async with asyncio.timeout(5):
        while not (records := host.engine.resolve(name, "A", address).records):
            await asyncio.sleep(0.005)
    assert [record.data for record in records] == [address]


def moved(host: Host) -> None:
    """The engine moves the endpoint's end into the container."""
    peer = peer_name(host.engine.endpoints()[0].id)
    del host.kernel.simulation.objects[HOST, "link", peer]


async def ended(docker: FakeEngine, api: EngineApi) -> None:
    """The engine ends, and netd knows."""
    assert docker.plugin.namer is not None
    await api.stop()
    async with asyncio.timeout(5):
        while docker.plugin.namer.followed.is_set():
            await asyncio.sleep(0.005)


async def restarted(docker: FakeEngine, api: EngineApi) -> None:
    """The engine ends, the next one starts, and netd has taken in what that knows."""
    await ended(docker, api)
    assert docker.plugin.namer is not None
    async with asyncio.timeout(5):
        await api.start()
        await docker.plugin.namer.caught_up.wait()


async def started(docker: FakeEngine, options: dict[str, str] | None = None) -> str:
    pool = await docker.create_network(options={"netd.network": "blue"})
    endpoint_id, _, _ = await docker.run(pool, options=options)
    return endpoint_id


async def test_a_container_has_its_name_before_it_runs_and_aliases_when_it_does(
    docker: FakeEngine, api: EngineApi
) -> None:
    await followed(docker)
    api.starting.clear()
    api.attach(await started(docker), "web", "shop", **{"netd.x": "y", "other": "z"})
    api.tell("network", "connect", NETWORK_ID, container=CONTAINER_ID, name="blue")
    await named(docker.host, "web", CONTAINER_ID[:12])
    api.starting.set()
    await named(docker.host, "web", "shop", CONTAINER_ID[:12])
    labels = docker.host.engine.endpoints()[0].labels
    assert labels == {
        "docker.network": NETWORK_ID,
        "docker.container": CONTAINER_ID,
        "docker.name": "web",
        "netd.x": "y",
    }
    await found(docker.host, "shop", "10.20.0.2")


async def test_a_container_that_starts_slowly_has_its_names_in_the_end(
    docker: FakeEngine, api: EngineApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namer_module, "ANSWER_S", 0.05)  # of what answers at once
    await followed(docker)
    api.starting.clear()
    api.attach(await started(docker), "web", "shop")
    api.tell("network", "connect", NETWORK_ID, container=CONTAINER_ID, name="blue")
    await named(docker.host, "web", CONTAINER_ID[:12])
    await asyncio.sleep(0.1)
    api.starting.set()
    await named(docker.host, "web", "shop", CONTAINER_ID[:12])


async def test_an_endpoint_that_no_container_has_yet_is_not_named(
    docker: FakeEngine, api: EngineApi
) -> None:
    """As a network shows it, while another container's names are asked for."""
    await followed(docker)
    api.starting.clear()
    endpoint_id = await started(docker)
    api.attach(endpoint_id, "web", "shop")
    shown = api.networks[NETWORK_ID]["Containers"]
    shown[f"ep-{endpoint_id}"] = shown.pop(CONTAINER_ID)
    api.tell("network", "connect", NETWORK_ID, container=CONTAINER_ID, name="blue")
    async with asyncio.timeout(5):
        await api.asked.wait()  # what the network tells is taken over by then
    assert docker.host.engine.endpoints()[0].aliases == ()
    api.starting.set()
    await named(docker.host, "web", "shop", CONTAINER_ID[:12])


async def test_a_container_is_renamed(docker: FakeEngine, api: EngineApi) -> None:
    await followed(docker)
    endpoint_id = await started(docker, {"netd.aliases": "kept"})
    api.attach(endpoint_id, "web")
    api.tell("network", "connect", NETWORK_ID, container=CONTAINER_ID)
    await named(docker.host, "web", "kept", CONTAINER_ID[:12])
    api.attach(endpoint_id, "store")
    api.tell("container", "rename", CONTAINER_ID)
    await named(docker.host, "store", "kept", CONTAINER_ID[:12])


async def test_a_name_that_was_given_stays(docker: FakeEngine, api: EngineApi) -> None:
    await followed(docker)
    endpoint_id = await started(docker, {"netd.name": "given"})
    for name in ("web", "store"):
        api.attach(endpoint_id, name)
        api.tell("container", "rename", CONTAINER_ID)
        await named(docker.host, "given", name, CONTAINER_ID[:12])


async def test_a_name_that_is_none_in_dns_gives_way_to_the_endpoints(
    docker: FakeEngine, api: EngineApi
) -> None:
    await followed(docker)
    endpoint_id = await started(docker)
    for name in ("web", "my.web", "store"):
        api.attach(endpoint_id, name)
        api.tell("container", "rename", CONTAINER_ID)
        shown = endpoint_id[:12] if "." in name else name
        await named(docker.host, shown, CONTAINER_ID[:12])


async def test_addresses_lead_to_the_containers_name(docker: FakeEngine, api: EngineApi) -> None:
    await followed(docker)
    api.attach(await started(docker), "web", "shop")
    api.tell("container", "rename", CONTAINER_ID)
    await named(docker.host, "web", "shop", CONTAINER_ID[:12])
    await found(docker.host, "web", "10.20.0.2")
    (record,) = docker.host.engine.resolve("2.0.20.10.in-addr.arpa", "PTR", None).records
    assert record.data == "web.blue.netd.internal."


async def test_a_label_that_cannot_be_costs_no_names(
    docker: FakeEngine, api: EngineApi, caplog: pytest.LogCaptureFixture
) -> None:
    await followed(docker)
    api.attach(await started(docker), "web", "shop", **{"netd.service": "no port:x"})
    api.tell("network", "connect", NETWORK_ID, container=CONTAINER_ID)
    await named(docker.host, "web", "shop", CONTAINER_ID[:12])
    assert docker.host.engine.endpoints()[0].labels == {
        "docker.network": NETWORK_ID,
        "docker.container": CONTAINER_ID,
        "docker.name": "web",
    }
    assert "container web: " in caplog.text


async def test_what_was_there_before_is_named(docker: FakeEngine, api: EngineApi) -> None:
    await followed(docker)
    await api.stop()
    api.attach(await started(docker), "web", "shop")
    await api.start()  # the next engine
    await named(docker.host, "web", "shop", CONTAINER_ID[:12])


@pytest.mark.parametrize("nonsense", [b"nonsense\n", b"[]\n", b"\xff\n", b"x" * (3 << 20) + b"\n"])
async def test_nonsense_and_what_is_gone_do_no_harm(
    docker: FakeEngine, api: EngineApi, nonsense: bytes
) -> None:
    await followed(docker)
    api.tell("container", "rename", "f" * 64)
    api.tell("network", "connect", "e" * 64, container="f" * 64)
    api.tell("image", "pull", "x")
    endpoint_id = await started(docker)
    api.say(nonsense)  # netd begins anew
    api.attach(endpoint_id, "web")
    await named(docker.host, "web", CONTAINER_ID[:12])


async def test_networks_that_the_engine_has_forgotten_go(
    docker: FakeEngine, api: EngineApi
) -> None:
    """The engine was killed before it had written them down."""
    await followed(docker)
    await docker.create_network(options={"netd.name": "red"})
    await restarted(docker, api)
    assert [network.name for network in docker.host.engine.networks()] == ["blue"]


async def test_networks_with_endpoints_are_not_forgotten(
    docker: FakeEngine, api: EngineApi
) -> None:
    await followed(docker)
    await started(docker)
    moved(docker.host)
    await restarted(docker, api)
    assert len(docker.host.engine.notes.all("docker/")) == 1
    assert len(docker.host.engine.endpoints()) == 1


async def test_endpoints_that_no_container_ever_got_end(docker: FakeEngine, api: EngineApi) -> None:
    """The engine was killed before it had written down what it had asked for."""
    await followed(docker)
    await started(docker)
    api.networks[NETWORK_ID] = {"Id": NETWORK_ID, "Containers": None}
    await restarted(docker, api)
    assert docker.host.engine.endpoints() == ()
    assert len(docker.host.engine.notes.all("docker/")) == 1


async def test_a_network_that_is_forgotten_goes_with_its_endpoint(
    docker: FakeEngine, api: EngineApi
) -> None:
    await followed(docker)
    await started(docker)
    await restarted(docker, api)
    assert docker.host.engine.endpoints() == ()
    assert docker.host.engine.notes.all("docker/") == {}


async def test_a_container_that_is_just_gone_keeps_nothing_alive(
    docker: FakeEngine, api: EngineApi
) -> None:
    await followed(docker)
    endpoint_id = await started(docker)
    await docker.run(f"offered:{docker.plugin.networks.shown_subnets()[0]}")  # it forgets this one
    api.attach(endpoint_id, "web")
    del api.containers[CONTAINER_ID]
    await restarted(docker, api)
    assert [each.name for each in docker.host.engine.endpoints()] == ["web"]


async def test_endpoints_that_the_engine_knows_or_that_a_container_has_stay(
    docker: FakeEngine, api: EngineApi
) -> None:
    await followed(docker)
    api.attach(await started(docker), "web")  # it is about to start
    await restarted(docker, api)
    assert len(docker.host.engine.endpoints()) == 1
    moved(docker.host)
    api.networks[NETWORK_ID]["Containers"] = {}  # and the engine has lost what runs
    await restarted(docker, api)
    assert len(docker.host.engine.endpoints()) == 1


async def test_an_engine_that_ends_is_let_go(docker: FakeEngine, api: EngineApi) -> None:
    await followed(docker)
    async with asyncio.timeout(5):  # it would wait for a minute
        await api.end()
        await api.start()
    await followed(docker)


async def test_an_engine_that_was_stopped_is_not_started(
    docker: FakeEngine, api: EngineApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manager's socket starts it for whoever connects; so the next one has to come to netd."""
    await followed(docker)
    monkeypatch.setattr(idle_module, "MANAGER", os.getpid())
    await restarted(docker, api)  # what was seen before the socket was the manager's
    await ended(docker, api)
    await api.start()
    assert docker.plugin.namer is not None
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(20 * namer_module.RETRY_S):
            await docker.plugin.namer.followed.wait()
    await docker.call("Plugin.Activate")
    await followed(docker)


async def test_an_engine_that_runs_on_is_followed_again(
    docker: FakeEngine, api: EngineApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It will not come to netd once more, so netd goes to it, whoever opened its socket."""
    await followed(docker)
    monkeypatch.setattr(idle_module, "MANAGER", os.getpid())
    await restarted(docker, api)
    endpoint_id = await started(docker)
    api.say(b"nonsense\n")
    api.attach(endpoint_id, "web")
    await named(docker.host, "web", CONTAINER_ID[:12])


async def test_without_an_engine_the_plugin_answers(
    host: Host, tmp_path: Path, quick: None
) -> None:
    docker = FakeEngine(host, tmp_path)
    await docker.start(api=str(tmp_path / "nowhere.sock"))
    assert "Implements" in await docker.call("Plugin.Activate")
    await docker.stop()


@pytest.mark.parametrize(
    ("name", "more", "expected"),
    [
        ("/web", (), ("web", "c0ffee000000")),
        ("web", ("web", "", "shop", "c0ffee000000"), ("web", "shop", "c0ffee000000")),
        ("my.web", ("-x", "a b", "ok_1"), ("ok_1", "c0ffee000000")),
        ("x" * 64, (), ("c0ffee000000",)),
    ],
)
def test_names_are_labels(name: str, more: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert names_of(CONTAINER_ID, name, more) == expected


def test_names_are_bounded() -> None:
    assert len(names_of(CONTAINER_ID, "web", [f"a{n}" for n in range(100)])) == NAMES_MAX
