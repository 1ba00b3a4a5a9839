"""Fixtures of the end-to-end tests: a host with a running daemon."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

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
