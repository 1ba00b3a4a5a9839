"""The same tests for the fake kernel and the real one."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from netd.kernel.linux import LinuxKernel
from tests.contract.lab import Lab
from tests.contract.worlds import FakeWorld, RealWorld
from tests.netns.conftest import Container, _away_from_the_machine, container, host_ns

__all__ = ["_away_from_the_machine", "container", "host_ns", "lab"]


@pytest.fixture(params=["fake", "real"])
def lab(
    request: pytest.FixtureRequest, container: Callable[[], Container], tmp_path: Path
) -> Iterator[Lab]:
    """A kernel to try things on, fake or real."""
    if request.param == "fake":
        yield Lab(FakeWorld())
        return
    with ExitStack() as stack:
        kernel = LinuxKernel(node="node-1")
        stack.callback(kernel.close)
        yield Lab(RealWorld(kernel, container, tmp_path, stack))
