"""Docker's driver as the daemon opens it."""

import logging
from pathlib import Path

import pytest

from netd.daemon.docker import DockerFront
from netd.daemon.settings import Docker
from tests.unit.engine_fixture import Host


async def test_where_netd_cannot_listen_it_says_so_and_goes_on(
    host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As below /run in the unit's mount namespace, which is read-only."""
    (tmp_path / "plugins").touch()  # where a folder belongs
    path = tmp_path / "plugins/netd.sock"
    front = DockerFront(Docker(enabled=True, socket=str(path), api=""), host.engine, ())
    with caplog.at_level(logging.ERROR):
        await front.open()
    assert "netd-docker.socket" in caplog.text
    (condition,) = host.engine.status().conditions
    assert condition.code == "docker-driver"
    assert f"cannot listen on {path}" in condition.detail
    assert condition.since
    findings = [each for each in await host.engine.doctor() if each.check == "docker-driver"]
    assert [(each.level, each.detail) for each in findings] == [("error", condition.detail)]
    assert "systemctl enable netd-docker.socket" in findings[0].remedy
    await front.close()


async def test_where_it_can_there_is_nothing_to_say(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "plugins/netd.sock"
    front = DockerFront(Docker(enabled=True, socket=str(path), api=""), host.engine, ())
    await front.open()
    assert path.is_socket()
    assert host.engine.status().conditions == ()
    await front.close()
    assert not path.exists()
