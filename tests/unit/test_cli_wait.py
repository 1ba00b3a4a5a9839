"""netctl wait: a daemon that is ready, becomes ready, or does not."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli_daemon import Daemon, Netctl, serving

NOT_YET = (503, "unavailable")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "netd.sock"


@pytest.fixture
def daemon(path: Path) -> Iterator[Daemon]:
    with serving(path) as daemon:
        yield daemon


def members(*states: str) -> list[dict[str, str]]:
    return [{"name": f"host-{n}", "state": state} for n, state in enumerate(states)]


def test_it_is_ready(daemon: Daemon, path: Path) -> None:
    daemon.on("GET", "/readyz", {"ok": True})
    result = Netctl(path)("wait")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "ready\n")
    assert len(daemon.calls) == 1


def test_it_becomes_ready(daemon: Daemon, path: Path) -> None:
    daemon.refuse("GET", "/readyz", *NOT_YET, detail="not yet")
    timer = threading.Timer(0.2, lambda: daemon.on("GET", "/readyz", {"ok": True}))
    timer.start()
    result = Netctl(path)("wait", "--timeout", "10")
    assert result.exit_code == 0
    assert len(daemon.calls) > 1


def test_it_does_not_become_ready(daemon: Daemon, path: Path) -> None:
    daemon.refuse("GET", "/readyz", *NOT_YET, detail="the kernel is being looked at")
    result = Netctl(path)("wait", "--timeout", "0.1")
    assert result.exit_code == 1
    assert "the kernel is being looked at" in result.stderr


def test_there_is_no_daemon(path: Path) -> None:
    result = Netctl(path)("wait", "--timeout", "0.1")
    assert result.exit_code == 5
    assert "no netd answers" in result.stderr


def test_a_daemon_that_will_never_let_us_know_is_not_waited_for(daemon: Daemon, path: Path) -> None:
    daemon.refuse("GET", "/readyz", 403, "forbidden", detail="not for you")
    assert Netctl(path)("wait", "--timeout", "30").exit_code == 1
    assert len(daemon.calls) == 1


def test_members(daemon: Daemon, path: Path) -> None:
    daemon.on("GET", "/readyz", {"ok": True})
    daemon.on("GET", "/v1/members", members("alive", "suspect", "dead"))
    result = Netctl(path)("wait", "--members", "3", "--timeout", "0")
    assert (result.exit_code, result.stderr) == (1, "Error: 1 members are alive, not 3\n")
    timer = threading.Timer(
        0.2, lambda: daemon.on("GET", "/v1/members", members("alive", "alive", "alive", "dead"))
    )
    timer.start()
    result = Netctl(path)("wait", "--members", "3", "--timeout", "10")
    assert (result.exit_code, result.stderr) == (0, "ready, and 3 members are alive\n")
