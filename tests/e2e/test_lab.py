"""`scripts/lab`: labs that stay, do not disturb each other, and leave nothing."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.machine import running
from tests.lab.waiting import wait_for

LAB = Path(__file__).parents[2] / "scripts/lab"


def lab(*words: str, code: int = 0) -> str:
    """Run it; its output, with messages after it. Fails unless it ends with `code`."""
    done = subprocess.run([LAB, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """For a lab, which is taken down at the end if it is still there."""
    path = tmp_path / "lab"
    yield path
    if (path / "lab.json").exists():
        lab("down", "--dir", str(path))
    assert not running(path)


def test_a_lab_stays_until_it_is_taken_down(folder: Path) -> None:
    here = ("--dir", str(folder))
    assert lab("up", "2", *here, "--profile", "fast").splitlines() == [
        "host-1     198.18.0.1      on",
        "host-2     198.18.0.2      on",
    ]
    assert lab("exec", *here, "host-2", "netctl", "member", "ls", "-q") == "host-1\nhost-2\n"
    assert lab("exec", *here, "host-1", "hostname") == "host-1\n"
    lab("exec", *here, "host-1", "ping", "-c", "1", "-W", "2", "host-2")
    lab("exec", *here, "outside", "ping", "-c", "1", "-W", "2", "host-1")
    lab("exec", *here, "host-1", "sh", "-c", "exit 7", code=7)

    lab("off", *here, "host-2")
    assert "host-2     198.18.0.2      off" in lab("ls", *here)
    assert "host-2 is off" in lab("exec", *here, "host-2", "true", code=1)
    lab("on", *here, "host-2")
    lab("exec", *here, "outside", "ping", "-c", "1", "-W", "2", "host-2")
    lab("down", *here)
    assert not folder.exists()
    assert not running(folder)


def test_two_labs_do_not_disturb_each_other(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    lab("up", "1", "--dir", str(folder))
    lab("up", "1", "--dir", str(other))
    lab("exec", "--dir", str(other), "host-1", "netctl", "network", "create", "blue")
    assert not lab("exec", "--dir", str(folder), "host-1", "netctl", "network", "ls", "-q")
    lab("exec", "--dir", str(other), "host-1", "ip", "netns", "add", "c")
    assert not lab("exec", "--dir", str(folder), "host-1", "ip", "netns")
    lab("down", "--dir", str(other))
    assert lab("ls", "--dir", str(folder)) == "host-1     198.18.0.1      on\n"


def test_a_lab_whose_making_was_killed_can_be_taken_down(folder: Path) -> None:
    making = subprocess.Popen([LAB, "up", "5", "--dir", str(folder)], stdout=subprocess.DEVNULL)
    wait_for(lambda: running(folder), what="a machine")
    making.send_signal(signal.SIGKILL)
    making.wait()
    lab("down", "--dir", str(folder))
    assert not folder.exists()


def test_what_cannot_be_done_is_said(folder: Path) -> None:
    here = ("--dir", str(folder))
    assert f"there is no lab in {folder}" in lab("ls", *here, code=1)
    assert f"there is no lab in {folder}" in lab("down", *here, code=1)
    assert "1 to 1000 hosts" in lab("up", "0", *here, code=1)
    folder.mkdir()
    (folder / "mine").touch()
    assert f"{folder} is not empty" in lab("up", "1", *here, code=1)
    assert (folder / "mine").exists()
    (folder / "mine").unlink()
    lab("up", "1", *here)
    assert f"there is a lab in {folder}" in lab("up", "1", *here, code=1)
    assert "there is no host 'host-2'; there are host-1" in lab("on", *here, "host-2", code=1)
    told = lab("ls", "--dir", str(folder / "x"), code=1)
    assert str(folder) in told.partition("; there are labs in ")[2]
