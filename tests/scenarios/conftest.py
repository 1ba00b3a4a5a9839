"""Fixtures: one lab for all scenarios, which each of them finds whole and empty."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import kinds
from tests.lab.container import Container
from tests.lab.host import LabHost
from tests.lab.lab import Lab
from tests.scenarios.overlay import SUBNET4, SUBNET6, Overlay

TIMEOUT_S = 180 if kinds.KIND == "namespaces" else 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Making the lab counts among the time of the first scenario."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture(scope="session")
def made_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = kinds.make(tmp_path_factory.mktemp("lab"))
    try:
        lab.up(kinds.COUNT, profile=kinds.PROFILE)
        yield lab
    finally:
        lab.down()


@pytest.fixture
def lab(made_lab: Lab) -> Lab:
    """All hosts on, all see all alive; no containers, no networks."""
    made_lab.repair()
    return made_lab


@pytest.fixture
def one(lab: Lab) -> LabHost:
    return lab.hosts[0]


@pytest.fixture
def two(lab: Lab) -> LabHost:
    return lab.hosts[1]


@pytest.fixture
def three(lab: Lab) -> LabHost:
    if len(lab.hosts) < 3:
        pytest.skip("this lab has two hosts")
    return lab.hosts[2]


@pytest.fixture
def blue(lab: Lab) -> Overlay:
    """An overlay of both families that all hosts know of."""
    return Overlay.create(lab, "blue", "--subnet", SUBNET4, "--subnet", SUBNET6)


@pytest.fixture
def pair(blue: Overlay, one: LabHost, two: LabHost) -> tuple[Container, Container]:
    """Containers on `blue`, on the first two hosts, that reach each other."""
    return blue.pair(one, two)
