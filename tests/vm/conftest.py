"""The lab is that of the scenarios, of virtual machines only."""

import subprocess
from base64 import b64encode
from pathlib import Path

import pytest

from tests.lab import kinds
from tests.scenarios.conftest import blue, lab, made_lab, one, pair, two

__all__ = ["blue", "lab", "made_lab", "one", "pair", "two"]

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 900

if kinds.KIND != "qemu":
    collect_ignore_glob = ["*"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Debian package of this checkout, in base64."""
    folder = tmp_path_factory.mktemp("package")
    done = subprocess.run(
        (str(ROOT / "scripts/build-deb"), str(folder)), cwd=ROOT, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return b64encode(Path(done.stdout.strip()).read_bytes()).decode()
