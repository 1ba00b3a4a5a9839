"""Docker's engine and netd as services, joined by netd-docker.socket as DOCKER.md says."""

import json
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator

import pytest

from tests.lab.container import Container
from tests.lab.host import LabHost
from tests.lab.lab import Lab
from tests.lab.qemu import QemuHost
from tests.lab.waiting import wait_for
from tests.scenarios.overlay import Overlay
from tests.vm.words import ROOT, SLOW_S, commands, finds_server, obey, put, reboot, shown

ENGINE = ("docker.service", "docker.socket", "containerd.service")
SETTINGS = "/etc/netd/netd.toml.d/docker.toml"
# An engine that starts on an emulated processor leaves others little of it for minutes.
PATIENCE = "/etc/systemd/system/netd.service.d/patience.conf"
PORT = 8080


@pytest.fixture
def docker(lab: Lab, one: LabHost) -> Iterator[QemuHost]:
    """The first host with netd as Docker's driver, and an engine with the image `bb`."""
    assert isinstance(one, QemuHost)
    put(one, SETTINGS, "[host]\ndocker_user_hook = true\n")
    put(one, PATIENCE, "[Service]\nTimeoutStartSec=10min\nWatchdogSec=5min\n")
    one.run("systemctl", "daemon-reload")
    obey(one, commands("DOCKER.md", "## Switch it on"))
    try:
        systemctl(one, "start", "docker.service")
        image = subprocess.run(
            (sys.executable, "-m", "tests.interop.docker_engine"),
            cwd=ROOT, capture_output=True, check=True, timeout=60,
        ).stdout  # fmt: skip
        load = "base64 -d | docker import - bb"
        one.run("sh", "-c", load, feed=b64encode(image).decode(), timeout_s=SLOW_S)
        yield one
    finally:
        leave = (
            "docker rm -f $(docker ps -aq); docker network rm $(docker network ls -qf driver=netd)"
        )
        one.run("sh", "-c", leave, code=None)
        one.run("systemctl", "disable", "--now", *ENGINE, "netd-docker.socket")
        one.run("rm", SETTINGS, PATIENCE)
        one.run("systemctl", "daemon-reload")
        one.run("nft", "flush", "ruleset")
        one.run("ip", "link", "delete", "docker0")
        one.run("systemctl", "restart", "netd.service")


@pytest.mark.timeout(2400)  # it starts an engine five times, and boots
def test_the_engine_and_netd_start_in_any_order(
    lab: Lab, blue: Overlay, docker: QemuHost, two: LabHost
) -> None:
    """One after another, for an emulated processor takes long to start an engine."""
    b = blue.container(two, "b")
    driver = ("-d", "netd", "--ipam-driver", "netd", "-o", "netd.network=blue")
    docker.run("docker", "network", "create", *driver, "blue")
    run(
        docker, "web", "--restart", "always", "-p", f"{PORT}:80", *("bb", "httpd", "-f", "-p", "80")
    )
    assert_joined(docker, b)

    assert_legacy_rules_are_in_reach(docker)

    systemctl(docker, "restart", "netd.service")
    assert_joined(docker, b)
    assert_starts(docker, b)
    systemctl(docker, "restart", "docker.service")
    assert_joined(docker, b)
    # The engine calls a driver that is only a socket: systemd starts netd for it.
    systemctl(docker, "stop", "docker.service", "docker.socket", "netd.socket", "netd.service")
    systemctl(docker, "start", "docker.service")
    assert shown(docker, "netd.service", "ActiveState") == "active"
    assert_joined(docker, b)
    systemctl(docker, "restart", "docker.service", "netd.service")
    assert_joined(docker, b)
    assert_starts(docker, b)

    docker.run("systemctl", "enable", "docker.service")
    reboot(docker)
    docker.await_ready()
    lab.await_whole()
    assert_joined(docker, b)
    assert not docker.plan()


def systemctl(host: LabHost, *words: str) -> None:
    host.run("systemctl", "reset-failed", "docker.service", code=None)  # it counts starts
    host.run("systemctl", *words, timeout_s=SLOW_S)


def run(docker: LabHost, name: str, *words: str) -> None:
    start = ("run", "-d", "--stop-signal", "KILL", "--name", name, "--network", "blue")
    docker.run("docker", *start, *words)


def address_of(docker: LabHost, name: str) -> str:
    """Its address now, "" while it has none."""
    found = json.loads(docker.run("docker", "inspect", name))
    return str(found[0]["NetworkSettings"]["Networks"]["blue"]["IPAddress"])


def assert_joined(docker: LabHost, b: Container) -> None:
    """Within a moment `web` is reached by containers elsewhere, and from outside by its port."""
    wait_for(
        lambda: (address := address_of(docker, "web")) and b.pings(address, wait_s=1),
        20 * docker.slowness,
        what="b reaches web",
    )
    wait_for(
        lambda: finds_server(b.host, docker, PORT),
        20 * docker.slowness,
        what="web's port from outside",
    )


def assert_legacy_rules_are_in_reach(docker: LabHost) -> None:
    """Where engines use it, netd needs the lock of iptables-legacy, out of its sandbox."""
    inside = ("nsenter", "--mount", "--target", shown(docker, "netd.service", "MainPID"))
    docker.run(*inside, "iptables-legacy", "--wait", "--list-rules")


def assert_starts(docker: LabHost, b: Container) -> None:
    """A new container reaches others on the network."""
    words = ("run", "--rm", "--network", "blue", "bb", "ping", "-c", "1", b.address())
    assert "1 packets received" in docker.run("docker", *words)
