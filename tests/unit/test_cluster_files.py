"""Small durable files: whole or untouched wherever writing is cut off, never for other eyes."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netd.cluster import files
from netd.model.errors import Invalid


class PowerCut(BaseException):
    """The process ends here: no handler runs but `finally`, and none may repair anything."""


def test_a_file_is_replaced_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "f"
    files.replace(path, b"one")
    path.chmod(0o644)
    files.replace(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_the_data_is_on_disk_before_its_name_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def traced_fsync(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append("folder" if target == tmp_path else "data")
        fsync(descriptor)

    def traced_replace(self: Path, target: Path) -> Path:
        steps.append("name")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(Path, "replace", traced_replace)
    files.replace(tmp_path / "f", b"data")
    assert steps == ["data", "name", "folder"]


def _cut(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: BaseException) -> None:
    def fail(*_args: object, **_named: object) -> None:
        raise error

    monkeypatch.setattr(owner, name, fail)


@pytest.mark.parametrize(("owner", "name"), [(os, "open"), (os, "fsync"), (Path, "replace")])
@pytest.mark.parametrize("error", [PowerCut(), OSError(28, "No space left on device")])
def test_cut_off_before_the_new_name_the_old_content_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: BaseException
) -> None:
    path = tmp_path / "f"
    files.replace(path, b"old")
    with monkeypatch.context() as patched:
        _cut(patched, owner, name, error)
        with pytest.raises(type(error)):
            files.replace(path, b"new")
    assert path.read_bytes() == b"old"
    if isinstance(error, OSError):
        assert [entry.name for entry in tmp_path.iterdir()] == ["f"]
    files.replace(path, b"newer")  # what a killed process has left is in nobody's way
    assert path.read_bytes() == b"newer"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_cut_off_after_the_new_name_the_new_content_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    files.replace(path, b"old")
    with monkeypatch.context() as patched:
        _cut(patched, files, "sync_folder", PowerCut())
        with pytest.raises(PowerCut):
            files.replace(path, b"new")
    assert path.read_bytes() == b"new"


def test_what_was_left_by_a_killed_process_with_another_mode_is_not_used(tmp_path: Path) -> None:
    left = tmp_path / ".f.new"
    left.write_bytes(b"torn")
    left.chmod(0o666)
    files.replace(tmp_path / "f", b"whole")
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("read", [files.read, files.read_secret])
def test_no_more_is_read_than_a_file_may_have(
    tmp_path: Path, read: Callable[[Path, int], bytes]
) -> None:
    path = tmp_path / "f"
    files.replace(path, b"12345")
    assert read(path, 5) == b"12345"
    with pytest.raises(files.TooLong):
        read(path, 4)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none", 4)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_secret_that_others_may_change_is_refused_with_a_remedy(
    tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "f"
    files.replace(path, b"secret")
    path.chmod(mode)
    with pytest.raises(Invalid, match=f"chmod 600 {path}"):
        files.read_secret(path, 100)


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_secret_that_others_can_read_is_read_with_a_warning(
    tmp_path: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "f"
    files.replace(path, b"secret")
    assert files.read_secret(path, 100) == b"secret"
    assert not caplog.records
    path.chmod(mode)
    assert files.read_secret(path, 100) == b"secret"
    assert f"chmod 600 {path}" in caplog.text


def test_a_secret_is_a_regular_file(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="not a regular file"):
        files.read_secret(Path("/dev/null"), 100)
    path = tmp_path / "f"
    files.replace(path, b"secret")
    (tmp_path / "link").symlink_to(path)  # as mounted secrets are
    assert files.read_secret(tmp_path / "link", 100) == b"secret"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_secret_that_another_user_could_change_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f"
    files.replace(path, b"secret")
    os.chown(path, 65534, -1)
    with pytest.raises(Invalid, match="belongs to user 65534"):
        files.read_secret(path, 100)
