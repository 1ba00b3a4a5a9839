"""`netctl doctor --fix`: systemd-resolved is told to ask netd, in a folder that stands for /."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netd.cli import resolved
from netd.model.directory import RegistrySettings
from tests.unit.cli_daemon import Daemon, Netctl, serving

STUB = "127.0.0.54:53"
INSTEAD = "127.0.0.55:53"


class Host:
    """A host where systemd-resolved runs; `told` are the calls of systemctl."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.path = self.root / resolved.DROP_IN
        self.programs = folder / "bin"
        self.calls = folder / "calls"
        for path in (self.root / "run/systemd/resolve", self.root / "etc/systemd", self.programs):
            path.mkdir(parents=True)
        (self.root / "run/systemd/resolve/resolv.conf").touch()
        self.systemctl(0)

    def systemctl(self, code: int) -> None:
        program = self.programs / "systemctl"
        program.write_text(f'#!/bin/sh\necho "$@" >> {self.calls}\necho no >&2\nexit {code}\n')
        program.chmod(0o755)

    @property
    def told(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path)
    monkeypatch.setattr(resolved, "ROOT", host.root)
    monkeypatch.setenv("PATH", f"{host.programs}:/usr/bin:/bin")
    return host


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with serving(tmp_path / "netd.sock") as daemon:
        daemon.on("GET", "/v1/doctor", [])
        answers(daemon, [INSTEAD])
        yield daemon


@pytest.fixture
def netctl(daemon: Daemon) -> Netctl:
    return Netctl(daemon.path)


def answers(daemon: Daemon, listening: list[str], **settings: Any) -> None:
    """What the daemon says of its zone and its registry."""
    daemon.on("GET", "/v1/registry", {"listening": listening})
    fields = {
        name: getattr(RegistrySettings(), name) for name in RegistrySettings.__struct_fields__
    }
    zone = {"zone": "netd.internal", "node": "a", "settings": fields | settings}
    daemon.stream("/v1/directory", [{"revision": 1, "kind": "zone", "zone": zone}])
    daemon.held.set()


def findings(netctl: Netctl, *arguments: str) -> list[tuple[str, str]]:
    found = json.loads(netctl("doctor", "--json", *arguments).stdout)
    return [(finding["check"], finding["level"]) for finding in found]


def test_the_doctor_says_that_resolved_was_not_told(host: Host, netctl: Netctl) -> None:
    result = netctl("doctor")
    assert result.stdout == (
        "warning  systemd-resolved  it does not ask netd: programs of this host do not find "
        "netd's names\n         remedy: netctl doctor --fix\n"
    )
    assert result.exit_code == 0
    assert not host.path.exists()
    assert host.told == []


def test_it_is_told_once(host: Host, netctl: Netctl) -> None:
    result = netctl("doctor", "--fix")
    assert result.exit_code == 0
    assert result.stderr.startswith("systemd-resolved asks netd for netd's names now.\n")
    assert host.path.read_text().splitlines()[2:] == [
        "[Resolve]",
        "DNS=127.0.0.55",
        "Domains=~netd.internal ~consul",
    ]
    assert host.path.stat().st_mode & 0o777 == 0o644
    assert host.told == ["try-reload-or-restart systemd-resolved.service"]
    assert [path.name for path in host.path.parent.iterdir()] == ["netd.conf"]
    assert findings(netctl, "--fix") == [("systemd-resolved", "ok")]
    assert findings(netctl) == [("systemd-resolved", "ok")]
    assert len(host.told) == 1


def test_it_is_told_again_when_netd_has_other_zones(
    host: Host, daemon: Daemon, netctl: Netctl
) -> None:
    findings(netctl, "--fix")
    answers(daemon, [INSTEAD], consul_zone="")
    assert findings(netctl) == [("systemd-resolved", "warning")]
    assert findings(netctl, "--fix") == [("systemd-resolved", "ok")]
    assert host.path.read_text().endswith("DNS=127.0.0.55\nDomains=~netd.internal\n")
    assert len(host.told) == 2


@pytest.mark.parametrize(
    ("settings", "listening", "server"),
    [
        ({"host_address": "10.0.0.5"}, ["10.0.0.5:53", "10.0.0.5:8600"], "10.0.0.5"),
        ({"host_address": "10.0.0.5"}, ["10.0.0.5:8600"], "10.0.0.5:8600"),
        ({"host_address": "10.0.0.5", "port": 54}, ["10.0.0.5:54"], "10.0.0.5:54"),
        ({"host_address": "fd00::1"}, ["[fd00::1]:53"], "fd00::1"),
        ({"host_address": "fd00::1"}, ["[fd00::1]:8600"], "[fd00::1]:8600"),
    ],
)
def test_it_asks_where_netd_answers(
    host: Host,
    daemon: Daemon,
    netctl: Netctl,
    settings: dict[str, Any],
    listening: list[str],
    server: str,
) -> None:
    answers(daemon, listening, **settings)
    assert findings(netctl, "--fix") == [("systemd-resolved", "ok")]
    assert f"\nDNS={server}\n" in host.path.read_text()


@pytest.mark.parametrize(
    ("settings", "listening"),
    [({}, [STUB]), ({}, []), ({"host_address": ""}, ["10.1.0.1:53"])],
    ids=["its own address", "nothing", "no address"],
)
def test_where_netd_cannot_be_asked_nothing_is_written(
    host: Host, daemon: Daemon, netctl: Netctl, settings: dict[str, Any], listening: list[str]
) -> None:
    answers(daemon, listening, **settings)
    assert findings(netctl) == [("systemd-resolved", "warning")]
    result = netctl("doctor", "--fix")
    assert result.exit_code == 1
    assert "systemd-resolved cannot ask netd at" in result.stderr
    assert "dns.host_address" in result.stderr
    assert not host.path.exists()
    assert host.told == []


def test_without_resolved_there_is_nothing_to_do(
    host: Host, daemon: Daemon, netctl: Netctl
) -> None:
    (host.root / "run/systemd/resolve/resolv.conf").unlink()
    assert findings(netctl) == []
    result = netctl("doctor", "--fix")
    assert "systemd-resolved does not run here" in result.stderr
    assert result.exit_code == 0
    assert not host.path.exists()
    assert {call.target for call in daemon.calls} == {"/v1/doctor"}


def test_a_folder_that_cannot_be_written_is_a_failure(host: Host, netctl: Netctl) -> None:
    (host.root / "etc/systemd/resolved.conf.d").write_text("a file where a folder should be")
    result = netctl("doctor", "--fix")
    assert result.exit_code == 1
    assert "netd.conf cannot be written" in result.stderr
    assert host.told == []


def test_a_reload_that_fails_is_told(host: Host, netctl: Netctl) -> None:
    host.systemctl(1)
    result = netctl("doctor", "--fix")
    assert result.exit_code == 1
    assert "systemd-resolved was not told: no" in result.stderr
    assert "try-reload-or-restart systemd-resolved.service" in result.stderr
    (host.programs / "systemctl").unlink()
    host.path.unlink()
    assert netctl("doctor", "--fix").exit_code == 1


def test_no_zone_becomes_a_line_of_the_file(host: Host, daemon: Daemon, netctl: Netctl) -> None:
    answers(daemon, [INSTEAD], consul_zone="consul\nDNSSEC=no")
    result = netctl("doctor", "--fix")
    assert result.exit_code == 1
    assert "is not the name of a zone" in result.stderr
    assert not host.path.exists()
