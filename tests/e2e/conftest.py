"""Fixtures of the end-to-end tests: a host with a running daemon, a cluster of five."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.cluster_lab import Cluster
from tests.e2e.lab import Host


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What a test starts ends with it, in the reverse order."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def cold_host(stack: ExitStack, tmp_path: Path) -> Host:
    """A host whose daemon does not run yet."""
    return Host(stack, tmp_path)


@pytest.fixture
def host(cold_host: Host) -> Host:
    """A host whose daemon is ready."""
    cold_host.start_daemon()
    return cold_host


@pytest.fixture(scope="module")
def five_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Five daemons that have joined by hand."""
    with ExitStack() as stack:
        cluster = Cluster(stack, tmp_path_factory.mktemp("cluster"), 5, profile="fast")
        cluster.start()
        cluster.join()
        yield cluster


@pytest.fixture
def cluster(five_hosts: Cluster) -> Cluster:
    """The five of the module, which all see all alive, whatever the test before has done."""
    five_hosts.repair()
    return five_hosts
