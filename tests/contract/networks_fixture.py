"""Three hosts in one cluster, whose networks gossip decides on, or etcd."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from netd.engine.blocks import allotting
from netd.engine.overlay import deciding
from netd.etcd.gateway import Gateway
from netd.etcd.networks import ROOT
from netd.etcd.transactions import span
from tests.contract.etcd_lab import Etcd, three_members
from tests.contract.networks_lab import World


@pytest.fixture(autouse=True)
def host_ns() -> None:
    """No namespace for each test: all are in the one in which etcd is."""


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "LOOK_S", 0.05)
    monkeypatch.setattr(allotting, "REST_S", 0.01)


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with three_members(tmp_path_factory.mktemp("etcd")) as etcd:
        yield etcd


@pytest.fixture
async def in_etcd(etcd: Etcd, tmp_path: Path) -> AsyncIterator[World]:
    gateway = Gateway(etcd.urls)
    await gateway.write("/v3/kv/deleterange", span(ROOT))
    await gateway.close()
    world = World(tmp_path, etcd)
    for _ in range(3):
        await world.add()
    yield world
    await world.stop()


@pytest.fixture
async def by_gossip(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path, None)
    for _ in range(3):
        await world.add()
    yield world
    await world.stop()


@pytest.fixture(params=["by_gossip", "in_etcd"])
def world(request: pytest.FixtureRequest) -> World:
    world: World = request.getfixturevalue(request.param)
    return world
