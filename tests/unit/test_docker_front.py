"""Docker's driver as the daemon opens it."""

import logging
import socket
from pathlib import Path

import pytest

from netd.daemon.docker import DockerFront
from netd.daemon.settings.runtimes import Docker
from tests.unit.engine_fixture import Host


def front_at(path: Path, host: Host) -> DockerFront:
    return DockerFront(Docker(enabled=True, socket=str(path), api=""), host.engine, ())


async def test_where_netd_cannot_listen_it_says_so_and_goes_on(
    host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As below /run in the unit's mount namespace, which is read-only."""
    (tmp_path / "plugins").touch()  # where a folder belongs
    path = tmp_path / "plugins/netd.sock"
    front = front_at(path, host)
    with caplog.at_level(logging.ERROR):
        await front.open()
    assert "netd-docker.socket" in caplog.text
    (condition,) = host.engine.status().conditions
    assert condition.code == "docker-driver"
    assert f"cannot make {path.parent}" in condition.detail
    assert condition.since
    findings = [each for each in await host.engine.doctor() if each.check == "docker-driver"]
    assert [(each.level, each.detail) for each in findings] == [("error", condition.detail)]
    assert "systemctl enable netd-docker.socket" in findings[0].remedy
    await front.close()


async def test_where_it_can_there_is_nothing_to_say(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "plugins/netd.sock"
    front = front_at(path, host)
    await front.open()
    assert path.is_socket()
    assert host.engine.status().conditions == ()
    await front.close()
    assert not path.exists()


async def test_a_socket_that_a_killed_netd_left_is_replaced(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "netd.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    front = front_at(path, host)
    await front.open()
    assert path.stat().st_mode & 0o777 == 0o600
    assert host.engine.status().conditions == ()
    await front.close()


async def test_a_place_that_is_another_ones_is_left_to_it(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "netd.sock"
    front = front_at(path, host)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        await front.open()
        (condition,) = host.engine.status().conditions
        assert "another program listens" in condition.detail
        await front.close()
        assert path.exists()
