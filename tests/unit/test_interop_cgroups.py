"""What tests with engines leave among the machine's control groups: on folders that stand for
them, of which a file stands for a process.
"""

from pathlib import Path

import pytest

from tests.interop.cgroups import at_the_top, remove_new


def make(root: Path, *groups: str) -> None:
    for group in groups:
        (root / group).mkdir(parents=True)


@pytest.mark.parametrize("hierarchies", [("pids", "unified"), ("",)])
def test_what_is_new_and_empty_goes(tmp_path: Path, hierarchies: tuple[str, ...]) -> None:
    if hierarchies == ("",):
        (tmp_path / "cgroup.procs").touch()  # version 2 alone
    for each in hierarchies:
        make(tmp_path, f"{each}/docker/old".strip("/"), f"{each}/init.scope".strip("/"))
    before = at_the_top(tmp_path)
    assert {group.name for group in before} == {"docker"}
    for each in hierarchies:
        place = tmp_path / each
        make(place, "docker/c1", "libpod_parent/c2/c3", "of-runc", "used/c4", "user.slice")
        (place / "used/c4/process").touch()
    remove_new(before, tmp_path, within_s=0.1)
    for each in hierarchies:
        left = {group.name for group in (tmp_path / each).iterdir() if group.is_dir()}
        assert left == {"docker", "init.scope", "used", "user.slice"}


def test_a_machine_without_control_groups(tmp_path: Path) -> None:
    remove_new(at_the_top(tmp_path / "nowhere"), tmp_path / "nowhere")
